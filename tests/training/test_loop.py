import errno
import functools
import json
import math
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskgan_jax.__main__ import main
from maskgan_jax.config import read_config, read_digests, save_config
from maskgan_jax.errors import Unfinished, UserError
from maskgan_jax.files import read_image
from maskgan_jax.networks.safetensors import load_safetensors
from maskgan_jax.networks.stored import checkpoint_of, load_network
from maskgan_jax.storage import steps_in
from maskgan_jax.training import checkpoints, loop, speed
from maskgan_jax.training.loop import Plan, train
from maskgan_jax.training.step import train_step
from maskgan_jax.training.wall_time import WallTime

STEPS = 6

# Trains with the config and into the workdir of the command line; sends itself a signal once the numbers of a step are written
# ("MetricsFiles.write"), during its validation ("MetricsFiles.draw"), or before its network is saved ("checkpoints.save_best").
SIGNALLED = """
import os, signal, sys, time
sys.modules["torch"] = None  # tensorboardX would import it, for seconds.
from maskgan_jax.config import read_config
from maskgan_jax.errors import exit_code
from maskgan_jax.runtime.signals import stop_on_sigterm
from maskgan_jax.training import loop

config, data_dir, workdir, when, name, where = sys.argv[1:]
owner, what = where.split(".")
original = getattr(getattr(loop, owner), what)

def and_die(self, step, *rest):
    if what != "save_best":
        original(self, step, *rest)
    if step == int(when):
        os.kill(os.getpid(), signal.Signals[name])
        if what == "draw":
            time.sleep(60)
    if what == "save_best":
        original(self, step, *rest)

setattr(getattr(loop, owner), what, and_die)
stop_on_sigterm()  # The loop tells when there is something to save.
sys.exit(exit_code("train", lambda: loop.train(read_config(config), data_dir, workdir) and 0))
"""


@pytest.fixture(scope="module")
def run_config(make_config):
    """What makes the config of these runs: six steps, of which every second is validated and saved."""

    def make():
        config = make_config()
        config.training.steps = STEPS
        config.training.validate_every = 2
        config.training.checkpoint_every = 2
        config.training.keep = 2
        return config

    return make


@pytest.fixture(scope="module")
def light_config(run_config):
    """The same for the landmark network, where it makes no difference what is trained: less is compiled."""

    def make():
        config = run_config()
        config.task = "landmarks"
        return config

    return make


def signalled(*arguments, where="MetricsFiles.write"):
    """A training that sends itself a signal: config, data set, workdir, after which step, and which signal."""
    return subprocess.run([sys.executable, "-c", SIGNALLED, *map(str, arguments), where], capture_output=True, text=True)


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def assert_identical(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def assert_same_numbers(workdir, other):
    """The two runs have the same numbers at the same steps, each once; only the speed differs."""
    timed = ("pictures_per_second", "images_per_second_per_device", "flop_utilization", "input_wait")
    numbers = [[{k: v for k, v in line.items() if k not in timed} for line in lines(w)] for w in (workdir, other)]
    assert numbers[0] == numbers[1]
    assert [line["step"] for line in numbers[0] if line["phase"] == "train"] == list(range(1, STEPS + 1))
    assert [line["step"] for line in numbers[0] if line["phase"] == "validation"] == [2, 4, 6]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, data_dir, run_config):
    """The workdir of a whole run, and its last state."""
    workdir = tmp_path_factory.mktemp("uninterrupted")
    return workdir, jax.device_get(train(run_config(), data_dir, workdir))


@pytest.fixture(scope="module")
def light_uninterrupted(tmp_path_factory, data_dir, light_config):
    """The same of the landmark network."""
    workdir = tmp_path_factory.mktemp("light_uninterrupted")
    return workdir, jax.device_get(train(light_config(), data_dir, workdir))


