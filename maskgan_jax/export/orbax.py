"""A trained network as an Orbax checkpoint: its variables and nothing of the training."""

from __future__ import annotations

from pathlib import Path

from maskgan_jax.config import save_config
from maskgan_jax.files import replacing_folder
from maskgan_jax.networks.stored import StoredNetwork
from maskgan_jax.training.checkpoints import export_variables


def save_orbax(path: str | Path, network: StoredNetwork) -> None:
    """Writes `variables/`, a tree with `params` and `batch_stats` that any Orbax reads, and `config.json`.

    Args:
      path: the folder, which must not be there yet.
      network: what to export.

    Raises:
      UserError: the folder is there already or cannot be written.
    """
    with replacing_folder(path) as temporary:
        export_variables(temporary / "variables", network.variables)
        save_config(temporary / "config.json", network.config)
