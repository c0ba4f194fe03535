"""Copies of data sets in buckets on this machine's disk.

array_record 0.8 reads no `s3://` URLs. It reads `gs://` ones with requests for each record, in random order, every epoch, waits
for over a minute if the bucket cannot be reached, and checks no digest. So that is done only if a copy does not fit.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from etils import epath
from tqdm import tqdm

from maskgan_jax.errors import UserError
from maskgan_jax.files import replacing
from maskgan_jax.runtime.cache import cache_folder
from maskgan_jax.runtime.lock import locked
from maskgan_jax.storage import is_remote, path_of, reaching

# Files that are copied at the same time.
THREADS = 8
CHUNK_BYTES = 1 << 20


def readable_folder(data_dir: str | os.PathLike) -> Path | epath.Path:
    """The folder to read a data set from; one in a bucket is copied to the cache folder first, unless it is there.

    The copy is in `data/` in the cache folder, under a name that depends on the URL and on the sizes and digests of all files:
    a data set that has changed in its bucket is copied again, and a copy never changes. Processes of one machine share it. Each
    file's size is checked, and its digest, where the bucket knows it. A copy that was interrupted goes on.

    If there is no space for a copy, it is the bucket's own folder for `gs://`, where records are read one by one, and a line on
    stderr says so. A data set that is built anew there meanwhile changes under its reader.

    Raises:
      UserError: the bucket cannot be reached, there is no data set, a file arrives damaged, or a copy of `s3://` does not fit.
    """
    return _copied(os.fspath(data_dir).rstrip("/")) if is_remote(data_dir) else Path(data_dir)


@functools.cache
def _copied(url: str) -> Path | epath.Path:
    remote = path_of(url)
    with reaching(url):
        store, root = fsspec.url_to_fs(url)
        found = store.find(root, detail=True)
    # Empty objects whose names end with a slash are a console's folders. The rest of what `maskgan build` writes is for people.
    files = {name.removeprefix(f"{root}/"): info for name, info in found.items() if not name.endswith("/")}
    files = {name: info for name, info in files.items() if name == "config.json" or name.startswith("masked_faces/")}
    if outside := [name for name in files if ".." in PurePosixPath(name).parts]:  # As a bucket allows.
        raise UserError(f"{url} has a file that would be copied to another folder, {outside[0]!r}; delete it there")
    if not any(name.startswith("masked_faces/") for name in files):
        raise UserError(f"there is no data set in {url}; make one with maskgan build --data_dir={url}")
    listing = [url, *((name, info["size"], _mark(info)) for name, info in sorted(files.items()))]
    folder = cache_folder() / "data" / hashlib.sha256(repr(listing).encode()).hexdigest()[:32]
    part = folder.with_suffix(".part")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_suffix(".lock")):
            if not folder.is_dir():
                missing = {name: info for name, info in files.items() if not (part / name).is_file()}
                needed, free = sum(info["size"] for info in missing.values()), shutil.disk_usage(folder.parent).free
                if free < needed and url.startswith("gs://"):
                    tqdm.write(
                        f"{folder.parent} has no space for a copy of {url}: its records are read one by one", file=sys.stderr
                    )
                    return remote
                if free < needed:
                    raise UserError(
                        f"a copy of {url} needs {needed / 1e6:.0f} MB in {folder.parent}, where {free / 1e6:.0f} MB are free; "
                        "free some space, or set MASKGAN_CACHE to another folder"
                    )
                _copy(store, url, root, missing, part)
                try:
                    part.rename(folder)
                except OSError:
                    if not folder.is_dir():  # Where there are no locks, another process may have made it.
                        raise
    except OSError as error:
        raise UserError(
            f"cannot keep a copy of {url} in {folder.parent} ({error}); set MASKGAN_CACHE to another folder"
        ) from error
    return folder


def _mark(info: dict[str, Any]) -> str:
    """What a bucket says that changes with a file's content."""
    return str(info.get("md5Hash") or info.get("crc32c") or info.get("ETag") or "")


def _copy(store: fsspec.AbstractFileSystem, url: str, root: str, files: dict[str, dict[str, Any]], folder: Path) -> None:
    """Copies files to `folder`; there they appear when they are whole."""
    folder.mkdir(exist_ok=True)
    has_failed = threading.Event()

    def copy(name: str, info: dict[str, Any]) -> None:
        source = f"{url}/{name}"
        algorithm, expected = _digest(info)
        digest, size = algorithm(), 0
        with replacing(folder / name) as temporary, temporary.open("wb") as file:
            for chunk in _chunks(store, f"{root}/{name}", source):
                if has_failed.is_set():
                    raise UserError(f"another file than {name} could not be copied")
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
                progress.update(len(chunk))
            if size != info["size"]:
                raise UserError(f"{source} arrived with {size} bytes instead of {info['size']}; start again")
            if expected and digest.digest() != expected and not _is_encrypted(store, f"{root}/{name}"):
                raise UserError(f"{source} arrived damaged: its digest is another one than the bucket says; start again")

    with (
        tqdm(total=sum(info["size"] for info in files.values()), desc=f"copy {url}", unit="B", unit_scale=True) as progress,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        try:
            for copied in as_completed([pool.submit(copy, *item) for item in files.items()]):
                copied.result()
        except BaseException:
            has_failed.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _chunks(store: fsspec.AbstractFileSystem, path: str, source: str) -> Iterator[bytes]:
    with reaching(source), store.open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _digest(info: dict[str, Any]) -> tuple[Any, bytes]:
    """The algorithm and the value of the digest that a bucket knows of a file; the value is empty if it knows none."""
    if "md5Hash" in info:  # Google Cloud Storage.
        return hashlib.md5, base64.b64decode(info["md5Hash"])
    if "crc32c" in info:  # Google Cloud Storage, for objects composed of others.
        import google_crc32c

        return google_crc32c.Checksum, base64.b64decode(info["crc32c"])
    tag = info.get("ETag", "").strip('"')
    # S3: the MD5, unless the object was uploaded in parts ('...-8') or encrypted with a key of one's own.
    return hashlib.md5, bytes.fromhex(tag) if len(tag) == 32 else b""


def _is_encrypted(store: fsspec.AbstractFileSystem, path: str) -> bool:
    """Whether an object's ETag is no MD5, because Amazon encrypts it with a key of its owner."""
    if "s3" not in store.protocol:
        return False
    bucket, _, key = path.partition("/")
    with reaching(f"s3://{path}"):
        return store.call_s3("head_object", Bucket=bucket, Key=key).get("ServerSideEncryption", "AES256") != "AES256"