def test_what_a_run_writes(uninterrupted, run_config):
    workdir, state = uninterrupted
    assert state.step == STEPS
    assert read_config(workdir / "config.json").to_dict() == run_config().to_dict()
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["4", "6"]
    assert list(workdir.glob("events.*"))
    pictures = sorted((workdir / "pictures").iterdir())
    assert [path.name for path in pictures] == [f"step_{step:08d}.png" for step in (2, 4, 6)]
    assert read_image(pictures[0]).shape == (4 * 64, 4 * 64, 3)
    first = lines(workdir)[0]
    assert first["step"] == 1 and first["phase"] == "train"
    assert {"l1", "weighted_l1", "generator", "discriminator", "pictures_per_second"} <= set(first)
    assert all(0 <= line["input_wait"] < 1 for line in lines(workdir) if line["phase"] == "train")
    # The peak of a CPU is not known.
    assert first["images_per_second_per_device"] == first["pictures_per_second"] / jax.device_count()
    assert "flop_utilization" not in first
    times = json.loads((workdir / "wall_time.json").read_text())
    assert [(start["from_step"], start["to_step"]) for start in times["starts"]] == [(0, STEPS)]
    assert times["seconds"]["lost"] == 0
    assert min(times["seconds"][part] for part in ("start", "compile", "step", "validation", "checkpoint")) > 0
    digests = read_digests(workdir / "config.json")
    assert digests.keys() == {"data"} and len(digests["data"]) == 64


def test_best_checkpoint_has_the_smallest_validation_error(uninterrupted):
    workdir, _ = uninterrupted
    scores = {line["step"]: line["mse_masked"] for line in lines(workdir) if line["phase"] == "validation"}
    best = min(scores, key=scores.get)
    assert [path.name for path in (workdir / "best").iterdir()] == [str(best)]
    of_that_step = load_network(checkpoint_of(workdir, str(best)), "unmask")
    assert_identical(load_network(workdir, "unmask").variables, of_that_step.variables)


def test_any_checkpoint_of_a_run_can_be_loaded(uninterrupted):
    workdir, state = uninterrupted
    assert checkpoint_of(workdir, "best") == workdir
    last = checkpoint_of(workdir, "last")
    assert last == checkpoint_of(workdir, str(STEPS)) == workdir / "checkpoints" / str(STEPS)
    assert_identical(load_network(last, "unmask").variables["params"], state.params["generator"])
    earlier = load_network(checkpoint_of(workdir, "4"), "unmask")
    assert earlier.description == load_network(last, "unmask").description
    assert any(
        np.any(a != b)
        for a, b in zip(*map(jax.tree.leaves, (earlier.variables["params"], state.params["generator"])), strict=True)
    )
    for step in ("5", "first", "-1"):
        with pytest.raises(UserError, match=f"no checkpoint of step {step}; give --step=best, last or one of 4, 6"):
            checkpoint_of(workdir, step)


def test_chosen_epochs_are_kept(data_dir, tmp_path, light_config):
    config = light_config()
    config.training.update(keep=1, checkpoint_every=6, validate_every=6, pictures=1)
    per_epoch = len(loop.load_split(data_dir, "train")) // config.input.batch_size
    config.training.keep_epochs = (1 / per_epoch, 3 / per_epoch)
    train(config, data_dir, tmp_path)
    assert sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir()) == [1, 3, 6]


def test_a_checkpoint_is_whole_before_the_next_step(data_dir, tmp_path, monkeypatch, light_config):
    config = light_config()
    config.training.update(steps=4, checkpoint_every=2, validate_every=4, pictures=1)
    shard_batch, whole = loop.shard_batch, []

    def look_and_shard(*arguments):
        whole.append(steps_in(tmp_path / "checkpoints"))
        return shard_batch(*arguments)

    monkeypatch.setattr(loop, "shard_batch", look_and_shard)
    train(config, data_dir, tmp_path)
    assert whole == [[], [], [2], [2]]


