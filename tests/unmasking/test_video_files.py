"""What a video keeps of its file, and what is told of the rest."""

import io
import json
import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from colour_signals import STORED, linear
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from maskgan_jax.colours import _profile_by_numbers
from maskgan_jax.errors import UserError
from maskgan_jax.files import read_image, write_png
from maskgan_jax.unmasking import video_files
from maskgan_jax.unmasking.inputs import Job, is_animation
from maskgan_jax.unmasking.metadata import LABEL
from maskgan_jax.unmasking.outputs import Outputs
from maskgan_jax.unmasking.video import unmask_video
from maskgan_jax.unmasking.video_files import Counts

from .clips import ANEW, ANY_TEXT, av, green, in_latin_1, read_video, tagged, unmasked, write_video


def test_the_video_is_not_the_cover(clip, unmasker, tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, clip, cover=True)
    line, (pictures, *_) = unmasked(path, unmasker, tmp_path / "out")
    assert len(pictures) == 10 and pictures[0].shape == (240, 320, 3)
    assert "stream 2 (cover art) left out" in line
    assert "stream 2 (cover art) left out" in json.loads((tmp_path / "out" / "clip.mp4.json").read_text())["notes"]


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", ["", "horizontally", "vertically"])
def test_turned_and_mirrored_videos_become_upright(degrees, mirrored, unmasker, tmp_path):
    """In the same file each as it is, and shaped as it is: pixels that were wide become high where the picture is turned."""
    stored = np.zeros((96, 128, 3), np.uint8)
    stored[:48, :64], stored[:48, 64:], stored[48:, :64] = 255, (220, 40, 40), (40, 40, 220)
    path = tmp_path / "clip.mp4"
    turn = (degrees, mirrored == "horizontally", mirrored == "vertically")
    write_video(path, [stored] * 2, sound=False, turn=turn, sample_aspect_ratio=Fraction(4, 3))
    _, (pictures, *_) = unmasked(path, unmasker, tmp_path / "out", **ANEW)
    expected = np.rot90(stored, degrees // 90)  # Counterclockwise, and mirrored thereafter.
    expected = {"": expected, "horizontally": expected[:, ::-1], "vertically": expected[::-1]}[mirrored]
    assert pictures[0].shape == expected.shape
    assert np.abs(pictures[0].astype(int) - expected).mean() < 5
    with av.open(str(tmp_path / "out" / "clip.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == (Fraction(3, 4) if degrees % 180 else Fraction(4, 3))


@pytest.mark.parametrize(("full", "matrix"), [(True, 1), (False, 1), (False, 5)])
def test_colours_and_shape_of_pixels_are_as_before(full, matrix, clip, unmasker, tmp_path):
    path = tmp_path / "clip.mp4"
    settings = {"color_range": 2 if full else 1, "colorspace": matrix, "color_primaries": 1, "color_trc": 1}
    write_video(path, clip, sound=False, sample_aspect_ratio=Fraction(4, 3), **settings)
    unmasked(path, unmasker, tmp_path / "out")
    with av.open(str(path)) as before, av.open(str(tmp_path / "out" / "clip.mp4")) as after:
        one, other = (container.streams.video[0] for container in (before, after))
        assert other.sample_aspect_ratio == one.sample_aspect_ratio == Fraction(4, 3)
        for name, value in settings.items():
            assert int(getattr(other.codec_context, name)) == value, name


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt", "settings"),
    [
        (".avi", "mjpeg", "yuvj420p", {"color_range": 2}),  # All 256 levels, which MPEG-4 cannot tell.
        (".mov", "png", "rgb24", {}),  # No matrix.
        (".mkv", "libx264rgb", "rgb24", {}),
        (".mkv", "libx264", "yuv420p", {"color_range": 2, "colorspace": 1}),
        (".mkv", "libx264", "yuv420p", {"colorspace": 9, "color_primaries": 9}),
    ],
)
def test_colours_stay(suffix, codec, pix_fmt, settings, unmasker, tmp_path):
    colour = (200, 60, 90)
    path = tmp_path / f"clip{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        space = {"dst_colorspace": settings.get("colorspace"), "dst_color_range": settings.get("color_range")}
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), colour, np.uint8), format="rgb24")
            container.mux(stream.encode(frame.reformat(format=pix_fmt, **space)))
        container.mux(stream.encode(None))
    _, (pictures, *_) = unmasked(path, unmasker, tmp_path / "out", **ANEW)
    np.testing.assert_allclose(pictures[1][24, 32], colour, atol=6)
    with av.open(str(tmp_path / "out" / path.name)) as container:
        assert container.streams.video[0].codec_context.colorspace != 0  # Of RGB, which it is not.


def test_colours_that_ffmpeg_cannot_convert(clip, unmasker, tmp_path):
    path = tmp_path / "clip.mkv"
    write_video(path, clip[:3], sound=False, colorspace=8)  # YCgCo.
    _, (pictures, *_) = unmasked(path, unmasker, tmp_path / "out")
    assert len(pictures) == 3


def test_ten_bits(clip, unmasker, tmp_path):
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p10le"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(clip[0], format="rgb24").reformat(format="yuv420p10le")))
        container.mux(stream.encode(None))
    line, _ = unmasked(path, unmasker, tmp_path / "out")
    assert "10 bits became 8" in line
    with av.open(str(tmp_path / "out" / "clip.mkv")) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"


