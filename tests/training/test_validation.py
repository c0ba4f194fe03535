import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskgan_jax.data.masked_faces.reader import load_split
from maskgan_jax.training.landmark_regression import LandmarkRegression
from maskgan_jax.training.mesh import create_mesh
from maskgan_jax.training.state import mean_of
from maskgan_jax.training.validation import create_validator, merged


def test_values_of_several_batches_together():
    batches = [([1.0, 2.0, 9.0], [1, 1, 0]), ([6.0, 0.0, 0.0], [1, 0, 0])]
    collections = (
        mean_of("error").single_from_model_output(error=jnp.array(values), mask=jnp.array(counts)) for values, counts in batches
    )
    assert merged(collections) == {"error": pytest.approx(3.0)}


class Writer:
    """What a validator writes to."""

    def __init__(self):
        self.drawn = []

    def draw(self, *values):
        self.drawn.append(values)


@pytest.mark.parametrize("limit", [0, 3])
def test_scores_are_means_over_the_records(config, data_dir, limit):
    """Four records in batches of four, and three, of which the last batch is filled up."""
    config.task, config.training.validation_records, config.training.pictures = "landmarks", limit, 2
    task, records, writer = LandmarkRegression(config), load_split(data_dir, "validation"), Writer()
    params, batch_stats = jax.jit(task.init)(jax.random.key(0))
    variables = {"params": params["landmark_net"], "batch_stats": batch_stats}
    scores = create_validator(task, records, config, create_mesh(config, jax.devices()[:1]))(variables, 7, writer)
    validate = jax.jit(task.validate)
    each = [
        validate(variables, {k: records[i][k][None] for k in ("real", "masked", "landmarks")} | {"weight": np.ones(1)})
        for i in range(limit or 4)
    ]
    assert scores == pytest.approx({name: np.mean([float(one.compute()[name]) for one in each]) for name in scores}, rel=1e-4)
    ((step, image),) = writer.drawn
    assert step == 7 and image.shape == (2 * 128, 2 * 128, 3)
