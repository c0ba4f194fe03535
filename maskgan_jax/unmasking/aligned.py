"""Aligned masked faces in, unmasked faces out: files of any square size."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from maskgan_jax.errors import UserError
from maskgan_jax.files import read_image
from maskgan_jax.networks.face_network import FaceNetwork, pretrained
from maskgan_jax.unmasking.inputs import Job, find_jobs, read_mask
from maskgan_jax.unmasking.photo_files import write_drawn_png
from maskgan_jax.unmasking.unmasker import find_region, unmask_square


def unmask_aligned(
    inputs: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    weights: str | os.PathLike | None = None,
    masks: str | os.PathLike | None = None,
    *,
    fast: bool = False,
    overwrite: bool = False,
    label: bool = True,
) -> tuple[int, int]:
    """Unmasks aligned crops (FFHQ's squares) and writes them to `out` under the same names, as PNG of the same size.

    A picture that cannot be used is reported on standard error, and the rest goes on.

    Args:
      inputs: picture files, and folders of them (searched recursively; their inner folders are kept in `out`).
      out: folder for the results.
      weights: workdir of a run, or an exported network; None for the package's own.
      masks: folder of regions, of the same names and sizes, above 127 = hidden: there the known pixels are put back. Without
        it, a generator that inpaints is told what the segmentation network finds; the output of one that does not is kept as
        a whole, as in the paper.
      fast: take the package's network for 128 px, if there are no `weights`.
      overwrite: whether results may replace files that are there.
      label: whether the files say that they are synthetic.

    Returns:
      How many pictures were unmasked, and how many could not be used.

    Raises:
      UserError: the inputs, the weights or the output folder cannot be used at all, or a result would overwrite an input, a
        mask or, without `overwrite`, any file; or a result cannot be written, which ends it.
    """
    jobs = find_jobs(inputs, out, masks, suffix=".png", overwrite=overwrite)
    generator = FaceNetwork(weights or pretrained("unmask_fast" if fast else "unmask"), "unmask", batch_size=1)
    finders = []
    if generator.inpaints and masks is None:
        finders = [FaceNetwork(pretrained(task), task, batch_size=1) for task in ("segmentation", "landmarks")]
    done = failed = 0
    for job in tqdm(jobs, desc="unmask", unit="face"):
        try:
            result = _unmask(job, generator, finders)
        except UserError as error:
            failed += 1
            tqdm.write(f"maskgan unmask: skipped: {error}", file=sys.stderr)
        else:
            write_drawn_png(job.out, result, label=label)
            done += 1
    return done, failed


def _unmask(job: Job, generator: FaceNetwork, finders: Sequence[FaceNetwork]) -> np.ndarray:
    picture = read_image(job.path)
    height, width = picture.shape[:2]
    if height != width:
        raise UserError(f"{job.path} is {width} x {height}; an aligned face is square")
    region = read_mask(job, (height, width))
    if finders:
        region = find_region(*finders, picture)
    result = unmask_square(generator, picture, region)
    return result if region is None else np.where(region[..., None] > 127, result, picture)
