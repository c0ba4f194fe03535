"""The 4x4 convolutions of pix2pix, down, up and at stride 1, in the formulation that is fastest where they run.

XLA's own convolutions are right on GPUs and TPUs. On CPUs matrix products are faster nearly everywhere: over the 16 taps of the
kernel where feature maps have few pixels (XLA would spend the time on moving the kernel about), by Winograd's algorithm, with
about half of the arithmetic, where they have many. On a GPU, the way up can also be one convolution without stride or dilation
('phases'). The choice is made in `formulation` and nowhere else; tests hold all formulations equal in value and gradient.

A convolution of stride 2 and its transpose, a transposed convolution, consist of the same three linear functions, which are
all that is written here: from the large map to the small one (`downsample`), back (`upsample`), and from both to the kernel
(`kernel_gradient`). Each takes kernels as either layer stores them: `[4, 4, L, S]`, the channels of the large map first, or,
`swapped`, `[4, 4, S, L]`.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import math
from collections.abc import Iterator, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike

from maskgan_jax.models import winograd

DIMENSIONS = ("NHWC", "HWIO", "NHWC")

# pix2pix: weights from N(0, 0.02).
initial_kernel = nn.initializers.normal(0.02)


_other_backend: contextvars.ContextVar[str | None] = contextvars.ContextVar("other_backend", default=None)


def target_backend() -> str:
    """The backend that networks traced now will run on: JAX's own, or the one that `compiling_for` names."""
    return _other_backend.get() or jax.default_backend()


@contextlib.contextmanager
def compiling_for(backend: str) -> Iterator[None]:
    """Has the networks that are traced in the block take the formulations for `backend`: 'cpu', 'gpu' or 'tpu'."""
    token = _other_backend.set(backend)
    try:
        yield
    finally:
        _other_backend.reset(token)


# `upsample` on a GPU: 'native' or 'phases'. Only tools that measure both change it.
GPU_UPSAMPLING = "native"

# Pixels (of all images) of the smaller map up to which a CPU is fastest with one matrix product for each tap.
TAPS_PIXELS = 512
# Up to which the taps' products are made at once where the kernel is stored tap by tap: nothing is copied, but they are slower.
BATCHED_PIXELS = 64
# Up to so much work (pixels times both channels), Winograd's algorithm does not pay for inference, being many small operations;
# but from so many pixels on it does.
WINOGRAD_WORK = 2**23
WINOGRAD_PIXELS = 1024
# Channels from which Winograd's algorithm pays; with fewer, moving the pixels about costs more than the arithmetic.
WINOGRAD_CHANNELS = 32


def formulation(
    pixels: int, large: int, small: int, swapped: bool, dtype: DTypeLike, prepared: bool = False, up: bool = False
) -> str:
    """'native', 'taps', 'winograd' or, on the way up, 'phases': what is fastest for a layer of stride 2.

    Args:
      pixels: of the smaller map, over all images.
      large: channels of the larger map.
      small: channels of the smaller map.
      swapped: how the kernel is stored.
      dtype: of the arithmetic. bfloat16 is too coarse for Winograd's sums.
      prepared: for `convolve_prepared`, to which moving the kernel about costs nothing.
      up: for `upsample`.
    """
    if (backend := target_backend()) != "cpu":
        return GPU_UPSAMPLING if up and backend == "gpu" else "native"
    if pixels <= TAPS_PIXELS or (large < 8 and (prepared or not swapped)):
        return "taps"
    can_transform = min(large, small) >= WINOGRAD_CHANNELS and dtype == jnp.float32
    if prepared and pixels * large * small <= WINOGRAD_WORK and (pixels < WINOGRAD_PIXELS or not can_transform):
        return "taps"
    return "winograd" if can_transform else "native"


