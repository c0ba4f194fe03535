"""Which pictures and videos are unmasked, with which regions, and where the results go."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maskgan_jax.errors import UserError
from maskgan_jax.files import PICTURE_SUFFIXES, pictures_by_name, read_picture

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})


class Job(NamedTuple):
    """One picture or video to unmask: its file, that of its result, and that of its region, or None if none are given."""

    path: Path
    out: Path
    mask: Path | None = None

    @property
    def is_video(self) -> bool:
        """Whether it is a video, by the suffix of its name."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES


def find_jobs(
    inputs: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    masks: str | os.PathLike | None = None,
    *,
    suffix: str = "",
    folders: Sequence[str] = (),
    overwrite: bool = False,
) -> list[Job]:
    """Lists the pictures and videos, each once.

    Args:
      inputs: files, and folders of them (searched recursively; their inner folders are kept in `out`).
      out: folder for the results, which have the same names.
      masks: folder of regions of the same names but for the suffix, for pictures; or, for one picture, the file of its region.
      suffix: of the results; '' keeps that of each input. With one, videos are not looked for.
      folders: in `out`, for what is written of each input beside its result, under names that begin with the result's.
      overwrite: whether results may replace files that are there.

    Raises:
      UserError: there is nothing to unmask, two results would have one name, a result would overwrite an input or a mask, or,
        without `overwrite`, any file.
    """
    out = Path(out)
    kinds = PICTURE_SUFFIXES if suffix else PICTURE_SUFFIXES | VIDEO_SUFFIXES
    single = Path(masks) if masks is not None and Path(masks).is_file() else None
    regions = pictures_by_name(masks) if masks is not None and not single else {}
    jobs: dict[Path, Job] = {}
    owners: dict[Path, Path] = {}  # Of each file that may be written.
    for given in map(Path, inputs):
        found = (
            {path: path.relative_to(given) for path in _files(given, kinds)} if given.is_dir() else {given: Path(given.name)}
        )
        for path, name in found.items():
            name = name.with_suffix(suffix) if suffix else name
            mask = None
            if masks is not None:
                mask = single or regions.get(name.with_suffix("").as_posix(), Path(masks) / name)
            jobs[out / name] = Job(path, out / name, mask)
            for target in _targets(out / name):
                if (owner := owners.setdefault(target, path)) != path:
                    raise UserError(f"{owner} and {path} would both be written to {target}; unmask them into different folders")
    if single and len(jobs) > 1:
        raise UserError(f"--mask={single} is one region, but there are {len(jobs)} inputs; give a folder of regions")
    sources = {
        path.resolve() for path in (*(job.path for job in jobs.values()), *regions.values(), *([single] if single else []))
    }
    for job in jobs.values():
        if taken := [target for target in _targets(job.out) if target.resolve() in sources]:
            raise UserError(f"{taken[0]} would be overwritten by the result of {job.path}; give another folder as --out")
    if not overwrite:
        refuse_to_replace(path for job in jobs.values() for path in _results(job.out, out, folders))
    return list(jobs.values())


def refuse_to_replace(paths: Iterable[Path]) -> None:
    """Raises UserError if there are any of these files."""
    if there := [path for path in paths if path.exists()]:
        more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
        raise UserError(f"{there[0]}{more} is there already; give another folder as --out, or --overwrite")


def _targets(result: Path) -> list[Path]:
    """Where a result may be written: under the name of the input or, of a GIF that is redrawn, with .png behind it."""
    return [result, result.with_name(f"{result.name}.png")] if result.suffix.lower() == ".gif" else [result]


def _results(result: Path, out: Path, folders: Sequence[str]) -> Iterator[Path]:
    """Where a result and its JSON would be, and what there is in `folders` that belongs to it."""
    for target in _targets(result):
        yield from (target, target.with_name(f"{target.name}.json"))
    for folder in folders:
        inner = out / folder / result.relative_to(out).parent
        yield from inner.glob(f"{glob.escape(result.name)}*")


def _files(folder: Path, kinds: frozenset[str]) -> list[Path]:
    """All files of these suffixes below a folder, in the order of their names. Raises UserError if there are none."""
    named = (path for path in folder.rglob("*") if path.suffix.lower() in kinds and not path.name.startswith("."))
    # A link to nothing is an input that cannot be read, to be reported as such.
    paths = sorted(path for path in named if path.is_file() or not path.exists())
    if not paths:
        raise UserError(f"there is nothing to unmask ({', '.join(sorted(kinds))}) in {folder}")
    return paths


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
