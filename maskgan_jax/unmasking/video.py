"""Videos of people with masks in, the same videos without the masks out; also from a camera."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from maskgan_jax.errors import UserError, one_line
from maskgan_jax.files import IMAGE_FORMATS, replacing, write_json
from maskgan_jax.runtime.signals import sigterm_interrupts
from maskgan_jax.unmasking.compositing import composite
from maskgan_jax.unmasking.inputs import Job, is_animation
from maskgan_jax.unmasking.labels import draw_mark
from maskgan_jax.unmasking.outputs import Outputs
from maskgan_jax.unmasking.tracking import Tracker
from maskgan_jax.unmasking.unmasker import Unmasker
from maskgan_jax.unmasking.video_files import (
    CAMERA_RATE,
    VideoWriter,
    count_frames,
    decode,
    load_av,
    open_video,
    prepare,
    upright_frame,
)

MILLISECOND = Fraction(1, 1000)


class _NothingDrawn(Exception):
    """No face in a video wore a mask, so the file that was written is discarded."""


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
      UserError: PyAV is not installed, the video cannot be read or has no frames, or the result cannot be written or is
        there already.
    """
    av = load_av()
    if job.mask:
        raise UserError(f"{job.path} is a video, but --mask is for pictures; leave it out")
    result_path = outputs.result(job, job.redrawn_suffix)
    names = ("frames", "frames_with_faces", "frames_unmasked", "frames_with_faces_left_out", "most_faces", "damaged_packets")
    counts = dict.fromkeys(names, 0)
    notes: list[str] = []
    changes = ["animation became a video"] if is_animation(job.path) else []
    only_if_redrawn = outputs.label or outputs.side_by_side or outputs.mark
    started = time.monotonic()
    with contextlib.suppress(_NothingDrawn), contextlib.ExitStack() as stack:
        while_renamed = stack.enter_context(contextlib.ExitStack())  # The last to be left.
        described = stack.enter_context(replacing(outputs.json_of(result_path)))  # With it, a result is complete.
        video = stack.enter_context(open_video(av, job.path))
        video.thread_type = "AUTO"
        paths = [result_path]
        if outputs.side_by_side:
            paths.append(outputs.side_by_side_of(result_path, video=True))
        targets, temporaries = [], []
        for path in paths:
            temporary = stack.enter_context(replacing(path))
            writer = VideoWriter(av, path, temporary, video, keep_metadata=outputs.keep_metadata, label=outputs.label)
            targets.append(stack.enter_context(writer))
            temporaries.append(temporary)
        rate = float(video.average_rate or CAMERA_RATE)
        tracker = Tracker(unmasker, rate)
        bar = stack.enter_context(tqdm(total=count_frames(av, video), desc=one_line(f"unmask {job.path.name}"), unit="frame"))
        shape = None
        for item in prepare(av, decode(av, video, targets[0].copied, counts, notes), changes):
            if isinstance(item, av.Packet):
                index = item.stream.index
                for target in targets:
                    target.copy(index, item)
                continue
            frame = upright_frame(av, item, job.path)
            if shape is None:
                shape = frame.shape[:2]
            elif frame.shape[:2] != shape:
                frame = cv2.resize(frame, shape[::-1], interpolation=cv2.INTER_AREA)
            faces = tracker(frame, item.time)
            result = composite(frame, faces)
            if outputs.mark:
                result = draw_mark(result)
            counts["frames"] += 1
            counts["frames_with_faces"] += bool(faces)
            counts["frames_unmasked"] += any(face.redrawn for face in faces)
            counts["frames_with_faces_left_out"] += any(face.left_out for face in faces)
            counts["most_faces"] = max(counts["most_faces"], len(faces))
            images = [result, np.concatenate([frame, result], axis=1)] if outputs.side_by_side else [result]
            for target, drawn in zip(targets, images, strict=True):
                target.write(drawn, item.pts, item.time_base, item)
            bar.update()
        if not counts["frames"]:
            raise UserError(f"{job.path} has no frames that can be decoded; convert it with another program first")
        if not counts["frames_unmasked"] and (outputs.keep_metadata or only_if_redrawn):
            raise _NothingDrawn
        for target in targets:
            target.finish()
        if outputs.credentials and counts["frames_unmasked"]:
            original = job.path if outputs.keep_metadata else None
            suffix = result_path.suffix.lower()[1:]
            notes += outputs.credentials.sign(temporaries[0], result_path, suffix, original, _form(job.path, video))
        damaged = counts["damaged_packets"]
        notes = targets[0].notes + changes + notes + _left_out(counts)
        notes += [f"{damaged} damaged packets left out"] if damaged else []
        while_renamed.enter_context(outputs.writing(job))
        write_json(described, _description(job, result_path, counts, rate, shape, notes))
    if not counts["frames_unmasked"] and outputs.keep_metadata:
        result_path, notes = outputs.result(job), notes + _left_out(counts)
        with (
            outputs.writing(job),
            replacing(outputs.json_of(result_path)) as described,
            replacing(result_path) as temporary,
        ):
            shutil.copyfile(job.path, temporary)
            write_json(described, _description(job, result_path, counts, rate, shape, notes))
    elif not counts["frames_unmasked"] and only_if_redrawn:
        # The label was written at the start of the file, and cannot be removed.
        return unmask_video(job, unmasker, dataclasses.replace(outputs, label=False, side_by_side=False, mark=False))
    seconds = time.monotonic() - started
    done, frames = "masks removed", counts["frames_unmasked"]
    if not frames:
        done, frames = "left as it is, faces without a mask", counts["frames_with_faces"]
    speed = f"{counts['frames'] / seconds:.1f} frames per second"
    return ", ".join((f"{job.path}: {done} in {frames} of {counts['frames']} frames", speed, *notes))


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
      UserError: PyAV is not installed, there is no such camera, it gives no frames, or the result cannot be written.
    """
    av = load_av()
    camera = cv2.VideoCapture(number)
    try:
        if not camera.isOpened():
            raise UserError(f"there is no camera {number}, or it is in use; try another number, or close what uses it")
        rate = camera.get(cv2.CAP_PROP_FPS) or CAMERA_RATE
        tracker = Tracker(unmasker, rate)
        frames = 0
        with replacing(path) as temporary, tqdm(desc=f"camera {number}, Ctrl-C ends it", unit="frame") as bar:
            with VideoWriter(av, path, temporary, None, label=label) as target:
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


def _form(path: Path, video: Any) -> str:
    """The format of a video or animation by its content, as `Credentials.sign` takes it."""
    if is_animation(path):
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            return image.format
    names = video.container.format.name.split(",")  # All that FFmpeg reads in the same way.
    return "mp4" if "mp4" in names else names[0]


def _left_out(counts: dict[str, int]) -> list[str]:
    frames = counts["frames_with_faces_left_out"]
    return [f"faces that are too small or were not asked for in {frames} frames"] if frames else []


def _description(
    job: Job, result: Path, counts: dict[str, int], rate: float, shape: tuple[int, int], notes: list[str]
) -> dict[str, Any]:
    height, width = shape
    return {
        "input": str(job.path),
        "output": str(result),
        "width": width,
        "height": height,
        "frames_per_second": round(rate, 3),
        "synthetic": counts["frames_unmasked"] > 0,
        **counts,
        "notes": notes,
    }
