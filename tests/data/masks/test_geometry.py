import numpy as np
import pytest
from scipy.optimize import least_squares

from maskgan_jax.data.masks.geometry import (
    CHIN,
    CONTOUR_MEAN,
    NOSE_MEAN,
    PIVOT,
    SIX_MEAN,
    Homography,
    Mesh,
    Worn,
    keeps_orientation,
    side_of_face,
    six_points,
)
from maskgan_jax.data.points import CONTOUR, MIRRORED
from maskgan_jax.errors import UserError

FRAME = np.concatenate([CONTOUR_MEAN, NOSE_MEAN])


def on(landmarks):
    return np.concatenate([landmarks[CONTOUR], landmarks[27:31]])


def projected(matrix, points):
    homogeneous = np.c_[points, np.ones(len(points))] @ np.reshape(matrix, (3, 3)).T
    return homogeneous[:, :2] / homogeneous[:, 2:]


def thin_plates(source, target, smoothing, points):
    """Thin-plate splines with r^2 log r as the kernel, by their linear system."""

    def kernel(a, b):
        distance = np.linalg.norm(a[:, None] - b[None], axis=-1)
        return distance**2 * np.log(np.maximum(distance, 1e-300))

    plane = np.c_[np.ones(len(source)), source]
    system = np.block([[kernel(source, source) + smoothing * np.eye(len(source)), plane], [plane.T, np.zeros((3, 3))]])
    weights = np.linalg.solve(system, np.r_[target, np.zeros((3, 2))])
    return kernel(points, source) @ weights[:-3] + np.c_[np.ones(len(points)), points] @ weights[-3:]


def test_six_points_by_hand(landmarks):
    # Eye line y = 100; nose 40 long, so a, c at y = 140, halfway down the jaw's upper piece (48..68).
    # The lower lip ends at y = 196, on the lower piece: 16 / 60 of the way from (68, 180) to (128, 240).
    expected = [(58, 140), (128, 120), (198, 140), (84, 196), (128, 240), (172, 196)]
    np.testing.assert_allclose(six_points(landmarks), expected, atol=1e-9)


def test_six_points_turn_with_the_picture(landmarks):
    mirrored = (landmarks * (-1, 1) + (255, 0))[MIRRORED]
    expected = (six_points(landmarks) * (-1, 1) + (255, 0))[[2, 1, 0, 5, 4, 3]]
    np.testing.assert_allclose(six_points(mirrored), expected, atol=1e-9)


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
    homography = Homography(source, projected(truth, source))
    others = np.random.default_rng(0).uniform(0, 256, (50, 2))
    np.testing.assert_allclose(homography.to_image(others), projected(truth, others), atol=1e-3)
    np.testing.assert_allclose(homography.to_frame(projected(truth, others)), others, atol=1e-3)


def test_homography_is_the_best_one():
    rng = np.random.default_rng(0)
    for _ in range(5):
        target = SIX_MEAN * 150 + 128 + rng.normal(0, 4, (6, 2))
        # The direct linear solution, and from there the least squares.
        rows = [
            row
            for (x, y), (u, v) in zip(SIX_MEAN, target, strict=True)
            for row in ((x, y, 1, 0, 0, 0, -u * x, -u * y, -u), (0, 0, 0, x, y, 1, -v * x, -v * y, -v))
        ]
        direct = np.linalg.svd(rows)[2][-1]
        direct = direct / direct[-1]
        best = least_squares(
            lambda m, target=target: (projected(np.r_[m, 1], SIX_MEAN) - target).ravel(), direct[:8], xtol=1e-14
        ).x
        np.testing.assert_allclose(
            Homography(SIX_MEAN, target).to_image(SIX_MEAN), projected(np.r_[best, 1], SIX_MEAN), atol=0.02
        )


def test_no_homography_of_a_line():
    with pytest.raises(UserError, match="line"):
        Homography(np.arange(12.0).reshape(6, 2), np.arange(12.0).reshape(6, 2))


def test_mesh_against_the_linear_system(head):
    control = on(head)
    size = np.ptp(control, axis=0).max()
    points = np.random.default_rng(0).uniform((-0.5, 0), (0.5, 0.9), (40, 2))
    expected = thin_plates(FRAME, control / size, Mesh.SMOOTHING, points) * size
    np.testing.assert_allclose(Mesh(FRAME, control).to_image(points), expected, atol=1e-6)


def test_mesh_passes_near_the_landmarks(head):
    jittered = on(head) + np.random.default_rng(0).normal(0, 1, (21, 2))
    for control in (on(head), jittered):
        mesh = Mesh(FRAME, control)
        # Of a face 156 pixels wide.
        assert np.linalg.norm(mesh.to_image(FRAME) - control, axis=1).max() < 2.5
        assert np.linalg.norm(mesh.to_frame(control) - FRAME, axis=1).max() < 2.5 / 156


