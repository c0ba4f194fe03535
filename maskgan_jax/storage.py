"""Files in buckets (`gs://`, `s3://`), through etils.epath.

A bucket has objects under names with slashes, and no folders. An object appears whole or not at all when it is written, it
cannot be appended to, and it is renamed by copying it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path

import fsspec
from etils import epath

from maskgan_jax import files
from maskgan_jax.errors import UserError, describe

# The package that each kind of URL takes, which is also an extra of this package: its name there.
PACKAGES = {"gs": ("gcsfs", "gcs"), "s3": ("s3fs", "s3")}
# With this object, Orbax marks a checkpoint in a bucket as whole.
COMMITTED = "commit_success.txt"

for _name in ("gcs", "gs", "s3"):
    # Lists would be out of date: tensorstore writes to the same buckets.
    fsspec.config.conf.setdefault(_name, {}).setdefault("use_listings_cache", False)


class Unreachable(UserError):
    """A file in a bucket that cannot be read or written at the moment."""


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a path is a URL such as `gs://bucket/folder` rather than a local file."""
    return "://" in os.fspath(path)


def path_of(path: str | os.PathLike) -> Path | epath.Path:
    """A path to work with: a `Path` of a local file, an `epath.Path` of a URL.

    Raises:
      UserError: the URL is of another kind than `gs://` and `s3://`, has a character of patterns, or its package is missing.
    """
    if not is_remote(path):
        return Path(path)
    scheme = os.fspath(path).partition("://")[0]
    if scheme not in PACKAGES:
        raise UserError(f"{os.fspath(path)} cannot be used; give a folder, or a URL that begins with gs:// or s3://")
    if set("*?[") & set(os.fspath(path)):  # fsspec would list, and delete, what matches the pattern.
        raise UserError(f"{os.fspath(path)} cannot be used; give a URL without *, ? and [")
    package, extra = PACKAGES[scheme]
    if importlib.util.find_spec(package) is None:
        raise UserError(f"{os.fspath(path)} needs the package {package}; install it with pip install 'maskgan_jax[{extra}]'")
    return epath.Path(path)


def steps_in(folder: Path | epath.Path) -> list[int]:
    """The steps of the whole checkpoints in a folder of them, in order; none if there is no such folder.

    A checkpoint that is being written has a longer name, and in a bucket the same name, but no `COMMITTED`.
    """
    with reaching(folder):
        found = [path for path in folder.glob("*") if is_step(path.name)]
        return sorted(int(path.name) for path in found if ((path / COMMITTED).exists() if is_remote(path) else path.is_dir()))


def is_step(name: str) -> bool:
    """Whether a name, such as that of a checkpoint, is the number of a step, without leading zeros."""
    return bool(re.fullmatch("0|[1-9][0-9]{0,17}", name))


def copy_files(source: epath.Path, target: epath.Path) -> None:
    """Copies all files below a folder to one in a bucket. Raises what the bucket's client does."""
    for folder, names in walk(source):
        for name in names:
            (folder / name).copy(target / (folder / name).relative_to(source))


def move(source: epath.Path, target: epath.Path) -> None:
    """Renames a folder; in a bucket, its files are moved one by one. Raises OSError, or what the bucket's client does."""
    if not is_remote(source):
        source.rename(target)
        return
    store, old = fsspec.url_to_fs(os.fspath(source))
    new = store._strip_protocol(os.fspath(target))
    for name in store.find(old):
        store.cp_file(name, f"{new}{name[len(old) :]}")
    store.rm(old, recursive=True)


def walk(folder: epath.Path) -> Iterator[tuple[epath.Path, list[str]]]:
    """`folder` and all folders below it, each with the sorted names of its files; on a disk, but for hidden ones and links.

    Raises:
      OSError: a folder cannot be read.
    """

    def fail(error: OSError) -> None:
        raise error

    if not is_remote(folder):
        for below, folders, names in folder.walk(on_error=fail):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            yield below, sorted(names)
        return
    # Not by epath, whose `walk` s3fs does not understand.
    store, root = fsspec.url_to_fs(os.fspath(folder))
    for below, folders, names in store.walk(root, on_error=fail):
        folders.sort()
        yield folder / below[len(root) :].strip("/"), sorted(names)


def save_text(path: Path | epath.Path, text: str) -> None:
    """Writes a UTF-8 text file, local or in a bucket, completely or not at all. Raises UserError if it cannot be written."""
    if not is_remote(path):
        return files.write_text(path, text)
    with reaching(path):
        path.write_text(text)


@contextlib.contextmanager
def reaching(path: str | os.PathLike) -> Iterator[None]:
    """Turns errors with a path in a bucket into Unreachable; errors with local paths pass through."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # Each cloud's client has its own errors.
        of_cloud = isinstance(error, OSError | ImportError) or type(error).__module__ != "builtins"
        if not is_remote(path) or not of_cloud:
            raise
        advice = "check the URL, the network and your credentials"
        if isinstance(error, ImportError):
            advice = "pip install 'maskgan_jax[gcs]' is for gs://, 'maskgan_jax[s3]' for s3://"
        raise Unreachable(f"cannot reach {path} ({describe(error)}); {advice}") from error
