"""Videos of people with masks in, the same videos without the masks out; also from a camera."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from maskgan_jax.errors import UserError, one_line
from maskgan_jax.files import IMAGE_FORMATS, check_writable, encode_json, replacing
from maskgan_jax.runtime.signals import sigterm_interrupts
from maskgan_jax.unmasking.compositing import composite
from maskgan_jax.unmasking.face import NOT_AMONG_LARGEST, TOO_SMALL
from maskgan_jax.unmasking.inputs import Job, is_animation
from maskgan_jax.unmasking.labels import draw_mark
from maskgan_jax.unmasking.outputs import Outputs
from maskgan_jax.unmasking.photo_files import CREDENTIALS_LEFT_OUT
from maskgan_jax.unmasking.tracking import Tracker
from maskgan_jax.unmasking.unmasker import Unmasker
from maskgan_jax.unmasking.video_files import (
    CAMERA_RATE,
    Counts,
    VideoWriter,
    count_frames,
    decode,
    has_credentials,
    open_video,
    prepare,
    upright_frame,
)

MILLISECOND = Fraction(1, 1000)
# So many packets of sound and subtitles wait for the next frame, or memory would be all that limits them.
MOST_PACKETS = 1000


@dataclasses.dataclass
class _Encoded:
    """An encoded video; or the video itself, if it is only copied.

    Attributes:
      files: what is to be written: a file for each path, that of the result first.
      counts: of its frames.
      rate: in frames per second.
      shape: height and width of its pictures.
      notes: in words, what a result does not keep or show.
      notes_of_copy: likewise, of a copy.
      seconds: how long encoding took.
    """

    files: dict[Path, Path]
    counts: Counts
    rate: float
    shape: tuple[int, int]
    notes: list[str]
    notes_of_copy: list[str]
    seconds: float


@sigterm_interrupts()
def unmask_video(job: Job, unmasker: Unmasker, outputs: Outputs) -> str:
    """Unmasks a video, frame by frame, and writes it with its sound.

    Every frame keeps its time, so that frame rate and length do not change. A video in which no face wears a mask is copied, or
    rewritten without its metadata if they are to be dropped. If it is interrupted, by SIGTERM too, no file is left.

    Args:
      job: the video.
      unmasker: does it.
      outputs: what is written, and where; crops and regions are not.

    Returns:
      What was done, in one line.

    Raises:
      UserError: the video cannot be read or has no frames, or the result cannot be written or is
        there already.
    """
    if job.mask:
        raise UserError(f"{job.path} is a video, but --mask is for pictures; leave it out")
    path = outputs.result(job, job.redrawn_suffix)
    paths = [path, outputs.extra(path, "side_by_side", "")] if outputs.side_by_side else [path]
    for written in paths:
        check_writable(written)
    with tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as folder:
        encoded = _encode(job, unmasker, outputs, paths, Path(folder))
        if not encoded.counts.frames_unmasked:
            plain = dataclasses.replace(outputs, label=False, side_by_side=False, mark=False)
            if outputs.keep_metadata:
                for file in encoded.files.values():  # The copy may need their space.
                    file.unlink(missing_ok=True)
                encoded = dataclasses.replace(encoded, files={outputs.result(job): job.path}, notes=encoded.notes_of_copy)
            elif outputs != plain:  # The label was written at the start of the file, and cannot be removed.
                encoded = _encode(job, unmasker, plain, [path], Path(folder))
        _write(job, outputs, encoded)
    return _summary(job, encoded)


def _encode(job: Job, unmasker: Unmasker, outputs: Outputs, paths: list[Path], folder: Path) -> _Encoded:
    """Unmasks a video into a file in a temporary folder for each path."""
    files = {path: folder / f"{number}{path.suffix}" for number, path in enumerate(paths)}
    counts, damage, shape = Counts(), [], None
    changes = ["animation became a video"] if is_animation(job.path) else []
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        video = stack.enter_context(open_video(job.path))
        video.thread_type = "AUTO"
        kept = {"keep_metadata": outputs.keep_metadata, "label": outputs.label}
        writers = [stack.enter_context(VideoWriter(path, file, video, **kept)) for path, file in files.items()]
        # Of three frames, one is decoded, one unmasked and one encoded at the same time.
        pictures = _upright_pictures(prepare(decode(video, writers[0].copied, counts, damage), changes), job.path)
        pictures = stack.enter_context(contextlib.closing(_one_ahead(pictures)))
        encoder = stack.enter_context(ThreadPoolExecutor(1))
        encoding: Future | None = None
        rate = float(video.average_rate or CAMERA_RATE)
        tracker = Tracker(unmasker, rate)
        bar = stack.enter_context(tqdm(total=count_frames(video), desc=one_line(f"unmask {job.path.name}"), unit="frame"))
        for picture in pictures:
            images: list[np.ndarray] = []
            if picture.frame is not None:
                image = picture.image
                shape = shape or image.shape[:2]
                if image.shape[:2] != shape:
                    image = cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA)
                faces = tracker(image, picture.frame.time)
                counts.add(faces)
                result = composite(image, faces)
                if outputs.mark:
                    result = draw_mark(result)
                images = [result, np.concatenate([image, result], axis=1)] if outputs.side_by_side else [result]
                bar.update()
            if encoding:
                encoding.result()
            encoding = encoder.submit(_write_picture, writers, picture, images)
        if encoding:
            encoding.result()
        if not counts.frames:
            raise UserError(f"{job.path} has no frames that can be decoded; convert it with another program first")
        if counts.frames_unmasked or not outputs.keep_metadata:  # Otherwise, the original is copied.
            for writer in writers:
                writer.finish()
        credentials = (CREDENTIALS_LEFT_OUT,) if has_credentials(job.path) else ()
        if outputs.credentials and counts.frames_unmasked:
            original = job.path if outputs.keep_metadata else None
            suffix = paths[0].suffix.lower()[1:]
            outputs.credentials.sign(files[paths[0]], paths[0], suffix, original, _form(job.path, video))
            no_manifest = outputs.credentials.notes(suffix)
            if original and not no_manifest:  # What the video said of itself is in the manifest.
                credentials = ()
            credentials += no_manifest
    left_out = {TOO_SMALL: counts.most_faces_too_small, NOT_AMONG_LARGEST: counts.most_faces_not_asked_for}
    told = [f"up to {count} face{'s' * (count > 1)} {why} in a frame" for why, count in left_out.items() if count]
    damaged = counts.damaged_packets
    lost = [f"{damaged} damaged packet{'s' * (damaged > 1)} left out"] if damaged else []
    notes = [*writers[0].notes, *changes, *damage, *credentials, *told, *lost]
    return _Encoded(files, counts, rate, shape, notes, [*damage, *told], time.monotonic() - started)


class _Picture(NamedTuple):
    """A frame of a video, as decoded and as an image `[H, W, 3]`, and the packets of other streams since the last one.

    Where many packets follow each other, as those of sound that is longer than the pictures, they come without a frame.
    """

    packets: list[av.Packet]
    frame: av.VideoFrame | None
    image: np.ndarray | None


def _upright_pictures(items: Iterable[av.VideoFrame | av.Packet], path: Path) -> Iterator[_Picture]:
    """The frames of a video and the packets between them, as they come from `path`."""
    packets: list[av.Packet] = []
    for item in items:
        if not isinstance(item, av.Packet):
            yield _Picture(packets, item, upright_frame(item, path))
            packets = []
        elif len(packets) < MOST_PACKETS:
            packets.append(item)
        else:
            yield _Picture([*packets, item], None, None)
            packets = []
    if packets:
        yield _Picture(packets, None, None)


def _one_ahead(items: Iterator[_Picture]) -> Iterator[_Picture]:
    """The same items, each of which is made in another thread while the last one is used."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while item := coming.result():
            coming = thread.submit(next, items, None)
            yield item