def test_the_minutes_end_a_run_at_a_step_that_is_not_logged(data_dir, tmp_path, light_config):
    config = light_config()
    config.training.update(minutes=1e-6, log_every=50, validate_every=50, checkpoint_every=50)
    with pytest.raises(Unfinished, match="the checkpoint of step 1 of 6 is saved"):
        train(config, data_dir, tmp_path)
    assert steps_in(tmp_path / "checkpoints") == [1]


def test_stopped_and_resumed_equals_uninterrupted(light_uninterrupted, data_dir, tmp_path, monkeypatch, light_config):
    save_state = checkpoints.save_state

    def stop_at_step_4(manager, state, *rest):
        if state.step == 4:
            raise KeyboardInterrupt
        save_state(manager, state, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "save_state", stop_at_step_4)
        with pytest.raises(KeyboardInterrupt):
            train(light_config(), data_dir, tmp_path)
    config = light_config()
    config.training.peak_tflops = 0.5
    monkeypatch.setattr(speed, "count_flops", lambda *_: 1e9)
    assert_identical(jax.device_get(train(config, data_dir, tmp_path)), light_uninterrupted[1])
    assert_same_numbers(tmp_path, light_uninterrupted[0])
    last = [line for line in lines(tmp_path) if line["phase"] == "train"][-1]
    utilization = 1e9 / config.input.batch_size * last["images_per_second_per_device"] / 0.5e12
    assert last["flop_utilization"] == pytest.approx(utilization) and "flop_utilization" not in lines(tmp_path)[0]
    first, second = json.loads((tmp_path / "wall_time.json").read_text())["starts"]
    assert (first["to_step"], second["from_step"], second["to_step"]) == (2, 2, STEPS)
    assert first["seconds"]["lost"] > 0 == second["seconds"]["lost"]


def test_a_run_ends_when_its_minutes_are_over_and_goes_on_later(light_uninterrupted, data_dir, tmp_path, light_config):
    config = light_config()
    config.training.minutes = 1e-6
    with pytest.raises(
        Unfinished, match=r"1e-06 minutes .* are over; the checkpoint of step 1 of .* start again to go on"
    ) as end:
        train(config, data_dir, tmp_path)
    assert end.value.exit_code == 75
    config.training.minutes = 0.0
    state = jax.device_get(train(config, data_dir, tmp_path))
    assert_identical(state, light_uninterrupted[1])
    # The last checkpoint, whatever the best one is.
    last = load_network(checkpoint_of(tmp_path, "last"), "landmarks")
    assert_identical(last.variables["params"], state.params["landmark_net"])


def test_killed_and_resumed_equals_uninterrupted(uninterrupted, data_dir, tmp_path, run_config):
    workdir = tmp_path / "run"
    save_config(tmp_path / "config.json", run_config())
    killed = signalled(tmp_path / "config.json", data_dir, workdir, 5, "SIGKILL")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert lines(workdir)[-1]["step"] == 5 and (workdir / "checkpoints" / "2").is_dir()
    # As if it had been killed in the middle of a line.
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "pha')
    assert_identical(jax.device_get(train(run_config(), data_dir, workdir)), uninterrupted[1])
    assert_same_numbers(workdir, uninterrupted[0])


