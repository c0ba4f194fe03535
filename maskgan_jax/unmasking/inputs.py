"""Which photos and videos are unmasked, and with which masks."""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from maskgan_jax.errors import UserError, one_line
from maskgan_jax.files import (
    IMAGE_SUFFIXES,
    MOST_MEGAPIXELS_TO_UNMASK,
    VIDEO_SUFFIXES,
    find_files,
    images_by_name,
    is_endless,
    is_image,
    read_image,
    why_no_image,
)
from maskgan_jax.unmasking.outputs import Outputs

# Results keep the suffixes of videos, but for these, whose formats cannot hold today's codecs.
WRITTEN_SUFFIXES = VIDEO_SUFFIXES - {".asf", ".mxf", ".ogv", ".wmv"}
# How videos begin: MP4 and QuickTime (but not sound, camera raw and JPEG XL in the same kind of file), Matroska and WebM, AVI,
# Flash, Windows Media, Ogg, MPEG, and MPEG transport streams of packets of 188 or 192 bytes.
_VIDEO = re.compile(
    rb"....ftyp(?!M4[AB]|crx|jx|jp)|....(moov|mdat|wide)|\x1aE\xdf\xa3|RIFF....AVI |FLV\x01|0&\xb2u\x8ef"
    rb"|OggS.{0,200}(theora|video)|\0\0\x01[\xba\xb3]|(G.{187}){2}G|.{4}(G.{191}){2}G",
    re.DOTALL,
)
_HEIF = re.compile(rb"....ftyp(hei|hev|mif1|msf1)(?!.{0,40}avi[fs])", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Job:
    """One photo or video to unmask: its file, the name of its result (see `Outputs`), and the file of its mask, if given.

    What kind of file it is, is read once.
    """

    path: Path
    name: Path
    mask: Path | None = None

    @functools.cached_property
    def is_video(self) -> bool:
        """Whether it is a video, by how the file begins, else by the suffix of its name."""
        return _is_video(self.path) or False

    @functools.cached_property
    def redrawn_suffix(self) -> str:
        """The suffix that is added to the name of a result because it is in another format than the input; '' if it is not."""
        header = _header(self.path)
        if self.is_video:
            suffix = ".mp4" if is_image(header) else ".mkv"
            return "" if self.path.suffix.lower() in WRITTEN_SUFFIXES else suffix
        if header[:4] == b"GIF8" or (not header and self.path.suffix.lower() == ".gif"):
            return ".png"
        return ".jpg" if _HEIF.match(header) else ""


def _header(path: Path) -> bytes:
    try:
        if path.is_file():  # What is read of a pipe is gone.
            with path.open("rb") as file:
                return file.read(400)
    except OSError:  # To be reported when its turn comes.
        pass
    return b""


def is_animation(path: Path) -> bool:
    """Whether a file is an image with several frames over time: an animated GIF, PNG, WebP or AVIF."""
    header = _header(path)
    if header[:4] in (b"GIF8", b"\x89PNG"):
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(path, formats=("GIF", "PNG")) as image:
                return image.is_animated
        except Exception:  # Damaged files can make Pillow raise anything.
            return False
    animated_webp = header[8:16] == b"WEBPVP8X" and int.from_bytes(header[20:21]) & 2
    return bool(animated_webp or header[4:12] == b"ftypavis")


def _is_video(path: Path) -> bool | None:
    """Whether a file is a video, or an animation, which is treated as one; None if it is neither that nor an image."""
    header, suffix = _header(path), path.suffix.lower()
    # Most files called .ts are programs.
    named = True if suffix in VIDEO_SUFFIXES - {".ts"} else False if suffix in IMAGE_SUFFIXES else None
    # Two letters are not enough to tell a file of another name, and camera raw begins like TIFF.
    if is_image(header) and (named is not None or header[:2] not in (b"BM", b"II", b"MM")):
        return is_animation(path)
    return True if _VIDEO.match(header) else named


def find_jobs(inputs: Sequence[str | os.PathLike], outputs: Outputs, masks: str | os.PathLike | None = None) -> list[Job]:
    """Lists the photos and videos, each once.

    Args:
      inputs: files, and folders of them (searched recursively; results keep their inner folders). If the folder of the results
        is in one of them, what is in it is left out: those are earlier results. Other files in folders that are left out, but
        for hidden ones, are reported on standard error.
      outputs: says where results go. With a suffix of its own, videos are left out; if it resumes, so is what is done.
      masks: folder of masks of the same names, but for the suffix or as `--regions` names them, for photos; or, for one photo,
        the file of its mask.

    Raises:
      UserError: there is nothing to unmask, or as `Outputs.check` does.
    """
    single = Path(masks) if masks is not None and os.path.isfile(masks) else None
    by_name = images_by_name(masks) if masks is not None and not single else {}
    found: dict[Job, None] = {}
    for given in map(Path, inputs):
        paths = _files(given, outputs) if os.path.isdir(given) else [given]
        for path in paths:
            name = Path(path.name) if path == given else path.relative_to(given)
            name = name.with_suffix(outputs.suffix) if outputs.suffix else name
            job = Job(path, name)
            if masks is not None:
                # `--regions` adds a suffix to the whole name of the result, which may be in another format than the photo.
                result = outputs.result(job, job.redrawn_suffix).relative_to(outputs.folder)
                named = (by_name.get(own.as_posix()) for own in (name.with_suffix(""), name, result))
                job = dataclasses.replace(job, mask=single or next(filter(None, named), Path(masks) / name))
            found[job] = None
    jobs = list(found)
    if jobs and not any(os.path.lexists(job.path) for job in jobs):  # Told before networks are loaded.
        raise UserError(f"there is no file {jobs[0].path}; check its name")
    if single and len(jobs) > 1:
        raise UserError(f"--mask={single} is one mask, but there are {len(jobs)} inputs; give a folder of masks")
    if outputs.resume:
        left = [job for job in jobs if not outputs.is_done(job)]
        if left and (done := len(jobs) - len(left)):
            print(f"{done} of {len(jobs)} results are in {outputs.folder} already")
        jobs = left
    outputs.check(jobs, [*by_name.values(), *([single] if single else [])])
    return jobs


def _files(folder: Path, outputs: Outputs) -> list[Path]:
    """All photos and videos below a folder, in the order of their names, but for the results in a folder below it.

    Raises:
      UserError: there are none.
    """
    paths = find_files(folder)
    root, results = Path(os.path.realpath(folder)), Path(os.path.realpath(outputs.folder))
    if results != root and results.is_relative_to(root):
        earlier = folder / results.relative_to(root)
        paths = [path for path in paths if not path.is_relative_to(earlier)]
    kinds = {path: None if is_endless(path) else _is_video(path) for path in paths}
    found, left_out = [], collections.defaultdict(list)
    for path, is_video in kinds.items():
        if is_video is False or (is_video and not outputs.suffix):
            found.append(path)
        else:
            left_out["a video" if is_video else why_no_image(path)].append(os.fspath(path.relative_to(folder)))
    for reason, names in left_out.items():
        print(f"maskgan unmask: left out ({reason}): {one_line(', '.join(names))}", file=sys.stderr)
    if not found:
        raise UserError(f"there is nothing to unmask in {folder}: no file there is a photo or video that can be read")
    return found


def read_mask(job: Job, shape: tuple[int, int]) -> np.ndarray | None:
    """The mask of an image of `shape` (height, width): uint8 of that shape, above 127 = hidden; None if none is given.

    Raises:
      UserError: it is missing, unreadable, of another size, or hides nothing.
    """
    if job.mask is None:
        return None
    if not job.mask.is_file():
        raise UserError(f"{job.path} has no mask of the same name in the --mask folder")
    mask = read_image(job.mask, grey=True, most_megapixels=MOST_MEGAPIXELS_TO_UNMASK)
    if mask.shape != shape:
        raise UserError(f"{job.path} is {shape[1]} x {shape[0]} but its mask is {mask.shape[1]} x {mask.shape[0]}")
    if not (mask > 127).any():
        raise UserError(
            f"{job.path}: its mask {job.mask} hides nothing (no pixel above 127); "
            "hidden pixels must be 255, not 1 or transparent"
        )
    return mask
