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

Grid = Sequence[Sequence[jax.Array]]  # By row and column.


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


def transform(matrix: np.ndarray, grid: Grid) -> list[list[jax.Array]]:
    """`matrix` applied to the rows and to the columns of a grid of arrays; sums only, no matrix products."""

    def combined(arrays: Sequence[jax.Array]) -> list[jax.Array]:
        return [sum(times(factor, array) for factor, array in zip(row, arrays, strict=True) if factor) for row in matrix]

    def times(factor: float, array: jax.Array) -> jax.Array:
        return array if factor == 1 else -array if factor == -1 else array * float(factor)

    rows = zip(*(combined(column) for column in zip(*grid, strict=True)), strict=True)
    return [combined(row) for row in rows]


def pixel_tiles(x: jax.Array, height: int, width: int, taps: int, outputs: int) -> list[jax.Array]:
    """The transformed tiles of pixels: n^2 arrays `[tiles, C]` of x `[B, height + taps - 1, width + taps - 1, C]`."""
    n = outputs + taps - 1
    down, across = -(-height // outputs), -(-width // outputs)
    missing = (down * outputs - height, across * outputs - width)
    x = jnp.pad(x, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)))
    rows, columns = (down - 1) * outputs + 1, (across - 1) * outputs + 1
    grid = [[x[:, i : i + rows : outputs, j : j + columns : outputs] for j in range(n)] for i in range(n)]
    return [tile.reshape(-1, x.shape[-1]) for row in transform(matrices(outputs, taps)[0], grid) for tile in row]


def output_tiles(y: jax.Array, taps: int, outputs: int) -> list[jax.Array]:
    """The transpose of `assemble`: n^2 arrays `[tiles, D]` of cotangents `[B, height, width, D]`."""
    height, width = y.shape[1:3]
    y = jnp.pad(y, ((0, 0), (0, -height % outputs), (0, -width % outputs), (0, 0)))
    grid = [[y[:, i::outputs, j::outputs] for j in range(outputs)] for i in range(outputs)]
    return [tile.reshape(-1, y.shape[-1]) for row in transform(matrices(outputs, taps)[2].T, grid) for tile in row]


def assemble(products: Sequence[jax.Array], batch: int, height: int, width: int, taps: int, outputs: int) -> jax.Array:
    """The outputs `[batch, height, width, D]` that n^2 products `[tiles, D]` stand for."""
    n = outputs + taps - 1
    down, across = -(-height // outputs), -(-width // outputs)
    products = [product.reshape(batch, down, across, -1) for product in products]
    grid = transform(matrices(outputs, taps)[2], [products[i * n : (i + 1) * n] for i in range(n)])
    y = jnp.stack([jnp.stack(row, 3) for row in grid], 2)
    return y.reshape(batch, down * outputs, across * outputs, -1)[:, :height, :width]