def _write_picture(writers: Sequence[VideoWriter], picture: _Picture, images: Sequence[np.ndarray]) -> None:
    """Writes what a picture became, an image for each file, and its packets."""
    for packet in picture.packets:
        index = packet.stream.index
        for writer in writers:
            writer.copy(index, packet)
    for writer, image in zip(writers, images, strict=False):
        writer.write(image, picture.frame.pts, picture.frame.time_base, picture.frame)


def _write(job: Job, outputs: Outputs, encoded: _Encoded) -> None:
    """Puts the files of a video in their places, and describes it."""
    result_path = next(iter(encoded.files))
    with contextlib.ExitStack() as stack:
        stack.enter_context(outputs.writing(job))
        # The first, and so the last in its place: with it, a result is complete.
        described = stack.enter_context(replacing(outputs.json_of(result_path)))
        described.write_bytes(encode_json(_description(job, result_path, encoded)))
        for path, file in encoded.files.items():
            move = shutil.copyfile if file == job.path else shutil.move
            move(file, stack.enter_context(replacing(path)))


def _summary(job: Job, encoded: _Encoded) -> str:
    """What was done, in one line."""
    counts = encoded.counts
    done, frames = "masks removed", counts.frames_unmasked
    if not frames:
        frames = counts.frames_with_faces
        done = "left as it is, " + ("faces without a mask" if frames else "faces")
    speed = f"{counts.frames / encoded.seconds:.1f} frames per second"
    return ", ".join((f"{job.path}: {done} in {frames} of {counts.frames} frames", speed, *encoded.notes))


