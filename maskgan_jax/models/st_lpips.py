"""Shift-Tolerant LPIPS (Ghildyal & Liu, ECCV 2022): LPIPS whose networks are blurred wherever they lose resolution.

It is not LPIPS: its values are not comparable with the paper's Table 2.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from maskgan_jax.models.lpips import (
    Convolution,
    PerceptualWeights,
    apply_convolution,
    convolutions_of,
    feature_distance,
    heads_of,
    standardize,
)
from maskgan_jax.weights.fetch import weight_file
from maskgan_jax.weights.state_dict import read_state_dict

# VGG-16: convolutions in each block; features are taken after the last one of a block.
VGG_BLOCKS = (2, 2, 3, 3, 3)


def load_st_lpips(network: str = "alex") -> PerceptualWeights:
    """The published weights for `network`, 'alex' or 'vgg'.

    Raises:
      UserError: they have not been fetched yet.
    """
    state = read_state_dict(weight_file(f"st_lpips_{network}.safetensors"))
    return PerceptualWeights(convolutions_of(state, "net."), heads_of(state))


@functools.partial(jax.jit, static_argnames="network")
def st_lpips(weights: PerceptualWeights, images: jax.Array, others: jax.Array, network: str = "alex") -> jax.Array:
    """The ST-LPIPS distance between images and others.

    Args:
      weights: from `load_st_lpips(network)`.
      images: `[B, H, W, 3]` in -1..1, at least 32 px a side.
      others: the same.
      network: 'alex' or 'vgg'.

    Returns:
      `[B]`; 0 for equal images.
    """
    taps = {"alex": alex_taps, "vgg": vgg_taps}[network]
    return feature_distance(taps(weights.convolutions, images), taps(weights.convolutions, others), weights.heads)


def alex_taps(convolutions: Sequence[Convolution], images: jax.Array) -> list[jax.Array]:
    """The five layers of features of the shift-tolerant AlexNet for images `[B, H, W, 3]` in -1..1."""
    first, second, third, fourth, fifth = convolutions
    # Here the blur comes before the ReLU, and stands in for the first convolution's stride.
    taps = [nn.relu(_blur(apply_convolution(standardize(images), first, padding=2)))]
    taps.append(nn.relu(apply_convolution(_blur(_max_pool(taps[-1], 3)), second, padding=2)))
    taps.append(nn.relu(apply_convolution(_blur(_max_pool(taps[-1], 3)), third, padding=1)))
    taps.append(nn.relu(apply_convolution(taps[-1], fourth, padding=1)))
    taps.append(nn.relu(apply_convolution(taps[-1], fifth, padding=1)))
    return taps


def vgg_taps(convolutions: Sequence[Convolution], images: jax.Array) -> list[jax.Array]:
    """Features relu1_2, 2_2, 3_3, 4_3 and 5_3 of the shift-tolerant VGG-16 for images `[B, H, W, 3]` in -1..1."""
    remaining = iter(convolutions)
    x = standardize(images)
    taps = []
    for count in VGG_BLOCKS:
        if taps:
            x = _blur(_max_pool(x, 2))
        for _ in range(count):
            x = nn.relu(apply_convolution(x, next(remaining), padding=1))
        taps.append(x)
    return taps


def _max_pool(x: jax.Array, side: int) -> jax.Array:
    """The greatest of each `side` x `side` pixels, without stride."""
    # One axis after the other, in slices: several times faster on a CPU than a pooling window.
    for axis in (1, 2):
        length = x.shape[axis] - side + 1
        x = functools.reduce(jnp.maximum, [jax.lax.slice_in_dim(x, k, k + length, axis=axis) for k in range(side)])
    return x


def _blur(x: jax.Array) -> jax.Array:
    """Reflects two pixels at every edge, blurs with [1, 2, 1] / 4 along both sides and keeps every other pixel."""
    x = jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    for axis in (1, 2):
        # Strided slices: a depthwise convolution does the same, many times slower on a CPU.
        length = (x.shape[axis] - 1) // 2
        left, middle, right = (jax.lax.slice_in_dim(x, k, k + 2 * length - 1, 2, axis) for k in range(3))
        x = (left + 2 * middle + right) / 4
    return x
