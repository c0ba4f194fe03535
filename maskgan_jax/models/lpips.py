"""LPIPS (Zhang et al., CVPR 2018), version 0.1 with AlexNet: the distance of the paper's Table 2.

Its weights are not to be had from a package; the user gives torchvision's AlexNet and the heads that LPIPS trained.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from maskgan_jax.errors import UserError
from maskgan_jax.weights.state_dict import read_state_dict


class Convolution(NamedTuple):
    """A trained convolution: kernel `[height, width, in, out]` and bias `[out]`."""

    kernel: jax.Array
    bias: jax.Array


class PerceptualWeights(NamedTuple):
    """A trunk's convolutions in order, and for each of its five taps the weights of the channels, `[C]`."""

    convolutions: list[Convolution]
    heads: list[jax.Array]


def load_lpips(alexnet: str | os.PathLike, heads: str | os.PathLike) -> PerceptualWeights:
    """Reads the weights of LPIPS.

    Args:
      alexnet: torchvision's AlexNet (`alexnet-owt-7be5be79.pth`), or the same as safetensors.
      heads: the heads of version 0.1 (`lpips/weights/v0.1/alex.pth` in the PyPI package lpips), or as safetensors.

    Raises:
      UserError: a file is missing, unreadable or not what it should be.
    """
    state = read_state_dict(alexnet)
    try:
        convolutions = convolutions_of(state, "features.")
    except (KeyError, ValueError):  # Other networks have norms there, or no biases.
        convolutions = []
    if [(*c.kernel.shape, *c.bias.shape) for c in convolutions] != [
        (11, 11, 3, 64, 64),
        (5, 5, 64, 192, 192),
        (3, 3, 192, 384, 384),
        (3, 3, 384, 256, 256),
        (3, 3, 256, 256, 256),
    ]:
        raise UserError(f"{alexnet} is not torchvision's AlexNet; give alexnet-owt-7be5be79.pth")
    weights = PerceptualWeights(convolutions, heads_of(read_state_dict(heads)))
    if [head.shape for head in weights.heads] != [(64,), (192,), (384,), (256,), (256,)]:
        raise UserError(f"{heads} is not the heads of LPIPS for AlexNet; give v0.1/alex.pth")
    return weights


@jax.jit
def lpips(weights: PerceptualWeights, images: jax.Array, others: jax.Array) -> jax.Array:
    """The LPIPS distance between images and others, `[B, H, W, 3]` in -1..1 and at least 32 px a side; returns `[B]`."""
    return feature_distance(_taps(weights.convolutions, images), _taps(weights.convolutions, others), weights.heads)


def _taps(convolutions: Sequence[Convolution], images: jax.Array) -> list[jax.Array]:
    """AlexNet's five layers of features, each after its ReLU."""
    first, second, *rest = convolutions
    taps = [nn.relu(apply_convolution(standardize(images), first, padding=2, stride=4))]
    taps.append(nn.relu(apply_convolution(nn.max_pool(taps[-1], (3, 3), (2, 2)), second, padding=2)))
    x = nn.max_pool(taps[-1], (3, 3), (2, 2))
    for convolution in rest:
        x = nn.relu(apply_convolution(x, convolution, padding=1))
        taps.append(x)
    return taps


def standardize(images: jax.Array) -> jax.Array:
    """From -1..1 to ImageNet's mean and deviation, with the constants of LPIPS' scaling layer."""
    mean, deviation = (jnp.array(v, images.dtype) for v in ([-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]))
    return (images - mean) / deviation


def apply_convolution(x: jax.Array, convolution: Convolution, *, padding: int, stride: int = 1) -> jax.Array:
    """Convolves `[B, H, W, in]`, zero-padded on every side."""
    x = jax.lax.conv_general_dilated(
        x, convolution.kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return x + convolution.bias


def feature_distance(features: Sequence[jax.Array], others: Sequence[jax.Array], heads: Sequence[jax.Array]) -> jax.Array:
    """Zhang et al., Eq. 1: channels normalized to unit length, squared difference, weighted, mean over space, summed; `[B]`."""
    distances = []
    for x, y, head in zip(features, others, heads, strict=True):
        x, y = (z.astype(jnp.float32) for z in (x, y))
        x, y = (z / (jnp.linalg.norm(z, axis=-1, keepdims=True) + 1e-10) for z in (x, y))
        distances.append(jnp.mean(jnp.square(x - y) @ head.astype(jnp.float32), axis=(1, 2)))
    return sum(distances)


def convolutions_of(state: Mapping[str, np.ndarray], prefix: str) -> list[Convolution]:
    """The convolutions in a PyTorch state dict whose names start with `prefix`, in the order of their layer numbers."""
    pattern = re.compile(re.escape(prefix) + r"(?:.*\.)?(\d+)\.weight")
    layers = {int(match[1]): name for name in state if (match := pattern.fullmatch(name))}
    names = [layers[number] for number in sorted(layers)]
    return [
        Convolution(jnp.asarray(state[name].transpose(2, 3, 1, 0)), jnp.asarray(state[name.replace(".weight", ".bias")]))
        for name in names
    ]


def heads_of(state: Mapping[str, np.ndarray]) -> list[jax.Array]:
    """LPIPS' weights of the channels, one array for each tap."""
    return [jnp.asarray(state[name].ravel()) for name in sorted(state) if re.fullmatch(r"lin\d\.model\.1\.weight", name)]
