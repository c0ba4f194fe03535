import jax.numpy as jnp
import numpy as np
import pytest

from maskgan_jax.training.state import Task, TrainState, hidden, mean_of, put_back, to_levels, to_unit

LEVELS = np.arange(256, dtype=np.uint8)


def test_levels_and_the_unit_range():
    unit = np.asarray(to_unit(LEVELS))
    assert unit.dtype == np.float32 and (unit[0], unit[255]) == (-1, 1)
    np.testing.assert_allclose(unit, np.linspace(-1, 1, 256), atol=1e-6)
    np.testing.assert_array_equal(to_levels(unit), LEVELS)


def test_levels_are_rounded_and_clipped():
    values = np.array([-3, -1.001, 0.499 / 127.5 - 1, 0.501 / 127.5 - 1, 1.001, 3], np.float32)
    np.testing.assert_array_equal(to_levels(values), [0, 0, 0, 1, 255, 255])


def test_hidden_is_above_127():
    mask = LEVELS.reshape(1, 16, 16, 1)
    region = np.asarray(hidden({"mask": mask}))
    assert region.dtype == np.float32
    np.testing.assert_array_equal(region.ravel(), np.arange(256) >= 128)


def test_known_pixels_are_put_back():
    rng = np.random.default_rng(0)
    generated, masked = rng.integers(0, 256, (2, 2, 8, 8, 3), np.uint8)
    mask = rng.choice(np.array([0, 127, 128, 255], np.uint8), (2, 8, 8, 1))
    expected = masked.copy()
    expected[mask[..., 0] > 127] = generated[mask[..., 0] > 127]
    np.testing.assert_array_equal(put_back(generated, masked, mask), expected)


def test_means_are_of_the_records_that_count():
    batches = [([1.0, 2.0, 9.0], [1, 1, 0]), ([6.0, 0.0, 0.0], [1, 0, 0])]
    Collection = mean_of("error")
    total = Collection.empty()
    for values, weights in batches:
        total = total.merge(Collection.single_from_model_output(error=jnp.array(values), mask=jnp.array(weights)))
    assert total.compute()["error"] == pytest.approx(3.0)


def test_the_average_counts_where_there_is_one():
    task = Task("generator", {}, None, None, None, None, criterion="mse")
    params = {"generator": {"w": 1.0}, "discriminator": {"w": 2.0}}
    averaged = {"params": {"w": 3.0}, "batch_stats": {"mean": 4.0}}
    state = TrainState(0, params, {"mean": 5.0}, {}, {})
    assert task.results(state) == {"params": {"w": 1.0}, "batch_stats": {"mean": 5.0}}
    assert task.results(state.replace(ema=averaged)) == averaged