def test_ended_during_its_validations_and_resumed_equals_uninterrupted(light_uninterrupted, data_dir, tmp_path, light_config):
    """What was trained is saved before; SIGTERM does not wait. The last validation has no step after it."""
    workdir = tmp_path / "run"
    save_config(tmp_path / "config.json", light_config())
    killed = signalled(tmp_path / "config.json", data_dir, workdir, 2, "SIGKILL", where="checkpoints.save_best")
    assert killed.returncode == -signal.SIGKILL and steps_in(workdir / "checkpoints") == [2], killed.stderr
    assert not steps_in(workdir / "best") and lines(workdir)[-1]["phase"] == "train"
    ended = signalled(tmp_path / "config.json", data_dir, workdir, 6, "SIGTERM", where="MetricsFiles.draw")
    assert ended.returncode == 75, ended.stderr
    told = "\nSIGTERM or SIGUSR1 came; the checkpoint of step 6 of 6 is saved: start again to go on from there\n"
    assert told in ended.stderr and steps_in(workdir / "checkpoints") == [4, 6]
    assert (lines(workdir)[-1]["step"], lines(workdir)[-1]["phase"]) == (6, "train")
    assert_identical(jax.device_get(train(light_config(), data_dir, workdir)), light_uninterrupted[1])
    assert_same_numbers(workdir, light_uninterrupted[0])
    assert_identical(load_network(workdir, "landmarks").variables, load_network(light_uninterrupted[0], "landmarks").variables)
    (trained, validated) = lines(workdir)[-2:]
    assert (trained["phase"], validated["phase"]) == ("train", "validation")


def test_killed_and_resumed_in_a_bucket_equals_uninterrupted(
    light_uninterrupted, bucket, data_in_bucket, tmp_path, light_config, monkeypatch
):
    """Data set and workdir in a bucket; told to stop, then killed, then with half a checkpoint."""
    workdir = bucket / "run"
    save_config(tmp_path / "config.json", light_config())
    with monkeypatch.context() as patched:
        patched.setattr(loop, "must_stop", lambda step: step == 4)
        with pytest.raises(Unfinished, match="the checkpoint of step 4 of 6 is saved: start again to go on from there"):
            train(light_config(), data_in_bucket, workdir)
    # All that was written has arrived, although the run was not complete.
    assert [line["step"] for line in lines(workdir) if line["phase"] == "train"] == [1, 2, 3, 4]
    assert steps_in(workdir / "checkpoints") == [2, 4]
    killed = signalled(tmp_path / "config.json", data_in_bucket, workdir, 5, "SIGKILL")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert lines(workdir)[-1]["step"] == 5  # At once, not when the run ends.
    half = workdir / "checkpoints" / "5"
    (half / "state" / "manifest.ocdbt").write_bytes((workdir / "checkpoints" / "4" / "state" / "manifest.ocdbt").read_bytes())
    assert half.exists() and steps_in(workdir / "checkpoints") == [2, 4]
    state = jax.device_get(train(light_config(), data_in_bucket, workdir))
    assert_identical(state, light_uninterrupted[1])
    assert_same_numbers(workdir, light_uninterrupted[0])
    assert steps_in(workdir / "checkpoints") == [4, 6] and not half.exists()
    assert read_config(workdir / "config.json").to_dict() == read_config(light_uninterrupted[0] / "config.json").to_dict()
    assert sorted(path.name for path in (workdir / "pictures").iterdir()) == [f"step_{step:08d}.png" for step in (2, 4, 6)]
    assert list(workdir.glob("events.*"))
    out = tmp_path / "last.safetensors"
    assert main(["export", f"--workdir={workdir}", "--step=last", f"--out={out}"]) == 0
    assert_identical(load_safetensors(out)["params"], state.params["landmark_net"])
    assert_identical(load_network(workdir, "landmarks").variables, load_network(light_uninterrupted[0], "landmarks").variables)


def test_waiting_for_records_is_told(data_dir, tmp_path, light_config, monkeypatch):
    shard_batch = loop.shard_batch

    def slowly(batch, mesh):
        time.sleep(0.5)
        return shard_batch(batch, mesh)

    monkeypatch.setattr(loop, "shard_batch", slowly)
    train(light_config(), data_dir, tmp_path)
    assert lines(tmp_path)[-2]["phase"] == "train" and 0.5 < lines(tmp_path)[-2]["input_wait"] <= 1


def test_finished_run_is_left_as_it_is(light_uninterrupted, data_dir, light_config):
    workdir, state = light_uninterrupted
    before = (workdir / "metrics.jsonl").read_text()
    assert_identical(jax.device_get(train(light_config(), data_dir, workdir)), state)
    assert (workdir / "metrics.jsonl").read_text() == before


