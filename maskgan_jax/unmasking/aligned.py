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
from maskgan_jax.files import find_pictures, pictures_by_name, read_picture, write_png
from maskgan_jax.unmasking.generate import Unmasker


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
    out = Path(out)
    jobs = _results_by_input(inputs, out)
    regions = pictures_by_name(masks) if masks is not None else None
    sources = {path.resolve() for path in (*jobs, *(regions or {}).values())}
    for path, name in jobs.items():
        if (out / name).resolve() in sources:
            raise UserError(f"{out / name} would be overwritten by the result of {path}; give another folder as --out")
    unmasker = Unmasker(weights)
    done = failed = 0

    def faces(every: Iterable[tuple[Path, Path]]) -> Iterator[Face]:
        nonlocal failed
        for path, name in every:
            try:
                yield _read(path, out / name, regions, name)
            except UserError as error:
                failed += 1
                tqdm.write(f"maskgan unmask: skipped: {error}", file=sys.stderr)

    with tqdm(jobs.items(), desc="unmask", unit="face") as bar:
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


def _results_by_input(inputs: Sequence[str | os.PathLike], out: Path) -> dict[Path, Path]:
    """Each input file with the name of its result inside `out`."""
    jobs: dict[Path, Path] = {}
    owners: dict[Path, Path] = {}
    for given in map(Path, inputs):
        found = {p: p.relative_to(given) for p in find_pictures(given)} if given.is_dir() else {given: Path(given.name)}
        for path, name in found.items():
            name = name.with_suffix(".png")
            if (owner := owners.setdefault(name, path)) != path:
                raise UserError(f"{owner} and {path} would both be written to {out / name}; unmask them into different folders")
            jobs[path] = name
    return jobs


def _read(path: Path, out: Path, regions: dict[str, Path] | None, name: Path) -> Face:
    picture = read_picture(path)
    height, width = picture.shape[:2]
    if height != width:
        raise UserError(f"{path} is {width} x {height}; an aligned face is square")
    if regions is None:
        return Face(out, picture, None)
    if (region := regions.get(name.with_suffix("").as_posix())) is None:
        raise UserError(f"{path} has no region of the same name in the --mask folder")
    mask = read_picture(region, grey=True)
    if mask.shape != picture.shape[:2]:
        raise UserError(f"{path} is {width} x {height} but its region is {mask.shape[1]} x {mask.shape[0]}")
    if not (mask > 127).any():
        raise UserError(
            f"{path}: its mask {region} hides nothing (no pixel above 127); hidden pixels must be 255, not 1 or transparent"
        )
    return Face(out, picture, mask)


def _resized(picture: np.ndarray, side: int) -> np.ndarray:
    interpolation = cv2.INTER_AREA if side < picture.shape[0] else cv2.INTER_CUBIC
    return cv2.resize(picture, (side, side), interpolation=interpolation) if side != picture.shape[0] else picture
