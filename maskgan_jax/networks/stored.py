"""Trained networks on disk: the folder of a run, or one exported file."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from maskgan_jax.config import read_config
from maskgan_jax.errors import UserError
from maskgan_jax.models.landmark_net import create_landmark_net
from maskgan_jax.models.segmentation_net import create_segmentation_net
from maskgan_jax.models.unet import create_generator
from maskgan_jax.networks.safetensors import load_safetensors, read_header
from maskgan_jax.training.checkpoints import read_best, read_last
from maskgan_jax.training.state import Variables

CREATE = {"unmask": create_generator, "landmarks": create_landmark_net, "segmentation": create_segmentation_net}


# The names that their results' networks have in a run's checkpoints.
TRAINED_AS = {"unmask": "generator", "landmarks": "landmark_net", "segmentation": "segmentation_net"}


class StoredNetwork(NamedTuple):
    """A trained network: the config it was trained with, the module, and its variables (NumPy)."""

    config: ConfigDict
    module: nn.Module
    variables: Variables


def stored_config(path: str | Path) -> ConfigDict:
    """The config of the network in a workdir of a training run, or in a .safetensors file of `maskgan export`.

    Raises:
      UserError: there is no network, or one that was exported for other programs.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(
            f"there is no network at {path}; give the workdir of a `maskgan train` run or an exported .safetensors file"
        )
    if (path / "variables").is_dir():  # Orbax's and TensorFlow's have it, and no run.
        raise UserError(
            f"{path} is an export for other programs; give the workdir of a `maskgan train` run, or a file made by "
            "`maskgan export --format=safetensors`"
        )
    return read_config(path / "config.json") if path.is_dir() else read_header(path)


def load_network(path: str | Path, task: str, step: str = "best") -> StoredNetwork:
    """Loads a trained network.

    Args:
      path: as for `stored_config`.
      task: 'unmask', 'landmarks' or 'segmentation': which network is expected there.
      step: of a run, 'best' or 'last': the best checkpoint by validation, or the latest one.

    Raises:
      UserError: there is no network, it is another one, or what is stored does not fit its config.
    """
    path = Path(path)
    config = stored_config(path)
    if config.task != task:
        raise UserError(f"{path} holds a network trained for '{config.task}', but one for '{task}' is needed")
    module = CREATE[task](config)
    if not path.is_dir():
        variables = load_safetensors(path)
    else:
        variables = read_best(path) if step == "best" else read_last(path, TRAINED_AS[task])
    picture = jnp.zeros((1, config.data.size, config.data.size, 3))
    inputs = (picture, picture[..., :1]) if task == "unmask" else (picture,)
    expected = {"batch_stats": {}, **jax.eval_shape(module.init, jax.random.key(0), *inputs)}
    if jax.tree.map(jnp.shape, expected) != jax.tree.map(jnp.shape, variables):
        raise UserError(f"the network in {path} does not have the shapes that its config says; export or train it anew")
    return StoredNetwork(config, module, variables)
