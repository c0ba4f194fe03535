import jax
import numpy as np
import pytest

from maskgan_jax.data.points import landmark_errors
from maskgan_jax.training.landmark_regression import LandmarkRegression


def test_errors_are_in_distances_between_the_eyes():
    landmarks = np.zeros((2, 68, 2), np.float32)
    landmarks[:, 42:48] = [[[30, 40]], [[0, 20]]]  # The eyes' centres are 50 and 20 pixels apart.
    predicted = landmarks + np.float32([6, 8])  # Every point is 10 pixels off.
    expected = np.repeat([[10 / 50], [10 / 20]], 68, axis=1)
    np.testing.assert_allclose(landmark_errors(predicted, landmarks), expected, rtol=1e-6)


@pytest.fixture(scope="module")
def loss(make_config):
    """The loss of a training step on a batch of four, by an untrained network."""
    config = make_config()
    config.task = "landmarks"
    task = LandmarkRegression(config)
    params, batch_stats = jax.jit(task.init)(jax.random.key(0))
    gradients = jax.jit(task.gradients)
    return lambda batch: float(gradients(params, batch_stats, {}, batch, jax.random.key(1))[2]["landmarks"])


def test_half_of_the_faces_are_shown_with_their_masks(loss):
    rng = np.random.default_rng(0)
    real, masked = rng.integers(0, 256, (2, 4, 64, 64, 3), np.uint8)
    batch = {"real": real, "masked": masked, "landmarks": rng.uniform(0, 64, (4, 68, 2)).astype(np.float32)}
    batch["number"] = np.arange(4)
    shown = loss(batch)
    for name, unseen in (("real", [1, 3]), ("masked", [0, 2])):
        changed = batch[name].copy()
        changed[unseen] = 255 - changed[unseen]
        assert loss({**batch, name: changed}) == shown
        changed = batch[name].copy()
        seen = [i for i in range(4) if i not in unseen]
        changed[seen] = 255 - changed[seen]
        assert loss({**batch, name: changed}) != shown


@pytest.mark.parametrize("value", [1e9, np.nan])
def test_a_network_that_diverges_is_drawn(value, make_config):
    """Its validation, with pictures, comes after steps whose numbers are finite."""
    task = LandmarkRegression(make_config())
    params, batch_stats = jax.eval_shape(task.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, value, leaf.dtype), params)
    batch_stats = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), batch_stats)
    faces = np.full((2, 64, 64, 3), 200, np.uint8)
    landmarks = np.full((2, 68, 2), 32, np.float32)
    variables = task.variables(params, batch_stats)
    assert not np.all(np.abs(task.predict(variables, faces)) < 1e6)
    drawn = task.draw(variables, {"real": faces, "masked": faces, "landmarks": landmarks})
    assert drawn.shape == (2 * 128, 2 * 128, 3)
    np.testing.assert_array_equal(drawn[0, 0], [200, 200, 200])
    np.testing.assert_array_equal(drawn[64, 64], [0, 255, 0])
