"""The cache folder, which holds fetched weights and the programs that JAX has compiled."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from filelock import FileLock, Timeout

# Beyond this size, the least recently used programs are deleted. A training step takes about a megabyte on CPUs and tens of
# megabytes on accelerators.
MAX_COMPILED_BYTES = 2 * 1024**3


def cache_folder() -> Path:
    """The cache folder: $MASKGAN_CACHE, else `maskgan` in $XDG_CACHE_HOME, else ~/.cache/maskgan."""
    if folder := os.environ.get("MASKGAN_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "maskgan"


def keep_compiled() -> None:
    """Makes JAX keep compiled programs in the cache folder, so that the next start can load them. Call it before importing JAX.

    A cache that the user has chosen (JAX_COMPILATION_CACHE_DIR) is left alone; JAX_ENABLE_COMPILATION_CACHE=false turns either
    off. If the cache folder cannot be written, programs are compiled each time.

    Machines, processes and versions may share the folder: JAX locks it while it reads and writes, and a program's name there
    depends on the version of JAX, the devices, and the CPU's instruction set.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    try:
        folder = cache_folder() / "compiled"
        folder.mkdir(parents=True, exist_ok=True)
        _delete_fragments(folder)
    except (OSError, RuntimeError):  # RuntimeError: there is no home folder.
        return
    if not os.access(folder, os.W_OK):
        return
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(MAX_COMPILED_BYTES))
    # Small programs take a tenth of a second each, and there are dozens.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def _delete_fragments(folder: Path) -> None:
    """Deletes programs that were half written when a process was killed or the disk was full: JAX would always warn of them.

    JAX writes a program first and then, to another file, the time of its last use (only if the cache has a size limit).
    """
    if os.environ.get("JAX_COMPILATION_CACHE_MAX_SIZE") == "-1":
        return
    with contextlib.suppress(Timeout), FileLock(folder / ".lockfile", timeout=10):  # JAX's own lock.
        for program in folder.glob("*-cache"):
            if not program.with_name(program.name.removesuffix("-cache") + "-atime").exists():
                program.unlink(missing_ok=True)
