"""Photo files in; the same photos without masks, and a description of what was done, out."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from maskgan_jax.data.grid import labelled_grid
from maskgan_jax.errors import UserError
from maskgan_jax.files import encode_json, encode_png, replacing
from maskgan_jax.unmasking.compositing import nearest_faces, redrawn_mask
from maskgan_jax.unmasking.face import Face
from maskgan_jax.unmasking.inputs import Job, read_mask
from maskgan_jax.unmasking.labels import draw_mark
from maskgan_jax.unmasking.outputs import Outputs
from maskgan_jax.unmasking.photo_files import (
    CREDENTIALS_LEFT_OUT,
    WRITTEN_AS,
    PhotoFile,
    drawn_png_bytes,
    photo_bytes,
    read_photo,
    write_drawn_png,
)
from maskgan_jax.unmasking.unmasker import Unmasker

# Sides of the faces in the contact sheet, in pixels.
SHEET_SIDE = 160


def unmask_photo(job: Job, unmasker: Unmasker, outputs: Outputs) -> tuple[str, list[Face]]:
    """Unmasks one photo and writes the results.

    If one of them cannot be written, none is: earlier ones stay as they were.

    A photo in which no face wears a mask is copied, or rewritten without its metadata if they are to be dropped.

    Args:
      job: the photo.
      unmasker: does it.
      outputs: what is written, and where.

    Returns:
      What was done, in one line, and the faces.

    Raises:
      UserError: the photo or its mask cannot be used, no face was found, or a result cannot be written or is there already.
    """
    photo = read_photo(job.path)
    mask = read_mask(job, photo.rgb.shape[:2])
    result, faces = unmasker.unmask(photo.rgb, mask)
    if not faces:
        raise UserError(f"{job.path}: no face found; a sharper picture, or more around the face, may help")
    redrawn = any(face.redrawn for face in faces)
    nearest = None if mask is None else nearest_faces(mask, faces)
    if mask is not None and not redrawn:
        if reason := _why_none(nearest, faces):
            raise UserError(f"{job.path}: the face under the given mask is {reason}; change --faces or --min_face")
        raise UserError(f"{job.path}: the given mask is on none of the faces that were found")
    if redrawn and outputs.mark:
        result = draw_mark(result)
    # A photo that is left as it is stays the same file; without its metadata it must be rewritten.
    copied = not redrawn and outputs.keep_metadata
    target = outputs.result(job, "" if copied else job.redrawn_suffix)
    notes = () if copied else photo.notes
    if not copied:
        label, kept = outputs.label and redrawn, outputs.keep_metadata
        data, more = photo_bytes(target, photo, result, keep_metadata=kept, label=label)
        signs = outputs.credentials is not None and redrawn
        if signs:
            form, original = WRITTEN_AS.get(photo.format, photo.format), job.path if kept else None
            if kept:  # What the photo said of itself is in the manifest.
                notes = tuple(note for note in notes if note != CREDENTIALS_LEFT_OUT)
            more += outputs.credentials.notes(form)
        notes += more
    if mask is not None:
        notes += _left_of_mask(nearest, faces)
    described = encode_json(_description(job, target, photo, faces, notes, mask is not None))
    # The first, and so the last in its place: with it, a result is complete.
    beside = itertools.chain([(outputs.json_of(target), described)], _extras(target, photo, result, faces, nearest, outputs))
    with outputs.writing(job), contextlib.ExitStack() as stack:
        for path, content in beside:
            stack.enter_context(replacing(path)).write_bytes(content)
        temporary = stack.enter_context(replacing(target))
        if copied:
            shutil.copyfile(job.path, temporary)
        else:
            temporary.write_bytes(data)
            if signs:
                outputs.credentials.sign(temporary, target, form, original, photo.format)
    return _line(job, faces, notes), faces


def _why_none(nearest: np.ndarray, faces: Sequence[Face]) -> str:
    """Why a face under a given mask, as `nearest_faces` divides it, was left alone; '' if the mask is on no face."""
    under = (face for number, face in enumerate(faces) if face.square.cut_out((nearest == number) * np.uint8(255)).any())
    return next((face.left_out for face in under), "")


def _left_of_mask(nearest: np.ndarray, faces: Sequence[Face]) -> tuple[str, ...]:
    """In words, how much of a given mask was not redrawn, from 1 % on; `nearest` as for `_why_none`."""
    given = nearest >= 0
    left = np.count_nonzero(given & (redrawn_mask(nearest.shape, faces, nearest) == 0))
    percent = 100 * left // np.count_nonzero(given)
    return (f"{percent} % of the given mask left as it is (outside the squares of the redrawn faces)",) if percent else ()


def _line(job: Job, faces: Sequence[Face], notes: Sequence[str]) -> str:
    redrawn = sum(face.redrawn for face in faces)
    parts = [f"{redrawn} mask{'s' * (redrawn != 1)} removed"] if redrawn else ["left as it is"]
    others = Counter(
        face.left_out or ("with a mask outside the given one" if face.masked else "without a mask")
        for face in faces
        if not face.redrawn
    )
    parts += [f"{count} face{'s' * (count != 1)} {why}" for why, count in others.items()]
    return f"{job.path}: {', '.join((*parts, *notes))}"


def _extras(
    target: Path, photo: PhotoFile, result: np.ndarray, faces: Sequence[Face], nearest: np.ndarray | None, outputs: Outputs
) -> Iterator[tuple[Path, bytes]]:
    """The extra files of a redrawn photo, as paths and bytes; `nearest` as for `composite`."""
    if not any(face.redrawn for face in faces):
        return
    if outputs.side_by_side:
        both = np.concatenate([photo.rgb, result], axis=1)
        yield outputs.extra(target, "side_by_side"), drawn_png_bytes(both, label=outputs.label)
    if outputs.regions:
        yield outputs.extra(target, "regions"), encode_png(redrawn_mask(photo.rgb.shape[:2], faces, nearest))
    if outputs.crops:
        for number, face in enumerate(faces):  # Numbered as in the JSON.
            if face.redrawn:
                yield outputs.crop_of(target, number, "before"), encode_png(face.before)
                yield outputs.crop_of(target, number, "after"), drawn_png_bytes(face.after, label=outputs.label)


def _description(
    job: Job, target: Path, photo: PhotoFile, faces: Sequence[Face], notes: Sequence[str], given: bool
) -> dict[str, Any]:
    """What is written as JSON; coordinates are (x, y) in pixels of the upright photo."""
    height, width = photo.rgb.shape[:2]
    return {
        "input": str(job.path),
        "output": str(target),
        "width": width,
        "height": height,
        "region": "given" if given else "found",  # The mask; scripts read this key.
        "synthetic": any(face.redrawn for face in faces),
        "notes": list(notes),
        "faces": [
            {
                "box": face.box.round(1).tolist(),
                "score": round(face.score, 4),
                "masked": face.masked,
                "cover": round(face.cover, 4),
                "done": "mask removed" if face.redrawn else "left alone",
                "left_out": face.left_out or None,
                "alignment": face.square.corners.round(2).tolist(),
                "landmarks": face.landmarks.round(1).tolist(),
            }
            for face in faces
        ],
    }


def write_contact_sheet(path: str | Path, faces: Sequence[Face], *, label: bool = True) -> None:
    """Writes a PNG of unmasked faces, before and after, in their aligned squares; `label` as for `drawn_png_bytes`.

    Raises:
      UserError: it cannot be written.
    """
    rows = [
        [cv2.resize(image, (SHEET_SIDE, SHEET_SIDE), interpolation=cv2.INTER_CUBIC) for image in (face.before, face.after)]
        for face in faces
    ]
    write_drawn_png(path, labelled_grid(rows, ["before", "after"], columns=min(5, len(rows))), label=label)
