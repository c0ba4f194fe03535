"""A trained network as a PyTorch state dict, in a .safetensors file."""

from __future__ import annotations

import json
from pathlib import Path

import safetensors.numpy

from maskgan_jax.files import replacing
from maskgan_jax.models.stored import StoredNetwork
from maskgan_jax.pytorch.convert import generator_to_pytorch, landmark_net_to_pytorch, segmentation_net_to_pytorch

TO_PYTORCH = {
    "unmask": generator_to_pytorch,
    "landmarks": landmark_net_to_pytorch,
    "segmentation": segmentation_net_to_pytorch,
}


def save_pytorch(path: str | Path, network: StoredNetwork) -> None:
    """Writes the state dict of the network's twin in `tools/pytorch/networks.py`, with the config in the header.

    A generator's is one of pix2pix's `UnetGenerator` (with affine norms, and four input channels if it inpaints).

    Raises:
      UserError: the file cannot be written.
    """
    state = TO_PYTORCH[network.config.task](network.variables)
    header = {"format": "pt", "config": json.dumps(network.config.to_dict(), sort_keys=True)}
    with replacing(path) as temporary:
        temporary.write_bytes(safetensors.numpy.save(state, metadata=header))
