"""Inputs that nobody should give: each must be told of in one clear line, and must not stop or spoil the rest."""

import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.files import read_image, write_png
from maskgan_jax.unmasking.video_files import VideoWriter

UNREADABLE = "is not a readable picture"


def encoded(picture, form="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, form, **options)
    return file.getvalue()


def png_header(width, height):
    """A PNG that says it is as large as that, and holds next to nothing."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


# Name, bytes of the file as a function of a portrait, and what must be told.
BAD_FILES = {
    "empty.png": (lambda face: b"", "an empty file"),
    "empty.jpg": (lambda face: b"", "an empty file"),
    "text.png": (lambda face: b"this is no picture\n" * 50, UNREADABLE),
    "zeros.jpg": (lambda face: bytes(5000), UNREADABLE),
    "noise.webp": (lambda face: np.random.default_rng(0).bytes(5000), UNREADABLE),
    "page.jpg": (lambda face: b"<!DOCTYPE html><html><body>404 Not Found</body></html>", UNREADABLE),
    "vector.png": (lambda face: b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', UNREADABLE),
    "document.png": (lambda face: b"%PDF-1.7\n%%EOF", UNREADABLE),
    "archive.png": (lambda face: b"PK\x05\x06" + bytes(18), UNREADABLE),
    "pickle.png": (lambda face: b"\x80\x04cos\nsystem\n(S'true'\ntR.", UNREADABLE),
    "signature_only.png": (lambda face: b"\x89PNG\r\n\x1a\n", UNREADABLE),
    "header_only.jpg": (lambda face: b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", UNREADABLE),
    "truncated.png": (lambda face: encoded(face)[:5000], UNREADABLE),
    "truncated.jpg": (lambda face: encoded(face, "JPEG")[:3000], UNREADABLE),
    "truncated.webp": (lambda face: encoded(face, "WEBP")[:1000], UNREADABLE),
    "truncated.gif": (lambda face: encoded(face, "GIF")[:3000], UNREADABLE),
    "truncated.tiff": (lambda face: encoded(face, "TIFF")[:3000], UNREADABLE),
    "zero_filled.jpg": (lambda face: encoded(face, "JPEG")[:3000] + bytes(9000), UNREADABLE),
    "wrong_checksum.png": (lambda face: encoded(face)[:100] + b"\0\0\0\0" + encoded(face)[104:], UNREADABLE),
    "enormous.png": (lambda face: png_header(60000, 60000), "more than 250 megapixels"),
    "too_large.png": (lambda face: png_header(16000, 16000), "more than 250 megapixels"),
    "large_and_damaged.png": (lambda face: png_header(12000, 9000), "truncated, damaged"),
    "no_width.png": (lambda face: png_header(0, 100), UNREADABLE),
    "32_bits.tiff": (lambda face: encoded(face[..., 0].astype(np.float32), "TIFF"), "32 bits a pixel"),
    "faceless.png": (lambda face: encoded(np.full((200, 300, 3), 90, np.uint8)), "no face found"),
    "noise.png": (lambda face: encoded(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)), "no face found"),
    "one_pixel.png": (lambda face: encoded(face[:1, :1]), "no face found"),
    "strip.png": (lambda face: encoded(np.repeat(face[:1], 3, axis=0).repeat(9, axis=1)), "no face found"),
    "tiny_face.png": (lambda face: encoded(cv2.resize(face, (8, 8))), "no face found"),
    "grey.png": (lambda face: encoded(np.zeros((100, 100), np.uint8)), "no face found"),
    "transparent.png": (lambda face: encoded(np.zeros((100, 100, 4), np.uint8)), "no face found"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_beside_a_good_one(name, run, portrait, tmp_path):
    make, message = BAD_FILES[name]
    bad, good, out = tmp_path / "in" / name, tmp_path / "in" / "zz_good.png", tmp_path / "out"
    write_png(good, portrait)
    bad.write_bytes(make(portrait))
    before = bad.read_bytes()
    code, told, err = run(tmp_path / "in", f"--out={out}")
    (line,) = err.strip().splitlines()
    assert code == 1
    assert line.startswith("maskgan unmask: skipped:") and name in line and message in line
    assert "1 mask removed" in told and "1 of 2 inputs could not be used" in told
    assert not (out / name).exists() and (out / "zz_good.png").exists()
    assert bad.read_bytes() == before


def animation(face):
    return encoded(face, "GIF", save_all=True, append_images=[Image.fromarray(255 - face)])


# What is odd but can be used: what comes of it.
ODD_FILES = {
    "animated.gif": (animation, "animation became a video"),
    "16_bits.png": (lambda face: cv2.imencode(".png", face[..., ::-1].astype(np.uint16) * 257)[1].tobytes(), "1 mask removed"),
    "wrong_suffix.png": (lambda face: encoded(face, "JPEG", quality=95), "1 mask removed"),
    "CAPITALS.PNG": (encoded, "1 mask removed"),
    "with space & ünïcode.png": (encoded, "1 mask removed"),
    "print.jpg": (lambda face: cmyk(face), "CMYK became RGB"),
    "upside_down.png": (lambda face: encoded(np.ascontiguousarray(face[::-1])), None),
    "at_the_border.png": (lambda face: encoded(face[:, 130:]), None),
}


def cmyk(face):
    file = io.BytesIO()
    Image.fromarray(face).convert("CMYK").save(file, "JPEG", quality=95)
    return file.getvalue()


@pytest.mark.parametrize("name", ODD_FILES)
def test_odd_files(name, run, portrait, tmp_path):
    make, message = ODD_FILES[name]
    path = tmp_path / "in" / name
    path.parent.mkdir()
    path.write_bytes(make(portrait))
    code, told, err = run(path, f"--out={tmp_path / 'out'}")
    if message:
        assert code == 0 and message in told and err.strip() == ""
    else:  # Whether a face is found is the detector's affair; that one line tells it is ours.
        assert (code, len((told + err).strip().splitlines())) in ((0, 2), (1, 2))


def test_200_faces(run, crowd, tmp_path):
    write_png(tmp_path / "crowd.png", crowd)
    code, told, _ = run(tmp_path / "crowd.png", f"--out={tmp_path / 'out'}")
    assert code == 0
    removed = int(told.split(": ")[1].split()[0])
    assert removed > 150
    green = (read_image(tmp_path / "out" / "crowd.png") == (20, 220, 40)).all(axis=-1).sum()
    assert green < 0.3 * (crowd == (20, 220, 40)).all(axis=-1).sum()


def test_a_image_of_40_megapixels(run, portrait, tmp_path):
    large = np.full((5000, 8000, 3), 90, np.uint8)
    large[3000:3320, 4000:4320] = portrait
    Image.fromarray(large).save(tmp_path / "large.jpg", quality=50)
    code, told, _ = run(tmp_path / "large.jpg", f"--out={tmp_path / 'out'}")
    assert code == 0 and "large.jpg: 1 mask removed" in told
    result = read_image(tmp_path / "out" / "large.jpg")[3000:3320, 4000:4320]
    assert result.shape == portrait.shape
    near = [(np.abs(image.astype(int) - (20, 220, 40)).max(axis=-1) < 60).sum() for image in (portrait, result)]
    assert near[1] < 0.05 * near[0]


def test_only_bad_files(run, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    code, told, err = run(tmp_path / "a.png", tmp_path / "gone.png", f"--out={tmp_path / 'out'}")
    assert code == 1 and told == ""
    lines = err.strip().splitlines()
    assert "an empty file" in lines[0] and "cannot read" in lines[1] and "gone.png" in lines[1]
    assert lines[2].startswith("maskgan unmask: error: nothing was unmasked")
    assert not (tmp_path / "out").exists()


def test_folders_without_images_and_dead_links(run, portrait, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, err = run(tmp_path / "empty", f"--out={tmp_path / 'out'}")
    assert code == 1 and "there is nothing to unmask" in err
    write_png(tmp_path / "in" / "a.png", portrait)
    (tmp_path / "in" / "b.png").symlink_to(tmp_path / "nowhere.png")
    code, told, err = run(tmp_path / "in", f"--out={tmp_path / 'out'}")
    assert code == 1 and "a.png: 1 mask removed" in told and "cannot read" in err and "b.png" in err


def test_image_without_permission(run, portrait, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    write_png(tmp_path / "a.png", portrait)
    (tmp_path / "a.png").chmod(0)
    code, _, err = run(tmp_path / "a.png", f"--out={tmp_path / 'out'}")
    assert code == 1 and "cannot read" in err


def test_out_is_a_file(run, portrait, tmp_path):
    write_png(tmp_path / "a.png", portrait)
    (tmp_path / "out").write_text("mine")
    code, _, err = run(tmp_path / "a.png", f"--out={tmp_path / 'out'}")
    assert code == 1 and "cannot write" in err
    assert (tmp_path / "out").read_text() == "mine"


def test_result_is_a_folder(run, portrait, tmp_path):
    write_png(tmp_path / "a.png", portrait)
    (tmp_path / "out" / "a.png").mkdir(parents=True)
    code, _, err = run(tmp_path / "a.png", f"--out={tmp_path / 'out'}")
    assert code == 1 and "is there already" in err
    code, _, err = run(tmp_path / "a.png", f"--out={tmp_path / 'out'}", "--overwrite")
    assert code == 1 and "cannot write" in err


def test_full_disk(run, portrait, tmp_path, monkeypatch):
    """What was there before is there still, and no half of a result."""
    write_png(tmp_path / "a.png", portrait)
    write_png(tmp_path / "out" / "a.png", portrait[:9, :9])
    before = (tmp_path / "out" / "a.png").read_bytes()

    def full(self, data):
        self.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    code, _, err = run(tmp_path / "a.png", f"--out={tmp_path / 'out'}", "--overwrite")
    assert code == 1 and "No space left on device" in err
    assert (tmp_path / "out" / "a.png").read_bytes() == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


def test_results_would_replace_inputs(run, portrait, tmp_path):
    write_png(tmp_path / "a.png", portrait)
    before = (tmp_path / "a.png").read_bytes()
    code, _, err = run(tmp_path / "a.png", f"--out={tmp_path}", "--overwrite")
    assert code == 1 and "would be overwritten" in err
    assert (tmp_path / "a.png").read_bytes() == before


def test_two_inputs_of_one_name(run, portrait, tmp_path):
    for folder in ("one", "two"):
        write_png(tmp_path / folder / "a.png", portrait)
    code, _, err = run(tmp_path / "one" / "a.png", tmp_path / "two" / "a.png", f"--out={tmp_path / 'out'}")
    assert code == 1 and "would both be written to" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((320, 320), np.uint8), "hides nothing"),
        (np.ones((320, 320), np.uint8), "hides nothing"),
        (np.full((32, 32), 255, np.uint8), "its mask is 32 x 32"),
        (cv2.rectangle(np.zeros((320, 320), np.uint8), (0, 0), (5, 5), 255, -1), "on none of the faces"),
    ],
    ids=["black", "ones", "misfit", "elsewhere"],
)
def test_bad_masks(mask, message, run, portrait, tmp_path):
    write_png(tmp_path / "a.png", portrait)
    write_png(tmp_path / "mask.png", mask)
    code, _, err = run(tmp_path / "a.png", f"--out={tmp_path / 'out'}", f"--mask={tmp_path / 'mask.png'}")
    assert code == 1 and message in err and not (tmp_path / "out" / "a.png").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a.png"],
        ["--out=x"],
        ["a.png", "--out=x", "--camera=0"],
        ["a.png", "--out=x", "--aligned", "--crops"],
        ["a.png", "--out=x", "--metadata=burn"],
        ["a.png", "--out=x", "--camera=front"],
        ["a.png", "--out=x", "--colour=red"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_code_2(arguments, run):
    code, told, err = run(*arguments)
    assert code == 2 and told == "" and "maskgan unmask: error:" in err


@pytest.fixture
def pyav():
    return pytest.importorskip("av", reason="PyAV is not installed (pip install 'maskgan_jax[video]')")


def sound_alone(av, path):
    with av.open(str(path), "w") as container:
        tone = container.add_stream("aac", rate=48000)
        for number in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = 48000, number * 1024
            container.mux(tone.encode(frame))
        container.mux(tone.encode(None))


def without_frames(av, path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        container.start_encoding()


def cut_off(av, path):
    """Without its end, where MP4 says what is where."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for number in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), number, np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    path.write_bytes(path.read_bytes()[:-300])


BAD_VIDEOS = {
    "empty.mp4": (lambda av, path: path.write_bytes(b""), "is not a readable video"),
    "text.avi": (lambda av, path: path.write_bytes(b"no video\n" * 100), "is not a readable video"),
    "noise.mkv": (lambda av, path: path.write_bytes(np.random.default_rng(0).bytes(5000)), "is not a readable video"),
    "cut_off.mp4": (cut_off, ""),
    "sound.mp4": (sound_alone, "has no pictures, only audio"),
    "without_frames.mp4": (without_frames, ""),
}


@pytest.mark.parametrize("name", BAD_VIDEOS)
def test_bad_videos(name, pyav, run, tmp_path):
    make, message = BAD_VIDEOS[name]
    path = tmp_path / name
    make(pyav, path)
    code, told, err = run(path, f"--out={tmp_path / 'out'}")
    first, last = err.strip().splitlines()
    assert code == 1 and told == ""
    assert first.startswith("maskgan unmask: skipped:") and name in first and message in first
    assert "nothing was unmasked" in last
    assert not list((tmp_path / "out").glob("*"))


def write_clip(av, path, codec, pix_fmt, pictures):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], pix_fmt
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "suffix"),
    [("ffv1", "yuv444p", ".mkv"), ("mjpeg", "yuvj420p", ".avi"), ("rawvideo", "yuv420p", ".avi"), ("png", "rgb24", ".mov")],
)
def test_odd_codecs(codec, pix_fmt, suffix, pyav, run, portrait, tmp_path):
    path = tmp_path / f"odd{suffix}"
    write_clip(pyav, path, codec, pix_fmt, [portrait] * 3)
    code, told, err = run(path, f"--out={tmp_path / 'out'}")
    assert (code, err.strip()) == (0, "")
    assert "masks removed in 3 of 3 frames" in told
    with pyav.open(str(tmp_path / "out" / path.name)) as container:
        assert len(list(container.decode(video=0))) == 3


