import errno
import functools
import io
import json
import os
import struct
import subprocess
import sys
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from maskgan_jax import files
from maskgan_jax.errors import UserError
from maskgan_jax.files import (
    check_writable,
    decode_image,
    encode_png,
    find_images,
    jpeg_quality,
    open_image,
    read_file,
    read_image,
    replacing,
    replacing_folder,
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


def saved(picture, form, **parameters):
    """The bytes of a file that Pillow writes; `picture` is an array or an image."""
    file = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(file, form, **parameters)
    return file.getvalue()


def icc_profile(primaries, gamma):
    """A smallest ICC profile of a screen; `primaries` are the XYZ (D50) of red, green and blue."""
    white = (0.9642, 1.0, 0.8249)
    tags = {b"wtpt": white, b"rXYZ": primaries[0], b"gXYZ": primaries[1], b"bXYZ": primaries[2]}
    tags = {name: b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * v) for v in xyz)) for name, xyz in tags.items()}
    curve = b"curv\0\0\0\0" + struct.pack(">IHH", 1, round(256 * gamma), 0)
    text = b"text\0\0\0\0none\0\0\0\0"
    description = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78) + bytes(1)
    tags |= {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve, b"cprt": text, b"desc": description}
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", start + len(body), len(value))
        body += value
    header = struct.pack(">I4s", start + len(body), b"") + b"\2\x10\0\0mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28)
    header += struct.pack(">3i", *(round(65536 * value) for value in white))
    return header.ljust(128, b"\0") + table + body


# D50-adapted, as in the profiles of these names.
SRGB_PRIMARIES = np.array([(0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)])
ADOBE_PRIMARIES = np.array([(0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)])


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