def test_finished_run_says_so(light_uninterrupted, data_dir, light_config, capsys):
    config = light_config()
    config.training.steps = STEPS - 1
    before = (light_uninterrupted[0] / "config.json").stat().st_mtime_ns
    train(config, data_dir, light_uninterrupted[0])
    assert f"is complete: it has done {STEPS} steps of {STEPS - 1}" in capsys.readouterr().out
    assert (light_uninterrupted[0] / "config.json").stat().st_mtime_ns == before


def test_run_goes_on_with_its_settings_only(data_dir, tmp_path, run_config):
    save_config(tmp_path / "config.json", run_config())
    (tmp_path / "checkpoints" / "2").mkdir(parents=True)
    config = run_config()
    config.generator.width = 8
    config.losses.l1 = 3.0
    config.training.keep = 7  # This may change.
    with pytest.raises(UserError, match=r"began with generator.width 4 \(now 8\), losses.l1 100.0 \(now 3.0\); go on with"):
        train(config, data_dir, tmp_path)
    assert read_config(tmp_path / "config.json").to_dict() == run_config().to_dict()


def test_workdir_that_is_a_file(data_dir, tmp_path, run_config):
    (tmp_path / "file").touch()
    for workdir in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="cannot use the folder .*; give another --workdir"):
            train(run_config(), data_dir, workdir)


def test_two_runs_in_one_workdir(data_dir, tmp_path, run_config):
    with checkpoints.locked(tmp_path), pytest.raises(UserError, match="another run is at work in"):
        train(run_config(), data_dir, tmp_path)


