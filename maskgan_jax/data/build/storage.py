"""Files in a cloud (`gs://`, `s3://`), through etils.epath."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from etils import epath

from maskgan_jax import files
from maskgan_jax.errors import UserError


class Unreachable(UserError):
    """A file in a cloud that cannot be read or written now, though perhaps later."""


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a path is a URL such as `gs://bucket/folder`, and not a file of this machine."""
    return "://" in os.fspath(path)


def walk(folder: epath.Path) -> Iterator[tuple[epath.Path, list[str]]]:
    """Each folder from `folder` downwards, with the names of its files in order. Raises OSError if one cannot be read."""

    def fail(error: OSError) -> None:
        raise error

    for below, folders, names in folder.walk(on_error=fail):
        folders.sort()
        if is_remote(folder) and not is_remote(below):  # fsspec leaves out the scheme.
            below = epath.Path(f"{str(folder).partition('://')[0]}://{str(below).lstrip('/')}")
        yield below, sorted(names)


def save_text(path: epath.Path, text: str) -> None:
    """Writes a UTF-8 text file, whole or not at all. Raises UserError if it cannot be written."""
    if not is_remote(path):
        return files.write_text(path, text)
    with reaching(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@contextlib.contextmanager
def reaching(path: str | os.PathLike) -> Iterator[None]:
    """Has whatever goes wrong with a path in a cloud told as Unreachable; what goes wrong with other paths comes through."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # Each cloud's client has errors of its own.
        of_cloud = isinstance(error, OSError | ImportError) or type(error).__module__ != "builtins"
        if not is_remote(path) or not of_cloud:
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise Unreachable(
            f"cannot reach {path} ({reason:.200}); it takes gcsfs (gs://) or s3fs (s3://), a network and credentials"
        ) from error