@pytest.mark.parametrize(("kind", "transfer", "turned"), [("hlg", 18, True), ("pq", 16, False)])
def test_hdr_becomes_sdr(kind, transfer, turned, uncertain_clip, unmasker, tmp_path):
    """As it is shown, white at 203 nits; and tagged as what it is."""
    path = tmp_path / "clip.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p10le"
        tags = {"color_trc": transfer, "color_primaries": 9, "colorspace": 9, "color_range": 1}
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        if turned:
            stream.set_display_rotation(180)
        for picture in uncertain_clip[:3]:
            values = np.rint(STORED[kind](linear(picture / 255)) * 65535).astype(np.uint16)
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(values[:: -1 if turned else 1, :: -1 if turned else 1]), "rgb48le"
            )
            container.mux(stream.encode(frame.reformat(format="yuv420p10le", dst_colorspace=9, dst_color_range=1)))
        container.mux(stream.encode(None))
    line, (pictures, *_) = unmasked(path, unmasker, tmp_path / "out")
    assert "masks removed in 3 of 3 frames" in line and "HDR became SDR" in line and "bits became" not in line
    with av.open(str(tmp_path / "out" / "clip.mov")) as container:
        after = container.streams.video[0].codec_context
        assert (after.pix_fmt, int(after.color_trc), int(after.color_primaries), int(after.colorspace)) == ("yuv420p", 13, 1, 1)
    kept = np.abs(uncertain_clip[0].astype(int) - (20, 220, 40)).max(axis=-1) > 60
    kept = cv2.erode(kept.astype(np.uint8), np.ones((25, 25))) > 0
    difference = np.abs(pictures[0].astype(int) - uncertain_clip[0])[kept].mean()
    assert difference < (6 if kind == "pq" else 16)  # HLG is of the scene.


def test_interlaced_video_is_deinterlaced(clip, unmasker, tmp_path):
    """Of each frame, every other line is of another time: a bar that moves has teeth."""
    path = tmp_path / "clip.mkv"
    moving = [clip[0].copy() for _ in range(20)]
    for number, picture in enumerate(moving):
        picture[:, 270 + 2 * number : 280 + 2 * number] = 255
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"flags": "+ilme+ildct", "x264-params": "tff=1", "qp": "1"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(10):
            woven = moving[2 * number].copy()
            woven[1::2] = moving[2 * number + 1][1::2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(woven, format="rgb24")))
        container.mux(stream.encode(None))

    def teeth(pictures):
        return np.mean([np.abs(np.diff(picture[:, 262:310].astype(int), axis=0)).mean() for picture in pictures[2:-2]])

    before, times, *_ = read_video(path)
    line, (pictures, times_after, *_) = unmasked(path, unmasker, tmp_path / "out")
    assert "deinterlaced" in line and "10 of 10 frames" in line
    np.testing.assert_allclose(times_after, times, atol=1e-3)
    assert teeth(pictures) < 0.35 * teeth(before)
    with av.open(str(tmp_path / "out" / "clip.mkv")) as container:
        assert not any(frame.interlaced_frame for frame in container.decode(video=0))
    assert json.loads((tmp_path / "out" / "clip.mkv.json").read_text())["notes"] == ["deinterlaced"]


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.avif"])
def test_of_an_animation_each_frame_is_unmasked(name, clip, run, tmp_path):
    frames = [Image.fromarray(picture) for picture in clip]
    lasting = [100, 200, 50, 100, 100, 100, 100, 100, 100, 100]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=lasting)
    bare = [Image.fromarray(np.full((40, 60, 3), level, np.uint8)) for level in (10, 200)]
    bare[0].save(tmp_path / f"bare_{name}", save_all=True, append_images=bare[1:], duration=100)
    code, told, err = run(tmp_path / name, tmp_path / f"bare_{name}", f"--out={tmp_path / 'out'}")
    assert code == 0 and "masks removed in 10 of 10 frames" in told and "animation became a video" in told, err
    pictures, times, *_ = read_video(tmp_path / "out" / f"{name}.mp4")
    np.testing.assert_allclose(times, np.cumsum([0, *lasting[:-1]]) / 1000, atol=0.011)
    assert sum(map(green, pictures)) < 0.05 * sum(map(green, clip))
    assert (tmp_path / "out" / f"bare_{name}").read_bytes() == (tmp_path / f"bare_{name}").read_bytes()


@pytest.mark.parametrize("lasting", [(200, 200), (1000, 2000), (2000, 1000), (500, 1000, 3000)])
def test_the_last_frame_of_an_animation_lasts_as_long(lasting, clip, unmasker, tmp_path):
    """Also of two, of which FFmpeg gives no frame rate."""
    frames = [Image.fromarray(picture) for picture in clip[: len(lasting)]]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], duration=lasting)
    unmask_video(Job(tmp_path / "a.webp", Path("a.mp4")), unmasker, Outputs(tmp_path / "out"))
    with av.open(str(tmp_path / "out" / "a.mp4")) as container:
        (video,) = container.streams.video
        assert float(video.duration * video.time_base) == pytest.approx(sum(lasting) / 1000, abs=0.02)