def dense_formulation(kernel: jax.Array | jax.ShapeDtypeStruct, dtype: DTypeLike) -> str:
    """The same for a layer of stride 1 with this kernel, `[4, 4, C, D]`."""
    *_, channels, features = kernel.shape
    if target_backend() != "cpu":
        return "native"
    if features == 1:
        return "taps"
    return "winograd" if min(channels, features) >= WINOGRAD_CHANNELS and dtype == jnp.float32 else "native"


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(x: jax.Array, kernel: jax.Array, stride: int = 2) -> jax.Array:
    """Convolution, padding 1: `[B, H, W, C]` and `[4, 4, C, D]` to `[B, H/2, W/2, D]`; at stride 1 `[B, H-1, W-1, D]`."""
    return downsample(x, kernel) if stride == 2 else convolve_densely(x, kernel)


def _convolve_forward(x, kernel, stride):
    return convolve(x, kernel, stride), (x, kernel)


def _convolve_backward(stride, saved, cotangent):
    x, kernel = saved
    if stride == 2:
        return upsample(cotangent, kernel), kernel_gradient(x, cotangent)
    return dense_input_gradient(cotangent, kernel), dense_kernel_gradient(x, cotangent)


convolve.defvjp(_convolve_forward, _convolve_backward)


@jax.custom_vjp
def transpose_convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Transposed convolution, stride 2, padding 1: `[B, H, W, C]` and `[4, 4, C, D]` to `[B, 2H, 2W, D]`.

    Pixel `i` of `x` adds `x[i] * kernel[a]` to output pixel `2 i + a - 1`, in both directions, as in PyTorch.
    """
    return upsample(x, kernel, swapped=True)


def _transpose_convolve_forward(x, kernel):
    return transpose_convolve(x, kernel), (x, kernel)


def _transpose_convolve_backward(saved, cotangent):
    x, kernel = saved
    return downsample(cotangent, kernel, swapped=True), kernel_gradient(cotangent, x, swapped=True)


transpose_convolve.defvjp(_transpose_convolve_forward, _transpose_convolve_backward)


def downsample(x: jax.Array, kernel: jax.Array, swapped: bool = False, way: str | None = None) -> jax.Array:
    """From the large map `[B, 2h, 2w, L]` to the small one `[B, h, w, S]`."""
    batch, height, width, _ = x.shape
    height, width = height // 2, width // 2
    way = way or formulation(batch * height * width, *_channels(kernel, swapped), swapped, x.dtype)
    if way == "taps":
        # As the kernel lies in memory, nothing of it is moved.
        kernel = _taps_that_count(kernel, height)
        if not swapped:
            return (_patches(x) @ kernel.reshape(-1, kernel.shape[-1])).reshape(batch, height, width, -1)
        taps = _tap_views(x)
        if len(taps[0]) <= BATCHED_PIXELS:
            # The barrier keeps XLA from merging the sum into the product, for which it would move the whole kernel.
            y = jax.lax.optimization_barrier(_batched_product(jnp.stack(taps), kernel, (2, 2))).sum(0)
        else:
            y = sum(_product(tap, matrix, True) for tap, matrix in zip(taps, kernel, strict=True))
        return y.reshape(batch, height, width, -1)
    return _downsample(x, _downsampling_kernels(kernel, height, width, swapped, way), swapped, way)


def _downsampling_kernels(kernel: jax.Array, height: int, width: int, swapped: bool, way: str) -> list[jax.Array]:
    """What `_downsample` multiplies with: the kernel as `way` has it, for a small map of this size; by taps only unswapped."""
    if way == "native":
        return [kernel.swapaxes(2, 3) if swapped else kernel]
    if way == "taps":
        return [_taps_that_count(kernel, height).reshape(-1, kernel.shape[-1]).T]
    return _phase_kernels(kernel, winograd.tile_side(height, width, 2), swapped, up=False)


def _downsample(x: jax.Array, kernels: list[jax.Array], swapped: bool, way: str) -> jax.Array:
    if way == "native":
        return jax.lax.conv_general_dilated(x, *kernels, (2, 2), ((1, 1), (1, 1)), dimension_numbers=DIMENSIONS)
    batch, height, width, _ = x.shape
    height, width = height // 2, width // 2
    if way == "taps":
        return _matrix_first(*kernels, _patches(x)).reshape(batch, height, width, -1)
    outputs = winograd.tile_side(height, width, 2)
    pixels = winograd.pixel_tiles(_to_depth(_pad(x)), height, width, 2, outputs)
    products = [_product(v, u, swapped) for v, u in zip(pixels, kernels, strict=True)]
    return winograd.assemble(products, batch, height, width, 2, outputs)


def upsample(y: jax.Array, kernel: jax.Array, swapped: bool = False, way: str | None = None) -> jax.Array:
    """From the small map `[B, h, w, S]` to the large one `[B, 2h, 2w, L]`: the transpose of `downsample`."""
    batch, height, width, _ = y.shape
    way = way or formulation(batch * height * width, *_channels(kernel, swapped), swapped, y.dtype, up=True)
    if way == "taps":
        # As the kernel lies in memory, nothing of it is moved.
        kernel = _taps_that_count(kernel, height)
        y = y.reshape(-1, y.shape[-1])
        if swapped:
            taps = list(_batched_product(jnp.broadcast_to(y, (len(kernel), *y.shape)), kernel, (2, 1)))
        else:
            taps = jnp.split(_product(y, kernel.reshape(-1, kernel.shape[-1]), True), len(kernel), axis=1)
        return _spread([tap.reshape(batch, height, width, -1) for tap in taps])
    return _upsample(y, _upsampling_kernels(kernel, height, width, swapped, way), swapped, way)


def _upsampling_kernels(kernel: jax.Array, height: int, width: int, swapped: bool, way: str) -> list[jax.Array]:
    """What `_upsample` multiplies with: the kernel as `way` has it, for a small map of this size; by taps only swapped."""
    if way == "native":
        return [(kernel if swapped else kernel.swapaxes(2, 3))[::-1, ::-1]]
    if way == "phases":
        return [cell_kernel(kernel if swapped else kernel.swapaxes(2, 3))]
    if way == "taps":
        kernel = _taps_that_count(kernel.swapaxes(2, 3), height)
        return [kernel.reshape(-1, kernel.shape[-1])]
    return _phase_kernels(kernel, winograd.tile_side(height + 1, width + 1, 2), swapped, up=True)


def _upsample(y: jax.Array, kernels: list[jax.Array], swapped: bool, way: str) -> jax.Array:
    if way == "native":
        return jax.lax.conv_general_dilated(
            y, *kernels, (1, 1), ((2, 2), (2, 2)), lhs_dilation=(2, 2), dimension_numbers=DIMENSIONS
        )
    if way == "phases":
        cells = jax.lax.conv_general_dilated(y, *kernels, (1, 1), ((1, 1), (1, 1)), dimension_numbers=DIMENSIONS)
        return _to_space(cells)[:, 1:-1, 1:-1]
    batch, height, width, _ = y.shape
    if way == "taps":
        taps = jnp.split(_matrix_first(*kernels, y.reshape(-1, y.shape[-1])), 4 if height == 1 else 16, axis=1)
        return _spread([tap.reshape(batch, height, width, -1) for tap in taps])
    # Each 2x2 cell of the large map, its corner in the middle of a pixel of the small one, is 2x2 convolutions of that.
    height, width = height + 1, width + 1
    outputs = winograd.tile_side(height, width, 2)
    pixels = winograd.pixel_tiles(_pad(y), height, width, 2, outputs)
    products = [_product(v, u, not swapped) for v, u in zip(pixels, kernels, strict=True)]
    return _to_space(winograd.assemble(products, batch, height, width, 2, outputs))[:, 1:-1, 1:-1]


def kernel_gradient(x: jax.Array, y: jax.Array, swapped: bool = False, way: str | None = None) -> jax.Array:
    """What the kernel gets from a large map `[B, 2h, 2w, L]` and a small one `[B, h, w, S]`, one of them a cotangent."""
    batch, height, width, small = y.shape
    large = x.shape[-1]
    way = way or formulation(batch * height * width, large, small, swapped, x.dtype)
    if way == "native":
        shape = jax.ShapeDtypeStruct((4, 4, large, small), x.dtype)
        (gradient,) = jax.linear_transpose(lambda kernel: downsample(x, kernel, way="native"), shape)(y)
        return gradient.swapaxes(2, 3) if swapped else gradient
    if way == "taps":
        y = y.reshape(-1, small)
        if swapped:
            taps = jnp.stack(_tap_views(x))
            gradient = _batched_product(jnp.broadcast_to(y, (len(taps), *y.shape)), taps, (1, 1))
        else:
            gradient = (_patches(x).T @ y).reshape(-1, large, small)
        if len(gradient) == 16:
            return gradient.reshape(4, 4, *gradient.shape[1:])
        return jnp.pad(gradient.reshape(2, 2, *gradient.shape[1:]), ((1, 1), (1, 1), (0, 0), (0, 0)))
    outputs = winograd.tile_side(height, width, 2)
    pixels = winograd.pixel_tiles(_to_depth(_pad(x)), height, width, 2, outputs)
    cotangents = winograd.output_tiles(y, 2, outputs)
    if swapped:
        products = [(q.T @ v).reshape(small, 4, large).swapaxes(0, 1) for v, q in zip(pixels, cotangents, strict=True)]
    else:
        products = [(v.T @ q).reshape(4, large, small) for v, q in zip(pixels, cotangents, strict=True)]
    gradient = _phase_matrix(outputs, up=False).T.astype(x.dtype) @ jnp.concatenate(products).reshape(-1, large * small)
    return gradient.reshape(4, 4, *((small, large) if swapped else (large, small)))


def convolve_densely(x: jax.Array, kernel: jax.Array, way: str | None = None) -> jax.Array:
    """The convolution of stride 1, `[B, H, W, C]` to `[B, H-1, W-1, D]`; 'taps' is for D = 1."""
    batch, height, width, channels = x.shape
    way = way or dense_formulation(kernel, x.dtype)
    if way == "native":
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=DIMENSIONS)
    if way == "taps":
        taps = _pad(_product(x.reshape(-1, channels), kernel.reshape(16, channels), True).reshape(batch, height, width, 16))
        return sum(taps[:, i : i + height - 1, j : j + width - 1, 4 * i + j, None] for i in range(4) for j in range(4))
    return _dense_winograd(_pad(x), kernel, height - 1, width - 1, swapped=False)


def dense_input_gradient(y: jax.Array, kernel: jax.Array, way: str | None = None) -> jax.Array:
    """The gradient of `convolve_densely` in x, for a cotangent y."""
    batch, height, width, _ = y.shape
    way = way or dense_formulation(kernel, y.dtype)
    if way == "native":
        x = jax.ShapeDtypeStruct((batch, height + 1, width + 1, kernel.shape[2]), y.dtype)
        return jax.linear_transpose(lambda x: convolve_densely(x, kernel, "native"), x)(y)[0]
    if way == "taps":
        return (_met_by_taps(y) @ kernel.reshape(16, -1)).reshape(batch, height + 1, width + 1, -1)
    return _dense_winograd(_pad(y, 2), kernel[::-1, ::-1], height + 1, width + 1, swapped=True)


def dense_kernel_gradient(x: jax.Array, y: jax.Array, way: str | None = None) -> jax.Array:
    """The gradient of `convolve_densely` in the kernel, for a cotangent y."""
    batch, height, width, features = y.shape
    channels = x.shape[-1]
    kernel = jax.ShapeDtypeStruct((4, 4, channels, features), x.dtype)
    way = way or dense_formulation(kernel, x.dtype)
    if way == "native":
        return jax.linear_transpose(lambda kernel: convolve_densely(x, kernel, "native"), kernel)(y)[0]
    if way == "taps":
        return (_met_by_taps(y).T @ x.reshape(-1, channels)).reshape(kernel.shape)
    outputs = winograd.tile_side(height, width, 4)
    pixels = winograd.pixel_tiles(_pad(x), height, width, 4, outputs)
    products = [v.T @ q for v, q in zip(pixels, winograd.output_tiles(y, 4, outputs), strict=True)]
    gradient = winograd.kernel_matrix(outputs, 4).T @ jnp.stack(products).reshape(-1, channels * features)
    return gradient.reshape(kernel.shape)


def _met_by_taps(y: jax.Array) -> jax.Array:
    """The output pixels that each input pixel `[B H W]` reaches through each of the 16 taps; of one feature."""
    _, height, width, _ = y.shape
    y = _pad(y, 2)[..., 0]
    views = [y[:, 3 - i : 4 - i + height, 3 - j : 4 - j + width] for i in range(4) for j in range(4)]
    return jnp.stack(views, -1).reshape(-1, 16)


def _dense_winograd(x: jax.Array, kernel: jax.Array, height: int, width: int, swapped: bool) -> jax.Array:
    outputs = winograd.tile_side(height, width, 4)
    kernels = (winograd.kernel_matrix(outputs, 4) @ kernel.reshape(16, -1)).reshape(-1, *kernel.shape[2:])
    pixels = winograd.pixel_tiles(x, height, width, 4, outputs)
    products = [_product(v, u, swapped) for v, u in zip(pixels, kernels, strict=True)]
    return winograd.assemble(products, len(x), height, width, 4, outputs)


def _channels(kernel: jax.Array, swapped: bool) -> tuple[int, int]:
    """Of the large map and of the small one."""
    *_, large, small = kernel.shape
    return (small, large) if swapped else (large, small)


def _pad(x: jax.Array, by: int = 1) -> jax.Array:
    return jnp.pad(x, ((0, 0), (by, by), (by, by), (0, 0)))


def _product(x: jax.Array, matrix: jax.Array, transposed: bool) -> jax.Array:
    """`x @ matrix` or `x @ matrix.T`, without moving the matrix."""
    return jax.lax.dot_general(x, matrix, (((1,), (int(transposed),)), ((), ())))


def _matrix_first(matrix: jax.Array, x: jax.Array) -> jax.Array:
    """`x @ matrix.T`, the smaller factor second: XLA moves that one about before it multiplies on a CPU."""
    if len(x) > len(matrix):
        return _product(x, matrix, True)
    # Without the barrier XLA would exchange the factors.
    return jax.lax.optimization_barrier(_product(matrix, x, True)).T


def _batched_product(x: jax.Array, y: jax.Array, contracted: tuple[int, int]) -> jax.Array:
    """Matrix products of the arrays in x with those in y, over an axis of either."""
    return jax.lax.dot_general(x, y, (((contracted[0],), (contracted[1],)), ((0,), (0,))))


def _to_depth(x: jax.Array) -> jax.Array:
    """`[B, 2h, 2w, C]` to `[B, h, w, 4 C]`, the pixels of each 2x2 cell in a row."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).swapaxes(2, 3)
    return x.reshape(batch, height // 2, width // 2, 4 * channels)


def _to_space(x: jax.Array) -> jax.Array:
    """The inverse of `_to_depth`."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, 2, 2, channels // 4).swapaxes(2, 3)
    return x.reshape(batch, 2 * height, 2 * width, channels // 4)


def _tap_views(x: jax.Array) -> list[jax.Array]:
    """What each tap of the kernel meets: 16 arrays `[B h w, L]`, or four if the others meet padding only."""
    _, height, width, channels = x.shape
    if height == width == 2:
        return [x[:, i, j] for i in (0, 1) for j in (0, 1)]
    x = _pad(x)
    return [x[:, i : i + height : 2, j : j + width : 2].reshape(-1, channels) for i in range(4) for j in range(4)]


def _patches(x: jax.Array) -> jax.Array:
    """What all taps meet, `[B h w, 16 L]`, or `[B h w, 4 L]` as in `_tap_views`."""
    batch, height, width, channels = x.shape
    if height == width == 2:
        return x.reshape(batch, -1)
    # Two taps that are side by side meet pixels that are: they are moved at once.
    x = _pad(x).reshape(batch, height + 2, width // 2 + 1, 2 * channels)
    pairs = [x[:, i : i + height : 2, j : j + width // 2] for i in range(4) for j in (0, 1)]
    # Stacked, not concatenated: that is one operation on CPUs, not nine.
    return jnp.stack(pairs, 3).reshape(-1, 16 * channels)


def _taps_that_count(kernel: jax.Array, side: int) -> jax.Array:
    """`[16, ...]`, or at a side of one pixel `[4, ...]`, as in `_tap_views`."""
    if side == 1:
        kernel = kernel[1:3, 1:3]
    return kernel.reshape(-1, *kernel.shape[2:])


def _spread(taps: Sequence[jax.Array]) -> jax.Array:
    """The large map from what each tap adds to it, 16 (or four) arrays `[B, h, w, L]`: the transpose of `_tap_views`."""

    def interleave(taps: Sequence[jax.Array], axis: int) -> jax.Array:
        """Tap a of pixel i goes to 2 i + a - 1."""
        if len(taps) == 4:
            side = taps[0].shape[axis]
            ahead, behind = ([(0, 0)] * taps[0].ndim for _ in range(2))
            ahead[axis], behind[axis] = (0, 1), (1, 0)
            later = jax.lax.slice_in_dim(jnp.pad(taps[0], ahead), 1, side + 1, axis=axis)
            earlier = jax.lax.slice_in_dim(jnp.pad(taps[3], behind), 0, side, axis=axis)
            taps = taps[1] + earlier, taps[2] + later
        both = jnp.stack(taps, axis + 1)
        return both.reshape(*both.shape[:axis], -1, *both.shape[axis + 2 :])

    count = 4 if len(taps) == 16 else 2
    rows = [interleave(taps[i * count : (i + 1) * count], 2) for i in range(count)]
    return interleave(rows, 1)


def cell_kernel(kernel: jax.Array) -> jax.Array:
    """The kernel `[2, 2, S, 4 L]` that gives the cells of `_to_space`, each with its corner in the middle of a small pixel.

    Pixel a of a cell, in either direction, is met by tap a of the pixel of the small map after its corner, and by tap 2 + a of
    the one before: so four 2x2 convolutions, one for each phase, are one. `kernel` is `[4, 4, S, L]`.
    """
    *_, small, large = kernel.shape
    taps = kernel.reshape(2, 2, 2, 2, small, large)[::-1, :, ::-1]  # Before or after, phase; rows, then columns.
    return taps.transpose(0, 2, 4, 1, 3, 5).reshape(2, 2, small, 4 * large)


@functools.cache
def _phase_matrix(outputs: int, up: bool) -> np.ndarray:
    """`[4 n^2, 16]`: the kernels of the 2x2 convolutions on cells that one of 4x4 taps is, transformed; by point, then phase.

    Tap 2 i + a meets the pixels of phase a in cell i. On the way up, cells are counted backwards.
    """
    _, kernel, _ = winograd.matrices(outputs, 2)
    phases = np.zeros((2, 2, 4))
    for i, a in np.ndindex(2, 2):
        phases[1 - i if up else i, a, 2 * i + a] = 1.0
    one = np.einsum("ni,iau->nau", kernel, phases)
    return np.einsum("nau,mbv->nmabuv", one, one).reshape(-1, 16).astype(np.float32)


def _phase_kernels(kernel: jax.Array, outputs: int, swapped: bool, up: bool) -> list[jax.Array]:
    """n^2 matrices `[4 L, S]`; swapped `[S, 4 L]`."""
    points = _phase_matrix(outputs, up) @ kernel.reshape(16, -1)
    points = points.reshape(-1, 4, *kernel.shape[2:])
    if swapped:
        return [jnp.concatenate(list(phases), axis=1) for phases in points]
    return list(points.reshape(len(points), -1, kernel.shape[-1]))


def _prepared_formulation(x: jax.Array, features: int, transpose: bool) -> str:
    channels = x.shape[-1]
    pixels = math.prod(x.shape[:3]) // (1 if transpose else 4)
    large, small = (features, channels) if transpose else (channels, features)
    return formulation(pixels, large, small, transpose, x.dtype, prepared=True, up=transpose)


def prepared_kernels(x: jax.Array, kernel: jax.Array, transpose: bool) -> list[jax.Array]:
    """What `convolve_prepared` takes of a kernel `[4, 4, C, D]`, for x of this shape, `[B, H, W, C]`.

    It is all that can be computed before any image is there: one array or, by Winograd's algorithm, one for each point.
    """
    way = _prepared_formulation(x, kernel.shape[-1], transpose)
    _, height, width, _ = x.shape
    if transpose:
        return _upsampling_kernels(kernel, height, width, True, way)
    return _downsampling_kernels(kernel, height // 2, width // 2, False, way)


def convolve_prepared(x: jax.Array, kernels: list[jax.Array], features: int, transpose: bool) -> jax.Array:
    """`transpose_convolve` or `convolve` at stride 2 of x `[B, H, W, C]` to so many `features`, with `prepared_kernels`."""
    way = _prepared_formulation(x, features, transpose)
    return _upsample(x, kernels, True, way) if transpose else _downsample(x, kernels, False, way)


def enlarging_kernel(kernel: jax.Array) -> jax.Array:
    """The kernel `[4, 4, C, D]` of the transposed convolution that doubles pixels and then convolves with `[3, 3, C, D]`.

    Nearest-neighbour upsampling and a 3x3 convolution, padding 1 (Odena et al. 2016, against checkerboards), are one linear
    function: each tap of the convolution meets two pixels in a row, and two in a column, that are copies of one.
    """
    flipped = kernel[::-1, ::-1]
    return sum(jnp.pad(flipped, ((i, 1 - i), (j, 1 - j), (0, 0), (0, 0))) for i in (0, 1) for j in (0, 1))


class Conv(nn.Module):
    """4x4 convolution, padding 1, to `features` channels; `transpose=True` doubles the sides instead of halving them.

    With `nearest=True` too, pixels are doubled and convolved with a 3x3 kernel, which is a transposed convolution that draws
    no checkerboards; see `enlarging_kernel`.

    Parameters are float32; arithmetic is in `dtype`. For inference, what of the arithmetic concerns the kernel alone can be
    done once: `apply(..., mutable=["prepared"])` gives a collection of that name for images of the same shape, with which
    later calls do not read the kernels in `params`.
    """

    features: int
    stride: int = 2
    transpose: bool = False
    nearest: bool = False
    bias: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]` to `[B, H/stride, W/stride, features]` or, transposed, `[B, 2H, 2W, features]`."""
        side = 3 if self.nearest else 4
        kernel = self.param("kernel", initial_kernel, (side, side, x.shape[-1], self.features))
        if self.nearest:
            kernel = enlarging_kernel(kernel)
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        prepares = self.is_mutable_collection("prepared") and not self.is_initializing()
        if self.stride == 2 and (prepares or self.has_variable("prepared", "kernels")):
            kernels = self.variable("prepared", "kernels", prepared_kernels, x, kernel, self.transpose)
            x = convolve_prepared(x, kernels.value, self.features, self.transpose)
        else:
            x = transpose_convolve(x, kernel) if self.transpose else convolve(x, kernel, self.stride)
        x = checkpoint_name(x, "convolution")  # For training with `training.remat`.
        if self.bias:
            x = x + self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        return x
