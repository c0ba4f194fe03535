import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.networks.run_checkpoints import read_tree
from maskgan_jax.storage import steps_in
from maskgan_jax.training import loop, not_finite
from maskgan_jax.training.landmark_regression import LandmarkRegression
from maskgan_jax.training.loop import train
from maskgan_jax.training.state import TrainState
from maskgan_jax.training.step import at_step, create_optimizer, create_state, train_step


class Poisoned:
    """Batches of float32, of which those of some numbers have NaN in their third record."""

    def __init__(self, batches, numbers):
        self.batches, self.numbers, self.number = batches, numbers, 0

    def __next__(self):
        batch = next(self.batches)
        self.number += 1
        for name in ("real", "masked"):
            batch[name] = batch[name].astype(np.float32)
            if self.number in self.numbers:
                batch[name][2, 10:20] = np.nan
        return batch

    def __getattr__(self, name):
        return getattr(self.batches, name)


@pytest.fixture
def landmark_config(config):
    config.task = "landmarks"
    config.training.update(steps=4, validate_every=4, checkpoint_every=1, keep=4)
    return config


@pytest.fixture
def poison(monkeypatch):
    """What makes the batches of the given numbers bad, and gives the numbers of the records of all that were read."""

    def begin(*numbers):
        read, training_batches = [], loop.training_batches

        class Noted(Poisoned):
            def __next__(self):
                batch = super().__next__()
                read.append(batch["index"])
                return batch

        monkeypatch.setattr(loop, "training_batches", lambda *a, **k: Noted(training_batches(*a, **k), numbers))
        return read

    return begin


def test_a_run_stops_and_names_term_layer_and_record(landmark_config, data_dir, tmp_path, poison):
    read = poison(3)
    with pytest.raises(UserError) as stopped:
        train(landmark_config, data_dir, tmp_path)
    name = loop.load_split(data_dir, "train")[read[2][2]]["id"]
    told = str(stopped.value)
    assert told.startswith("at step 3 'landmarks', ") and "'gradient_norm_landmark_net' became nan (first" in told
    assert "(first in the layer LandmarkNet/" in told and f", for record {name!r})" in told
    assert "use --config.training.not_finite=skip" in told
    # Nothing of that step is saved.
    assert steps_in(tmp_path / "checkpoints") == [1, 2] and not list((tmp_path / "best").iterdir())


def test_a_run_that_skips_bad_batches_goes_on_and_counts_them(landmark_config, data_dir, tmp_path, poison, capfd):
    poison(2, 3)
    landmark_config.training.update(not_finite="skip", log_every=4)
    assert train(landmark_config, data_dir, tmp_path).step == 4
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["skipped_batches"] for line in lines if line["phase"] == "train"] == [0, 1, 1, 0]
    assert "step 2 is skipped (records " in capfd.readouterr().out
    states = [read_tree(tmp_path / "checkpoints" / str(step) / "state") for step in (1, 3, 4)]
    for state in states:
        del state["step"]
    equal = [jax.tree.all(jax.tree.map(np.array_equal, states[0], state)) for state in states[1:]]
    assert equal == [True, False]


def test_the_learning_rate_goes_by_the_steps_of_the_run_and_not_by_the_batches_that_were_taken(config):
    """Of four steps the first two are left out."""
    config.task = "landmarks"
    config.optimizer.constant = 0.0
    task = LandmarkRegression(config)
    rng = np.random.default_rng(0)
    batch = {name: rng.uniform(0, 255, (2, 64, 64, 3)).astype(np.float32) for name in ("real", "masked")}
    batch |= {"landmarks": rng.uniform(0, 64, (2, 68, 2)).astype(np.float32)}
    step = jax.jit(partial(train_step, task, config, 4))
    state = create_state(task, config, 4, jax.random.key(0))
    for landmarks in (np.nan * batch["landmarks"], np.nan * batch["landmarks"], batch["landmarks"]):
        before, (state, terms) = state, step(state, task.frozen, {**batch, "landmarks": landmarks}, jax.random.key(1))
    moved = [np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (before.params, state.params)), strict=True)]
    # Adam's first step moves weights by the rate.
    assert max(moved) == pytest.approx(config.optimizer.learning_rate / 2, rel=1e-3)
    assert float(terms["learning_rate"]) == pytest.approx(config.optimizer.learning_rate / 2)


def test_a_network_joins_by_the_steps_of_the_run(config):
    """Two of four steps were left out, of which the optimizer has counted none."""
    optimizer = create_optimizer(config, 4, joins=0.5)
    weights = {"a": jnp.zeros(3)}
    updates, _ = optimizer.update({"a": jnp.full(3, 7.0)}, at_step(optimizer.init(weights), 2), weights)
    # Adam's first step, and not the gradient as it is.
    np.testing.assert_allclose(updates["a"], -config.optimizer.learning_rate, rtol=1e-3)


def test_when_nothing_is_learnt_any_more_it_ends(landmark_config, monkeypatch, capsys):
    landmark_config.training.not_finite = "skip"
    records = [{"id": f"face {number}"} for number in range(9)]
    monkeypatch.setattr(not_finite, "MOST_SKIPPED", 3)
    monkeypatch.setattr(not_finite, "find_origin", lambda *_: None)
    watch = not_finite.NonFiniteMonitor(landmark_config, None, records, jax.random.key(0), 9)
    batch = {"index": np.arange(8)}
    state = TrainState(0, {}, {}, {}, {})
    for step, value in enumerate([np.nan, np.inf, 1.0, np.nan, np.nan], start=1):
        watch(step, {"l1": np.float32(value), "rate": np.float32(1)}, batch, state)
    assert watch.skipped == 4
    told = "step 2 is skipped (records 'face 0', 'face 1', 'face 2', 'face 3', 'face 4' and 3 more): 'l1' became inf"
    assert told in capsys.readouterr().out
    with pytest.raises(UserError, match="the last 3 batches were skipped; at step 6 'l1' became nan .* all layers give finite"):
        watch(6, {"l1": np.float32(np.nan)}, batch, state)


def test_origin(landmark_config):
    task = LandmarkRegression(landmark_config)
    params, batch_stats = jax.jit(task.init)(jax.random.key(0))
    rng = np.random.default_rng(0)
    batch = {name: rng.integers(0, 255, (4, 64, 64, 3)).astype(np.uint8) for name in ("real", "masked")}
    batch |= {"mask": np.full((4, 64, 64, 1), 255, np.uint8), "landmarks": np.zeros((4, 68, 2), np.float32)}
    arguments = batch_stats, batch, jax.random.key(1), 0.5
    assert not_finite.find_origin(task, params, *arguments) is None
    layer = sorted(params["landmark_net"])[-1]
    params["landmark_net"][layer] = jax.tree.map(lambda leaf: leaf + np.inf, params["landmark_net"][layer])
    origin = not_finite.find_origin(task, params, *arguments)
    assert origin.layer.startswith(f"LandmarkNet/{layer}") and origin.places == [0, 1, 2, 3]
