"""Which pictures are unmasked, with which regions, and where the results go."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maskgan_jax.errors import UserError
from maskgan_jax.files import find_pictures, pictures_by_name, read_picture


class Job(NamedTuple):
    """One picture to unmask: its file, that of its result, and that of its region, or None if no regions are given."""

    path: Path
    out: Path
    mask: Path | None


def find_jobs(inputs: Sequence[str | os.PathLike], out: str | os.PathLike, masks: str | os.PathLike | None = None) -> list[Job]:
    """Lists the pictures, each once.

    Args:
      inputs: picture files, and folders of them (searched recursively; their inner folders are kept in `out`).
      out: folder for the results, PNG under the same names.
      masks: folder of regions of the same names.

    Raises:
      UserError: there are no pictures, two results would have one name, or a result would overwrite an input or a mask.
    """
    out = Path(out)
    regions = pictures_by_name(masks) if masks is not None else {}
    jobs: dict[Path, Job] = {}
    for given in map(Path, inputs):
        found = (
            {path: path.relative_to(given) for path in find_pictures(given)} if given.is_dir() else {given: Path(given.name)}
        )
        for path, name in found.items():
            name = name.with_suffix(".png")
            mask = regions.get(name.with_suffix("").as_posix(), Path(masks) / name) if masks is not None else None
            job = jobs.setdefault(out / name, Job(path, out / name, mask))
            if job.path != path:
                raise UserError(f"{job.path} and {path} would both be written to {job.out}; unmask them into different folders")
    sources = {path.resolve() for path in (*(job.path for job in jobs.values()), *regions.values())}
    for job in jobs.values():
        if job.out.resolve() in sources:
            raise UserError(f"{job.out} would be overwritten by the result of {job.path}; give another folder as --out")
    return list(jobs.values())


def read_mask(job: Job, shape: tuple[int, int]) -> np.ndarray | None:
    """The region of a picture of `shape` (height, width): uint8 of that shape, above 127 = hidden; None if none is given.

    Raises:
      UserError: it is missing, unreadable, of another size, or hides nothing.
    """
    if job.mask is None:
        return None
    if not job.mask.is_file():
        raise UserError(f"{job.path} has no region of the same name in the --mask folder")
    mask = read_picture(job.mask, grey=True)
    if mask.shape != shape:
        raise UserError(f"{job.path} is {shape[1]} x {shape[0]} but its region is {mask.shape[1]} x {mask.shape[0]}")
    if not (mask > 127).any():
        raise UserError(
            f"{job.path}: its mask {job.mask} hides nothing (no pixel above 127); "
            "hidden pixels must be 255, not 1 or transparent"
        )
    return mask
