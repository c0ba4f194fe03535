"""Aligned masked faces in, unmasked faces out: files of any square size."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from maskgan_jax.errors import UserError
from maskgan_jax.files import read_picture, write_png
from maskgan_jax.unmasking.generate import Unmasker
from maskgan_jax.unmasking.inputs import Job, find_jobs, read_mask


class Face(NamedTuple):
    """One aligned face: where its result goes, the picture `[H, H, 3]`, and its region `[H, H]`, or None if not given."""

    out: Path
    picture: np.ndarray
    mask: np.ndarray | None


def unmask_aligned(
    inputs: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    weights: str | os.PathLike,
    masks: str | os.PathLike | None = None,
) -> tuple[int, int]:
    """Unmasks aligned crops and writes them to `out` under the same names, as PNG of the same size.

    A picture that cannot be used is reported on standard error, and the rest goes on.

    Args:
      inputs: picture files, and folders of them (searched recursively; their inner folders are kept in `out`).
      out: folder for the results.
      weights: workdir of a run, or an exported network.
      masks: folder of regions, of the same names and sizes, above 127 = hidden: there the known pixels are put back.

    Returns:
      How many pictures were unmasked, and how many could not be used.

    Raises:
      UserError: the inputs, the weights or the output folder cannot be used at all, or a result would overwrite an input or a
        mask; or a result cannot be written, which ends it.
    """
    jobs = find_jobs(inputs, out, masks)
    unmasker = Unmasker(weights)
    done = failed = 0

    def faces(jobs: Iterable[Job]) -> Iterator[Face]:
        nonlocal failed
        for job in jobs:
            try:
                yield _read(job)
            except UserError as error:
                failed += 1
                tqdm.write(f"maskgan unmask: skipped: {error}", file=sys.stderr)

    with tqdm(jobs, desc="unmask", unit="face") as bar:
        stream = faces(bar)
        while batch := list(itertools.islice(stream, unmasker.batch_size)):
            results = unmasker(np.stack([_resized(face.picture, unmasker.size) for face in batch]))
            for face, result in zip(batch, results, strict=True):
                result = _resized(result, face.picture.shape[0])
                if face.mask is not None:
                    result = np.where(face.mask[..., None] > 127, result, face.picture)
                write_png(face.out, result)
                done += 1
    return done, failed


def _read(job: Job) -> Face:
    picture = read_picture(job.path)
    height, width = picture.shape[:2]
    if height != width:
        raise UserError(f"{job.path} is {width} x {height}; an aligned face is square")
    return Face(job.out, picture, read_mask(job, (height, width)))


def _resized(picture: np.ndarray, side: int) -> np.ndarray:
    interpolation = cv2.INTER_AREA if side < picture.shape[0] else cv2.INTER_CUBIC
    return cv2.resize(picture, (side, side), interpolation=interpolation) if side != picture.shape[0] else picture
