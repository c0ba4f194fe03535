import numpy as np
import pytest
import scipy.linalg

from maskgan_jax.metrics.set_quality import frechet_distance


def test_distance_of_equal_sets_is_0():
    features = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-6)


def test_distance_where_the_axes_do_not_depend_on_each_other():
    """Then it is that of Dowson and Landau (1982) for each axis: (m1 - m2)^2 + (s1 - s2)^2."""
    corners = np.array([(x, y) for x in (-1.0, 1.0) for y in (-1.0, 1.0)] * 5)
    one, other = corners * (2, 3) + (1, 0), corners * (5, 1) + (0, 4)
    spread = np.std(corners[:, 0], ddof=1)
    expected = 1 + 16 + (spread * (2 - 5)) ** 2 + (spread * (3 - 1)) ** 2
    assert frechet_distance(one, other) == pytest.approx(expected)


def test_distance_as_with_a_root_of_a_matrix():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(60, 5)) @ rng.normal(size=(5, 5)), 1 + rng.normal(size=(40, 5)) @ rng.normal(size=(5, 5))
    covariances = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    expected = np.square(one.mean(0) - other.mean(0)).sum() + np.trace(covariances[0] + covariances[1] - 2 * np.real(root))
    assert frechet_distance(one, other) == pytest.approx(expected)


def test_distance_of_sets_smaller_than_their_features():
    rng = np.random.default_rng(0)
    distance = frechet_distance(rng.normal(size=(3, 20)), rng.normal(size=(4, 20)))
    assert np.isfinite(distance) and distance > 0
