"""Trained networks on disk: the folder of a run, or one exported file."""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from maskgan_jax.config import read_config
from maskgan_jax.errors import UserError
from maskgan_jax.export.safetensors import load_safetensors
from maskgan_jax.training.checkpoints import read_best
from maskgan_jax.training.state import Variables


def load_network(path: str | Path, task: str) -> tuple[ConfigDict, Variables]:
    """The config and the variables (NumPy) of a trained network.

    Args:
      path: the workdir of a training run (its best checkpoint is taken) or a .safetensors file of `maskgan export`.
      task: 'unmask' or 'landmarks': which network is expected there.

    Raises:
      UserError: there is no network, or it is the other one.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"there is no network at {path}; give the workdir of a `maskgan train` run or an exported .safetensors file")
    if path.is_dir():
        config = read_config(path / "config.json")
        _, variables = read_best(path)
    else:
        config, variables = load_safetensors(path)
    if config.task != task:
        raise UserError(f"{path} holds a network trained for '{config.task}', but one for '{task}' is needed")
    return config, variables
