import numpy as np

from maskgan_jax.data.points import MIRRORED, dilated, eye_centres, eyes, face_width, hull_mask, mouth_centre
from maskgan_jax.data.rendered.faces import render_face


def test_every_point_is_the_mirror_of_its_mirror():
    np.testing.assert_array_equal(MIRRORED[MIRRORED], np.arange(68))


def test_centres_and_width_of_a_face():
    landmarks = np.zeros((68, 2))
    landmarks[36:42], landmarks[42:48] = (10, 20), (30, 21)
    landmarks[36] += (6, 0)
    landmarks[48], landmarks[54] = (14, 40), (24, 42)
    landmarks[0], landmarks[16] = (2, 30), (38, 57)
    np.testing.assert_array_equal(eye_centres(landmarks), [(11, 20), (30, 21)])
    np.testing.assert_array_equal(mouth_centre(landmarks), (19, 41))
    assert face_width(landmarks) == 45


def test_a_hull_holds_what_is_between_points_that_it_dilates_by_a_disc():
    corners = np.array([(5.4, 6), (14, 5.6), (14, 10), (5, 10), (8, 8)])
    mask = hull_mask(corners, (20, 30))
    expected = np.zeros((20, 30), np.uint8)
    expected[6:11, 5:15] = 255
    np.testing.assert_array_equal(mask, expected)
    y, x = np.nonzero(dilated(np.pad([[np.uint8(255)]], 9), 4))
    assert np.hypot(x - 9, y - 9).max() < 4.8 and abs(len(x) - np.pi * 4.5**2) < 8
    np.testing.assert_array_equal(dilated(mask, 0), mask)


def test_eyes_hold_their_landmarks_and_little_else():
    landmarks = render_face(3, seed=0, size=256).landmarks
    mask = eyes(landmarks, (256, 250))
    assert mask.shape == (256, 250) and set(np.unique(mask)) == {0, 255}
    x, y = np.rint(landmarks).astype(int).T
    assert (mask[y, x] > 0).nonzero()[0].tolist() == [*range(36, 48)]
    assert 0.002 < (mask > 0).mean() < 0.05
