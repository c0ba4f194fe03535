"""Small videos for the tests: writing, unmasking and reading them."""

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from maskgan_jax.unmasking.inputs import Job
from maskgan_jax.unmasking.outputs import Outputs
from maskgan_jax.unmasking.video import unmask_video

av = pytest.importorskip("av", reason="PyAV is not installed (pip install 'maskgan_jax[video]')")

CODECS = {".mp4": "libx264", ".mkv": "libx264", ".mov": "libx264", ".webm": "libvpx-vp9", ".avi": "mpeg4", ".mpg": "mpeg2video"}
SOUND = {".webm": "libopus", ".avi": "mp3", ".mpg": "mp2"}
# How PyAV opens a file such that text of another encoding keeps its bytes; from version 19 on by itself.
ANY_TEXT = {"metadata_errors": "surrogateescape"} if int(av.__version__.split(".")[0]) < 19 else {}
# With which a video in which nothing is drawn is written anew.
ANEW = {"keep_metadata": False, "label": False}


def write_video(
    path, pictures, *, rate=25, sound=True, times=None, codec=None, cover=False, sound_first=False, turn=None, **settings
):
    """A video of these pictures `[H, W, 3]`, with a tone if there is to be sound; `settings` are those of the encoder."""
    with av.open(str(path), "w") as container:
        if cover:
            art = container.add_stream("mjpeg", rate=1)
            art.width = art.height = 16
            art.pix_fmt = "yuvj420p"
            art.disposition = av.stream.Disposition.attached_pic
            jacket = av.Packet(cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes())
            jacket.stream, jacket.pts, jacket.dts, jacket.time_base = art, 0, 0, Fraction(1)
        tone = container.add_stream("aac", rate=48000) if sound_first else None
        stream = container.add_stream(codec or CODECS[path.suffix], rate=rate)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p" if not any(side % 2 for side in pictures[0].shape[:2]) else "yuv444p"
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        if turn:
            stream.set_display_rotation(*turn)
        if sound and not tone:
            tone = container.add_stream(SOUND.get(path.suffix, "aac"), rate=48000)
        if tone:
            tone.metadata["language"] = "ger"
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if times:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        if cover:
            container.mux(jacket)
        if tone:
            size = tone.codec_context.frame_size or 1024
            layout = tone.codec_context.layout.name
            for number in range(int(len(pictures) / rate * 48000 / size)):
                wave = np.sin(np.arange(number * size, (number + 1) * size) / 20).astype(np.float32)
                samples = np.repeat(0.3 * wave[None], tone.codec_context.layout.nb_channels, axis=0)
                frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
                frame.sample_rate, frame.pts = 48000, number * size
                container.mux(tone.encode(frame))
            container.mux(tone.encode(None))
        container.mux(stream.encode(None))


def read_video(path):
    """Pictures, times in seconds, the bytes of the sound's packets, metadata."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        pictures = [frame.to_ndarray(format="rgb24") for frame in frames]
        times = [float(frame.pts * frame.time_base) for frame in frames]
    with av.open(str(path)) as container:
        sound = [bytes(p) for p in container.demux(audio=0) if p.size] if container.streams.audio else []
        return pictures, times, sound, dict(container.metadata)


def green(picture):
    return (np.abs(picture.astype(int) - (20, 220, 40)).max(axis=-1) < 40).sum()


def unmasked(path, unmasker, out, **outputs):
    line = unmask_video(Job(path, Path(path.name)), unmasker, Outputs(out, **outputs))
    return line, read_video(out / path.name)


def in_latin_1(text):
    """A text in that encoding, as PyAV gives and takes it in any."""
    return text.encode("latin-1").decode("utf-8", "surrogateescape")


def tagged(path, pictures, **metadata):
    """A video of which the file has metadata, in Latin-1, and a chapter."""
    with av.open(str(path), "w", **ANY_TEXT) as container:
        container.metadata.update({key: in_latin_1(text) for key, text in metadata.items()})
        container.set_chapters([{"id": 1, "start": 0, "end": 80, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}}])
        stream = container.add_stream(CODECS[path.suffix], rate=25)
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], "yuv420p"
        stream.metadata["language"] = "ger"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
