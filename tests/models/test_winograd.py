import jax.numpy as jnp
import numpy as np
import pytest

from maskgan_jax.models import winograd


@pytest.mark.parametrize("taps", [2, 4])
@pytest.mark.parametrize("outputs", [2, 3])
def test_matrices_compute_a_convolution(outputs, taps):
    pixels, kernel, products = winograd.matrices(outputs, taps)
    rng = np.random.default_rng(0)
    d, g = rng.normal(size=outputs + taps - 1), rng.normal(size=taps)
    np.testing.assert_allclose(products @ ((kernel @ g) * (pixels @ d)), np.correlate(d, g, "valid"), rtol=1e-12)


def test_matrices_of_two_by_two_are_the_published_ones():
    """F(2, 2) of Winograd 1980, whose kernel is that of Karatsuba: g0, g0 + g1, g1, but for signs."""
    _, kernel, products = winograd.matrices(2, 2)
    np.testing.assert_array_equal(np.abs(kernel), [[1, 0], [1, 1], [0, 1]])
    np.testing.assert_array_equal(products, [[1, 1, 0], [0, 1, 1]])


@pytest.mark.parametrize(("side", "taps", "expected"), [(16, 2, 2), (33, 2, 3), (9, 2, 3), (15, 4, 3), (4, 2, 2), (32, 4, 3)])
def test_side_of_a_tile_takes_fewest_products(side, taps, expected):
    counts = {m: ((m + taps - 1) * np.ceil(side / m)) ** 2 for m in (2, 3)}
    assert counts[winograd.tile_side(side, side, taps)] == min(counts.values())
    assert winograd.tile_side(side, side, taps) == expected


@pytest.mark.parametrize(("height", "width"), [(6, 6), (5, 7), (1, 4)], ids=str)
@pytest.mark.parametrize("taps", [2, 4])
@pytest.mark.parametrize("outputs", [2, 3])
def test_tiles_in_and_out(outputs, taps, height, width):
    """With a kernel of one channel, a convolution point by point."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, height + taps - 1, width + taps - 1, 1)).astype(np.float32)
    kernel = rng.normal(size=(taps, taps)).astype(np.float32)
    points = winograd.kernel_matrix(outputs, taps) @ kernel.reshape(-1)
    tiles = winograd.pixel_tiles(jnp.asarray(x), height, width, taps, outputs)
    y = winograd.assemble([t * p for t, p in zip(tiles, points, strict=True)], 2, height, width, taps, outputs)
    windows = np.lib.stride_tricks.sliding_window_view(x[..., 0], (taps, taps), (1, 2))
    np.testing.assert_allclose(y[..., 0], np.einsum("bhwij,ij->bhw", windows, kernel), atol=1e-4)

    # `output_tiles` is the transpose of `assemble`: both give the same inner product.
    cotangent = rng.normal(size=y.shape).astype(np.float32)
    back = winograd.output_tiles(jnp.asarray(cotangent), taps, outputs)
    products = [t * p for t, p in zip(tiles, points, strict=True)]
    inner = sum(float(np.vdot(a, b)) for a, b in zip(products, back, strict=True))
    assert inner == pytest.approx(float(np.vdot(y, cotangent)), rel=1e-4)
