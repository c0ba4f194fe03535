"""Convolutions of stride 1 that keep the side: 3x3, also dilated, and 1x1.

XLA's own are the fastest on GPUs and TPUs. On CPUs, a matrix product takes half the time of a 1x1 one and, in inference,
Winograd's algorithm half that of a 3x3 one with many channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from maskgan_jax.models import winograd
from maskgan_jax.models.convolutions import DIMENSIONS, target_backend

# Channels from which Winograd's algorithm pays; with fewer, moving the pixels about costs more than the arithmetic.
WINOGRAD_CHANNELS = 64


class SameConv(nn.Module):
    """3x3 convolution that keeps the side; the parameters are those of `flax.linen.Conv`.

    Parameters are float32; arithmetic is in `dtype`. As in `convolutions.Conv`, the collection `prepared` holds what inference
    makes of the kernel alone.
    """

    features: int
    dilation: int = 1
    bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]` to `[B, H, W, features]`."""
        kernel = self.param("kernel", self.kernel_init, (3, 3, x.shape[-1], self.features))
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        prepares = self.is_mutable_collection("prepared") and not self.is_initializing()
        if self.dilation >= max(x.shape[1:3]):
            # All taps but the middle one meet padding only.
            x = x @ kernel[1, 1]
        elif self._can_transform(x) and (prepares or self.has_variable("prepared", "kernel")):
            outputs = winograd.tile_side(*(side // self.dilation for side in x.shape[1:3]), 3)
            prepared = self.variable("prepared", "kernel", transformed, kernel, outputs)
            x = convolve_transformed(x, prepared.value, outputs, self.dilation)
        else:
            padding = ((self.dilation, self.dilation),) * 2
            x = jax.lax.conv_general_dilated(
                x, kernel, (1, 1), padding, rhs_dilation=(self.dilation, self.dilation), dimension_numbers=DIMENSIONS
            )
        if self.bias:
            x = x + self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        return x

    def _can_transform(self, x: jax.Array) -> bool:
        """Whether the convolution of x is faster by Winograd's algorithm, where networks run now."""
        _, height, width, channels = x.shape
        has_whole_maps = height % self.dilation == width % self.dilation == 0
        pays = min(channels, self.features) >= WINOGRAD_CHANNELS and x.dtype == jnp.float32
        return target_backend() == "cpu" and pays and has_whole_maps


class Join(nn.Module):
    """1x1 convolution of two maps as if their channels were in one; the parameters are those of `flax.linen.Conv`."""

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, skip: jax.Array) -> jax.Array:
        """`[B, H, W, C]` and `[B, H, W, D]` to `[B, H, W, features]`."""
        channels = x.shape[-1]
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (1, 1, channels + skip.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x, skip, kernel, bias = (array.astype(self.dtype) for array in (x, skip, kernel, bias))
        if target_backend() == "cpu":
            return x @ kernel[0, 0, :channels] + skip @ kernel[0, 0, channels:] + bias
        x = jnp.concatenate([x, skip], axis=-1)
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=DIMENSIONS) + bias


def transformed(kernel: jax.Array, outputs: int) -> jax.Array:
    """A kernel `[3, 3, C, D]` as Winograd's algorithm has it for tiles of `outputs` by `outputs` pixels: `[n^2, C, D]`."""
    _, matrix, _ = winograd.matrices(outputs, 3)
    points = jnp.einsum("na,mb,abcd->mncd", *2 * [matrix.astype(np.float32)], kernel)
    return points.reshape(-1, *kernel.shape[2:])


def convolve_transformed(x: jax.Array, kernel: jax.Array, outputs: int, dilation: int = 1) -> jax.Array:
    """The 3x3 convolution of x `[B, H, W, C]` with what `transformed` gives.

    A dilated one is an ordinary one on each of the maps that every other row and column make. Here, a few operations transform
    all points at once: a layer compiles five times as fast as with the transforms of `winograd`, an operation for each point,
    which in turn make the steps of training faster.
    """
    batch, height, width, channels = x.shape
    maps = (batch, height // dilation, dilation, width // dilation, dilation)
    x = x.reshape(*maps, channels).transpose(0, 2, 4, 1, 3, 5).reshape(-1, maps[1], maps[3], channels)
    x = _convolve(x, kernel, outputs)
    x = x.reshape(batch, dilation, dilation, maps[1], maps[3], -1).transpose(0, 3, 1, 4, 2, 5)
    return x.reshape(batch, height, width, -1)


def _convolve(x: jax.Array, kernel: jax.Array, outputs: int) -> jax.Array:
    batch, height, width, channels = x.shape
    pixels, _, products = winograd.matrices(outputs, 3)
    n, features = len(pixels), kernel.shape[-1]
    down, across = -(-height // outputs), -(-width // outputs)
    x = jnp.pad(x, ((0, 0), (1, 1 + down * outputs - height), (1, 1 + across * outputs - width), (0, 0)))
    last = (down - 1) * outputs + 1, (across - 1) * outputs + 1
    rows = _combined(pixels, [x[:, i : i + last[0] : outputs] for i in range(n)])
    tiles = _combined(pixels, [rows[:, :, :, j : j + last[1] : outputs] for j in range(n)])
    y = tiles.reshape(n * n, -1, channels) @ kernel
    y = _combined(products, list(y.reshape(n, n, -1, features)))
    y = _combined(products, [y[:, i] for i in range(n)])
    y = y.reshape(outputs, outputs, batch, down, across, features).transpose(2, 3, 0, 4, 1, 5)
    return y.reshape(batch, down * outputs, across * outputs, features)[:, :height, :width]


def _combined(matrix: np.ndarray, arrays: Sequence[jax.Array]) -> jax.Array:
    """`matrix` times a column of arrays, `[rows, *shape]`: sums, no matrix product."""
    columns = [column.reshape(-1, *(1,) * arrays[0].ndim).astype(np.float32) for column in matrix.T]
    # Without the barrier, XLA computes what one direction gives anew for each use in the other.
    return jax.lax.optimization_barrier(sum(column * array for column, array in zip(columns, arrays, strict=True)))