def test_pictures_with_a_colour_profile(tmp_path):
    """PyAV frees the name of a profile twice if it is asked for anything beside a frame: Python then ends."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = io.BytesIO()
    Image.new("RGB", (64, 48), (200, 60, 90)).save(picture, "PNG", icc_profile=profile)
    with av.open(str(tmp_path / "clip.mov"), "w") as container:
        stream = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        for number in range(3):
            packet = av.Packet(picture.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 25)
            container.mux(packet)
    unmasking = (
        "import av, gc, sys; from pathlib import Path; from maskgan_jax.unmasking.video_files import *;"
        "path, counts = Path(sys.argv[1]), Counts()\n"
        "with open_video(path) as video:\n"
        "    for frame in prepare(decode(video, (), counts, []), []): print(upright_frame(frame, path)[0, 0])\n"
        "del frame, video; gc.collect()"
    )
    done = subprocess.run([sys.executable, "-c", unmasking, tmp_path / "clip.mov"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[200  60  90]\n" * 3), done.stderr


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.avif"])
def test_animations_are_read_as_photos_are(name, tmp_path):
    """Each frame, in the colours of its profile (of Display P3, and long), and upright."""
    colours = np.uint8([[(250, 60, 40), (60, 250, 40)]]).repeat(48, axis=0).repeat(32, axis=1)
    frames = [Image.fromarray(colours // by) for by in (1, 2, 3)]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned = {} if name.endswith(("gif", "avif")) else {"exif": exif}  # AVIF: Pillow crashes.
    profile = _profile_by_numbers(12, 13)
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], quality=95, icc_profile=profile, **turned)
    assert is_animation(tmp_path / name)
    counts = Counts()
    with video_files.open_video(tmp_path / name) as video:
        pictures = [item.to_ndarray(format="rgb24") for item in video_files.decode(video, (), counts, []) if item]
    expected = read_image(tmp_path / name)
    assert len(pictures) == 3 and pictures[0].shape == ((64, 48, 3) if turned else (48, 64, 3))
    np.testing.assert_array_equal(pictures[0], expected)
    if name != "a.gif":
        assert np.abs(expected.astype(int) - (np.rot90(colours, -1) if turned else colours)).max() > 20


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_metadata_of_animations(name, clip, unmasker, tmp_path):
    """Texts are kept, others told."""
    text, exif = PngImagePlugin.PngInfo(), Image.Exif()
    text.add_text("Comment", "mine")
    text.add_text("Title", "ours")
    exif[ExifTags.Base.Make] = "Camera"
    options = {"a.gif": {"comment": b"mine"}, "a.png": {"pnginfo": text, "exif": exif}}.get(name)
    options = options or {"exif": exif, "xmp": b"<x/>"}
    frames = [Image.fromarray(picture) for picture in clip[:3]]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    line = unmask_video(Job(tmp_path / name, Path("a.mp4")), unmasker, Outputs(tmp_path / "out"))
    *_, kept = read_video(tmp_path / "out" / "a.mp4")
    assert kept["comment"] == (LABEL if name == "a.webp" else f"{LABEL} mine") and kept.get("title") == (
        "ours" if name == "a.png" else None
    )
    told = {"a.webp": "metadata left out (exif, xmp), ", "a.png": "metadata left out (exif), "}.get(name, "")
    assert f"frames per second, {told}animation became a video" in line


def test_an_animation_that_takes_more_memory_than_there_is(run, tmp_path, monkeypatch):
    frames = [Image.new("RGB", (64, 48), (shade, 0, 0)) for shade in (0, 120)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    monkeypatch.setattr(video_files, "to_array", lambda *_, **__: np.empty(2**62, np.uint8))
    code, _, err = run(tmp_path / "a.gif", f"--out={tmp_path / 'out'}")
    assert code == 1 and "a.gif takes more memory than there is; make it smaller" in err


def test_animations_in_hdr_are_refused(run, tmp_path):
    frames = [Image.new("RGB", (64, 48), (shade, 0, 0)) for shade in (0, 120, 240)]
    frames[0].save(tmp_path / "a.avif", save_all=True, append_images=frames[1:])
    data = (tmp_path / "a.avif").read_bytes()
    place = data.index(b"colrnclx") + 8
    (tmp_path / "a.avif").write_bytes(data[:place] + bytes((0, 9, 0, 16)) + data[place + 4 :])
    code, _, err = run(tmp_path / "a.avif", f"--out={tmp_path / 'out'}")
    assert code == 1 and "a.avif is not a readable picture (HDR, which would become 8 bits" in err


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt", "tags"),
    [
        (".mov", "qtrle", "argb", {}),
        (".webm", "libvpx-vp9", "yuva420p", {}),
        (".webm", "libvpx-vp9", "yuva420p", {"alpha_mode": "1"}),
    ],
)
def test_transparency_is_told(suffix, codec, pix_fmt, tags, clip, unmasker, tmp_path):
    path = tmp_path / f"clip{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, pix_fmt
        stream.metadata.update(tags)
        for picture in clip[:3]:
            shown = np.dstack([picture, np.full((240, 320), 128, np.uint8)])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgba").reformat(format=pix_fmt)))
        container.mux(stream.encode(None))
    line, (pictures, *_) = unmasked(path, unmasker, tmp_path / "out")
    assert line.endswith("transparency left out")
    np.testing.assert_allclose(pictures[0][:, 280:], clip[0][:, 280:], atol=12)
    with av.open(str(tmp_path / "out" / path.name)) as container:
        (video,) = container.streams.video
        assert video.codec_context.pix_fmt == "yuv420p" and not {"alpha_mode", "ALPHA_MODE"} & video.metadata.keys()


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.avif"])
@pytest.mark.parametrize("least", [0, 255])
def test_animations_that_are_transparent_are_on_white(name, least, clip, unmasker, tmp_path):
    """Of those that only could be, nothing is told."""
    frames = []
    for picture in clip[:3]:
        alpha = np.full((240, 320), 255, np.uint8)
        alpha[:, 280:] = least
        frames.append(Image.fromarray(np.dstack([picture, alpha])))
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=100, disposal=0 if least else 2)
    line = unmask_video(Job(tmp_path / name, Path("a.mp4")), unmasker, Outputs(tmp_path / "out"))
    notes = json.loads((tmp_path / "out" / "a.mp4.json").read_text())["notes"]
    assert "masks removed in 3 of 3 frames" in line and ("transparency left out" in notes) == (least == 0)
    pictures, *_ = read_video(tmp_path / "out" / "a.mp4")
    assert len(pictures) == 3 and all((picture[:, 290:] > 245).all() for picture in pictures) == (least == 0)


STAY = ["clip.MTS", "clip.m2ts", "clip.ts", "clip.3gp", "clip.3g2", "clip.flv", "clip.vob"]


@pytest.mark.parametrize("name", [*STAY, "clip.wmv", "clip.asf", "clip.ogv", "clip.mxf", "clip.mp4.bak", "clip", "clip.jpg"])
def test_more_containers_by_name_and_by_content(name, clip, run, tmp_path):
    """Those that can hold what is written stay what they are."""
    suffix = Path(name).suffix.lower()
    form = {".mts": "mpegts", ".m2ts": "mpegts", ".ts": "mpegts", ".wmv": "asf", ".ogv": "ogg"}.get(suffix, suffix[1:])
    form = "mp4" if suffix in ("", ".jpg", ".bak") else form
    # FFmpeg has no encoder for Theora, as most OGV have.
    codec = {".wmv": "wmv2", ".asf": "wmv2", ".ogv": "libvpx", ".mxf": "mpeg2video", ".vob": "mpeg2video"}.get(
        suffix, "libx264"
    )
    (tmp_path / "in").mkdir()
    with av.open(str(tmp_path / "in" / name), "w", format=form) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.bit_rate = 4_000_000
        for picture in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    code, told, err = run(tmp_path / "in", f"--out={tmp_path / 'out'}")
    assert code == 0 and "masks removed in 10 of 10 frames" in told and "left out" not in err
    expected = name if name in STAY else f"{name}.mkv"
    with av.open(str(tmp_path / "out" / expected)) as container:
        assert (container.format.name == "matroska,webm") == (name not in STAY)
        assert len(list(container.decode(video=0))) == 10


@pytest.mark.parametrize("suffix", [".webm", ".mpg"])
def test_sound_that_a_format_cannot_hold_is_left_out(suffix, clip, unmasker, tmp_path):
    """That of WebM PyAV refuses, that of MPEG FFmpeg, when the file is begun."""
    write_video(tmp_path / "clip.mkv", clip)
    path = (tmp_path / "clip.mkv").rename(tmp_path / f"clip{suffix}")
    line, (pictures, _, sound, _) = unmasked(path, unmasker, tmp_path / "out")
    assert len(pictures) == 10 and not sound and f"stream 1 (audio, aac; {suffix} cannot hold it) left out" in line


def test_several_sound_tracks_of_which_one_is_late(clip, unmasker, tmp_path):
    """Each keeps its packets, and when it begins."""
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.height, video.width, video.pix_fmt = 240, 320, "yuv420p"
        tones = [container.add_stream("aac", rate=48000) for _ in range(2)]
        for picture in clip:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for late, tone in enumerate(tones):
            for number in range(8):
                frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
                frame.sample_rate, frame.pts = 48000, number * 1024 + late * 9600
                container.mux(tone.encode(frame))
        for stream in (video, *tones):
            container.mux(stream.encode(None))

    def sound(path):
        with av.open(str(path)) as container:
            packets = [packet for packet in container.demux(audio=(0, 1)) if packet.size]
            return [
                [(round(float(one.pts * one.time_base), 2), bytes(one)) for one in packets if one.stream.index == i]
                for i in (1, 2)
            ]

    unmasked(path, unmasker, tmp_path / "out")
    before, after = sound(path), sound(tmp_path / "out" / "clip.mkv")
    assert after == before and after[1][0][0] - after[0][0][0] == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
def test_a_damaged_middle(suffix, uncertain_clip, unmasker, tmp_path):
    """What is damaged is left out, which is told; what comes after it is done. Of Matroska and MPEG-TS, FFmpeg says nothing."""
    path = tmp_path / f"clip{suffix}"
    write_video(path, uncertain_clip * 6, sound=False, gop_size=10, codec="libx264")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    path.write_bytes(data)
    line, (pictures, times, *_) = unmasked(path, unmasker, tmp_path / "out")
    assert 40 <= len(pictures) < 60 and times[-1] > 2.2
    assert sum(map(green, pictures)) < 0.3 * len(pictures) * green(uncertain_clip[0])
    told = json.loads((tmp_path / "out" / f"clip{suffix}.json").read_text())
    notes = [note for note in told["notes"] if not note.startswith("no label")]
    # One that comes too late may be decoded, but not be written.
    missing, at = re.fullmatch(r"(\d+) frames are missing, at (\S+) s", notes[0]).groups()
    gap = int(np.argmax(np.diff(times)))
    assert 0 <= round((times[gap + 1] - times[gap]) * 25) - 1 - int(missing) <= 1
    assert float(at) == pytest.approx(times[gap] + 0.04, abs=0.06)
    assert told["damaged_packets"] == (suffix == ".mp4")
    assert notes[1:] == (["1 damaged packet left out"] if suffix == ".mp4" else [])
    assert line.endswith(notes[-1])


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([], []),
        ([4] * 100, []),
        ([10, 10, 200, 10], []),  # Too few to tell.
        ([4] * 50 + [36] + [4] * 49, ["8 frames are missing, at 2.0 s"]),
        ([4] * 50 + [36] + [4] * 30 + [20] + [4] * 49, ["12 frames are missing, first at 2.0 s"]),
        ([4] * 20 + [8] + [4] * 20 + [12] + [4] * 70, []),  # A camera that skips a frame or two.
        ([3, 4, 5, 40, 7, 3, 4, 6, 50, 8] * 10, []),  # No steady rate: screens are recorded when they change.
        ([0] * 50 + [40], []),
        ([4] * 50 + [40, -4, 8] + [4] * 50, ["8 frames are missing, at 2.0 s"]),
    ],
)
def test_missing_frames(intervals, expected):
    times = [0.0, *(np.cumsum(intervals) / 100)]
    assert video_files.missing_frames(times) == expected
    # Recordings may begin at any time.
    assert video_files.missing_frames([3600 + time for time in times]) == expected


def test_a_frame_of_an_animation_that_lasts_is_none_that_is_missing(unmasker, tmp_path):
    pictures = [Image.new("RGB", (64, 48), (5 * number, 0, 0)) for number in range(40)]
    path = tmp_path / "pause.gif"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=[100] * 20 + [2000] + [100] * 19)
    notes = []
    with video_files.open_video(path) as video:
        frames = list(video_files.decode(video, (), Counts(), notes))
    assert len(frames) == 40 and not notes


def test_sound_that_cannot_be_decoded_is_left_out(clip, unmasker, tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, clip)
    path.write_bytes(path.read_bytes().replace(b"mp4a", b"ac-4").replace(b"esds", b"free"))
    line, (pictures, _, sound, _) = unmasked(path, unmasker, tmp_path / "out")
    assert len(pictures) == 10 and not sound and "stream 1 (audio, of an unknown kind" in line


def test_joined_files(clip, unmasker, tmp_path):
    write_video(tmp_path / "one.mpg", clip)
    path = tmp_path / "both.mpg"
    path.write_bytes(2 * (tmp_path / "one.mpg").read_bytes())
    _, (pictures, times, sound, _) = unmasked(path, unmasker, tmp_path / "out")
    assert len(pictures) == 20 and (np.diff(times) > 0).all()
    assert len(sound) == 2 * len(read_video(tmp_path / "one.mpg")[2])


def packet_times(path, mime):
    """The times, in seconds, of the packets of pictures or of sound, in the order in which they are shown."""
    with av.open(str(path)) as container:
        return sorted(float(p.pts * p.time_base) for p in container.demux(container.streams.best(mime)) if p.size)


def test_sound_and_images_of_joined_files_stay_together(clip, unmasker, tmp_path):
    """Though each file's sound is longer than its pictures. The result is Matroska, in which every packet has a time."""
    write_video(tmp_path / "long.mpg", clip * 4)
    with av.open(str(tmp_path / "long.mpg")) as source, av.open(str(tmp_path / "one.mpg"), "w") as cut:
        streams = {stream.index: cut.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            late = packet.stream.type == "video" and packet.dts and packet.dts > packet.stream.start_time + 90000
            if packet.size and not late:
                packet.stream = streams[packet.stream.index]
                cut.mux(packet)
    path = tmp_path / "three.mkv"
    path.write_bytes(3 * (tmp_path / "one.mpg").read_bytes())
    unmasked(path, unmasker, tmp_path / "out")
    one = {mime: packet_times(tmp_path / "one.mpg", mime) for mime in ("video", "audio")}
    three = {mime: packet_times(tmp_path / "out" / "three.mkv", mime) for mime in ("video", "audio")}
    assert {mime: len(times) for mime, times in three.items()} == {mime: 3 * len(times) for mime, times in one.items()}
    apart = one["audio"][0] - one["video"][0]
    begun = [three["audio"][number * len(one["audio"])] - three["video"][number * len(one["video"])] for number in range(3)]
    np.testing.assert_allclose(begun, apart, atol=0.005)


def test_times_that_go_back_a_little_do_not_delay_what_follows(clip, unmasker, tmp_path):
    path = tmp_path / "clip.mkv"
    times = [0, 40, 80, 120, 160, 200, 240, 280, 320, 360]
    write_video(path, clip, times=times, sound=False)
    data = path.read_bytes()
    # The block of the sixth picture, by its time in the cluster, comes to have the time of the one before.
    place = data.index(b"\x81" + (200).to_bytes(2))
    path.write_bytes(data[: place + 1] + (160).to_bytes(2) + data[place + 3 :])
    _, (_, after, _, _) = unmasked(path, unmasker, tmp_path / "out")
    np.testing.assert_allclose(np.multiply(after, 1000), [*times[:5], 161, *times[6:]], atol=0.5)


def test_mpeg_of_a_rate_that_mpeg_does_not_know(clip, unmasker, tmp_path):
    write_video(tmp_path / "clip.mkv", clip, sound=False, rate=Fraction(2998, 100), times=[33 * i for i in range(10)])
    path = (tmp_path / "clip.mkv").rename(tmp_path / "clip.mpg")
    _, (pictures, times, *_) = unmasked(path, unmasker, tmp_path / "out")
    assert len(pictures) == 10
    np.testing.assert_allclose(np.diff(times), 1 / 30, atol=0.002)


@pytest.mark.parametrize("suffix", [".avi", ".mpg"])
def test_a_variable_rate_that_becomes_steady_is_told(suffix, clip, unmasker, tmp_path):
    for times, told in ((range(0, 400, 40), False), ([0, 40, 100, 110, 115, 200, 290, 300, 310, 500], True)):
        write_video(tmp_path / "clip.mkv", clip, sound=False, times=list(times))
        path = (tmp_path / "clip.mkv").rename(tmp_path / f"clip{suffix}")
        line, (pictures, *_) = unmasked(path, unmasker, tmp_path / str(told))
        assert len(pictures) == 10 and (f"times of pictures moved to a steady rate, as {suffix} has" in line) == told


@pytest.mark.parametrize(("sides", "rate"), [((239, 319), 25), ((240, 320), Fraction(1000000, 33367))])
def test_avi_of_odd_sides_and_rates(sides, rate, clip, unmasker, tmp_path):
    path = tmp_path / "clip.avi"
    pictures = [picture[: sides[0], : sides[1]] for picture in clip]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=rate)
        stream.height, stream.width = sides
        stream.pix_fmt = "yuvj420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    _, (after, times, *_) = unmasked(path, unmasker, tmp_path / "out")
    assert {picture.shape[:2] for picture in after} == {sides} and len(after) == 10
    np.testing.assert_allclose(np.diff(times), 1 / float(rate), atol=1e-3)