@pytest.mark.parametrize("path", ["/dev/null", "/dev/stdout", "/dev/new", "pipe", "link"])
def test_devices_and_pipes_are_not_replaced(path, tmp_path, monkeypatch):
    """Who may replace a device's file would take it from all programs."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("link").symlink_to("/dev/null")
    for name in ("touch", "replace"):  # A failure must not cost the machine its device.
        monkeypatch.setattr(Path, name, lambda *_, **__: pytest.fail("it was begun"))
    for write in (write_text, lambda path, _: check_writable(path)):
        with pytest.raises(UserError, match=f"^cannot write to {path}, which is a pipe or a device; give the name of a file$"):
            write(path, "new")
    assert Path("/dev/null").is_char_device() and Path("pipe").is_fifo() and Path("link").is_symlink()
    assert not leftovers(tmp_path, "link", "pipe")


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


def test_what_can_be_written_is_known_before(tmp_path):
    (tmp_path / "file").write_text("old")
    check_writable(tmp_path / "new" / "file")
    check_writable(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "old" and not list((tmp_path / "new").iterdir())
    for path in (tmp_path, tmp_path / "file" / "below", tmp_path / ("x" * 300) / "file"):
        with pytest.raises(UserError, match=f"cannot write {path} .*; check the folder's permissions"):
            check_writable(path)


@pytest.mark.parametrize("path", ["", ".", "/"])
def test_a_place_without_a_name(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for write in (replacing, replacing_folder):
        with pytest.raises(UserError, match=f"^cannot write to '{path}', which has no name"), write(path):
            pass
    with pytest.raises(UserError, match=f"^cannot write to '{path}', which has no name"):
        check_writable(path)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs Linux's /proc")
def test_a_folder_that_takes_no_files():
    for write in (check_writable, lambda path: write_text(path, "new")):
        with pytest.raises(UserError, match=r"^cannot write /proc/a.txt \(no files can be made in its folder\)"):
            write("/proc/a.txt")


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
    read = read_image(path, grey=shape[2:] != (3,))
    np.testing.assert_array_equal(read, picture.reshape(read.shape))
    assert read.flags.c_contiguous


@pytest.mark.parametrize(("shape", "dtype"), [((5, 7, 3), np.float32), ((5, 7, 4), np.uint8), ((5, 7, 2), np.uint8)])
def test_encode_png_takes_uint8_rgb_and_grey_only(shape, dtype):
    with pytest.raises(ValueError, match="cannot encode an array of shape"):
        encode_png(np.zeros(shape, dtype))


@pytest.mark.parametrize("suffix", [".bmp", ".jpg", ".png", ".tif", ".webp"])
def test_decode_gives_rgb(suffix):
    picture = smooth_picture()
    decoded = decode_image(encoded(suffix, picture[..., ::-1]))
    assert decoded.dtype == np.uint8
    np.testing.assert_allclose(decoded.astype(int), picture, atol=0 if suffix in (".bmp", ".png", ".tif") else 12)


def test_decode_makes_grey_into_rgb():
    grey = smooth_picture()[..., 0]
    np.testing.assert_array_equal(decode_image(encoded(".png", grey)), np.repeat(grey[..., None], 3, axis=-1))
    np.testing.assert_array_equal(decode_image(encoded(".png", grey), grey=True), grey)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_decode_reduces_16_bits_to_8(suffix):
    picture = smooth_picture()
    deep = picture[..., ::-1].astype(np.uint16) * 257
    np.testing.assert_allclose(decode_image(encoded(suffix, deep)).astype(int), picture, atol=1)
    np.testing.assert_allclose(decode_image(encoded(suffix, deep[..., 1]), grey=True).astype(int), picture[..., 1], atol=1)


def test_transparent_is_white_in_a_photo_and_not_hidden_in_a_mask():
    picture = smooth_picture()
    alpha = np.full(picture.shape[:2], 255, np.uint8)
    alpha[:10], alpha[10:20] = 0, 51  # A fifth.
    for form in ("PNG", "TIFF"):
        read = decode_image(saved(np.dstack([picture, alpha]), form))
        np.testing.assert_array_equal(read[20:], picture[20:])
        np.testing.assert_allclose(read[10:20].astype(int), 255 + 0.2 * (picture[10:20] - 255.0), atol=1)
        assert (read[:10] == 255).all()
    mask = np.full_like(alpha, 255)
    for transparent in (np.dstack([mask, mask, mask, alpha]), np.dstack([mask, alpha])):
        np.testing.assert_array_equal(decode_image(saved(transparent, "PNG"), grey=True), alpha)


def test_a_transparent_grey_of_16_bits():
    deep = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 20
    read = decode_image(saved(deep, "PNG", transparency=20 * 700))
    expected = np.where(deep == 20 * 700, 255, deep >> 8)
    np.testing.assert_array_equal(read, np.repeat(expected[..., None], 3, axis=-1))


def test_heic():
    """HEIF has its own way to turn an image, which the decoder obeys; its EXIF orientation is to be ignored."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = saved(smooth_picture(), "HEIF", quality=95, exif=exif)
    assert np.abs(decode_image(data) - smooth_picture().astype(int)).mean() < 3
    with pytest.raises(UserError, match="truncated, damaged"):
        decode_image(data[: len(data) // 2])


@pytest.mark.parametrize("kind", [b"mif1", b"msf1"])
def test_avif_of_a_general_kind(kind):
    """As some encoders write it; HEIC has the same kind, but does not name AVIF after it."""
    data = bytearray(saved(smooth_picture(), "AVIF"))
    data[8:12] = kind
    np.testing.assert_array_equal(decode_image(bytes(data)), decode_image(saved(smooth_picture(), "AVIF")))
    with pytest.raises(UserError, match="truncated, damaged"):
        decode_image(b"\0\0\0\x18ftyp" + kind + b"\0\0\0\0" + b"mif1heic" + bytes(99))


def test_decode_takes_palettes_and_bits():
    picture = smooth_picture()
    palette = Image.fromarray(picture).quantize(200)
    expected = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(decode_image(saved(palette, "PNG")), expected)
    np.testing.assert_array_equal(decode_image(saved(palette, "GIF")), expected)
    first = np.asarray(palette) == 0
    expected = np.where(first[..., None], 255, expected)
    np.testing.assert_array_equal(decode_image(saved(palette, "PNG", transparency=0)), expected)
    bits = picture[..., 0] > 99
    for form in ("BMP", "PNG", "TIFF"):
        np.testing.assert_array_equal(decode_image(saved(bits, form), grey=True), 255 * bits)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_decode_takes_the_first_picture_of_an_animation(form):
    first, *others = (Image.fromarray(np.full((32, 32, 3), value, np.uint8)) for value in (40, 140, 240))
    read = decode_image(saved(first, form, save_all=True, append_images=others, duration=100, loop=0))
    np.testing.assert_allclose(read.astype(int), 40, atol=2)


def test_decode_takes_cmyk_of_all_kinds():
    picture = smooth_picture()
    ink = 255 - picture
    none = np.zeros(ink.shape[:2], np.uint8)

    def jpeg(*channels):  # Pillow stores all four inverted, as Adobe does, and without YCCK's conversion.
        return saved(Image.merge("CMYK", [Image.fromarray(channel) for channel in channels]), "JPEG", quality=100)

    adobe = jpeg(*np.moveaxis(ink, -1, 0), none)
    luma = np.moveaxis(np.asarray(Image.fromarray(ink).convert("YCbCr")), -1, 0)
    ycck = bytearray(jpeg(*(255 - luma), none))
    marker = ycck.index(b"Adobe")
    ycck[marker + 11] = 2
    for data in (adobe, bytes(ycck), saved(Image.fromarray(np.dstack([ink, none]), "CMYK"), "TIFF")):
        np.testing.assert_allclose(decode_image(data).astype(int), picture, atol=6)


def test_decode_converts_to_srgb():
    picture = smooth_picture()
    linear = np.where(picture <= 0.04045 * 255, picture / 255 / 12.92, ((picture / 255 + 0.055) / 1.055) ** 2.4)
    adobe = np.clip(linear @ SRGB_PRIMARIES @ np.linalg.inv(ADOBE_PRIMARIES), 0, 1) ** (256 / 563)
    adobe = np.round(255 * adobe).astype(np.uint8)
    data = saved(adobe, "PNG", icc_profile=icc_profile(ADOBE_PRIMARIES, 563 / 256))
    assert np.abs(adobe.astype(int) - picture).max() > 30
    exact = picture.min(axis=-1) > 40  # Below, one step of Adobe RGB is many of sRGB.
    np.testing.assert_allclose(decode_image(data)[exact].astype(int), picture[exact], atol=5)
    np.testing.assert_array_equal(decode_image(data, grey=True), np.asarray(Image.fromarray(adobe).convert("L")))


def test_decode_leaves_srgb_and_ignores_damaged_profiles():
    picture = smooth_picture()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, srgb[:200], b"none"):
        np.testing.assert_array_equal(decode_image(saved(picture, "PNG", icc_profile=profile)), picture)
        grey = decode_image(saved(picture[..., 0], "PNG", icc_profile=profile))
        np.testing.assert_array_equal(grey, np.repeat(picture[..., :1], 3, axis=-1))


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_32_bits_are_an_error_that_says_so(dtype):
    with pytest.raises(UserError, match=r"\(32 bits a pixel; save it with 8 or 16 bits a channel\)$"):
        decode_image(saved(smooth_picture()[..., 0].astype(dtype), "TIFF"))


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
    stored = decode_image(jpeg)
    turned = decode_image(with_orientation(jpeg, orientation))
    np.testing.assert_array_equal(turned, UPRIGHT[orientation](stored))
    assert decode_image(with_orientation(jpeg, orientation), grey=True).shape == turned.shape[:2]


@pytest.mark.parametrize("form", ["AVIF", "JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_in_all_formats(form, orientation):
    picture = np.kron(smooth_picture(4, 4), np.ones((16, 16, 1), np.uint8))[:48]
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = decode_image(saved(picture, form, exif=exif))
    np.testing.assert_allclose(turned.astype(int), UPRIGHT[orientation](picture), atol=30)


@pytest.mark.parametrize("value", [b"", b"MM", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff" + bytes(12), b"\xff" * 99])
def test_damaged_exif_does_not_matter(value):
    picture = smooth_picture()
    for form in ("JPEG", "PNG", "WEBP"):
        data = saved(picture, form, exif=b"Exif\0\0" + value)
        np.testing.assert_array_equal(decode_image(data), decode_image(saved(picture, form)))


@pytest.mark.parametrize("suffix", [".bmp", ".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.99])
def test_truncated_picture_is_an_error(suffix, kept):
    data = encoded(suffix, np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    with pytest.raises(UserError, match="^not a readable picture"):
        decode_image(data[: int(kept * len(data))])


@pytest.mark.parametrize("progressive", [0, 1])
def test_jpeg_without_its_last_byte_is_an_error(progressive):
    data = encoded(".jpg", smooth_picture(), cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    with pytest.raises(UserError):
        decode_image(data[:-1])


@pytest.mark.parametrize("data", [b"", b"some text\n" * 100, b"\xff\xd8\xff", b"GIF89a", bytes(1000)])
def test_what_is_no_picture_is_an_error(data):
    with pytest.raises(UserError, match="^not a readable picture"):
        decode_image(data)


def test_jpeg_filled_up_with_zeros_is_an_error():
    """A download that broke off, in a file that was made as large as it was to be."""
    y, x = np.mgrid[:480, :640]
    # So much detail that the zeros are enough for the pixels that are missing, and Pillow sees nothing wrong.
    data = saved((x * y % 256).astype(np.uint8), "JPEG", quality=90)
    with pytest.raises(UserError, match="truncated, damaged"):
        decode_image(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))


@pytest.mark.parametrize("progressive", [0, 1])
def test_what_follows_a_jpeg_does_not_matter(progressive):
    """A video, as some phones have it."""
    data = encoded(".jpg", smooth_picture(), cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    np.testing.assert_array_equal(decode_image(data + b"\0\xff\xda\xff\xd8"), decode_image(data))


def test_picture_too_large_to_decode_is_an_error():
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10000))) + chunk(b"IEND", b"")
    large = saved(smooth_picture(), "JPEG").replace(struct.pack(">HH", 48, 64), struct.pack(">HH", 20000, 20000), 1)
    for data in (bomb, large):
        with pytest.raises(UserError, match=r"\(more than 100 megapixels; make it smaller\)$"):
            decode_image(data)


def test_a_lack_of_memory_is_no_damage(monkeypatch):
    data = saved(smooth_picture(), "JPEG")
    with pytest.raises(MemoryError), open_image(data):
        raise MemoryError
    for read in (decode_image, jpeg_quality):
        with monkeypatch.context() as context, pytest.raises(MemoryError):
            context.setattr(files.Image, "open", lambda *_, **__: np.empty(2**62, np.uint8))
            read(data)


def test_reading_names_the_file_and_the_fault(tmp_path):
    (tmp_path / "text.jpg").write_text("some text")
    with pytest.raises(UserError, match=r"text.jpg is not a readable picture \(not AVIF, BMP, .* or WEBP\)$"):
        read_image(tmp_path / "text.jpg")
    with pytest.raises(UserError, match=r"^cannot read \S*missing.jpg \(No such file or directory\)$"):
        read_image(tmp_path / "missing.jpg")
    with pytest.raises(UserError, match=r"^cannot read \S* \(Is a directory\)$"):
        read_image(tmp_path)


def test_a_broken_picture_takes_one_line(tmp_path):
    path = tmp_path / "half.jpg"
    path.write_bytes(saved(smooth_picture(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")[:-500])
    code = f"""
import sys, types
from maskgan_jax import __main__
def command(arguments):
    from maskgan_jax.files import read_image
    read_image({str(path)!r})
sys.modules["maskgan_jax.commands.demo"] = types.SimpleNamespace(main=command)
sys.exit(__main__.main(["demo"]))
"""
    environment = {name: value for name, value in os.environ.items() if name != "OPENCV_LOG_LEVEL"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"maskgan demo: error: {path} is not a readable picture (truncated, damaged or of an unusual kind)\n"


@pytest.mark.parametrize("quality", [1, 5, 30, 50, 75, 90, 95, 100])
def test_jpeg_quality(quality):
    picture = smooth_picture()
    files = [saved(picture, "JPEG", quality=quality, progressive=True), saved(picture[..., 0], "JPEG", quality=quality)]
    files.append(encoded(".jpg", picture, cv2.IMWRITE_JPEG_QUALITY, quality))
    for data in files:
        assert abs(jpeg_quality(data) - quality) <= 1


def test_jpeg_quality_of_other_tables():
    """Tables that are not libjpeg's have the quality of the nearest ones."""
    file = Image.open(io.BytesIO(saved(smooth_picture(), "JPEG", quality=80)))
    tables = {0: [value + 1 for value in file.quantization[0]], 1: file.quantization[1]}
    assert 74 <= jpeg_quality(saved(smooth_picture(), "JPEG", qtables=tables)) <= 80


def test_what_is_no_jpeg_has_no_quality():
    for data in (b"", b"text", b"\xff\xd8\xff", saved(smooth_picture(), "PNG")):
        assert jpeg_quality(data) is None


def test_find_pictures_sorts_and_leaves_out_what_is_none(tmp_path):
    for name in ("b.JPG", "a/c.png", "a/a.webp", "a/.hidden.png", "notes.txt", "folder.png/d.tiff"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link.jpg").symlink_to("nowhere")
    names = [str(path.relative_to(tmp_path)) for path in find_images(tmp_path)]
    assert names == ["a/a.webp", "a/c.png", "b.JPG", "folder.png/d.tiff", "link.jpg"]


def test_find_pictures_where_there_are_none(tmp_path):
    with pytest.raises(UserError, match="^no images"):
        find_images(tmp_path)
    with pytest.raises(UserError, match="is not a folder; give the folder that holds the images"):
        find_images(tmp_path / "missing")


def test_former_name_of_read_image():
    assert files.read_picture is files.read_image


def test_results_are_not_written_to_urls(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for write in (check_writable, functools.partial(write_json, value=1)):
        with pytest.raises(UserError, match="cannot write to gs://bucket/x.json, which is a URL; give a path on this machine"):
            write("gs://bucket/x.json")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    (tmp_path / "large.png").touch()
    os.truncate(tmp_path / "large.png", 3 * 10**9)
    with pytest.raises(UserError, match=r"large\.png has more than 2100 megabytes; make it smaller"):
        read_image(tmp_path / "large.png")


def test_a_small_file_takes_little_memory(tmp_path):
    (tmp_path / "small.png").write_bytes(b"small")
    tracemalloc.start()
    assert read_file(tmp_path / "small.png") == b"small"
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1e6


def test_what_does_not_tell_its_size_is_read_to_its_end(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor() as pool:
        read = pool.submit(read_file, tmp_path / "pipe")
        with open(tmp_path / "pipe", "wb") as pipe:
            pipe.write(b"a" * 100_000)
        assert read.result() == b"a" * 100_000


def test_what_does_not_tell_its_size_is_not_read_without_end(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    pipe = os.open(tmp_path / "pipe", os.O_RDWR)  # Opened so, it waits for no reader.
    with ThreadPoolExecutor() as pool:
        written = pool.submit(os.write, pipe, b"a" * 1_000_001)
        with pytest.raises(UserError, match="pipe has more than 1 megabytes"):
            read_file(tmp_path / "pipe", most_megabytes=1)
        assert written.result() == 1_000_001
    os.close(pipe)


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero"])
def test_devices_are_not_read(device):
    with pytest.raises(UserError, match=f"cannot read {device} .it is a device, not a file"):
        read_file(device)
