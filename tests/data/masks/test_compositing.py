import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from maskgan_jax.data.masks.compositing import to_linear, to_srgb, warp, window_about
from maskgan_jax.data.window import Window
from maskgan_jax.errors import UserError


def srgb_to_linear(value):
    value = np.asarray(value, np.float64) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(value):
    return 255 * np.where(value <= 0.0031308, value * 12.92, 1.055 * np.maximum(value, 1e-9) ** (1 / 2.4) - 0.055)


def averaged(layer, to_layer, window):
    """`warp` by brute force: the mean of the layer at 8 x 8 points of each pixel, each of them warped by itself."""
    height, width = window.shape
    y, x = np.mgrid[: height * 8, : width * 8] / 8 - 7 / 16
    places = to_layer(np.stack([x + window.x, y + window.y], axis=-1).reshape(-1, 2))
    channels = [map_coordinates(channel, places[:, ::-1].T, order=1, mode="constant") for channel in np.moveaxis(layer, -1, 0)]
    return np.stack(channels, axis=-1).reshape(height, 8, width, 8, layer.shape[-1]).mean(axis=(1, 3))


def test_every_byte_survives_linear_light():
    values = np.arange(256, dtype=np.uint8)
    np.testing.assert_allclose(to_linear(values), srgb_to_linear(values), atol=1e-6)
    np.testing.assert_array_equal(np.rint(to_srgb(to_linear(values))), values)


def test_floats_against_the_formula():
    values = np.random.default_rng(0).uniform(0, 255, 5000).astype(np.float32)
    np.testing.assert_allclose(to_linear(values), srgb_to_linear(values), atol=1e-6)
    linear = np.concatenate([np.linspace(0, 0.01, 2000), np.linspace(0, 1, 5000)]).astype(np.float32)
    # A 30th of a level of 0..255.
    np.testing.assert_allclose(to_srgb(linear), linear_to_srgb(linear), atol=0.03)


def test_light_beyond_the_range_is_clipped():
    np.testing.assert_array_equal(to_srgb(np.float32([-1, 0, 1, 7])), [0, 0, 255, 255])


def test_window_about_points():
    points = np.array([(10.2, 20.0), (30.0, 25.5)])
    # From 10.2 - 2 to 30 + 2 and from 20 - 2 to 25.5 + 2, whole pixels, the last one included.
    assert window_about(points, 2, (100, 200)) == Window(8, 18, 25, 11)
    assert window_about(points, 15, (32, 34)) == Window(0, 5, 34, 27)


@pytest.mark.parametrize("shift", [(-200, 0), (200, 0), (0, -200), (0, 200)])
def test_no_window_outside_the_picture(shift):
    with pytest.raises(UserError, match="outside the image"):
        window_about(np.array([(10.0, 20.0), (30.0, 25.0)]) + shift, 2, (100, 100))


def test_a_rectangle_is_warped_to_where_it_belongs():
    # Two pixels of the layer to one of the picture: it becomes 30 x 20 pixels, with its first pixel at (10, 5).
    def to_layer(points):
        return (points - (9.75, 4.75)) * 2

    warped = warp(np.ones((40, 60, 4), np.float32), to_layer, Window(0, 0, 64, 48))
    expected = np.zeros((48, 64, 4))
    expected[5:25, 10:40] = 1
    np.testing.assert_allclose(warped, expected, atol=1e-6)


def test_the_edge_is_averaged():
    # A quarter of a pixel further: the first column is three quarters covered, the one beyond the last a quarter.
    layer = np.zeros((44, 64, 4), np.float32)
    layer[2:-2, 2:-2] = 1
    warped = warp(layer, lambda points: (points - (10, 4.75)) * 2 + 2, Window(3, 2, 58, 38))[..., 3]
    np.testing.assert_allclose(warped[13, [6, 7, 8, 36, 37, 38]], [0, 0.75, 1, 1, 0.25, 0], atol=1e-6)
    np.testing.assert_allclose(warped.sum(), 600, rtol=1e-5)


def test_a_window_is_part_of_the_whole():
    layer = np.random.default_rng(0).random((80, 90, 4), np.float32)

    def to_layer(points):
        return points @ np.array([(1.9, 0.5), (-0.5, 1.9)]) + (5, 2)

    whole = warp(layer, to_layer, Window(0, 0, 50, 50))
    np.testing.assert_allclose(warp(layer, to_layer, Window(7, 11, 31, 18)), whole[11:29, 7:38], atol=1e-4)


@pytest.mark.parametrize("bend", [0.0, 2e-3])
@pytest.mark.parametrize("kind", ["smooth", "disc"])
def test_warping_against_brute_force(bend, kind):
    y, x = np.mgrid[:160, :180].astype(np.float32)
    if kind == "smooth":
        layer = np.stack([np.sin(x * np.pi / 179) * np.sin(y * np.pi / 159) * np.sin(x / (5 + k)) for k in range(4)], axis=-1)
    else:
        layer = np.repeat((np.hypot(x - 90, y - 80) < 60)[..., None], 4, axis=-1).astype(np.float32)

    def to_layer(points):
        turned = points @ (2 * np.array([(np.cos(0.4), np.sin(0.4)), (-np.sin(0.4), np.cos(0.4))])) + (35, -15)
        return turned + bend * (points[:, ::-1] - 35) ** 2

    window = Window(5, 3, 71, 65)
    error = np.abs(warp(layer, to_layer, window) - averaged(layer, to_layer, window))
    # The edge of the disc lies in one pixel or so; half a pixel off it would be wrong by 0.5 there.
    assert error.max() < {"smooth": 0.02, "disc": 0.2}[kind] and error.mean() < 0.003
