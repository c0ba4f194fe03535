"""Trained networks on disk: the folder of a run, or one exported file."""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from maskgan_jax.config import read_config
from maskgan_jax.errors import UserError
from maskgan_jax.export.safetensors import load_safetensors, read_header
from maskgan_jax.training.checkpoints import read_best
from maskgan_jax.training.state import Variables


def stored_config(path: str | Path) -> ConfigDict:
    """The config of the network in a workdir of a training run, or in a .safetensors file of `maskgan export`.

    Raises:
      UserError: there is no network.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(
            f"there is no network at {path}; give the workdir of a `maskgan train` run or an exported .safetensors file"
        )
    return read_config(path / "config.json") if path.is_dir() else read_header(path)


def load_network(path: str | Path, task: str) -> tuple[ConfigDict, Variables]:
    """The config and the variables (NumPy) of a trained network; of a run, its best checkpoint is taken.

    Args:
      path: as for `stored_config`.
      task: 'unmask' or 'landmarks': which network is expected there.

    Raises:
      UserError: there is no network, or it is the other one.
    """
    path = Path(path)
    config = stored_config(path)
    if config.task != task:
        raise UserError(f"{path} holds a network trained for '{config.task}', but one for '{task}' is needed")
    return config, read_best(path) if path.is_dir() else load_safetensors(path)
