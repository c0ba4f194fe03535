import numpy as np

from maskgan_jax.data.masks.compositing import blend, to_linear, to_srgb, warp


def srgb_to_linear(value):
    value = np.asarray(value, np.float64) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(value):
    return 255 * np.where(value <= 0.0031308, value * 12.92, 1.055 * np.maximum(value, 1e-9) ** (1 / 2.4) - 0.055)


def test_every_byte_survives_linear_light():
    values = np.arange(256, dtype=np.uint8)
    np.testing.assert_allclose(to_linear(values), srgb_to_linear(values), atol=1e-6)
    np.testing.assert_array_equal(to_srgb(to_linear(values)), values)


def test_blend_against_numpy():
    rng = np.random.default_rng(0)
    face = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
    colour, alpha = rng.random((8, 9, 3)), rng.random((8, 9, 1))
    alpha[0] = 0
    picture, covered = blend(face, np.concatenate([colour * alpha, alpha], axis=-1).astype(np.float32), top=5, left=7)
    expected = face.astype(np.float64)
    inside = expected[5:13, 7:16]
    expected[5:13, 7:16] = linear_to_srgb(colour * alpha + srgb_to_linear(inside) * (1 - alpha))
    assert np.abs(picture - expected).max() <= 0.51
    np.testing.assert_array_equal(picture[covered == 0], face[covered == 0])
    assert covered[5].max() == 0 and covered[:5].max() == 0
    np.testing.assert_allclose(covered[6:13, 7:16], alpha[1:, :, 0] * (alpha[1:, :, 0] > 0.5 / 255), atol=1e-6)


def test_warp_puts_a_rectangle_where_it_belongs():
    layer = np.ones((40, 60, 4), np.float32)
    # Two subpixels to a pixel: the layer becomes 30 x 20 pixels, with its first pixel at (10, 5).
    matrix = np.array([[0.5, 0, 9.75], [0, 0.5, 4.75], [0, 0, 1]])
    window, top, left = warp(layer, matrix, (64, 64))
    whole = np.zeros((64, 64))
    whole[top : top + window.shape[0], left : left + window.shape[1]] = window[..., 3]
    expected = np.zeros((64, 64))
    expected[5:25, 10:40] = 1
    np.testing.assert_allclose(whole, expected, atol=1e-6)


def test_warp_averages_the_edge():
    matrix = np.array([[0.5, 0, 10.0], [0, 0.5, 5.0], [0, 0, 1]])
    window, *_ = warp(np.ones((40, 60, 4), np.float32), matrix, (64, 64))
    # A quarter of a pixel further: the first column is three quarters covered, one beyond the last a quarter.
    np.testing.assert_allclose(window[10, :, 3][window[10, :, 3] > 0][[0, 1, -1]], [0.75, 1, 0.25], atol=1e-6)
    np.testing.assert_allclose(window[..., 3].sum(), 600, rtol=1e-5)
