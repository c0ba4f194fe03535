import jax.numpy as jnp
import pytest

from maskgan_jax.training.landmark_regression import LandmarkRegression
from maskgan_jax.training.state import TrainState, mean_of


def test_means_are_of_the_records_that_count():
    batches = [([1.0, 2.0, 9.0], [1, 1, 0]), ([6.0, 0.0, 0.0], [1, 0, 0])]
    Collection = mean_of("error")
    total = Collection.empty()
    for values, weights in batches:
        total = total.merge(Collection.single_from_model_output(error=jnp.array(values), mask=jnp.array(weights)))
    assert total.compute()["error"] == pytest.approx(3.0)


def test_the_average_counts_where_there_is_one(config):
    task = LandmarkRegression(config)
    params = {"landmark_net": {"w": 1.0}, "another": {"w": 2.0}}
    averaged = {"params": {"w": 3.0}, "batch_stats": {"mean": 4.0}}
    state = TrainState(0, params, {"mean": 5.0}, {}, {})
    assert task.results(state) == {"params": {"w": 1.0}, "batch_stats": {"mean": 5.0}}
    assert task.results(state.replace(ema=averaged)) == averaged
