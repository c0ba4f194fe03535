import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskgan_jax.models.landmark_net import LandmarkNet, create_landmark_net


@pytest.mark.parametrize("side", [64, 128, 256])
def test_sixty_eight_points_for_each_picture(side):
    points, variables = jax.eval_shape(LandmarkNet(4).init_with_output, jax.random.key(0), jnp.zeros((2, side, side, 3)))
    assert points.shape == (2, 68, 2)
    assert points.dtype == jnp.float32
    # The feature map that the points are read from is 4 x 4 at every size.
    assert variables["params"]["hidden"]["kernel"].shape[0] == 4 * 4 * 4 * min(8, side // 8)


@pytest.fixture(scope="module")
def network(draw_variables):
    """A network, its variables, and the jitted function of variables and pictures."""
    model = LandmarkNet(4)
    variables = draw_variables(model, jnp.zeros((1, 64, 64, 3)))
    return model, variables, jax.jit(model.apply)


def test_points_are_in_pixels(network):
    _, variables, run = network
    pictures = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)
    last = {"kernel": jnp.zeros_like(variables["params"]["points"]["kernel"]), "bias": jnp.tile(jnp.array([1.0, -2.0]), 68)}
    variables = {**variables, "params": {**variables["params"], "points": last}}
    np.testing.assert_allclose(run(variables, pictures), np.tile((48.0, 0.0), (2, 68, 1)), atol=1e-4)


def test_frozen_network_sees_each_picture_by_itself(network):
    _, variables, run = network
    pictures = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)
    together = run(variables, pictures)
    other = run(variables, np.stack([pictures[0], -pictures[1]]))
    np.testing.assert_array_equal(together[0], other[0])
    assert np.abs(together[1] - other[1]).max() > 1e-3


def test_from_a_config(config):
    assert create_landmark_net(config) == LandmarkNet(4, jnp.dtype("float32"))