def test_a_cover_alone_is_no_video(unmasker, tmp_path):
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        art = container.add_stream("mjpeg", rate=1)
        art.width = art.height = 16
        art.pix_fmt = "yuvj420p"
        art.disposition = av.stream.Disposition.attached_pic
        container.mux(art.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")))
        container.mux(art.encode(None))
    with pytest.raises(UserError, match="has no pictures, only cover art"):
        unmask_video(Job(path, Path("out.mp4")), unmasker, Outputs(tmp_path))


def test_languages_stay_and_metadata_can_be_dropped(clip, unmasker, tmp_path):
    path = tmp_path / "clip.mkv"
    write_video(path, clip)
    for keep in (True, False):
        unmasked(path, unmasker, tmp_path / str(keep), keep_metadata=keep)
        with av.open(str(tmp_path / str(keep) / "clip.mkv")) as container:
            assert (container.streams.audio[0].metadata.get("language") == "ger") == keep


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_metadata_and_chapters(suffix, clip, unmasker, tmp_path):
    path = tmp_path / f"clip{suffix}"
    tagged(path, clip[:3], comment="mine", title="ours", location="+48.1+011.5/")
    line, (*_, kept) = unmasked(path, unmasker, tmp_path / "kept")
    _, (*_, dropped) = unmasked(path, unmasker, tmp_path / "dropped", keep_metadata=False)
    assert "left out" not in line
    assert (
        kept.get("comment", kept.get("COMMENT")) == f"{LABEL} mine"
        and kept["title"] == "ours"
        and "location" in str(kept).lower()
    )
    assert dropped.get("comment", dropped.get("COMMENT")) == LABEL
    assert "title" not in dropped and "location" not in str(dropped).lower()
    with av.open(str(tmp_path / "kept" / path.name)) as container:
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["one"]
        assert container.streams.video[0].metadata["language"] == "ger"
    # What was unmasked before is labelled once.
    _, (*_, again) = unmasked(tmp_path / "kept" / path.name, unmasker, tmp_path / "again")
    assert again.get("comment", again.get("COMMENT")) == f"{LABEL} mine"
    tagged(path, clip[:3], comment=f"mine. {LABEL}")
    _, (*_, behind) = unmasked(path, unmasker, tmp_path / "behind")
    assert behind.get("comment", behind.get("COMMENT")) == f"mine. {LABEL}"


@pytest.mark.parametrize("suffix", [".mov", ".mp4"])
def test_metadata_of_phones(suffix, clip, unmasker, tmp_path):
    """They have keys of their own, which no other video may be given."""
    path = tmp_path / f"clip{suffix}"
    theirs = {"com.apple.quicktime.make": "Apple", "com.apple.quicktime.location.ISO6709": "+48.1+011.5/"}
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata.update(theirs | {"title": "ours"})
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for picture in clip[:3]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    line, (*_, kept) = unmasked(path, unmasker, tmp_path / "out")
    assert theirs.items() <= kept.items() and kept["title"] == "ours" and kept["comment"] == LABEL
    assert "left out" not in line
    remuxed(path, tmp_path / "clip.mkv", {"lens": "wide", "title": "ours"})
    (tmp_path / "clip.mkv").rename(path)
    line, (*_, kept) = unmasked(path, unmasker, tmp_path / "lost")
    assert kept["title"] == "ours" and line.endswith("metadata left out (LENS)")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_xmp_and_content_credentials_that_are_lost_are_told(suffix, clip, unmasker, tmp_path):
    write_video(tmp_path / "clip.mp4", clip[:3])
    with (tmp_path / "clip.mp4").open("ab") as file:
        boxes = {"be7acfcb97a942e89c71999491e3afac": b"<x:xmpmeta/>", "d8fec3d61b0e483c92975828877ec481": b"a manifest"}
        for name, content in boxes.items():
            body = b"uuid" + bytes.fromhex(name) + content
            file.write((len(body) + 4).to_bytes(4, "big") + body)
    path = (tmp_path / "clip.mp4").rename(tmp_path / f"clip{suffix}")
    line, (*_, kept) = unmasked(path, unmasker, tmp_path / "out")
    assert not kept.get("XMP") and not kept.get("xmp")
    assert line.endswith("metadata left out (xmp), Content Credentials (C2PA) left out, which vouch for the original")


@pytest.mark.parametrize("suffix", [".3gp", ".mpg", ".ts", ".vob"])
def test_a_label_that_a_format_cannot_hold_is_told(suffix, clip, unmasker, tmp_path):
    write_video(tmp_path / "clip.mkv", clip, sound=False)
    (tmp_path / "clip.mkv").rename(tmp_path / f"clip{suffix}")
    job = Job(tmp_path / f"clip{suffix}", Path(f"clip{suffix}"))
    line = unmask_video(job, unmasker, Outputs(tmp_path / "out"))
    labelled = LABEL.encode() in (tmp_path / "out" / f"clip{suffix}").read_bytes()
    assert labelled == (suffix == ".3gp") == (f"no label, which {suffix} cannot hold" not in line)
    assert "no label" not in unmask_video(job, unmasker, Outputs(tmp_path / "bare", label=False))


def test_what_is_copied_and_what_is_left_out(clip, unmasker, tmp_path):
    """Subtitles are copied, with their language and what they are for; a second video and an attachment are not."""
    (tmp_path / "words.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nHello\n\n2\n00:00:00,000 --> 00:00:02,000\nthere\n")
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container, av.open(str(tmp_path / "words.srt")) as words:
        videos = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for video in videos:
            video.height, video.width, video.pix_fmt = 240, 320, "yuv420p"
        text = container.add_stream_from_template(words.streams[0])
        text.metadata["language"] = "ger"
        text.disposition = av.stream.Disposition.forced
        container.add_attachment("font.ttf", "font/ttf", b"no font")
        for picture in clip[:3]:
            for video in videos:
                container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for packet in words.demux():
            if packet.size:
                packet.stream = text
                container.mux(packet)
        for video in videos:
            container.mux(video.encode(None))
    line, _ = unmasked(path, unmasker, tmp_path / "out")
    told = json.loads((tmp_path / "out" / "clip.mkv.json").read_text())
    assert told["notes"] == ["stream 1 (video) left out", "stream 3 (attachment) left out"]
    assert all(note in line for note in told["notes"])
    assert told["frames_with_faces"] == told["frames_unmasked"] == 3
    with av.open(str(tmp_path / "out" / "clip.mkv")) as container:
        assert [stream.type for stream in container.streams] == ["video", "subtitle"]
        copy = container.streams.subtitles[0]
        assert copy.metadata["language"] == "ger" and copy.disposition & av.stream.Disposition.forced
        assert [bytes(packet) for packet in container.demux(copy) if packet.size] == [b"Hello", b"there"]


def test_shape_of_pixels_that_webm_cannot_be_told(clip, unmasker, tmp_path):
    write_video(tmp_path / "clip.mkv", clip[:3], sound=False, sample_aspect_ratio=Fraction(4, 3))
    path = (tmp_path / "clip.mkv").rename(tmp_path / "clip.webm")
    line, _ = unmasked(path, unmasker, tmp_path / "out")
    assert "shape of pixels (4/3) lost" in line


def test_metadata_of_another_encoding(clip, unmasker, tmp_path):
    path = tmp_path / "clip.avi"
    tagged(path, clip[:3], title="Gr\xfc\xdfe")
    unmask_video(Job(path, Path("out.avi")), unmasker, Outputs(tmp_path))
    with av.open(str(tmp_path / "out.avi"), **ANY_TEXT) as container:
        assert container.metadata["title"] == in_latin_1("Gr\xfc\xdfe")


def test_pyav_19_which_cannot_be_asked_to_keep_bytes(clip, unmasker, tmp_path, monkeypatch):
    """It does so by itself."""
    real = av.open
    monkeypatch.setattr(av, "__version__", "19.0.2")
    monkeypatch.setattr(av, "open", lambda file, mode="r", **options: real(file, mode, **options, **ANY_TEXT))
    path = tmp_path / "clip.mkv"
    write_video(path, clip[:3])
    line, (pictures, *_) = unmasked(path, unmasker, tmp_path / "out")
    assert "masks removed in 3 of 3 frames" in line and len(pictures) == 3


def test_names_with_a_colon(clip, unmasker, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "clip.mkv", clip[:3], sound=False)
    path = (tmp_path / "clip.mkv").rename("12:30.mkv")
    unmask_video(Job(path, Path(path.name)), unmasker, Outputs(Path("o:x")))
    assert sorted(found.name for found in Path("o:x").iterdir()) == ["12:30.mkv", "12:30.mkv.json"]


def test_frames_of_another_size_within_a_video(clip, unmasker, tmp_path):
    """Two streams one after the other, as broadcasts have them."""
    write_video(tmp_path / "one.mpg", clip, sound=False)
    write_video(tmp_path / "two.mpg", [cv2.resize(picture, (160, 120)) for picture in clip], sound=False)
    path = tmp_path / "both.mpg"
    path.write_bytes((tmp_path / "one.mpg").read_bytes() + (tmp_path / "two.mpg").read_bytes())
    line, (pictures, *_) = unmasked(path, unmasker, tmp_path / "out")
    assert len(pictures) >= 10 and {picture.shape for picture in pictures} == {(240, 320, 3)}
    assert "pictures of other sizes became as large as the first" in line


def test_a_truncated_video_is_done_as_far_as_it_goes(clip, unmasker, tmp_path):
    rng = np.random.default_rng(0)
    noisy = [np.clip(picture + rng.normal(0, 20, picture.shape), 0, 255).astype(np.uint8) for picture in clip * 3]
    write_video(tmp_path / "whole.mkv", noisy, sound=False)
    path = tmp_path / "clip.mkv"
    data = (tmp_path / "whole.mkv").read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    line, (pictures, *_) = unmasked(path, unmasker, tmp_path / "out")
    assert 5 < len(pictures) < 30
    assert f"ends early: {len(pictures)} of about 30 frames" in line


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".avi"])
def test_a_truncated_video_that_begins_with_its_contents(suffix, clip, unmasker, tmp_path):
    """FFmpeg reads it without complaint."""
    write_video(tmp_path / f"whole{suffix}", clip * 3)
    path = tmp_path / f"clip{suffix}"
    remuxed(tmp_path / f"whole{suffix}", path, movflags="faststart")
    os.truncate(path, path.stat().st_size * 6 // 10)
    line, (pictures, *_) = unmasked(path, unmasker, tmp_path / "out")
    (note,) = json.loads((tmp_path / "out" / f"{path.name}.json").read_text())["notes"]
    assert f"ends early: {len(pictures)} of about 3" in note and note in line  # AVI counts one that is empty.


def remuxed(path, into, metadata=None, **options):
    """The packets of a video in another file."""
    with av.open(str(path)) as source, av.open(str(into), "w", options=options) as copy:
        copy.metadata.update(metadata or {})
        streams = {stream.index: copy.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                copy.mux(packet)


def test_a_cut_by_an_edit_list_is_no_truncation(clip, unmasker, tmp_path):
    """It skips frames that are in the file."""
    path = tmp_path / "clip.mp4"
    write_video(path, clip * 2, sound=False, gop_size=5)
    data = path.read_bytes()
    place = data.index(b"elst") + 12
    path.write_bytes(data[:place] + (400).to_bytes(4) + data[place + 4 :])  # Milliseconds.
    line, (pictures, *_) = unmasked(path, unmasker, tmp_path / "out")
    assert len(pictures) < 15 and "ends early" not in line


def test_a_raw_video_of_unknown_length_is_not_truncated(clip, unmasker, tmp_path):
    """FFmpeg guesses how long it is by the rate of bits that it claims."""
    write_video(tmp_path / "clip.mpg", clip, sound=False, codec="mpeg1video")
    path = tmp_path / "clip.mpeg"
    with av.open(str(tmp_path / "clip.mpg")) as source:
        data = bytearray(b"".join(bytes(packet) for packet in source.demux()))
    data[8:10], data[10] = bytes(2), 0x40 | data[10] & 0x3F  # 400 bits a second.
    path.write_bytes(data)
    line, (pictures, *_) = unmasked(path, unmasker, tmp_path / "out")
    assert len(pictures) == 10 and "ends early" not in line


def test_a_stream_that_cannot_be_copied(clip, unmasker, tmp_path, monkeypatch):
    """Whatever PyAV says of it, it is an error of the file that cannot be written, and that is closed."""
    write_video(tmp_path / "clip.mp4", clip[:3])
    opened, closed = [], []

    class Noted:
        def __init__(self, *arguments, open_file=video_files._open):
            self.container = open_file(*arguments)
            opened.append(self)

        def __getattr__(self, name):
            return getattr(self.container, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.container.close()
            closed.append(self)

    def fail(*_):
        raise ValueError("no such\nstream")

    monkeypatch.setattr(video_files, "_open", Noted)
    monkeypatch.setattr(video_files.VideoWriter, "_can_hold", fail)
    with pytest.raises(UserError, match=r"cannot write .*out/clip\.mp4 \(no such stream\); convert the video to \.mkv"):
        unmasked(tmp_path / "clip.mp4", unmasker, tmp_path / "out")
    assert len(opened) == 2 and closed == opened[::-1]


def test_without_pyav(portrait, run, tmp_path, monkeypatch):
    """Videos fail, and photos do not."""
    for name in ("video", "video_files"):
        monkeypatch.delitem(sys.modules, f"maskgan_jax.unmasking.{name}")
    monkeypatch.setitem(sys.modules, "av", None)
    write_png(tmp_path / "a.png", portrait)
    (tmp_path / "b.mp4").touch()
    code, told, err = run(tmp_path / "a.png", tmp_path / "b.mp4", f"--out={tmp_path / 'out'}")
    assert code == 1 and "a.png: 1 mask removed" in told
    assert "skipped: videos need PyAV: pip install 'maskgan_jax[video]'" in err
    code, _, err = run("--camera=0", f"--out={tmp_path / 'out'}")
    assert code == 1 and "error: videos need PyAV: pip install 'maskgan_jax[video]'" in err


def test_a_list_of_files_is_no_video(clip, run, tmp_path):
    """FFmpeg would read what it names."""
    write_video(tmp_path / "clip.mp4", clip)
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile clip.mp4\n")
    code, _, err = run(tmp_path / "list.mp4", f"--out={tmp_path / 'out'}")
    assert code == 1 and "list.mp4 is not a readable video" in err


def test_pictures_of_too_many_pixels(clip, run, tmp_path, monkeypatch):
    monkeypatch.setattr(video_files, "MOST_PIXELS", 10_000)
    write_video(tmp_path / "clip.mp4", clip)
    code, _, err = run(tmp_path / "clip.mp4", f"--out={tmp_path / 'out'}")
    assert code == 1 and "clip.mp4 has pictures of more than 100 megapixels; make them smaller" in err


def test_pictures_that_grow_are_not_decoded(clip, tmp_path, monkeypatch):
    monkeypatch.setattr(video_files, "MOST_PIXELS", 10_000)
    small = [image[:64, :64] for image in clip]
    for name, images in (("small.ts", small), ("large.ts", clip)):
        write_video(tmp_path / name, images, sound=False, codec="libx264")
    (tmp_path / "both.ts").write_bytes((tmp_path / "small.ts").read_bytes() + (tmp_path / "large.ts").read_bytes())
    counts = Counts()
    with video_files.open_video(tmp_path / "both.ts") as video:
        frames = [item for item in video_files.decode(video, (), counts, []) if isinstance(item, av.VideoFrame)]
    assert {(frame.width, frame.height) for frame in frames} == {(64, 64)}
    assert counts.damaged_packets


def test_an_animated_png_with_a_comment(tmp_path):
    text, frames = PngImagePlugin.PngInfo(), [Image.new("RGB", (64, 48), (shade, 0, 0)) for shade in (0, 120)]
    text.add_text("comment", "ours")
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:], pnginfo=text)
    with video_files.open_video(tmp_path / "a.png") as video:
        assert video.container.metadata["comment"] == "ours"


@pytest.mark.parametrize("count", [1, 3])
def test_the_image_for_programs_without_animations_is_no_frame(count, tmp_path):
    frames = [Image.new("RGB", (64, 48), (shade, 0, 0)) for shade in (60, 120, 180)[:count]]
    Image.new("RGB", (64, 48), "white").save(
        tmp_path / "a.png", save_all=True, append_images=frames, default_image=True, duration=500
    )
    with video_files.open_video(tmp_path / "a.png") as video:
        found = [item for item in video_files.decode(video, (), Counts(), []) if item]
    assert [frame.to_ndarray(format="rgb24")[0, 0, 0] for frame in found] == [60, 120, 180][:count]
    assert [frame.time for frame in found] == [0, 0.5, 1][:count]


def test_animations_of_too_many_pixels(run, tmp_path, monkeypatch):
    monkeypatch.setattr(video_files, "MOST_MEGAPIXELS_OF_ANIMATION", 0.01)
    frames = [Image.new("RGB", (64, 64), (shade, 0, 0)) for shade in (0, 120, 240)]
    frames[0].save(tmp_path / "animation.webp", save_all=True, append_images=frames[1:])
    code, _, err = run(tmp_path / "animation.webp", f"--out={tmp_path / 'out'}")
    assert code == 1 and "is not a readable animation (more than 0.01 megapixels in all its frames)" in err


def test_animations_of_too_many_frames(tmp_path, monkeypatch):
    """Each takes memory, however small it is."""
    monkeypatch.setattr(video_files, "MOST_MEGAPIXELS_OF_ANIMATION", 0.01)
    frames = [Image.new("RGB", (1, 1), (shade, 0, 0)) for shade in (0, 120, 240)]
    frames[0].save(tmp_path / "animation.gif", save_all=True, append_images=frames[1:])
    with (
        pytest.raises(UserError, match="more than 0.01 megapixels in all its frames"),
        video_files.open_video(tmp_path / "animation.gif"),
    ):
        pass