def test_a_run_that_cannot_begin_leaves_no_workdir(data_dir, tmp_path, run_config):
    config = run_config()
    config.generator.weights = str(tmp_path / "gone")
    with pytest.raises(UserError, match="there is no network at"):
        train(config, data_dir, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_data_set_without_validation_split(data_dir, tmp_path, run_config, monkeypatch):
    def load_split(folder, split):
        if split == "validation":
            raise UserError(f"the data set in {folder} has no split {split!r}, only train")
        return []

    monkeypatch.setattr(loop, "load_split", load_split)
    with pytest.raises(UserError, match="has no split 'validation', only train .training needs this split: data.splits"):
        train(run_config(), data_dir, tmp_path)


def test_state_that_is_not_finite_is_not_saved(data_dir, tmp_path, light_config, monkeypatch):
    """As after a gradient that overflows: the terms of the same step, which come before it, are finite."""

    def overflowing(*arguments, mesh):
        state, terms = train_step(*arguments, mesh=mesh)
        params = jax.tree.map(lambda leaf: jnp.where(state.step == 2, jnp.inf, leaf), state.params)
        return state.replace(params=params), terms

    monkeypatch.setattr(loop, "train_step", overflowing)
    config = light_config()
    config.training.checkpoint_every = config.training.validate_every = 2
    with pytest.raises(UserError, match="after step 2 the state of the run is not finite; nothing .* another --workdir"):
        train(config, data_dir, tmp_path)
    assert not list((tmp_path / "checkpoints").iterdir()) and not list((tmp_path / "best").iterdir())


def test_what_is_no_number_never_becomes_the_best(tmp_path):
    """Nor does one that is stored, by an earlier version, stay the best."""
    task = SimpleNamespace(criterion="error", results=lambda state: state)
    unwritten = SimpleNamespace(write=lambda *_: None, write_json=lambda *_: None)
    with checkpoints.open_best(tmp_path) as best:

        def best_after(step, error):
            network = {"params": np.full(3, step, np.float32)}
            loop._validate(lambda *_: {"error": error}, task, best, unwritten, WallTime(tmp_path), network, step)
            return steps_in(tmp_path / "best")

        assert best_after(1, math.nan) == []
        checkpoints.save_best(best, 2, {"params": np.zeros(3, np.float32)}, {"error": math.nan})
        assert best_after(3, math.nan) == [2]
        assert best_after(4, 0.5) == [4]
        assert best_after(5, math.nan) == best_after(6, 0.5) == [4]
        assert best_after(7, 0.25) == [7]


@pytest.mark.parametrize(
    "error",
    [
        *(OSError(number, "full") for number in (errno.ENOSPC, errno.EDQUOT)),
        ValueError("RESOURCE_EXHAUSTED: Error writing: No space left on device [os_error_code='28']"),  # TensorStore's.
    ],
)
def test_a_full_disk_is_told(data_dir, tmp_path, run_config, monkeypatch, error):
    def full(*_):
        raise error

    monkeypatch.setattr(loop, "_run", full)
    config = run_config()
    config.task = "landmarks"
    with pytest.raises(UserError, match=f"no space is left for {tmp_path}; the checkpoints that were complete are whole: free"):
        train(config, data_dir, tmp_path)


def test_machines_with_other_data(data_dir, tmp_path, light_config, monkeypatch):
    monkeypatch.setattr(loop.multihost_utils, "process_allgather", lambda counts: np.stack([counts, counts - [1, 0]]))
    with pytest.raises(UserError, match="process 1 has 15 training and .* records, this one 16 and .*; copy the same"):
        train(light_config(), data_dir, tmp_path)


def test_a_batch_that_is_larger_than_the_data_is_made_to_fit(data_dir, tmp_path, light_config, capsys):
    config = light_config()
    config.input.batch_size, config.training.steps = 40, 1
    for _ in range(2):  # Also when the run goes on.
        train(config, data_dir, tmp_path)
        assert "16 training records, fewer than a batch of 40: input.batch_size becomes 16" in capsys.readouterr().out
    assert json.loads((tmp_path / "config.json").read_text())["input"]["batch_size"] == 16
    assert config.input.batch_size == 40


def test_data_that_does_not_fit(data_dir, tmp_path, run_config):
    config = run_config()
    config.input.batch_size, config.optimizer.accumulate = 34, 17
    with pytest.raises(UserError, match="has 16 training records, fewer than a batch of 34, and than the 17 that"):
        train(config, data_dir, tmp_path)
    config = run_config()
    config.data.size = 128
    with pytest.raises(UserError, match="are 64 px, not data.size, 128"):
        train(config, data_dir, tmp_path)
    with pytest.raises(UserError, match="there is no data set in"):
        train(run_config(), tmp_path, tmp_path)
    assert not list(tmp_path.iterdir())


def test_unknown_task(data_dir, tmp_path, run_config):
    config = run_config()
    config.task = "dance"
    with pytest.raises(UserError, match="there is no task 'dance'; choose one of unmask, landmarks"):
        train(config, data_dir, tmp_path)


def test_rate_and_norms_are_logged(uninterrupted, run_config):
    train_lines = [line for line in lines(uninterrupted[0]) if line["phase"] == "train"]
    rates = [line["learning_rate"] for line in train_lines]
    rate = run_config().optimizer.learning_rate
    # Constant for half of the six steps; then it falls to 0.
    assert rates == pytest.approx([rate, rate, rate, rate, rate * 2 / 3, rate / 3], rel=1e-5)
    assert all(line[f"gradient_norm_{name}"] > 0 for line in train_lines for name in ("generator", "discriminator"))


def test_config_tells_how_the_data_were_built(light_uninterrupted, data_dir, tmp_path, light_config):
    config = light_config()
    config.data.mask_shift = 0.4
    config.data.splits = {"train": {"*": 0.5}}
    config.training.steps = 1
    train(config, data_dir, tmp_path)
    saved = read_config(tmp_path / "config.json")
    assert saved.data.to_dict() == read_config(data_dir / "config.json").data.to_dict() != config.data.to_dict()
    assert read_digests(tmp_path / "config.json") == read_digests(light_uninterrupted[0] / "config.json")


def test_a_longer_run_says_that_the_rate_changes(light_uninterrupted, data_dir, tmp_path, light_config, capsys):
    shutil.copytree(light_uninterrupted[0], tmp_path / "run")
    config = light_config()
    config.training.steps = STEPS + 1
    train(config, data_dir, tmp_path / "run")
    told = "training.steps is 7 from now on (it was 6): the learning rate follows from the length"
    assert told in capsys.readouterr().out
    assert read_config(tmp_path / "run" / "config.json").training.steps == STEPS + 1


def test_given_generator_is_needed_to_begin_only(data_dir, tmp_path, run_config, generator_file):
    weights = tmp_path / "weights.safetensors"
    shutil.copyfile(generator_file, weights)
    config = run_config()
    config.generator.weights, config.training.steps, config.optimizer.ema = str(weights), 1, 0.5
    config.optimizer.learning_rate = 1e-12
    state = train(config, data_dir, tmp_path / "run")
    given = load_safetensors(generator_file)["params"]
    close = functools.partial(np.testing.assert_allclose, atol=1e-6)
    jax.tree.map(close, jax.device_get(state.params["generator"]), given)
    jax.tree.map(close, jax.device_get(state.ema["params"]), given)
    noted = read_digests(tmp_path / "run" / "config.json")["initial_variables"]
    weights.unlink()
    config.training.steps, config.generator.weights = 2, ""
    assert train(config, data_dir, tmp_path / "run").step == 2
    assert read_config(tmp_path / "run" / "config.json").generator.weights == str(weights)
    assert read_digests(tmp_path / "run" / "config.json")["initial_variables"] == noted


def test_a_run_killed_before_its_first_checkpoint_begins_with_the_given_generator(
    data_dir, tmp_path, run_config, generator_file
):
    config = run_config()
    config.generator.weights, config.training.steps, config.optimizer.ema = str(generator_file), 1, 0.5
    config.optimizer.learning_rate = 1e-12
    (tmp_path / "checkpoints" / "1.orbax-checkpoint-tmp").mkdir(parents=True)
    state = train(config, data_dir, tmp_path)
    given = load_safetensors(generator_file)["params"]
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), jax.device_get(state.params["generator"]), given)