@sigterm_interrupts()
def unmask_camera(number: int, unmasker: Unmasker, path: Path, *, label: bool = True) -> str:
    """Unmasks what a camera sees, and writes it to `path`, until Ctrl-C or SIGTERM.

    Args:
      number: of the camera, from 0, as OpenCV counts them.
      unmasker: does it.
      path: file of the result.
      label: whether the file says that it is synthetic.

    Returns:
      What was done, in one line.

    Raises:
      UserError: there is no such camera, it gives no frames, or the result cannot be written.
    """
    camera = cv2.VideoCapture(number)
    try:
        if not camera.isOpened():
            raise UserError(f"there is no camera {number}, or it is in use; try another number, or close what uses it")
        rate = camera.get(cv2.CAP_PROP_FPS) or CAMERA_RATE
        tracker = Tracker(unmasker, rate)
        frames = 0
        with replacing(path) as temporary, tqdm(desc=f"camera {number}, Ctrl-C ends it", unit="frame") as bar:
            with VideoWriter(path, temporary, None, label=label) as target:
                started = time.monotonic()
                # Ctrl-C is the normal end of a recording.
                with contextlib.suppress(KeyboardInterrupt):
                    while (read := camera.read())[0]:
                        frame = cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)
                        now = time.monotonic() - started
                        result = composite(frame, tracker(frame, now))
                        target.write(result, round(now / MILLISECOND), MILLISECOND)
                        frames += 1
                        bar.update()
                if not frames:
                    raise UserError(f"camera {number} gives no pictures; is it in use by another program?")
                target.finish()
    finally:
        camera.release()
    return f"{frames} frames of camera {number} are in {path}"


def _form(path: Path, video: av.VideoStream) -> str:
    """The format of a video or animation by its content, as `Credentials.sign` takes it."""
    if is_animation(path):
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            return image.format
    names = video.container.format.name.split(",")  # All that FFmpeg reads in the same way.
    return "mp4" if "mp4" in names else names[0]


def _description(job: Job, result: Path, encoded: _Encoded) -> dict[str, Any]:
    height, width = encoded.shape
    return {
        "input": str(job.path),
        "output": str(result),
        "width": width,
        "height": height,
        "frames_per_second": round(encoded.rate, 3),
        "synthetic": encoded.counts.frames_unmasked > 0,
        **dataclasses.asdict(encoded.counts),
        "notes": encoded.notes,
    }
