"""Convolutions with fewer multiplications (Winograd 1980; Lavin and Gray 2016), as matrix products for CPUs.

A tile of m x m outputs of an r x r convolution takes (m + r - 1)^2 products where the definition takes m^2 r^2: pixels and
kernel are transformed by small constant matrices, multiplied point by point (over all tiles and channels at once, which makes
each point a matrix product), and the products are transformed back.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

# Where the polynomials behind the algorithm are evaluated, beside infinity. Small ones keep rounding errors small: with all
# five, results differ from the definition by a few millionths of the largest.
POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)


@functools.cache
def matrices(outputs: int, taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The transforms of F(outputs, taps): of the pixels `[n, n]`, the kernel `[n, taps]` and the products `[outputs, n]`.

    n is outputs + taps - 1. For pixels d and kernel g, output i is the sum of d[i + j] g[j]: `Y @ ((K @ g) * (D @ d))`.
    """
    n = outputs + taps - 1
    points = np.array(POINTS[: n - 1])

    def evaluation(coefficients: int) -> np.ndarray:
        """Of a polynomial with so many coefficients: at the points, and its leading coefficient for infinity."""
        return np.vstack([points[:, None] ** np.arange(coefficients), np.eye(coefficients)[-1:]])

    # Multiplying polynomials is evaluating, multiplying and interpolating; a convolution is the transpose of that.
    scale = np.array([*(np.prod([p - q for q in points if q != p]) for p in points), 1.0])
    pixels = np.linalg.inv(evaluation(n)).T * scale[:, None]
    return pixels, evaluation(taps) / scale[:, None], evaluation(outputs).T


def tile_side(height: int, width: int, taps: int) -> int:
    """The outputs in a row of a tile, 2 or 3, that take fewer products (2 if both take as many)."""
    return min((2, 3), key=lambda m: (m + taps - 1) ** 2 * -(-height // m) * -(-width // m))


def kernel_matrix(outputs: int, taps: int) -> np.ndarray:
    """`[n^2, taps^2]`: what a kernel is multiplied with, rows and columns at once."""
    _, kernel, _ = matrices(outputs, taps)
    return np.kron(kernel, kernel).astype(np.float32)


def combinations(matrix: np.ndarray, arrays: Sequence[jax.Array]) -> list[jax.Array]:
    """`matrix` times a column of arrays: sums, no matrix product."""

    def times(factor: float, array: jax.Array) -> jax.Array:
        return array if factor == 1 else -array if factor == -1 else array * float(factor)

    sums = [sum(times(factor, array) for factor, array in zip(row, arrays, strict=True) if factor) for row in matrix]
    # Without the barrier, XLA computes what one direction gives anew for each use in the other.
    return jax.lax.optimization_barrier(sums)


def pixel_tiles(x: jax.Array, height: int, width: int, taps: int, outputs: int) -> list[jax.Array]:
    """The transformed tiles of pixels: n^2 arrays `[tiles, C]` of x `[B, height + taps - 1, width + taps - 1, C]`."""
    matrix, _, _ = matrices(outputs, taps)
    down, across = -(-height // outputs), -(-width // outputs)
    missing = (down * outputs - height, across * outputs - width)
    x = jnp.pad(x, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)))
    last = (down - 1) * outputs + 1, (across - 1) * outputs + 1
    rows = combinations(matrix, [x[:, i : i + last[0] : outputs] for i in range(len(matrix))])
    tiles = [combinations(matrix, [row[:, :, j : j + last[1] : outputs] for j in range(len(matrix))]) for row in rows]
    return [tile.reshape(-1, x.shape[-1]) for row in tiles for tile in row]


def output_tiles(y: jax.Array, taps: int, outputs: int) -> list[jax.Array]:
    """The transpose of `assemble`: n^2 arrays `[tiles, D]` of cotangents `[B, height, width, D]`."""
    *_, matrix = matrices(outputs, taps)
    height, width = y.shape[1:3]
    y = jnp.pad(y, ((0, 0), (0, -height % outputs), (0, -width % outputs), (0, 0)))
    rows = combinations(matrix.T, [y[:, i::outputs] for i in range(outputs)])
    tiles = [combinations(matrix.T, [row[:, :, j::outputs] for j in range(outputs)]) for row in rows]
    return [tile.reshape(-1, y.shape[-1]) for row in tiles for tile in row]


def assemble(products: Sequence[jax.Array], batch: int, height: int, width: int, taps: int, outputs: int) -> jax.Array:
    """The outputs `[batch, height, width, D]` that n^2 products `[tiles, D]` stand for."""
    *_, matrix = matrices(outputs, taps)
    n = outputs + taps - 1
    down, across = -(-height // outputs), -(-width // outputs)
    products = [product.reshape(batch, down, across, -1) for product in products]
    columns = [combinations(matrix, products[j::n]) for j in range(n)]
    y = jnp.stack([jnp.stack(combinations(matrix, row), 3) for row in zip(*columns, strict=True)], 2)
    return y.reshape(batch, down * outputs, across * outputs, -1)[:, :height, :width]
