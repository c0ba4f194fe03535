"""Which pictures and videos are unmasked, with which regions, and where the results go."""

from __future__ import annotations

import glob
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maskgan_jax.errors import UserError
from maskgan_jax.files import IMAGE_SUFFIXES, images_by_name, read_image

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})
# How the names of crops end: they have the numbers of the faces.
_NUMBER = re.compile(r"\.\d+_(before|after)\.png$")


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
      inputs: files, and folders of them (searched recursively; their inner folders are kept in `out`). If `out` is in one of
        them, what is in `out` is left out: those are results.
      out: folder for the results, which have the same names.
      masks: folder of regions of the same names but for the suffix, for pictures; or, for one picture, the file of its region.
      suffix: of the results; '' keeps that of each input. With one, videos are not looked for.
      folders: in `out`, for what is written of each input beside its result (see `beside`).
      overwrite: whether results may replace files that are there.

    Raises:
      UserError: there is nothing to unmask, two inputs would be written to one file, an input or a mask would be overwritten,
        or, without `overwrite`, any file.
    """
    out = Path(out)
    kinds = IMAGE_SUFFIXES if suffix else IMAGE_SUFFIXES | VIDEO_SUFFIXES
    single = Path(masks) if masks is not None and os.path.isfile(masks) else None
    regions = images_by_name(masks) if masks is not None and not single else {}
    found: dict[Job, None] = {}
    for given in map(Path, inputs):
        paths = _files(given, kinds, out) if os.path.isdir(given) else [given]
        for path in paths:
            name = Path(path.name) if path == given else path.relative_to(given)
            name = name.with_suffix(suffix) if suffix else name
            mask = None
            if masks is not None:
                mask = single or regions.get(name.with_suffix("").as_posix(), Path(masks) / name)
            found[Job(path, out / name, mask)] = None
    jobs = list(found)
    if single and len(jobs) > 1:
        raise UserError(f"--mask={single} is one region, but there are {len(jobs)} inputs; give a folder of regions")
    targets = [_targets(job) for job in jobs]
    written = [list(_written(job, paths, out, folders)) for job, paths in zip(jobs, targets, strict=True)]
    _refuse_shared(jobs, written, out)
    _refuse_sources(jobs, written, out, [*regions.values(), *([single] if single else [])])
    if not overwrite:
        refuse_to_replace(path for paths in targets for path in _results(paths, out, folders))
    return jobs


def beside(result: Path, out: Path, folder: str, ending: str = ".png") -> Path:
    """Where more than the result is written of an input: in a folder of `out`, under the result's name and an ending."""
    name = result.relative_to(out)
    return out / folder / name.with_name(f"{name.name}{ending}")


def make_folder(out: str | os.PathLike) -> None:
    """Makes the folder of all results, if it is not there. Raises UserError if it cannot be made, or not be written to."""
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        reason = "it is no folder" if isinstance(error, FileExistsError) else error.strerror or error
        raise UserError(f"cannot write into {out} ({reason}); give another folder as --out") from error


def refuse_to_replace(paths: Iterable[Path]) -> None:
    """Raises UserError if there are any of these files."""
    if there := [path for path in paths if os.path.exists(path)]:
        more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
        raise UserError(f"{there[0]}{more} is there already; give another folder as --out, or --overwrite")


def _refuse_shared(jobs: Sequence[Job], written: Sequence[Sequence[Path]], out: Path) -> None:
    """Raises UserError if two inputs may be written to one file."""
    owners: dict[Path, Path] = {}
    paths = [(job, path) for job, paths in zip(jobs, written, strict=True) for path in paths]
    # Whether a result has the name of another's crop shows when all are known.
    for job, path in (*paths, *((job, job.out) for job in jobs)):
        owner = owners.setdefault(path, job.path)
        if owner == job.path:
            owner = owners.get(_unnumbered(path, out), owner)
        if owner != job.path:
            raise UserError(f"{owner} and {job.path} would both be written to {path}; unmask them into different folders")


def _refuse_sources(jobs: Sequence[Job], written: Sequence[Sequence[Path]], out: Path, masks: Sequence[Path]) -> None:
    """Raises UserError if an input or a mask may be overwritten."""
    real_out = Path(os.path.realpath(out))
    sources = {}
    for source in (*(job.path for job in jobs), *masks):
        path = Path(os.path.realpath(source))  # Unlike `Path.resolve`, it bears links that lead to themselves.
        sources |= {path: source, _unnumbered(path, real_out): source}
    for job, paths in zip(jobs, written, strict=True):
        for path in paths:
            if taken := sources.get(Path(os.path.realpath(path))):
                raise UserError(f"{taken} would be overwritten by the result of {job.path}; give another folder as --out")


def _targets(job: Job) -> list[Path]:
    """Where a result may be written: under the name of the input or, of a GIF that is redrawn, with .png behind it."""
    if job.out.suffix.lower() == ".png" or job.is_video or not _is_gif(job.path):
        return [job.out]
    return [job.out, job.out.with_name(f"{job.out.name}.png")]


def _is_gif(path: Path) -> bool:
    """Whether a file is a GIF, by its suffix or by how it begins."""
    if path.suffix.lower() == ".gif":
        return True
    try:
        with path.open("rb") as file:
            return file.read(4) == b"GIF8"
    except OSError:  # To be reported when its turn comes.
        return False


def _written(job: Job, targets: Sequence[Path], out: Path, folders: Sequence[str]) -> Iterator[Path]:
    """All that may be written of an input; one name, that of `_unnumbered`, stands for its crops."""
    for target in targets:
        yield from (target, target.with_name(f"{target.name}.json"))
        for folder in folders:
            yield beside(target, out, folder, "" if job.is_video else ".*.png" if folder == "crops" else ".png")


def _unnumbered(path: Path, out: Path) -> Path:
    """The name that stands for all crops of a photo, whose number is not known beforehand; of any other file, its own."""
    return path.with_name(_NUMBER.sub(".*.png", path.name)) if path.is_relative_to(out / "crops") else path


def _results(targets: Sequence[Path], out: Path, folders: Sequence[str]) -> Iterator[Path]:
    """Where a result and its JSON would be, and what there is in `folders` that belongs to it."""
    for target in targets:
        yield from (target, target.with_name(f"{target.name}.json"))
    for folder in folders:
        start = beside(targets[0], out, folder, "")
        yield from start.parent.glob(f"{glob.escape(start.name)}*")


def _files(folder: Path, kinds: frozenset[str], out: Path) -> list[Path]:
    """All files of these suffixes below a folder, in the order of their names, but for the results in a folder below it.

    Raises:
      UserError: there are none.
    """
    named = (path for path in folder.rglob("*") if path.suffix.lower() in kinds and not path.name.startswith("."))
    # A link to nothing is an input that cannot be read, to be reported as such.
    paths = sorted(path for path in named if path.is_file() or not path.exists())
    root, results = Path(os.path.realpath(folder)), Path(os.path.realpath(out))
    if results != root and results.is_relative_to(root):
        earlier = folder / results.relative_to(root)
        paths = [path for path in paths if not path.is_relative_to(earlier)]
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
    mask = read_image(job.mask, grey=True)
    if mask.shape != shape:
        raise UserError(f"{job.path} is {shape[1]} x {shape[0]} but its region is {mask.shape[1]} x {mask.shape[0]}")
    if not (mask > 127).any():
        raise UserError(
            f"{job.path}: its mask {job.mask} hides nothing (no pixel above 127); "
            "hidden pixels must be 255, not 1 or transparent"
        )
    return mask