def test_a_video_without_faces_and_one_frame(pyav, run, tmp_path):
    path = tmp_path / "grey.mp4"
    write_clip(pyav, path, "libx264", "yuv420p", [np.full((64, 64, 3), 90, np.uint8)])
    code, told, _ = run(path, f"--out={tmp_path / 'out'}")
    assert code == 0 and "left as it is, faces in 0 of 1 frames" in told


def test_full_disk_while_a_video_is_written(pyav, run, portrait, tmp_path, monkeypatch):
    path = tmp_path / "clip.mp4"
    write_clip(pyav, path, "libx264", "yuv420p", [portrait] * 3)

    def full(self, *_, **__):
        with self._as_user_errors():
            raise pyav.error.OSError(28, "No space left on device")

    monkeypatch.setattr(VideoWriter, "write", full)
    code, _, err = run(path, f"--out={tmp_path / 'out'}")
    assert code == 1 and "No space left on device" in err
    assert not (tmp_path / "out").exists()


def test_a_video_where_a_mask_is_given(pyav, run, portrait, tmp_path):
    path = tmp_path / "clip.mp4"
    write_clip(pyav, path, "libx264", "yuv420p", [portrait] * 2)
    write_png(tmp_path / "mask.png", np.full((320, 320), 255, np.uint8))
    code, _, err = run(path, f"--out={tmp_path / 'out'}", f"--mask={tmp_path / 'mask.png'}")
    assert code == 1 and "--mask is for pictures" in err


def test_no_camera(pyav, run, tmp_path):
    code, _, err = run("--camera=99", f"--out={tmp_path / 'out'}")
    assert code == 1 and "there is no camera 99" in err
    assert not list(tmp_path.glob("out/*"))


def test_a_face_without_a_mask_is_no_bad_input(run, tmp_path):
    write_png(tmp_path / "a.png", render_face(1, seed=0, size=250).image)
    code, told, err = run(tmp_path / "a.png", f"--out={tmp_path / 'out'}")
    assert (code, err.strip()) == (0, "") and "left as it is, 1 face without a mask" in told
