import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from maskgan_jax.training.one_network import OneNetwork

MOMENTUM = 0.9


class Scaled(nn.Module):
    """Batch norm of the whole image, times a parameter: small enough to be derived by hand."""

    @nn.compact
    def __call__(self, image, train=False):
        x = nn.BatchNorm(not train, momentum=MOMENTUM, epsilon=0.0, use_bias=False, use_scale=False)(image)
        return x * self.param("factor", nn.initializers.constant(2.0), (3,))


class OfFactor(OneNetwork):
    network, loss = "scaled", "error"
    draw = gradients = validate = None


@pytest.fixture
def task(config):
    return OfFactor(config, Scaled())


def test_init(task, config):
    params, batch_stats = task.init(jnp.zeros(2, jnp.uint32))
    assert task.size == config.data.size and task.frozen == {}
    np.testing.assert_array_equal(params["scaled"]["factor"], [2, 2, 2])
    np.testing.assert_array_equal(batch_stats["BatchNorm_0"]["mean"], [0, 0, 0])


def test_gradients(task):
    """Of the sum of squares of factor * normalized image: 2 * factor * (the number of values), as its variance is 1."""
    images = np.random.default_rng(0).normal(3, 2, (2, 4, 4, 3)).astype(np.float32)
    params, batch_stats = task.init(jnp.zeros(2, jnp.uint32))
    gradients, updated, losses = task.gradients_of(lambda output: (output**2).sum(), jnp.asarray(images), params, batch_stats)
    assert gradients.keys() == {"scaled"} and losses.keys() == {"error"}
    np.testing.assert_allclose(gradients["scaled"]["factor"], [2 * 2.0 * 32] * 3, rtol=1e-4)
    np.testing.assert_allclose(losses["error"], 2.0**2 * 32 * 3, rtol=1e-4)
    # The statistics move towards those of the batch.
    np.testing.assert_allclose(
        updated["BatchNorm_0"]["mean"], (1 - MOMENTUM) * images.mean((0, 1, 2), dtype=np.float64), rtol=1e-4
    )
    np.testing.assert_allclose(
        updated["BatchNorm_0"]["var"], MOMENTUM + (1 - MOMENTUM) * images.var((0, 1, 2), dtype=np.float64), rtol=1e-4
    )
    np.testing.assert_array_equal(batch_stats["BatchNorm_0"]["mean"], [0, 0, 0])
