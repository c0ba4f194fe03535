import numpy as np

from maskgan_jax.data.points import MIRRORED, eyes
from maskgan_jax.data.rendered.faces import render_face


def test_every_point_is_the_mirror_of_its_mirror():
    np.testing.assert_array_equal(MIRRORED[MIRRORED], np.arange(68))


def test_eyes_hold_their_landmarks_and_little_else():
    landmarks = render_face(3, seed=0, size=256).landmarks
    mask = eyes(landmarks, (256, 250))
    assert mask.shape == (256, 250) and set(np.unique(mask)) == {0, 255}
    x, y = np.rint(landmarks).astype(int).T
    assert (mask[y, x] > 0).nonzero()[0].tolist() == [*range(36, 48)]
    assert 0.002 < (mask > 0).mean() < 0.05
