import os
import re
import signal
import threading
import time

import jax
import jax.numpy as jnp
import pytest

from maskgan_jax.errors import Unfinished
from maskgan_jax.runtime.supervision import run_supervised


@pytest.fixture(autouse=True)
def handlers(monkeypatch):
    """Ctrl-C is heeded, even if the tests run in the background and ignore it; handlers and Python's warnings are restored."""
    monkeypatch.setenv("PYTHONWARNINGS", "")
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_work_that_ends_well(tmp_path, capfd):
    assert run_supervised("maskgan train", tmp_path, time.sleep, 0) == 0
    assert capfd.readouterr().err == ""


def unfinished():
    raise Unfinished("a checkpoint is saved")


def test_work_that_is_to_go_on_later(tmp_path, capfd):
    assert run_supervised("maskgan train", tmp_path, unfinished) == 75
    assert capfd.readouterr().err == "maskgan train: a checkpoint is saved\n"


def test_ctrl_c_after_the_end(tmp_path):
    run_supervised("maskgan train", tmp_path, time.sleep, 0)
    os.kill(os.getpid(), signal.SIGINT)  # It would raise if it were passed on.


@pytest.mark.parametrize("seconds", [0.1, 0.5])
def test_ctrl_c_while_the_child_starts(seconds, tmp_path, capfd):
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    assert run_supervised("maskgan train", tmp_path, time.sleep, 60) == 130
    assert capfd.readouterr().err == "maskgan train: interrupted\n"


@pytest.mark.parametrize(
    ("steps", "then"),
    [
        ([], "there is no checkpoint yet: start all processes again"),
        ([2, 10], "the checkpoint of step 10 is whole: start all processes again to go on from there"),
    ],
)
def test_process_that_is_killed(tmp_path, capfd, steps, then):
    for step in steps:
        (tmp_path / "checkpoints" / str(step)).mkdir(parents=True)
    assert run_supervised("maskgan train", tmp_path, signal.raise_signal, signal.SIGKILL) == 1
    assert capfd.readouterr().err == (
        f"\nmaskgan train: error: this process of the run was killed (by the system, if memory ran out); {then}\n"
    )


def test_process_that_ends_from_within_jax(tmp_path, capfd):
    assert run_supervised("maskgan train", tmp_path, os._exit, 134) == 1
    assert "error: the run lost a process, another or this one (the lines above tell more); there" in capfd.readouterr().err


def take_memory():
    jnp.zeros(2**50, jnp.uint8)


@pytest.mark.parametrize(
    ("platforms", "work", "told"),
    [
        ("cpu", take_memory, rf"the memory of the device is too small \(Out of memory allocating {2**50} bytes\); lower .*"),
        ("abacus", jax.devices, r"JAX cannot use what JAX_PLATFORMS=abacus asks for \(.*\); leave JAX_PLATFORMS unset, or .*"),
    ],
)
def test_devices_that_cannot_be_used_or_are_too_small(tmp_path, monkeypatch, capfd, platforms, work, told):
    """One line, and none about a lost process."""
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    assert run_supervised("maskgan train", tmp_path, work) == 1
    assert re.fullmatch(f"maskgan train: error: {told}\n", capfd.readouterr().err)
