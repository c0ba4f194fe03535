"""The networks in the checkpoints of a run, which training/checkpoints.py writes with Orbax."""

from __future__ import annotations

import errno
import math
import os
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from etils import epath

from maskgan_jax.errors import UserError
from maskgan_jax.networks import buckets
from maskgan_jax.networks.description import Variables
from maskgan_jax.run_files import BEST
from maskgan_jax.storage import is_remote, steps_in

# Numbers for each byte on the disk, at most, in a checkpoint that is believed.
MOST_COMPRESSED = 1000


def read_best(workdir: Path | epath.Path) -> Variables:
    """The variables (NumPy) of the best network of a run.

    Raises:
      UserError: there is none, or it is damaged.
    """
    folder = latest(workdir / BEST)
    if folder is None:
        raise UserError(
            f"{workdir} holds no trained network yet; it appears there after the first validation of `maskgan train`"
        )
    try:
        return checked(folder, read_tree(folder / "network"))
    except MemoryError:
        raise
    except Exception as error:  # Damaged files lead Orbax and its storage to any exception.
        raise UserError(
            f"the network in {folder} cannot be read ({first_line(error)}); if it is damaged, put it aside and train on until "
            "the next validation, or give another network"
        ) from error


def read_checkpoint(folder: Path | epath.Path, network: str) -> Variables:
    """The variables (NumPy) of a network in a checkpoint of a run; their moving average, if there is one.

    Args:
      folder: `checkpoints/STEP`.
      network: its name among those that are trained.

    Raises:
      UserError: it is damaged.
    """
    state = read_state(folder)
    return state["ema"] or {"params": state["params"][network], "batch_stats": state["batch_stats"]}


def read_state(folder: Path | epath.Path) -> dict[str, Any]:
    """The whole state (NumPy) in a checkpoint of a run, `checkpoints/STEP`: the fields of a `TrainState`. Changes no file.

    Raises:
      UserError: it is damaged.
    """
    try:
        return checked(folder, read_tree(folder / "state"))
    except MemoryError:
        raise
    except Exception as error:  # Damaged files lead Orbax and its storage to any exception.
        raise UserError(
            f"the checkpoint in {folder} cannot be read ({first_line(error)}); if it is damaged, give another --step, or train "
            "on until the next one"
        ) from error


def latest(folder: Path | epath.Path) -> Path | epath.Path | None:
    """The whole checkpoint of the last step in a folder of them; None if there is none."""
    steps = steps_in(folder)
    return folder / str(steps[-1]) if steps else None


def read_tree(folder: Path | epath.Path) -> Any:
    """A stored tree as NumPy arrays. Raises whatever Orbax does, if it is damaged."""
    folder = for_orbax(folder)
    read_through(folder)
    handler = ocp.StandardCheckpointHandler()
    stored = handler.metadata(folder).tree
    if not is_remote(folder):
        on_disk = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        if sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(stored)) > MOST_COMPRESSED * on_disk:
            raise ValueError("its arrays are said to be far larger than its files")
    target = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), stored)
    return handler.restore(folder, args=ocp.args.StandardRestore(target))


def checksums(tree: Any) -> list[int]:
    """CRC-32 of each array of a tree, sorted; an empty list if other processes hold parts of the arrays."""
    leaves = jax.tree.leaves(tree)
    if any(isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated) for leaf in leaves):
        return []
    return sorted(zlib.crc32(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)) for leaf in leaves)


def checked(folder: Path | epath.Path, tree: Any) -> Any:
    """`tree`, which was read from a checkpoint, `folder`. Raises ValueError if its bytes are not those that were saved."""
    path = for_orbax(folder) / "checksums"
    if path.exists():  # Those of older runs have none.
        saved = ocp.JsonCheckpointHandler().restore(path)
        if saved and (found := checksums(tree)) and saved != found:
            raise ValueError("its bytes are not those that were saved")
    return tree


def for_orbax(folder: Path | epath.Path) -> Path | epath.Path:
    """A folder as Orbax wants it: absolute if it is local; for one at `s3://`, Orbax learns what that is."""
    if os.fspath(folder).startswith("s3://"):
        buckets.teach_orbax_s3()
    return folder if is_remote(folder) else folder.resolve()  # Its storage takes no "..", either.


def read_through(folder: os.PathLike) -> None:
    """Fails if a file of a stored tree is missing or cut short; Orbax would leave tracebacks of its threads behind."""
    store = ts.KvStore.open({"driver": "ocdbt", "base": buckets.key_value_store(folder)}).result()
    for key in store.list().result():
        store.read(key).result()


def first_line(error: Exception) -> str:
    """What an error says first."""
    return next(iter(str(error).splitlines()), type(error).__name__)[:120]


def system_error(error: Exception) -> int | None:
    """The system's number (errno) of an error of Python, Orbax or TensorStore; None if it has none."""
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, OSError):
        return error.errno
    # TensorStore raises ValueError, with the system's reason in its text alone.
    found = re.search(r"os_error_code='(\d+)'", str(error))
    return int(found[1]) if found else None


def is_refused(error: Exception) -> bool:
    """Whether the system refused to read, so that what is stored may be whole; False if files are missing or damaged.

    That is too many open files, no memory, no rights, a disk that fails.
    """
    return system_error(error) not in (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL)


def room_for(folder: os.PathLike, tree: Any) -> tuple[float, float]:
    """The bytes that a checkpoint of `tree` needs, and those that are free where `folder` is.

    Orbax writes in the background, where a full disk ends in a storm of messages: look before.
    """
    # A tenth more is for the files' own needs.
    needed = 1.1 * sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) + 1e6
    return needed, math.inf if is_remote(folder) else shutil.disk_usage(folder).free