def test_both_ways_of_the_mesh_are_inverse(head):
    mesh = Mesh(FRAME, on(head))
    points = np.stack(np.meshgrid(np.linspace(-0.45, 0.45, 10), np.linspace(0.1, 0.8, 10)), axis=-1).reshape(-1, 2)
    # Two splines, one each way; the difference is half a hundredth of the face.
    assert np.abs(mesh.to_frame(mesh.to_image(points)) - points).max() < 0.01


def test_mesh_of_a_turned_and_enlarged_face_is_exact():
    turn = 40 * np.array([(np.cos(0.3), np.sin(0.3)), (-np.sin(0.3), np.cos(0.3))])
    mesh = Mesh(FRAME, FRAME @ turn + (7, 9))
    points = np.random.default_rng(0).uniform(-1, 1, (20, 2))
    np.testing.assert_allclose(mesh.to_image(points), points @ turn + (7, 9), atol=1e-6)
    np.testing.assert_allclose(mesh.to_frame(points @ turn + (7, 9)), points, atol=1e-6)


def test_no_mesh_of_a_point():
    with pytest.raises(UserError, match="leave this photo out"):
        Mesh(FRAME, np.full((21, 2), 5.0))


def test_mesh_goes_back_the_way_it_came(head):
    rng = np.random.default_rng(0)
    for _ in range(5):
        mesh = Mesh(FRAME, on(head) + rng.normal(0, 3, (21, 2)))
        points = rng.uniform((-0.6, 0), (0.6, 1.3), (200, 2))
        error = np.abs(mesh.to_frame(mesh.to_image(points)) - points).max(axis=1)
        assert np.median(error) < 0.003 and error.max() < 0.03


def test_squeezed_to_the_chin():
    worn = Worn(Homography(SIX_MEAN, SIX_MEAN), (0, 0), 0.0, 1.0, 0.5)
    points = np.array([CHIN, CHIN - (0.2, 0.6)])
    np.testing.assert_allclose(worn.to_image(points), [CHIN, CHIN - (0.2, 0.3)], atol=1e-6)
    np.testing.assert_allclose(worn.to_frame(worn.to_image(points)), points, atol=1e-6)


@pytest.mark.parametrize("kind", ["homography", "mesh"])
def test_worn_there_and_back(head, kind):
    placement = Mesh(FRAME, on(head)) if kind == "mesh" else Homography(SIX_MEAN, six_points(head))
    worn = Worn(placement, (0.05, -0.03), 8.0, 1.1)
    points = np.random.default_rng(0).uniform((-0.35, 0.15), (0.35, 0.7), (60, 2))
    assert np.abs(worn.to_frame(worn.to_image(points)) - points).max() < (0.01 if kind == "mesh" else 1e-9)


def test_worn_moves_turns_and_scales():
    plain = Homography(SIX_MEAN, SIX_MEAN * 100)
    right = PIVOT + (0.3, 0)
    np.testing.assert_allclose(Worn(plain, (0, 0), 0, 1).to_image(SIX_MEAN), SIX_MEAN * 100, atol=1e-4)
    np.testing.assert_allclose(Worn(plain, (0.1, -0.2), 0, 1).to_image(SIX_MEAN), SIX_MEAN * 100 + (10, -20), atol=1e-4)
    # A quarter turn takes right to down.
    np.testing.assert_allclose(Worn(plain, (0, 0), 90, 1).to_image(right[None]), [(0, 80)], atol=1e-4)
    np.testing.assert_allclose(Worn(plain, (0.1, 0), 90, 2).to_image(right[None]), [(10, 110)], atol=1e-4)


def test_upright(head):
    for placement in (Mesh(FRAME, on(head)), Homography(SIX_MEAN, six_points(head))):
        assert keeps_orientation(placement.to_image, CONTOUR_MEAN)
    for turn in ((-1, 1), (1, -1)):
        assert not keeps_orientation(Homography(SIX_MEAN, SIX_MEAN * turn).to_image, CONTOUR_MEAN)
    assert keeps_orientation(Homography(SIX_MEAN, -SIX_MEAN).to_image, CONTOUR_MEAN)
    # The right half of the jaw has been folded onto the left.
    folded = head.copy()
    folded[9:17, 0] = 128 - 0.5 * (folded[9:17, 0] - 128)
    assert not keeps_orientation(Mesh(FRAME, on(folded)).to_image, CONTOUR_MEAN)


def test_side_of_face(landmarks):
    assert side_of_face(landmarks) == "front"
    for shift, side in ((-12, "left"), (12, "right")):
        turned = landmarks.copy()
        turned[30, 0] += shift
        assert side_of_face(turned) == side
