"""A trained network as an Orbax checkpoint: its variables and nothing of the training."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from maskgan_jax.files import replacing_folder, write_json
from maskgan_jax.networks.description import Variables
from maskgan_jax.networks.run_checkpoints import room_for, system_error
from maskgan_jax.networks.stored import StoredNetwork


def save_orbax(path: str | Path, network: StoredNetwork) -> None:
    """Writes `variables/`, a tree with `params` and `batch_stats` that any Orbax reads, and `config.json`.

    Args:
      path: the folder, which must not be there yet.
      network: what to export.

    Raises:
      UserError: the folder is there already or cannot be written.
    """
    with replacing_folder(path) as temporary:
        _save_tree(temporary / "variables", network.variables)
        write_json(temporary / "config.json", network.config)


def _save_tree(folder: Path, variables: Variables) -> None:
    """Writes a tree of arrays. Raises OSError if the disk is full, or refuses in another way."""
    needed, free = room_for(folder.parent, variables)
    if free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder.absolute(), jax.tree.map(np.asarray, variables))
    except ValueError as error:
        if code := system_error(error):  # The disk of a quota, or one that others fill.
            raise OSError(code, os.strerror(code)) from error
        raise
