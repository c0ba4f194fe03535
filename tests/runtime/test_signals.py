import concurrent.futures
import gc
import importlib
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from maskgan_jax.errors import Unfinished, UserError
from maskgan_jax.runtime import signals


@pytest.fixture(autouse=True)
def handlers():
    """SIGINT as Python handles it, even if the tests run in the background and ignore it; all is restored afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signals.release()
    for number, handler in before.items():
        signal.signal(number, handler)


def ctrl_c():
    signal.raise_signal(signal.SIGINT)


START = """
import os, sys, types
from maskgan_jax.__main__ import main
from maskgan_jax.runtime import signals

def work(arguments):
    import jax  # Interrupted, its extensions crash, or its callback at garbage collections drops the exception.
    while True:
        [[] for _ in range(10_000)]  # Enough garbage for many collections.

sys.modules["maskgan_jax.commands.demo"] = types.SimpleNamespace(main=work)
sys.argv = ["maskgan", "demo"]
signals.hold()  # As the first instruction of `main` follows.
os.write(1, b"up")
sys.exit(main())
"""


def interrupt_after(seconds):
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    command = [sys.executable, "-c", START]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True) as program:
        program.stdout.read(2)
        time.sleep(seconds)
        program.send_signal(signal.SIGINT)
        told = program.communicate(timeout=120)[1]
        return program.returncode, told


def test_ctrl_c_at_any_time_of_the_start():
    """From the first instruction on: before and after the restart, during `import jax`, and in garbage collections."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(interrupt_after, [0.1 * i for i in range(12)]))
    assert results == [(130, "maskgan demo: interrupted\n")] * 12


def test_ctrl_c_in_a_callback_is_raised_again(capsys):
    def callback(phase, info):
        gc.callbacks.remove(callback)
        ctrl_c()

    with pytest.raises(KeyboardInterrupt), signals.ctrl_c_interrupts():
        gc.callbacks.append(callback)
        gc.collect()
        time.sleep(60)
    assert capsys.readouterr().err == ""


def test_other_exceptions_in_callbacks_are_still_told(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: seen.append(unraisable.exc_type))

    def callback(phase, info):
        gc.callbacks.remove(callback)
        raise ValueError

    with signals.ctrl_c_interrupts():
        gc.callbacks.append(callback)
        gc.collect()
    assert seen == [ValueError]


@pytest.mark.parametrize(("presses", "is_finished"), [(1, True), (2, False)])
def test_an_import_is_finished_unless_ctrl_c_comes_twice(presses, is_finished, tmp_path, monkeypatch):
    source = (
        f"import signal, maskgan_jax\nfor _ in range({presses}): signal.raise_signal(signal.SIGINT)\nmaskgan_jax.done = True\n"
    )
    (tmp_path / f"interrupted_{presses}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    package = importlib.import_module("maskgan_jax")
    monkeypatch.setattr(package, "done", False, raising=False)
    with pytest.raises(KeyboardInterrupt), signals.ctrl_c_interrupts():
        importlib.import_module(f"interrupted_{presses}")
        time.sleep(60)
    assert package.done == is_finished


def test_nothing_rings_after_the_block():
    with pytest.raises(UserError), signals.ctrl_c_interrupts():
        try:
            ctrl_c()
        except KeyboardInterrupt:
            raise UserError("the disk is full") from None
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_signals_on_hold_are_delivered_at_the_release():
    signals.hold()
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)  # A test run has other threads, which take any other.
    with pytest.raises(KeyboardInterrupt):
        signals.release()


def test_ignored_ctrl_c_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signals.exit_on_ctrl_c("maskgan")
    with signals.ctrl_c_interrupts():
        ctrl_c()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_sigterm_interrupts_a_block():
    with pytest.raises(KeyboardInterrupt), signals.sigterm_interrupts():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_sigterm_with_a_handler_keeps_it():
    signals.stop_on_sigterm()
    handler = signal.getsignal(signal.SIGTERM)
    with signals.sigterm_interrupts():
        assert signal.getsignal(signal.SIGTERM) is handler


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_stop_on_sigterm(number, monkeypatch):
    monkeypatch.setattr(signals, "_stop", type(signals._stop)())
    signals.can_save()
    signals.stop_on_sigterm()
    assert not signals.stop_requested()
    signal.raise_signal(number)
    assert signals.stop_requested()


STOPPED_WHILE_COMPILING = """
import contextlib, ctypes, os, signal, sys, threading
from maskgan_jax.runtime import signals

signals.stop_on_sigterm()
stack = contextlib.ExitStack()
if sys.argv[2] != "compiles":
    signals.can_save()
if sys.argv[2] in ("validates", "goes on"):
    stack.enter_context(signals.nothing_to_save("all is saved"))
if sys.argv[2] == "goes on":
    stack.close()
threading.Timer(0.5, os.kill, (os.getpid(), int(sys.argv[1]))).start()
ctypes.CDLL(None).sleep(2)  # It returns at once when a signal comes.
ctypes.CDLL(None).sleep(1)
print("compiled", signals.stop_requested())
"""


@pytest.mark.parametrize(
    ("number", "when", "told"),
    [
        (signal.SIGTERM, "saves", ""),
        (signal.SIGUSR1, "compiles", "came before there was anything to save: start again"),
        (signal.SIGTERM, "validates", "\nall is saved\n"),
        (signal.SIGTERM, "goes on", ""),
    ],
)
def test_where_there_is_nothing_to_save_it_ends_at_once(number, when, told):
    """Python's handlers run when a call into a library has returned."""
    ended = subprocess.run(
        [sys.executable, "-c", STOPPED_WHILE_COMPILING, str(int(number)), when], capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout) == ((75, "") if told else (0, "compiled True\n")), ended.stderr
    assert told in ended.stderr and bool(told) == bool(ended.stderr)


def test_a_stop_that_came_before_the_block(monkeypatch):
    monkeypatch.setattr(signals, "_stop", threading.Event())
    signals._stop.set()
    with pytest.raises(Unfinished, match="all is saved"), signals.nothing_to_save("all is saved"):
        raise AssertionError("it began")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signals_are_forwarded(number):
    """SIGUSR1 as SIGTERM, for which JAX has a handler in runs of several processes."""
    with subprocess.Popen(["sleep", "60"]) as child:
        signals.forward_to(child.pid)
        signal.raise_signal(number)
        assert child.wait(10) == -(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)


def test_outside_the_main_thread():
    def work():
        with signals.ctrl_c_interrupts(), signals.sigterm_interrupts():
            return 3

    with concurrent.futures.ThreadPoolExecutor() as pool:
        assert pool.submit(work).result() == 3
