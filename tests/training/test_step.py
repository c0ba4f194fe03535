from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskgan_jax.config import load_config
from maskgan_jax.errors import UserError
from maskgan_jax.training.gan import GAN
from maskgan_jax.training.landmark_regression import LandmarkRegression
from maskgan_jax.training.state import Task
from maskgan_jax.training.step import create_state, learning_rate, train_step

KEY = jax.random.key(0)


def rates(config, steps):
    """The learning rate at each step of a run, and after it."""
    return [float(rate) for rate in jax.vmap(learning_rate(config, steps))(jnp.arange(steps + 1))]


@pytest.mark.parametrize(
    ("warmup", "constant", "expected"),
    [
        (0, 0.6, [1, 1, 1, 1, 1, 1, 1, 3 / 4, 2 / 4, 1 / 4, 0]),
        (0, 1.0, [1] * 11),
        (0, 0.0, [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0]),
        (3, 0.6, [1 / 4, 2 / 4, 3 / 4, 1, 1, 1, 1, 3 / 4, 2 / 4, 1 / 4, 0]),
        (4, 0.2, [1 / 5, 2 / 5, 3 / 5, 4 / 5, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0]),
        (19, 0.5, [n / 20 for n in range(1, 12)]),
    ],
)
def test_learning_rate_rises_stays_and_falls_to_zero(config, warmup, constant, expected):
    config.optimizer.update(learning_rate=0.1, warmup=warmup, constant=constant)
    np.testing.assert_allclose(rates(config, 10), 0.1 * np.array(expected), atol=1e-7)


@pytest.mark.parametrize(("scaling", "factor"), [("none", 1), ("linear", 9), ("sqrt", 3)])
def test_learning_rate_of_a_batch_nine_times_as_large(config, scaling, factor):
    config.input.batch_size = 72
    config.optimizer.update(learning_rate=0.1, scaling_batch=8, scaling=scaling, warmup=1, constant=0.5)
    np.testing.assert_allclose(rates(config, 4), 0.1 * factor * np.array([1 / 2, 1, 1, 1 / 2, 0]), atol=1e-6)


class FitLine(Task):
    """A task with a network 'line' that predicts y from x, one 'rest' that predicts what is left, and a count of calls.

    The gradients are written out, so that NumPy can follow.
    """

    network = "line"
    frozen = jnp.float32(3)

    def init(self, key):
        params = {"line": {"slope": jnp.float32(0.5), "offset": jnp.float32(0)}, "rest": {"offset": jnp.float32(0.3)}}
        return params, {"mean": jnp.float32(0)}

    def gradients(self, params, batch_stats, frozen, batch, key):
        x, y = batch["x"], batch["y"]
        left = params["line"]["slope"] * x + params["line"]["offset"] - y
        error = left + params["rest"]["offset"] * frozen
        line = {"slope": 2 * (left * x).mean(), "offset": 2 * left.mean()}
        stats = {"mean": 0.5 * batch_stats["mean"] + 0.5 * x.mean()}
        terms = {"left": jnp.square(left).mean(), "noise": jax.random.normal(key), "odd": (batch["number"] % 2).mean()}
        return {"line": line, "rest": {"offset": 2 * (error * frozen).mean()}}, stats, terms

    def validate(self, variables, batch):
        raise NotImplementedError

    def draw(self, variables, batch):
        raise NotImplementedError


def run_line(config, count, steps=10):
    """States before and after each of the first `count` steps of a run on one batch of 8, and the terms of each."""
    task, rng = FitLine(), np.random.default_rng(0)
    batch = {"x": rng.normal(size=8).astype(np.float32), "y": rng.normal(size=8).astype(np.float32)}
    states, logged = [create_state(task, config, steps, KEY)], []
    step = jax.jit(partial(train_step, task, config, steps))
    for _ in range(count):
        state, terms = step(states[-1], task.frozen, batch, KEY)
        states.append(state)
        logged.append(terms)
    return batch, states, logged


@pytest.mark.parametrize("count", [1, 3])
def test_adam_as_in_its_paper(config, count):
    """Kingma & Ba (2015), algorithm 1, in float64."""
    config.optimizer.update(learning_rate=0.1, b1=0.5, b2=0.9, constant=0.0)
    batch, states, _ = run_line(config, count)
    x, y = batch["x"].astype(np.float64), batch["y"].astype(np.float64)
    slope, offset, rest = 0.5, 0.0, 0.3
    m = v = np.zeros(3)
    for t in range(1, count + 1):
        left = slope * x + offset - y
        g = np.array([2 * (left * x).mean(), 2 * left.mean(), 2 * 3 * (left + 3 * rest).mean()])
        m, v = 0.5 * m + 0.5 * g, 0.9 * v + 0.1 * g**2
        rate = 0.1 * (1 - (t - 1) / 10)
        slope, offset, rest = np.array([slope, offset, rest]) - rate * (m / (1 - 0.5**t)) / (np.sqrt(v / (1 - 0.9**t)) + 1e-8)
    params = states[-1].params
    ours = [params["line"]["slope"], params["line"]["offset"], params["rest"]["offset"]]
    np.testing.assert_allclose(ours, [slope, offset, rest], rtol=1e-5)


