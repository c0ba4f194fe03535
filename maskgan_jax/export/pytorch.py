"""A trained network as a PyTorch state dict, in a .safetensors file."""

from __future__ import annotations

import json
from pathlib import Path

import safetensors.numpy

from maskgan_jax.errors import UserError
from maskgan_jax.files import replacing
from maskgan_jax.models.landmark_net import LandmarkNet
from maskgan_jax.models.residual_unet import ResidualUNet
from maskgan_jax.models.segmentation_net import SegmentationNet
from maskgan_jax.models.unet import UNet
from maskgan_jax.networks.stored import StoredNetwork
from maskgan_jax.pytorch.convert import generator_to_pytorch, twin_to_pytorch

# From the variables and the size of a network to the state dict of its module's twin.
CONVERT = {
    UNet: lambda variables, size: generator_to_pytorch(variables),
    ResidualUNet: twin_to_pytorch,
    LandmarkNet: twin_to_pytorch,
    SegmentationNet: twin_to_pytorch,
}


def save_pytorch(path: str | Path, network: StoredNetwork) -> None:
    """Writes the state dict of the network's twin in `maskgan_jax/pytorch/networks.py`, with the config in the header.

    A U-Net's is one of pix2pix's `UnetGenerator` (with affine norms, and four input channels if it inpaints).

    Raises:
      UserError: the network has no twin, or the file cannot be written.
    """
    if type(network.module) not in CONVERT:
        raise UserError(f"a {type(network.module).__name__} has no twin in PyTorch; --format=onnx or stablehlo may do")
    state = CONVERT[type(network.module)](network.variables, network.description.size)
    header = {"format": "pt", "config": json.dumps(network.config, sort_keys=True)}
    with replacing(path) as temporary:
        temporary.write_bytes(safetensors.numpy.save(state, metadata=header))
