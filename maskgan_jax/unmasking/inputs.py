"""Which photos and videos are unmasked, and with which masks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maskgan_jax.errors import UserError
from maskgan_jax.files import IMAGE_SUFFIXES, find_files, images_by_name, read_image
from maskgan_jax.unmasking.outputs import Outputs

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})


class Job(NamedTuple):
    """One photo or video to unmask: its file, the name of its result (see `Outputs`), and the file of its mask, if given."""

    path: Path
    name: Path
    mask: Path | None = None

    @property
    def is_video(self) -> bool:
        """Whether it is a video, by the suffix of its name."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES


def find_jobs(inputs: Sequence[str | os.PathLike], outputs: Outputs, masks: str | os.PathLike | None = None) -> list[Job]:
    """Lists the photos and videos, each once.

    Args:
      inputs: files, and folders of them (searched recursively; results keep their inner folders). If the folder of the results
        is in one of them, what is in it is left out: those are earlier results.
      outputs: says where results go. With a suffix of its own, videos are not looked for.
      masks: folder of masks of the same names but for the suffix, for photos; or, for one photo, the file of its mask.

    Raises:
      UserError: there is nothing to unmask, or as `Outputs.check` does.
    """
    kinds = IMAGE_SUFFIXES if outputs.suffix else IMAGE_SUFFIXES | VIDEO_SUFFIXES
    single = Path(masks) if masks is not None and os.path.isfile(masks) else None
    by_name = images_by_name(masks) if masks is not None and not single else {}
    found: dict[Job, None] = {}
    for given in map(Path, inputs):
        paths = _files(given, kinds, outputs.folder) if os.path.isdir(given) else [given]
        for path in paths:
            name = Path(path.name) if path == given else path.relative_to(given)
            name = name.with_suffix(outputs.suffix) if outputs.suffix else name
            mask = None
            if masks is not None:
                mask = single or by_name.get(name.with_suffix("").as_posix(), Path(masks) / name)
            found[Job(path, name, mask)] = None
    jobs = list(found)
    if single and len(jobs) > 1:
        raise UserError(f"--mask={single} is one region, but there are {len(jobs)} inputs; give a folder of regions")
    outputs.check(jobs, [*by_name.values(), *([single] if single else [])])
    return jobs


def _files(folder: Path, kinds: frozenset[str], out: Path) -> list[Path]:
    """All files of these suffixes below a folder, in the order of their names, but for the results in a folder below it.

    Raises:
      UserError: there are none.
    """
    paths = find_files(folder, kinds)
    root, results = Path(os.path.realpath(folder)), Path(os.path.realpath(out))
    if results != root and results.is_relative_to(root):
        earlier = folder / results.relative_to(root)
        paths = [path for path in paths if not path.is_relative_to(earlier)]
    if not paths:
        raise UserError(f"there is nothing to unmask ({', '.join(sorted(kinds))}) in {folder}")
    return paths


def read_mask(job: Job, shape: tuple[int, int]) -> np.ndarray | None:
    """The mask of an image of `shape` (height, width): uint8 of that shape, above 127 = hidden; None if none is given.

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
