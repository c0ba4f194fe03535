import errno
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from etils import epath

from maskgan_jax.errors import UserError
from maskgan_jax.networks.run_checkpoints import read_best
from maskgan_jax.storage import steps_in
from maskgan_jax.training import checkpoints
from maskgan_jax.training.state import TrainState

# Holds the lock of the workdir on the command line until it is killed.
HOLD = """
import sys, time
from pathlib import Path
from maskgan_jax.training.checkpoints import locked

with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def state_at(step, width=3):
    params = {"generator": {str(i): np.full((width, 5), step, np.float32) for i in range(8)}}
    state = TrainState(step=np.int32(step), params=params, batch_stats={}, optimizer={}, ema={})
    return jax.tree.map(jax.device_put, state)


@pytest.fixture
def run(tmp_path, config):
    """The workdir of a run with checkpoints after 1, 2 and 3 steps."""
    workdir = tmp_path / "a run, 100%"
    with checkpoints.locked(workdir), checkpoints.open_checkpoints(workdir, 3) as manager:
        for step in (1, 2, 3):
            checkpoints.save_state(manager, state_at(step), config)
    return workdir


def without_arrays(folder):
    for path in (folder / "state").glob("**/d/*"):
        path.unlink()


def cut_short(folder):
    for path in (folder / "state").glob("**/d/*"):
        os.truncate(path, path.stat().st_size // 2)


def without_metadata(folder):
    (folder / "state" / "_METADATA").unlink()


def with_other_bytes(folder):
    """Arrays that can be read, and are those of another step."""
    shutil.rmtree(folder / "state")
    shutil.copytree(folder.parent / "2" / "state", folder / "state")


def test_latest_checkpoint_is_restored(run, capsys):
    with checkpoints.open_checkpoints(run, 3) as manager:
        restored = checkpoints.restore_state(manager, state_at(0))
    jax.tree.map(np.testing.assert_array_equal, restored, state_at(3))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("damage", [without_arrays, cut_short, without_metadata, with_other_bytes])
def test_run_goes_on_from_the_checkpoint_before_a_damaged_one(run, config, capfd, damage):
    damage(run / "checkpoints" / "3")
    with checkpoints.open_checkpoints(run, 3) as manager:
        restored = checkpoints.restore_state(manager, state_at(0))
        assert restored.step == 2
        checkpoints.save_state(manager, state_at(3), config)
    out, errors = capfd.readouterr()
    assert out.count("\n") == 1 and "the checkpoint of step 3 is damaged" in out and "checkpoints.damaged" in out
    assert "Traceback" not in errors
    assert (run / "checkpoints.damaged" / "3").is_dir()
    with checkpoints.open_checkpoints(run, 3) as manager:
        assert checkpoints.restore_state(manager, state_at(0)).step == 3


def test_checkpoints_of_before_there_were_checksums(run):
    for folder in (run / "checkpoints").iterdir():
        shutil.rmtree(folder / "checksums")
    with checkpoints.open_checkpoints(run, 3) as manager:
        assert checkpoints.restore_state(manager, state_at(0)).step == 3


def test_a_best_network_whose_bytes_changed(tmp_path):
    for step in (2, 4):
        with checkpoints.open_best(tmp_path / str(step)) as best:
            checkpoints.save_best(best, step, {"params": {"a": np.full(3, step)}}, {"error": 0.1})
    assert read_best(tmp_path / "4")["params"]["a"].tolist() == [4, 4, 4]
    network = tmp_path / "4" / "best" / "4" / "network"
    shutil.rmtree(network)
    shutil.copytree(tmp_path / "2" / "best" / "2" / "network", network)
    with pytest.raises(UserError, match="cannot be read .its bytes are not those that were saved.; if it is damaged, put it"):
        read_best(tmp_path / "4")


def test_no_checkpoint_can_be_read(run):
    for folder in (run / "checkpoints").iterdir():
        without_metadata(folder)
    with checkpoints.open_checkpoints(run, 3) as manager, pytest.raises(UserError, match="no checkpoint in .* can be read"):
        checkpoints.restore_state(manager, state_at(0))
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["1", "2", "3"]


def test_checkpoints_that_hold_the_position_in_the_data(run, config):
    """As older ones do."""
    with checkpoints.open_checkpoints(run, 3) as manager:
        items = {"config": ocp.args.JsonSave(config.to_dict()), "iterator": ocp.args.JsonSave({"next_index": 4})}
        manager.save(4, args=ocp.args.Composite(state=ocp.args.StandardSave(state_at(4)), **items))
    with checkpoints.open_checkpoints(run, 3) as manager:
        assert checkpoints.restore_state(manager, state_at(0)).step == 4


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), MemoryError("Unable to allocate 1 GiB")])
def test_what_the_system_refuses_is_no_damage(run, monkeypatch, error):
    def refuse(folder):
        raise error

    monkeypatch.setattr(checkpoints, "read_through", refuse)
    told = f"refuses to read the checkpoint of step 3 in .*{str(error)[-10:]}.; mend that and start again, or move it away"
    with checkpoints.open_checkpoints(run, 3) as manager, pytest.raises(UserError, match=told):
        checkpoints.restore_state(manager, state_at(0))
    assert steps_in(run / "checkpoints") == [1, 2, 3] and not (run / "checkpoints.damaged").exists()


def test_a_best_network_that_the_system_refuses_to_read_is_not_replaced(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise ValueError("Error opening file [os_error_code='24']")  # TensorStore's kind.

    manager = SimpleNamespace(latest_step=lambda: 2, directory=tmp_path, restore=refuse)
    with pytest.raises(UserError, match="the system refuses to read the best network in .*; mend that and start again to go"):
        checkpoints.best_scores(manager)


def test_chosen_steps_are_kept_beside_the_latest(tmp_path, config):
    with checkpoints.open_checkpoints(tmp_path, 1, {2, 9}) as manager:
        for step in (1, 2, 3, 4):
            checkpoints.save_state(manager, state_at(step), config)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "4"]


def test_checkpoint_of_another_network(run):
    with checkpoints.open_checkpoints(run, 3) as manager, pytest.raises(UserError, match="does not fit the config; use its"):
        checkpoints.restore_state(manager, state_at(0, width=4))
    assert not (run / "checkpoints.damaged").exists()


def test_a_workdir_beside_the_current_folder(run, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    workdir = Path("..") / run.name
    with checkpoints.open_checkpoints(workdir, 3) as manager:
        assert checkpoints.restore_state(manager, state_at(0)).step == 3
    with checkpoints.open_best(workdir) as best:
        checkpoints.save_best(best, 3, {"params": {"a": np.full(3, 2)}}, {"error": 0.1})
    assert read_best(workdir)["params"]["a"].tolist() == [2, 2, 2]


def test_best_network_of_an_earlier_step_replaces_a_later_one(tmp_path):
    for step in (4, 2, 2):
        with checkpoints.open_best(tmp_path) as best:
            checkpoints.save_best(best, step, {"params": {"a": np.full(3, step)}}, {"error": 0.1 * step})
            best.wait_until_finished()
            assert checkpoints.best_scores(best) == {"error": 0.1 * step}
    assert read_best(tmp_path)["params"]["a"].tolist() == [2, 2, 2]


def test_full_disk_says_what_is_needed(tmp_path, config, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=999_000))
    with (
        checkpoints.open_checkpoints(tmp_path, 3) as manager,
        pytest.raises(UserError, match="needs 2 MB, 0 MB free; the ones"),
    ):
        checkpoints.save_state(manager, state_at(1), config)


@pytest.mark.parametrize(("process", "told"), [(0, 1), (1, 0)])
def test_a_damaged_best_network_is_told_by_process_0_alone(tmp_path, monkeypatch, capsys, process, told):
    def restore(*_, **__):
        raise ValueError("damaged")

    monkeypatch.setattr(jax, "process_index", lambda: process)
    manager = SimpleNamespace(latest_step=lambda: 2, directory=tmp_path, restore=restore)
    assert checkpoints.best_scores(manager) is None
    assert capsys.readouterr().out.count("is damaged; the next one takes its place") == told


def test_a_leaping_clock_costs_no_checkpoint(tmp_path, config, monkeypatch):
    looks, now = itertools.count(), time.time
    with checkpoints.open_checkpoints(tmp_path) as manager, monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: now() + 86400 * (next(looks) // 3 % 2))
        for step in (1, 2, 3):
            checkpoints.save_state(manager, state_at(step), config)
            assert steps_in(tmp_path / "checkpoints") == [step]
    assert next(looks) > 30
    with checkpoints.open_checkpoints(tmp_path) as manager:
        assert checkpoints.restore_state(manager, state_at(0)).step == 3


def test_lock_is_for_one_run_and_ends_with_it(tmp_path):
    workdir = tmp_path / "new" / "run"
    for _ in range(2):
        with checkpoints.locked(workdir), pytest.raises(UserError, match="another run is at work in"):
            with checkpoints.locked(workdir):
                pass


def test_killed_run_leaves_no_lock(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(UserError, match="another run is at work in"), checkpoints.locked(tmp_path):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with checkpoints.locked(tmp_path):
        pass


def test_in_a_bucket_the_run_that_begins_last_has_the_workdir(bucket, config, monkeypatch):
    with checkpoints.locked(bucket), checkpoints.open_checkpoints(bucket) as manager:
        checkpoints.save_state(manager, state_at(1), config)
        manager.wait_until_finished()
        with monkeypatch.context() as other:
            other.setattr(checkpoints, "_RUN", "another")
            with checkpoints.locked(bucket):
                pass
        with pytest.raises(UserError, match="another run has begun in .*; this run ends, and saves nothing more"):
            checkpoints.save_state(manager, state_at(2), config)
    assert steps_in(bucket / "checkpoints") == [1]


def test_in_a_bucket_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(bucket, config, capfd):
    with checkpoints.locked(bucket), checkpoints.open_checkpoints(bucket, 3) as manager:
        for step in (1, 2):
            checkpoints.save_state(manager, state_at(step), config)
    for folder in ("d", "ocdbt.process_0/d"):
        (bucket / "checkpoints" / "2" / "state" / folder).rmtree()
    with checkpoints.open_checkpoints(bucket, 3) as manager:
        assert checkpoints.restore_state(manager, state_at(0)).step == 1
    assert "the checkpoint of step 2 is damaged" in capfd.readouterr().out
    assert steps_in(bucket / "checkpoints") == [1] and (bucket / "checkpoints.damaged" / "2" / "state").is_dir()


def test_errors_with_a_bucket_are_one_sentence():
    folder = epath.Path("gs://bucket/run")
    with pytest.raises(UserError, match="^cannot use gs://bucket/run .Error writing gs://bucket/run/d: PERMISSION_DENIED.; "):
        with checkpoints.storing(folder):
            raise ValueError("Error writing gs://bucket/run/d: PERMISSION_DENIED\nmore")
    with pytest.raises(UserError, match="^cannot use gs://bucket/run .Timed out after 1200 seconds.."):
        with checkpoints.storing(folder):
            raise TimeoutError("Timed out after 1200 seconds.")
    with pytest.raises(ValueError, match="a mistake"), checkpoints.storing(folder):
        raise ValueError("a mistake")
