"""Files in a cloud (`gs://`, `s3://`), through etils.epath."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from etils import epath

from maskgan_jax import files
from maskgan_jax.errors import UserError


class Unreachable(UserError):
    """A file in a cloud that cannot be read or written at the moment."""


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a path is a URL such as `gs://bucket/folder` rather than a local file."""
    return "://" in os.fspath(path)


def walk(folder: epath.Path) -> Iterator[tuple[epath.Path, list[str]]]:
    """`folder` and all folders below it, each with the sorted names of its files. Raises OSError if one cannot be read."""

    def fail(error: OSError) -> None:
        raise error

    for below, folders, names in folder.walk(on_error=fail):
        folders.sort()
        if is_remote(folder) and not is_remote(below):  # fsspec leaves out the scheme.
            below = epath.Path(f"{str(folder).partition('://')[0]}://{str(below).lstrip('/')}")
        yield below, sorted(names)


def save_text(path: epath.Path, text: str) -> None:
    """Writes a UTF-8 text file, local or in a cloud, completely or not at all. Raises UserError if it cannot be written."""
    if not is_remote(path):
        return files.write_text(path, text)
    with reaching(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@contextlib.contextmanager
def reaching(path: str | os.PathLike) -> Iterator[None]:
    """Turns errors with a path in a cloud into Unreachable; errors with local paths pass through."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # Each cloud's client has its own errors.
        of_cloud = isinstance(error, OSError | ImportError) or type(error).__module__ != "builtins"
        if not is_remote(path) or not of_cloud:
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise Unreachable(
            f"cannot reach {path} ({reason:.200}); it takes gcsfs (gs://) or s3fs (s3://), a network and credentials"
        ) from error
