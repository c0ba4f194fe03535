"""Several processes for real: over loopback, each with one CPU device."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from maskgan_jax.config import save_config
from maskgan_jax.errors import Unfinished, UserError
from maskgan_jax.networks.run_checkpoints import read_tree
from maskgan_jax.networks.stored import load_network
from maskgan_jax.runtime import distributed, signals
from maskgan_jax.training.loop import train

# Well beyond what is needed; a loaded machine takes long to start four processes.
PATIENCE = 240

# Saves a checkpoint in the second argument as the process in the first; there is no room at that in the third.
SAVE = """
import shutil, sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
from ml_collections import ConfigDict

from maskgan_jax.errors import exit_code
from maskgan_jax.training import checkpoints
from maskgan_jax.training.mesh import replicated
from maskgan_jax.training.state import TrainState

process, full, coordinator = int(sys.argv[1]), int(sys.argv[3]), sys.argv[4]
jax.distributed.initialize(coordinator, 2, process)
if process == full:
    shutil.disk_usage = lambda folder: SimpleNamespace(free=0)
mesh = jax.make_mesh((2,), ("data",))
state = TrainState(np.int32(1), {"generator": np.ones(3, np.float32)}, {}, {}, {})
state = jax.jit(lambda: state, out_shardings=replicated(mesh))()

def save():
    with checkpoints.open_checkpoints(Path(sys.argv[2])) as manager:
        checkpoints.save_state(manager, state, ConfigDict())

sys.exit(exit_code("save", save))
"""

# `maskgan`, whose processes miss each other sooner; they begin with this, too.
IMPATIENT = """
import sys

sys.modules["torch"] = None  # tensorboardX would import it, for seconds.
from maskgan_jax.__main__ import main
from maskgan_jax.runtime import distributed

distributed.HEARTBEAT_SECONDS = 10
if __name__ == "__main__":
    sys.exit(main())
