import cv2
import numpy as np
import pytest
from scipy.interpolate import CubicHermiteSpline

from maskgan_jax.data.painting import Brush, Lamp, compose, coverage, coverage_in_window, draw_lamp, inflate, spline
from maskgan_jax.data.rendered.head_model import Projection

SIZE = 64
# OpenCV fills the outline, too: by so many pixels all shapes are larger to each side.
GROWN = 0.3
SQUARE = np.array([[10.0, 20.0], [40.0, 20.0], [40.0, 50.0], [10.0, 50.0]])
FRONTAL = Lamp(np.float32([0, 0, 1]), np.float32([0.6, 0.6, 0.6]), np.float32([0.4, 0.4, 0.4]))


@pytest.fixture
def polygon():
    angle = np.linspace(0, 2 * np.pi, 9, endpoint=False)
    radius = np.random.default_rng(0).uniform(12, 25, 9)
    return np.stack([32 + radius * np.cos(angle), 31 + radius * np.sin(angle)], 1)


@pytest.mark.parametrize("closed", [True, False])
def test_spline_is_catmull_rom(closed):
    """A cubic Hermite spline whose tangents are half the way from the point before to the one after."""
    points = np.random.default_rng(0).normal(size=(6, 3))
    if closed:
        around = np.concatenate([points[-1:], points, points[:2]])
    else:
        around = np.concatenate([points[:1], points, points[-1:]])
    expected = CubicHermiteSpline(np.arange(len(around) - 2), around[1:-1], (around[2:] - around[:-2]) / 2)
    steps = np.arange(0, 6, 1 / 8) if closed else np.concatenate([i + np.linspace(0, 1, 8) for i in range(5)])
    np.testing.assert_allclose(spline(points, closed), expected(steps), atol=1e-12)


def test_coverage_is_the_share_of_each_pixel(polygon):
    """Against 16 x 16 samples of each pixel, whose centre has whole coordinates."""
    along = np.arange(-0.5, SIZE - 0.5, 1 / 16) + 1 / 32
    x, y = np.meshgrid(along, along)
    inside = np.zeros(x.shape, bool)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        inside ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    expected = inside.reshape(SIZE, 16, SIZE, 16).mean((1, 3))
    found = coverage(polygon, SIZE)
    outline = np.linalg.norm(np.roll(polygon, -1, axis=0) - polygon, axis=1).sum()
    assert found.sum() == pytest.approx(expected.sum() + GROWN * outline, rel=0.01)
    assert (found >= expected - 0.05).all() and np.abs(found - expected).max() < 0.55
    np.testing.assert_array_equal(found[expected == 1], 1)


def test_coverage_is_empty_outside_its_window(polygon):
    window, alpha = coverage_in_window(polygon, SIZE, softness=1.5)
    whole = coverage(polygon, SIZE, softness=1.5)
    np.testing.assert_array_equal(whole[window.slices], alpha)
    assert whole.sum() == pytest.approx(alpha.sum()) and 0 < alpha.min() + alpha.max() <= 1
    assert whole.sum() == pytest.approx(coverage(polygon, SIZE).sum(), rel=0.01)  # Blur moves no paint away.


@pytest.mark.parametrize("shift", [-30, 30, 500])
def test_shapes_may_leave_the_image(shift):
    whole = coverage(SQUARE + shift, SIZE)
    assert whole.shape == (SIZE, SIZE)
    assert (whole.sum() > 100) == (abs(shift) == 30)


def test_brush_fills_and_mixes():
    canvas = np.zeros((SIZE, SIZE, 3), np.float32)
    brush = Brush(canvas, Projection(np.eye(3), 1.0, np.array([32.0, 32.0])))
    brush.spot((0, 0, 0), 10.0, (1, 0.5, 0), softness=0)
    np.testing.assert_allclose(canvas[32, 32], (1, 0.5, 0))
    assert canvas[..., 0].sum() == pytest.approx(np.pi * (10 + GROWN) ** 2, rel=0.01)
    brush.spot((0, 0, 0), 4.0, (0, 0, 1), softness=0, opacity=0.25)
    np.testing.assert_allclose(canvas[32, 32], (0.75, 0.375, 0.25))
    assert not canvas[:20].any()


def test_lines_are_as_wide_as_they_are_asked_to_be():
    canvas = np.zeros((SIZE, SIZE, 3), np.float32)
    brush = Brush(canvas, Projection(np.eye(3), 1.0, np.array([32.0, 32.0])))
    brush.line(np.array([[-20.0, 0, 0], [0, 0, 0], [20, 0, 0]]), [2, 8], (1, 1, 1), softness=0)
    thin, thick = canvas[:, 16, 0].sum(), canvas[:, 48, 0].sum()
    assert thin == pytest.approx(2.6 + 2 * GROWN, abs=0.3) and thick == pytest.approx(7.4 + 2 * GROWN, abs=0.3)


def test_lamps_are_in_front_and_above():
    lamps = [draw_lamp(np.random.default_rng(seed)) for seed in range(50)]
    for lamp in lamps:
        assert np.linalg.norm(lamp.direction) == pytest.approx(1, abs=1e-6)
        assert lamp.direction[1] < 0 < lamp.direction[2]
        assert 0 < lamp.ambient.min() and lamp.colour.max() + lamp.ambient.max() < 1.4
    assert min(lamp.direction[0] for lamp in lamps) < -0.3 and max(lamp.direction[0] for lamp in lamps) > 0.3


def test_cushions_are_flat_inside_and_low_at_the_edge():
    alpha = cv2.copyMakeBorder(np.ones((128, 128), np.float32), 64, 64, 64, 64, cv2.BORDER_CONSTANT)
    height = inflate(alpha, 10)
    assert height[128, 128] == pytest.approx(10, rel=0.01)
    assert height[0, 0] == pytest.approx(1)  # The square root of a hundredth of the radius.
    middle = height[128]
    assert (np.diff(middle[:129]) > -0.01).all() and middle[64] < 8


def test_a_flat_surface_that_faces_the_lamp_has_its_colour():
    """Ambient and direct light add up to 1, but for the 0.85 of the ambient light that comes from in front."""
    image = np.full((SIZE, SIZE, 3), 0.5, np.float32)
    alpha = coverage(SQUARE, SIZE)
    compose(image, alpha, np.float32([0.8, 0.4, 0.2]), np.zeros_like(alpha), FRONTAL, gloss=0.0, shadow=2.0)
    np.testing.assert_allclose(image[35, 25], np.float32([0.8, 0.4, 0.2]) * np.sqrt(0.4 * 0.85 + 0.6), rtol=1e-5)
    np.testing.assert_array_equal(image[:8], 0.5)
    assert (image[51:54, 25] < 0.5).all()  # Its shadow, below.


def test_slopes_that_face_the_lamp_are_brighter():
    from_left = Lamp(np.float32([-0.6, 0, 0.8]), FRONTAL.colour, FRONTAL.ambient)
    rising = np.tile(np.arange(SIZE, dtype=np.float32), (SIZE, 1)) * 0.5
    lit = []
    for height in (rising, -rising):  # The first one faces the left.
        image = np.zeros((SIZE, SIZE, 3), np.float32)
        compose(image, coverage(SQUARE, SIZE), np.float32([1, 1, 1]), height, from_left, gloss=0.3, shadow=1.0)
        lit.append(image[35, 25])
    assert (lit[0] > 1.2 * lit[1]).all()
