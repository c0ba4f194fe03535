"""Pictures and other files in and out: upright RGB when read, whole or not at all when written."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from maskgan_jax.errors import UserError

PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Gives an empty temporary file beside `path`, which takes its place when the block ends well.

    If the block fails, what stood at `path` before stands there still.

    Raises:
      UserError: the folder or the file cannot be written (no permission, full disk).
    """
    path = Path(path)
    temporary = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror or error}); check the folder's permissions and free space"
        ) from error


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a UTF-8 text file, whole or not at all. Raises UserError as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all. Raises UserError as `replacing` does."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def find_pictures(folder: str | os.PathLike) -> list[Path]:
    """All picture files below `folder`, in the order of their names.

    Raises:
      UserError: `folder` is not a folder, or there is no picture in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the folder that holds the pictures")
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    paths = sorted(path for path in files if path.suffix.lower() in PICTURE_SUFFIXES)
    if not paths:
        raise UserError(f"no pictures ({', '.join(sorted(PICTURE_SUFFIXES))}) in {folder}")
    return paths


def pictures_by_name(folder: str | os.PathLike) -> dict[str, Path]:
    """The pictures below `folder` by their path there without suffix.

    Raises:
      UserError: it is not a folder, it has no pictures, or two of one name.
    """
    pictures: dict[str, Path] = {}
    for path in find_pictures(folder):
        other = pictures.setdefault(path.relative_to(folder).with_suffix("").as_posix(), path)
        if other != path:
            raise UserError(f"{other} and {path} have the same name; keep one of them")
    return pictures


def encode_png(picture: np.ndarray) -> bytes:
    """PNG bytes of `picture`, `[H, W, 3]` RGB or `[H, W]` or `[H, W, 1]` grey, uint8 in 0..255."""
    if picture.dtype != np.uint8 or picture.shape[2:] not in ((), (1,), (3,)):
        raise ValueError(f"cannot encode an array of shape {picture.shape} and type {picture.dtype} as PNG")
    return cv2.imencode(".png", picture[..., ::-1] if picture.shape[2:] == (3,) else picture)[1].tobytes()


def decode_picture(data: bytes, *, grey: bool = False) -> np.ndarray:
    """The picture in the bytes of an image file: `[H, W, 3]` RGB (or `[H, W]` if `grey`), uint8, EXIF orientation applied.

    An alpha channel is dropped, and 16 bits are reduced to 8.

    Raises:
      UserError: the bytes are not a whole picture that OpenCV can decode.
    """
    try:
        # imdecode takes an empty buffer as a programming error.
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR)
    except cv2.error:
        picture = None
    if picture is None:
        raise UserError("not a readable picture (empty, truncated or of an unknown format)")
    return picture if grey else np.ascontiguousarray(picture[..., ::-1])


def read_picture(path: str | os.PathLike, *, grey: bool = False) -> np.ndarray:
    """Reads a picture file as `decode_picture` gives it.

    Raises:
      UserError: the file is missing or is not a readable picture.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror})") from error
    try:
        return decode_picture(data, grey=grey)
    except UserError as error:
        raise UserError(f"{path} is {error}") from error


def write_png(path: str | os.PathLike, picture: np.ndarray) -> None:
    """Writes `picture` (as for `encode_png`) to a PNG file, whole or not at all. Raises UserError as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_bytes(encode_png(picture))
