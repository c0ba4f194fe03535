import errno
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.files import (
    decode_picture,
    encode_png,
    find_pictures,
    read_picture,
    replacing,
    write_json,
    write_png,
    write_text,
)


def smooth_picture(height=48, width=64):
    """A smooth RGB picture that no flip or exchange of channels leaves as it was."""
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * x / width, 255 * y / height, 80 + 0 * x], axis=-1).astype(np.uint8)


def encoded(suffix, picture, *parameters):
    return cv2.imencode(suffix, picture, parameters)[1].tobytes()


def with_orientation(jpeg, orientation):
    """A JPEG file with an EXIF segment that holds nothing but the orientation (1-8)."""
    tiff = struct.pack("<2sHIHHHII", b"II", 42, 8, 1, 0x0112, 3, 1, orientation) + struct.pack("<I", 0)
    segment = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


def leftovers(folder, *expected):
    return sorted(set(os.listdir(folder)) - set(expected))


def test_replacing_writes_a_new_file_with_ordinary_permissions(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    with replacing(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
        assert not path.exists()
    (tmp_path / "ordinary").touch()
    assert path.read_text() == "new"
    assert path.stat().st_mode == (tmp_path / "ordinary").stat().st_mode
    assert not leftovers(path.parent, "a.txt")


@pytest.mark.parametrize("failure", [ValueError("wrong"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_replacing_keeps_the_old_file_if_the_block_fails(tmp_path, failure):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(UserError if isinstance(failure, OSError) else type(failure)), replacing(path) as temporary:
        temporary.write_text("half of the new")
        raise failure
    assert path.read_text() == "old"
    assert not leftovers(tmp_path, "a.txt")


def test_replacing_takes_long_names(tmp_path):
    path = tmp_path / ("a" * 251 + ".txt")
    write_text(path, "new")
    assert path.read_text() == "new"


def test_replacing_where_there_can_be_no_file(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "a.txt", tmp_path / "folder", Path("/proc/a.txt")):
        with pytest.raises(UserError, match="^cannot write .*; check the folder's permissions and free space$"):
            write_text(path, "new")
    assert not leftovers(tmp_path, "file", "folder")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
def test_full_disk(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(UserError, match=r"^cannot write \S*a.txt \(No space left on device\)"), replacing(path) as temporary:
        temporary.unlink()
        temporary.symlink_to("/dev/full")
        temporary.write_text("new")
    assert path.read_text() == "old"
    assert not leftovers(tmp_path, "a.txt")


def test_write_json(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1, 2.5], "a": None})
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": [1, 2.5], "a": None}
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"b": object()})
    assert json.loads((tmp_path / "a.json").read_text())["b"] == [1, 2.5]


@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7), (5, 7, 1)])
def test_png_round_trip(tmp_path, shape):
    picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path / "a.png"
    write_png(path, picture)
    read = read_picture(path, grey=shape[2:] != (3,))
    np.testing.assert_array_equal(read, picture.reshape(read.shape))
    assert read.flags.c_contiguous


@pytest.mark.parametrize(("shape", "dtype"), [((5, 7, 3), np.float32), ((5, 7, 4), np.uint8), ((5, 7, 2), np.uint8)])
def test_encode_png_takes_uint8_rgb_and_grey_only(shape, dtype):
    with pytest.raises(ValueError, match="cannot encode an array of shape"):
        encode_png(np.zeros(shape, dtype))


@pytest.mark.parametrize("suffix", [".bmp", ".jpg", ".png", ".tif", ".webp"])
def test_decode_gives_rgb(suffix):
    picture = smooth_picture()
    decoded = decode_picture(encoded(suffix, picture[..., ::-1]))
    assert decoded.dtype == np.uint8
    np.testing.assert_allclose(decoded.astype(int), picture, atol=0 if suffix in (".bmp", ".png", ".tif") else 12)