def test_plan(light_config):
    config = light_config()
    config.input.batch_size = 4
    config.training.update(steps=0, epochs=2.5, validate_every=0, checkpoint_every=3, log_every=4, keep_epochs=(0.3, 1.0))
    plan = Plan.of(config, records=22)  # An epoch has five steps.
    assert plan.steps == 13

    def steps(holds):
        return [step for step in range(1, 15) if holds(step)]

    assert steps(plan.validates) == [5, 10, 13, 14]
    assert steps(plan.saves) == [2, 3, 5, 6, 9, 12, 13, 14]
    assert steps(plan.logs) == [2, 3, 4, 5, 6, 8, 9, 10, 12, 13, 14]


def test_profile(data_dir, tmp_path, light_config):
    config = light_config()
    config.training.update(steps=2, profile=(2, 3))
    train(config, data_dir, tmp_path)
    (trace,) = tmp_path.glob("profile/plugins/profile/*/*.xplane.pb")
    assert trace.stat().st_size > 1000
    config.training.steps = 3  # It goes on in the middle of what is to be traced.
    train(config, data_dir, tmp_path)
    assert len(list(tmp_path.glob("profile/plugins/profile/*/*.xplane.pb"))) == 2


def test_a_profile_that_is_cut_short_is_written(data_dir, tmp_path, light_config):
    config = light_config()
    config.training.update(steps=3, profile=(1, 3), minutes=1e-6)
    with pytest.raises(Unfinished, match="step 1 of 3"):
        train(config, data_dir, tmp_path)
    (trace,) = tmp_path.glob("profile/plugins/profile/*/*.xplane.pb")
    assert trace.stat().st_size > 1000
