import numpy as np
import pytest

from maskgan_jax.data.masks.geometry import homography, moved, side_of_face, six_points, transformed
from maskgan_jax.errors import UserError


def test_six_points_by_hand(landmarks):
    # Eye line y = 100; nose 40 long, so a, c at y = 140, halfway down the jaw's upper piece (48..68).
    # The lower lip ends at y = 196, on the lower piece: 16 / 60 of the way from (68, 180) to (128, 240).
    expected = [(58, 140), (128, 120), (198, 140), (84, 196), (128, 240), (172, 196)]
    np.testing.assert_allclose(six_points(landmarks), expected, atol=1e-9)


def test_six_points_turn_with_the_picture(landmarks):
    mirrored = landmarks * (-1, 1) + (255, 0)
    order = [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)]
    order += [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    order += [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
    points = six_points(mirrored[order])
    np.testing.assert_allclose(points, (six_points(landmarks) * (-1, 1) + (255, 0))[[2, 1, 0, 5, 4, 3]], atol=1e-9)


def test_short_jaw_goes_on_along_an_ellipse(landmarks):
    landmarks[:17, 1] = 150 + 90 * np.sqrt(1 - ((landmarks[:17, 0] - 128) / 80.001) ** 2)
    landmarks[[0, 16], 1] = 150
    a, _, c, *_ = six_points(landmarks)
    # The jaw lies on an ellipse about (128, 150) and ends there; its crossing with y = 140 is above both ends.
    reach = 80 * np.sqrt(1 - (10 / 90) ** 2)
    np.testing.assert_allclose([a, c], [(128 - reach, 140), (128 + reach, 140)], atol=0.5)


@pytest.mark.parametrize("spoil", ["shape", "nan", "collapsed", "upside down"])
def test_what_is_no_face(landmarks, spoil):
    bad = {
        "shape": landmarks[:67],
        "nan": np.where(np.arange(68)[:, None] == 30, np.nan, landmarks),
        "collapsed": np.full((68, 2), 100.0),
        "upside down": 255 - landmarks,
    }[spoil]
    with pytest.raises(UserError):
        six_points(bad)


def test_homography_is_exact_when_there_is_one(landmarks):
    truth = np.array([[0.9, 0.1, 12], [-0.05, 1.1, 7], [1e-4, 2e-4, 1]])
    source = six_points(landmarks)
    homogeneous = np.c_[source, np.ones(6)] @ truth.T
    target = homogeneous[:, :2] / homogeneous[:, 2:]
    matrix = homography(source, target)
    np.testing.assert_allclose(transformed(source, matrix), target, atol=1e-4)
    np.testing.assert_allclose(matrix / matrix[2, 2], truth, rtol=1e-5)


def test_no_homography_of_a_line():
    with pytest.raises(UserError, match="line"):
        homography(np.arange(12.0).reshape(6, 2), np.arange(12.0).reshape(6, 2))


def test_moved(landmarks):
    points = six_points(landmarks)
    np.testing.assert_allclose(moved(points, (0.1, -0.2), 0, 1), points + (14, -28))
    np.testing.assert_allclose(np.ptp(moved(points, (0, 0), 0, 2), axis=0), 2 * np.ptp(points, axis=0))
    # A quarter turn takes right to down.
    turned = moved(points, (0, 0), 90, 1)
    np.testing.assert_allclose(turned[2] - turned[0], (0, 140), atol=1e-9)


def test_side_of_face(landmarks):
    assert side_of_face(landmarks) == "front"
    for shift, side in ((-12, "left"), (12, "right")):
        turned = landmarks.copy()
        turned[30, 0] += shift
        assert side_of_face(turned) == side