def test_moving_average(config):
    config.optimizer.update(ema=0.2, learning_rate=0.1)
    _, states, _ = run_line(config, 4)
    expected = 0.5  # At the beginning it is the network itself.
    assert states[0].ema["params"] == states[0].params["line"]
    for decay, state in zip((1 / 10, 2 / 11, 0.2, 0.2), states[1:], strict=True):
        expected = decay * expected + (1 - decay) * float(state.params["line"]["slope"])
        assert float(state.ema["params"]["slope"]) == pytest.approx(expected, rel=1e-6)
    assert expected != pytest.approx(float(states[-1].params["line"]["slope"]), abs=1e-3)


def test_no_moving_average(config):
    _, states, _ = run_line(config, 1)
    assert [state.ema for state in states] == [{}, {}]


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_a_batch_in_parts_gives_the_same_step(config, parts):
    _, whole, terms = run_line(config, 2)
    config.optimizer.accumulate = parts
    batch, divided, terms_of_parts = run_line(config, 2)
    for one, other in zip(whole[1:], divided[1:], strict=True):
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), other.params, one.params)
    np.testing.assert_allclose([t["left"] for t in terms_of_parts], [t["left"] for t in terms], rtol=1e-5)
    # Running statistics move once a step, by the mean over the parts.
    for state, weight in ((divided[1], 0.5), (divided[2], 0.75)):
        assert float(state.batch_stats["mean"]) == pytest.approx(weight * batch["x"].mean(), rel=1e-5)
    # However small the parts are, every other record is of the other kind.
    assert [float(term["odd"]) for term in terms_of_parts] == [0.5, 0.5]


def test_each_step_and_each_part_draws_anew(config):
    noise = {parts: [] for parts in (1, 2)}
    for parts in noise:
        config.optimizer.accumulate = parts
        _, _, logged = run_line(config, 2)
        noise[parts] = [float(terms["noise"]) for terms in logged]
    assert noise[1][0] != noise[1][1]
    key = jax.random.fold_in(KEY, 0)
    drawn = [float(jax.random.normal(jax.random.fold_in(key, part))) for part in range(2)]
    assert drawn[0] != drawn[1]
    assert noise[2][0] == pytest.approx(np.mean(drawn))


@pytest.fixture(scope="module")
def batch():
    """Four faces of noise; the second is as the first, the fourth as the third, and all are shown without a mask."""
    rng = np.random.default_rng(0)
    real = rng.integers(0, 256, (2, 64, 64, 3), np.uint8)
    landmarks = rng.uniform(0, 64, (2, 68, 2)).astype(np.float32)
    mask = np.where(rng.random((2, 64, 64, 1)) < 0.3, np.uint8(255), np.uint8(0))
    pairs = {"real": real, "masked": real, "mask": mask, "landmarks": landmarks}
    return {name: array.repeat(2, axis=0) for name, array in pairs.items()}


@pytest.mark.parametrize("task", ["unmask", "landmarks"])
def test_gradients_of_a_batch_in_parts(make_config, landmark_file, batch, task):
    """Each part of two holds both faces, which is all that batch norm, in the landmark network, can tell."""
    config = make_config()
    config.generator.dropout = 0.0
    config.losses.contour = 0.3
    config.landmark_net.weights = str(landmark_file)
    config.optimizer.accumulate = 2
    if task == "unmask":  # Different faces: neither instance norm nor any term of the loss looks across the batch.
        rng = np.random.default_rng(1)
        batch = {**batch, "masked": rng.integers(0, 256, batch["masked"].shape, np.uint8)}
    task = {"unmask": GAN, "landmarks": LandmarkRegression}[task](config)
    state = jax.jit(partial(create_state, task, config, 10))(KEY)
    # At the start nearly nothing comes out of the networks.
    state = state.replace(params=jax.tree.map(lambda array: 3 * array, state.params))
    numbered = {**batch, "number": np.arange(4)}
    gradients, _, terms = jax.jit(task.gradients)(state.params, state.batch_stats, task.frozen, numbered, KEY)
    after, logged = jax.jit(partial(train_step, task, config, 10))(state, task.frozen, batch, KEY)
    assert logged.keys() == terms.keys() | {"learning_rate", *(f"gradient_norm_{name}" for name in gradients)}
    for name, value in terms.items():
        assert float(logged[name]) == pytest.approx(float(value), rel=1e-4)
    for name, gradient in gradients.items():
        # Adam's first moment after one step is the gradient times 1 - b1.
        accumulated = jax.tree.map(lambda array: array / (1 - config.optimizer.b1), after.optimizer[name][0].mu)
        for (path, ours), expected in zip(jax.tree.leaves_with_path(accumulated), jax.tree.leaves(gradient), strict=True):
            scale = np.abs(expected).max()
            np.testing.assert_allclose(ours, expected, atol=1e-3 * scale + 1e-7, err_msg=jax.tree_util.keystr(path))


def test_a_batch_that_cannot_be_divided():
    overrides = ["--config.input.batch_size=10", "--config.optimizer.accumulate=4"]
    with pytest.raises(UserError, match=r"a batch of 10 \(input.batch_size\) cannot be divided into 4 parts"):
        load_config("default", overrides)