def test_decode_makes_grey_into_rgb():
    grey = smooth_picture()[..., 0]
    np.testing.assert_array_equal(decode_picture(encoded(".png", grey)), np.repeat(grey[..., None], 3, axis=-1))
    np.testing.assert_array_equal(decode_picture(encoded(".png", grey), grey=True), grey)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_decode_reduces_16_bits_to_8(suffix):
    picture = smooth_picture()
    deep = picture[..., ::-1].astype(np.uint16) * 257
    np.testing.assert_allclose(decode_picture(encoded(suffix, deep)).astype(int), picture, atol=1)
    np.testing.assert_allclose(decode_picture(encoded(suffix, deep[..., 1]), grey=True).astype(int), picture[..., 1], atol=1)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_decode_drops_alpha(suffix):
    picture = smooth_picture()
    alpha = np.full(picture.shape[:2], 7, np.uint8)
    np.testing.assert_array_equal(decode_picture(encoded(suffix, np.dstack([picture[..., ::-1], alpha]))), picture)


# What the viewer has to do with the stored pixels, by the EXIF standard.
UPRIGHT = {
    1: lambda p: p,
    2: np.fliplr,
    3: lambda p: np.rot90(p, 2),
    4: np.flipud,
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_decode_applies_exif_orientation(orientation):
    jpeg = encoded(".jpg", smooth_picture()[..., ::-1], cv2.IMWRITE_JPEG_QUALITY, 100)
    stored = decode_picture(jpeg)
    turned = decode_picture(with_orientation(jpeg, orientation))
    np.testing.assert_array_equal(turned, UPRIGHT[orientation](stored))
    assert decode_picture(with_orientation(jpeg, orientation), grey=True).shape == turned.shape[:2]


@pytest.mark.parametrize("suffix", [".bmp", ".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.99])
def test_truncated_picture_is_an_error(suffix, kept):
    data = encoded(suffix, np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    with pytest.raises(UserError, match="^not a readable picture"):
        decode_picture(data[: int(kept * len(data))])


@pytest.mark.parametrize("progressive", [0, 1])
def test_jpeg_without_its_last_byte_is_an_error(progressive):
    data = encoded(".jpg", smooth_picture(), cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    with pytest.raises(UserError):
        decode_picture(data[:-1])


@pytest.mark.parametrize("data", [b"", b"some text\n" * 100, b"\xff\xd8\xff", b"GIF89a", bytes(1000)])
def test_what_is_no_picture_is_an_error(data):
    with pytest.raises(UserError, match="^not a readable picture"):
        decode_picture(data)


def test_picture_too_large_to_decode_is_an_error():
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10000))) + chunk(b"IEND", b"")
    with pytest.raises(UserError):
        decode_picture(bomb)


def test_reading_names_the_file_and_the_fault(tmp_path):
    (tmp_path / "text.jpg").write_text("some text")
    with pytest.raises(UserError, match=r"text.jpg is not a readable picture \(empty, truncated or of an unknown format\)$"):
        read_picture(tmp_path / "text.jpg")
    with pytest.raises(UserError, match=r"^cannot read \S*missing.jpg \(No such file or directory\)$"):
        read_picture(tmp_path / "missing.jpg")
    with pytest.raises(UserError, match=r"^cannot read \S* \(Is a directory\)$"):
        read_picture(tmp_path)


def test_commands_keep_opencv_quiet(tmp_path):
    path = tmp_path / "half.bmp"
    path.write_bytes(encoded(".bmp", smooth_picture())[:500])
    code = f"""
import sys, types
from maskgan_jax import __main__
def command(arguments):
    from maskgan_jax.files import read_picture
    read_picture({str(path)!r})
sys.modules["maskgan_jax.commands.demo"] = types.SimpleNamespace(main=command)
sys.exit(__main__.main(["demo"]))
"""
    environment = {name: value for name, value in os.environ.items() if name != "OPENCV_LOG_LEVEL"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"maskgan demo: error: {path} is not a readable picture (empty, truncated or of an unknown format)\n"


def test_find_pictures_sorts_and_leaves_out_what_is_none(tmp_path):
    for name in ("b.JPG", "a/c.png", "a/a.webp", "a/.hidden.png", "notes.txt", "folder.png/d.tiff"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [str(path.relative_to(tmp_path)) for path in find_pictures(tmp_path)]
    assert names == ["a/a.webp", "a/c.png", "b.JPG", "folder.png/d.tiff"]


def test_find_pictures_where_there_are_none(tmp_path):
    with pytest.raises(UserError, match="^no pictures"):
        find_pictures(tmp_path)
    with pytest.raises(UserError, match="is not a folder; give the folder that holds the pictures"):
        find_pictures(tmp_path / "missing")
