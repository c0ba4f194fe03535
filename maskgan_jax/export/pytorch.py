"""A trained network as a PyTorch state dict, in a .safetensors file."""

from __future__ import annotations

import json
from pathlib import Path

import safetensors.numpy

from maskgan_jax.files import replacing
from maskgan_jax.networks.stored import StoredNetwork
from maskgan_jax.pytorch.convert import (
    StateDict,
    generator_to_pytorch,
    landmark_net_to_pytorch,
    residual_to_pytorch,
    segmentation_net_to_pytorch,
)


def save_pytorch(path: str | Path, network: StoredNetwork) -> None:
    """Writes the state dict of the network's twin in `maskgan_jax/pytorch/networks.py`, with the config in the header.

    A U-Net's is one of pix2pix's `UnetGenerator` (with affine norms, and four input channels if it inpaints).

    Raises:
      UserError: the file cannot be written.
    """
    state = _state_dict(network)
    header = {"format": "pt", "config": json.dumps(network.config.to_dict(), sort_keys=True)}
    with replacing(path) as temporary:
        temporary.write_bytes(safetensors.numpy.save(state, metadata=header))


def _state_dict(network: StoredNetwork) -> StateDict:
    config, variables = network.config, network.variables
    if config.task == "landmarks":
        return landmark_net_to_pytorch(variables)
    if config.task == "segmentation":
        return segmentation_net_to_pytorch(variables)
    if config.generator.architecture == "residual":
        return residual_to_pytorch(variables, config.data.size)
    return generator_to_pytorch(variables)