"""


@pytest.fixture
def landmark_config(config):
    """A long run of the landmark network (batch norm, and less to compile), whose steps are the same however long it is."""
    config.task = "landmarks"
    config.landmark_net.width = 16
    config.optimizer.constant = 1.0
    config.training.steps = 10_000
    config.training.checkpoint_every = 2
    config.training.validate_every = 5_000
    return config


class Started:
    """One run of `maskgan train` in several processes, until it is asked to end."""

    def __init__(self, count, config, data_dir, workdir, folder, maskgan=("-m", "maskgan_jax")):
        self.workdir = workdir
        save_config(folder / "saved.json", config)
        (folder / "config.py").write_text(
            "from maskgan_jax.config import read_config\n\n\n"
            f"def get_config():\n    return read_config({str(folder / 'saved.json')!r})\n"
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            coordinator = f"127.0.0.1:{free.getsockname()[1]}"
        command = [sys.executable, *maskgan, "train", f"--config={folder / 'config.py'}", f"--data_dir={data_dir}"]
        command += [f"--workdir={workdir}", f"--coordinator={coordinator}", f"--processes={count}"]
        self.logs = [folder / f"{i}.log" for i in range(count)]
        self.processes = []
        for i, log in enumerate(self.logs):
            with log.open("w") as file:
                environment = os.environ | {"JAX_PLATFORMS": "cpu"}
                self.processes.append(
                    subprocess.Popen([*command, f"--process={i}"], env=environment, stdout=file, stderr=subprocess.STDOUT)
                )

    def wait_until(self, condition):
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end and all(process.poll() is None for process in self.processes), self.told()
            time.sleep(0.1)

    def codes(self, patience=PATIENCE):
        """Exit codes, once all have ended."""
        end = time.monotonic() + patience
        try:
            return [process.wait(max(0, end - time.monotonic())) for process in self.processes]
        except subprocess.TimeoutExpired:
            raise AssertionError(self.told()) from None

    def told(self):
        return [log.read_text() for log in self.logs]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()


def saved_steps(workdir):
    return sorted(int(path.name) for path in workdir.glob("checkpoints/*") if path.name.isdigit())


def trained_steps(workdir):
    path = workdir / "metrics.jsonl"
    # The last line may be in the middle of being written.
    lines = [json.loads(line) for line in path.read_text().splitlines(True) if line.endswith("\n")] if path.exists() else []
    return [line["step"] for line in lines if line["phase"] == "train"]


def train_here(config, steps, data_dir, workdir):
    """The state after so many steps of a run in this process alone."""
    config = config.copy_and_resolve_references()
    config.training.steps = steps
    return jax.device_get(train(config, data_dir, workdir))


def assert_same_state(state, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5), state.params, expected.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5), state.batch_stats, expected.batch_stats)


def test_two_processes_do_what_one_does(config, data_dir, tmp_path):
    """Also where the two divide the state, validate and save the best network; a validation that is missing comes first."""
    config.optimizer.constant = 1.0
    config.training.steps = 4
    config.training.validate_every = config.training.checkpoint_every = 2
    expected = jax.device_get(train(config, data_dir, tmp_path / "alone"))
    workdir = tmp_path / "run"
    # As if it had ended after the second step.
    shutil.copytree(tmp_path / "alone", workdir, ignore=shutil.ignore_patterns("4", "best"))
    *lines, validation = (workdir / "metrics.jsonl").read_text().splitlines(True)[:3]
    assert json.loads(validation)["phase"] == "validation"
    (workdir / "metrics.jsonl").write_text("".join(lines))
    config.training.fsdp = 2
    with Started(2, config, data_dir, workdir, tmp_path) as run:
        assert run.codes() == [0, 0], run.told()
        # The second one has no progress bar and writes no results.
        assert "step/s" in run.told()[0] and "step/s" not in run.told()[1]
        assert f"metrics and images are in {workdir}" in run.told()[0] and "images are in" not in run.told()[1]
    assert trained_steps(workdir) == [1, 2, 3, 4]
    rows = [json.loads((workdir / "metrics.jsonl").read_text().splitlines()[len(lines)]), json.loads(validation)]
    assert [row.pop("phase") for row in rows] == ["validation", "validation"]
    assert rows[0] == pytest.approx(rows[1], rel=1e-4)
    best, expected_best = (load_network(folder, "unmask").variables for folder in (workdir, tmp_path / "alone"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5), best, expected_best)
    last = read_tree(workdir / "checkpoints" / "4" / "state")
    for name, values in (("params", expected.params), ("batch_stats", expected.batch_stats)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5), last[name], values)


def test_one_of_four_is_killed_and_the_run_goes_on_where_it_was_saved(landmark_config, data_dir, tmp_path):
    """Begins with one process, goes on with four that divide the state in two, then with two, and ends with one."""
    workdir = tmp_path / "run"
    train_here(landmark_config, 2, data_dir, workdir)
    landmark_config.training.fsdp = 2
    for count, lost in ((4, 2), (2, 0)):
        last = saved_steps(workdir)[-1]
        with Started(count, landmark_config, data_dir, workdir, tmp_path) as run:
            run.wait_until(lambda before=last: saved_steps(workdir)[-1] > before)
            run.processes[lost].kill()
            codes = run.codes(patience=60)
            assert codes == [-signal.SIGKILL if i == lost else 1 for i in range(count)], run.told()
            last = saved_steps(workdir)[-1]
            for told in run.told()[:lost] + run.told()[lost + 1 :]:
                assert told.splitlines()[-1] == (
                    "maskgan train: error: the run lost a process, another or this one (the lines above tell more); the "
                    f"checkpoint of step {last} is whole: start all processes again to go on from there"
                )
    landmark_config.training.fsdp = 1
    resumed = train_here(landmark_config, last + 1, data_dir, workdir)
    assert trained_steps(workdir) == list(range(1, last + 2))
    assert_same_state(resumed, train_here(landmark_config, last + 1, data_dir, tmp_path / "alone"))
    assert not list(workdir.glob("checkpoints/*tmp*"))


def test_one_of_two_hangs(landmark_config, data_dir, tmp_path):
    script = tmp_path / "impatient.py"
    script.write_text(IMPATIENT)
    with Started(2, landmark_config, data_dir, tmp_path / "run", tmp_path, maskgan=[str(script)]) as run:
        run.wait_until(lambda: saved_steps(tmp_path / "run"))
        hanging = run.processes[1].pid
        workers = [int(pid) for pid in Path(f"/proc/{hanging}/task/{hanging}/children").read_text().split()]
        try:
            for pid in workers:
                os.kill(pid, signal.SIGSTOP)
            assert run.processes[0].wait(60) == 1
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
        assert "is whole: start all processes again to go on from there" in run.told()[0].splitlines()[-1]


def test_sigusr1_to_one_of_two_ends_both_after_a_checkpoint(landmark_config, data_dir, tmp_path):
    landmark_config.training.checkpoint_every = 5000
    workdir = tmp_path / "run"
    with Started(2, landmark_config, data_dir, workdir, tmp_path) as run:
        run.wait_until(lambda: trained_steps(workdir))
        run.processes[1].send_signal(signal.SIGUSR1)
        assert run.codes() == [75, 75], run.told()
        (step,) = saved_steps(workdir)
        for told in run.told():
            assert f"maskgan train: SIGTERM or SIGUSR1 came; the checkpoint of step {step} of " in told
            assert "Traceback" not in told and "the run lost" not in told
    assert trained_steps(workdir) == list(range(1, step + 1))


@pytest.mark.parametrize("full", [0, 1])
def test_no_room_at_one_of_two(tmp_path, full):
    """The workdir is shared: without room for process 0 both end; what the other one finds on its own disk does not count."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SAVE, str(process), str(tmp_path), str(full), coordinator],
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(2)
    ]
    try:
        told = [process.communicate(timeout=PATIENCE)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [int(full == 0)] * 2, told
    assert saved_steps(tmp_path) == ([] if full == 0 else [1])
    if full == 0:
        assert "save: error: a checkpoint in" in told[0] and "MB, 0 MB free; the ones before it are whole" in told[0]
        assert "save: error: process 0 cannot save a checkpoint in" in told[1]


def test_sigterm_to_a_lone_process(landmark_config, data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(signals, "_stop", threading.Event())
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    signals.stop_on_sigterm()
    signals.can_save()
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Unfinished, match="SIGTERM or SIGUSR1 came; the checkpoint of step 1 of .* is saved"):
            train(landmark_config, data_dir, tmp_path)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert saved_steps(tmp_path) == [1]


def test_nothing_tells_of_the_others(monkeypatch):
    def initialize(*_, **__):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(distributed.jax.distributed, "initialize", initialize)
    with pytest.raises(UserError, match="cannot join the other processes .coordinator_address should be defined.; if SLURM"):
        distributed.join(None, None, None)


@pytest.mark.parametrize(
    "address", ["host", "host:", ":1234", "host:port", "host:0", "host:65536", "host:-1", "host:²", "", "a..b:1234"]
)
@pytest.mark.parametrize("process", [0, 1])
def test_address_that_makes_no_sense(address, process):
    with pytest.raises(UserError, match=f"--coordinator={address} is not HOST:PORT"):
        distributed.join(address, 2, process)


@pytest.mark.parametrize(("processes", "process"), [(2, -1), (2, 2), (0, 0)])
def test_number_that_no_process_has(monkeypatch, processes, process):
    monkeypatch.setattr(distributed, "CONNECT_SECONDS", 0)
    with pytest.raises(UserError, match=f"there is no process {process} of {processes}; --process is from 0 to below"):
        distributed.join("localhost:1", processes, process)


def test_port_that_is_taken():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"cannot listen at port {port} \(Address already in use\); give all processes"):
            distributed.join(f"localhost:{port}", 2, 0)


def test_process_0_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(distributed, "CONNECT_SECONDS", 0)
    with socket.create_server(("", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(UserError, match=rf"process 0 does not answer at localhost:{port} \(Connection refused\); start it"):
        distributed.join(f"localhost:{port}", 2, 1)
