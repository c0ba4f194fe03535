"""The cache folder: weights that were fetched, and programs that JAX compiled."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from filelock import FileLock, Timeout

# Of the least recently used programs, those beyond this many bytes are deleted. A training step takes about a megabyte on CPUs
# and tens of megabytes on accelerators.
MOST_COMPILED_BYTES = 2 * 1024**3


def cache_folder() -> Path:
    """The cache folder: $MASKGAN_CACHE, else `maskgan` in $XDG_CACHE_HOME, else ~/.cache/maskgan."""
    if folder := os.environ.get("MASKGAN_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "maskgan"


def keep_compiled() -> None:
    """Has JAX keep the programs it compiles in the cache folder, so that the next start loads them instead.

    To be called before JAX is imported. A cache that the user has chosen (JAX_COMPILATION_CACHE_DIR) is left as it is;
    JAX_ENABLE_COMPILATION_CACHE=false turns either off. If the cache folder cannot be written, programs are compiled each time.

    Machines, processes and versions may share the folder: JAX locks it while it reads and writes, and the name of a program
    there depends on the version of JAX, on the devices, and on the instructions that the CPU has.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    try:
        folder = cache_folder() / "compiled"
        folder.mkdir(parents=True, exist_ok=True)
        _delete_fragments(folder)
    except (OSError, RuntimeError):  # The latter where there is no home.
        return
    if not os.access(folder, os.W_OK):
        return
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(MOST_COMPILED_BYTES))
    # Small programs take a tenth of a second each, and there are dozens.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def _delete_fragments(folder: Path) -> None:
    """Deletes what was being written when a process was killed or the disk was full: JAX would complain of it for ever.

    JAX writes a program first and then, to another file, the time of its last use; without a limit of the size, not that.
    """
    if os.environ.get("JAX_COMPILATION_CACHE_MAX_SIZE") == "-1":
        return
    with contextlib.suppress(Timeout), FileLock(folder / ".lockfile", timeout=10):  # JAX's own lock.
        for program in folder.glob("*-cache"):
            if not program.with_name(program.name.removesuffix("-cache") + "-atime").exists():
                program.unlink(missing_ok=True)
