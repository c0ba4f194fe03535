"""The 4x4, stride 2 convolutions of pix2pix, down and up, in the formulation that is fastest where they run.

XLA's native convolutions are right on GPUs and TPUs. On CPUs two things are slow: the gradient of a transposed convolution
with respect to its kernel (a few GFLOP/s; written by hand below, as the same gradient of a strided convolution) and feature
maps of a few pixels (there the same sums are done as one matrix product). The choice is made here and nowhere else; tests
hold all formulations equal in value and gradient.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

DIMENSIONS = ("NHWC", "HWIO", "NHWC")

# pix2pix: weights from N(0, 0.02).
initial_kernel = nn.initializers.normal(0.02)

# Sides, in pixels of the smaller feature map, up to which a CPU is faster with a matrix product.
MATMUL_SIDE = 2


def convolve(x: jax.Array, kernel: jax.Array, stride: int = 2) -> jax.Array:
    """Convolution, padding 1: `[B, H, W, C]` and `[4, 4, C, D]` to `[B, H/2, W/2, D]`; at stride 1 `[B, H-1, W-1, D]`."""
    if stride == 2 and _small_on_cpu(x.shape[1] // 2):
        return convolve_as_matmul(x, kernel)
    return convolve_natively(x, kernel, stride)


def transpose_convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Transposed convolution, stride 2, padding 1: `[B, H, W, C]` and `[4, 4, C, D]` to `[B, 2H, 2W, D]`.

    Pixel `i` of `x` adds `x[i] * kernel[a]` to output pixel `2 i + a - 1`, in both directions, as in PyTorch.
    """
    if _small_on_cpu(x.shape[1]):
        return transpose_convolve_as_matmul(x, kernel)
    return transpose_convolve_natively(x, kernel)


def _small_on_cpu(side: int) -> bool:
    return side <= MATMUL_SIDE and jax.default_backend() == "cpu"


def convolve_natively(x: jax.Array, kernel: jax.Array, stride: int = 2) -> jax.Array:
    """`convolve` by XLA's convolution."""
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=DIMENSIONS)


def convolve_as_matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`convolve` with stride 2 as one matrix product over patches; for even sides."""
    batch, height, width, channels = x.shape
    if height == width == 2:  # All but the middle of the kernel meets padding.
        return (x.reshape(batch, -1) @ kernel[1:3, 1:3].reshape(4 * channels, -1)).reshape(batch, 1, 1, -1)
    height, width = height // 2, width // 2
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))).reshape(batch, height + 1, 2, width + 1, 2, channels)
    # Kernel row 2 i + a meets the row of parity `a` in the i-th next pair of rows; the same for columns.
    views = [x[:, i : i + height, a, j : j + width, b] for i in (0, 1) for a in (0, 1) for j in (0, 1) for b in (0, 1)]
    return jnp.concatenate(views, axis=-1) @ kernel.reshape(16 * channels, -1)


@jax.custom_vjp
def transpose_convolve_natively(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`transpose_convolve` by XLA's convolution over the input spread out with zeros, with its gradient by hand."""
    return jax.lax.conv_general_dilated(
        x, kernel[::-1, ::-1], (1, 1), ((2, 2), (2, 2)), lhs_dilation=(2, 2), dimension_numbers=DIMENSIONS
    )


def _transpose_convolve_forward(x, kernel):
    return transpose_convolve_natively(x, kernel), (x, kernel)


def _transpose_convolve_backward(saved, cotangent):
    # This layer is the transpose, in x, of the strided convolution with the kernel's channels swapped. So its gradient in x is
    # that convolution of the cotangent, and its gradient in the kernel is that convolution's, input and cotangent exchanged.
    x, kernel = saved
    swapped = kernel.swapaxes(2, 3)
    _, kernel_gradient = jax.vjp(lambda k: convolve_natively(cotangent, k), swapped)
    return convolve(cotangent, swapped), kernel_gradient(x)[0].swapaxes(2, 3)


transpose_convolve_natively.defvjp(_transpose_convolve_forward, _transpose_convolve_backward)


def transpose_convolve_as_matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`transpose_convolve` as one matrix product: two rows and two columns of the input reach each pixel of a 2x2 cell."""
    batch, height, width, channels = x.shape
    features = kernel.shape[-1]
    # Output pixel 2 q + r - 1 gets x[q] * kernel[r] + x[q - 1] * kernel[r + 2]: a 2x2 convolution to four times the features.
    cells = kernel.reshape(2, 2, 2, 2, channels, features)[::-1, :, ::-1].transpose(0, 2, 4, 1, 3, 5)
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    views = [x[:, i : i + height + 1, j : j + width + 1] for i in (0, 1) for j in (0, 1)]
    y = jnp.concatenate(views, axis=-1) @ cells.reshape(4 * channels, 4 * features)
    y = y.reshape(batch, height + 1, width + 1, 2, 2, features).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(batch, 2 * height + 2, 2 * width + 2, features)[:, 1:-1, 1:-1]


class Conv(nn.Module):
    """4x4 convolution, padding 1, to `features` channels; `transpose=True` doubles the sides instead of halving them.

    Parameters are float32; arithmetic is in `dtype`.
    """

    features: int
    stride: int = 2
    transpose: bool = False
    bias: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]` to `[B, H/stride, W/stride, features]` or, transposed, `[B, 2H, 2W, features]`."""
        kernel = self.param("kernel", initial_kernel, (4, 4, x.shape[-1], self.features))
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        x = transpose_convolve(x, kernel) if self.transpose else convolve(x, kernel, self.stride)
        if self.bias:
            x = x + self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        return x
