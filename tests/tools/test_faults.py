import json
import os
import signal
import subprocess
import sys
import time
import types

import pytest

from maskgan_jax.errors import UserError


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("faults")


@pytest.mark.parametrize(
    ("code", "text", "clear"),
    [
        (1, "10%|#  | 1/9\rmaskgan train: error: the disk is full; make space\n", True),
        (0, "maskgan train: error: the disk is full; make space\n", False),
        (1, "the disk is full\n", False),
        (1, "Traceback (most recent call last):\nmaskgan train: error: the disk is full; make space\n", False),
        (-9, "", False),
    ],
)
def test_a_failure_is_clear_with_one_sentence_and_no_traceback(tool, code, text, clear):
    assert bool(tool.is_clear(subprocess.CompletedProcess([], code, "", text))) == clear


def test_the_clock_jumps(tool, monkeypatch):
    monkeypatch.setattr(time, "time", time.time)  # It is put back after the test.
    true = time.time
    exec(tool.JUMPING_CLOCK.partition("from maskgan_jax")[0], {})
    ahead = set()
    for _ in range(30):
        ahead.add(round((time.time() - true()) / 86400))
        time.sleep(0.01)
    assert ahead == {0, 1}


def samples(tool, megabytes, files=9, slowdown=1.0):
    """A hundred seconds of a first bar, and a hundred of a second one, whose later half is slower."""
    first = [tool.Sample(second, 5000.0, second, 99, "finding", second) for second in range(90)]
    done = [second if second < 50 else 50 + (second - 50) / slowdown for second in range(100)]
    return first + [
        tool.Sample(100 + second, megabytes(second), 2.0 * number, files, "drawing", number)
        for second, number in enumerate(done)
    ]


@pytest.mark.parametrize(
    ("megabytes", "slowdown", "fine"),
    [(lambda _: 700.0, 1.0, True), (lambda second: 700.0 + 10 * second, 1.0, False), (lambda _: 700.0, 1.5, False)],
    ids=["steady", "memory grows", "slower and slower"],
)
def test_load_is_judged_by_its_longest_part(tool, megabytes, slowdown, fine):
    row = tool.judged("build", 100, samples(tool, megabytes, slowdown=slowdown))
    assert (row.fault, row.times, row.fine) == ("build", 100, fine)
    told = f"open files 9 → 9, 1.00 → {1 / slowdown:.2f} per second, 2.000 → 2.000 CPU seconds each"
    assert told in row.lost
    assert row.lost.startswith("memory 700 → 700 MB") == (megabytes(99) == 700)


def test_a_load_that_stands_still(tool):
    still = [sample._replace(done=3) for sample in samples(tool, lambda _: 700.0)[90:]]
    with pytest.raises(UserError, match="build took too short to be judged"):
        tool.judged("build", 100, still)


@pytest.mark.parametrize("count", [0, 4])
def test_too_short_a_load(tool, count):
    with pytest.raises(UserError, match="build took too short to be judged"):
        tool.judged("build", 100, samples(tool, lambda _: 1.0)[:count])


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_what_a_process_holds(tool):
    work = "x = bytearray(80_000_000); import time; end = time.process_time() + 0.5\nwhile time.process_time() < end: pass\n"
    with subprocess.Popen([sys.executable, "-c", work + "print(1, flush=True); input()"], stdin=-1, stdout=-1) as process:
        process.stdout.readline()
        megabytes, cpu, files = tool._held(process.pid)
        process.communicate(b"\n")
    assert 80 < megabytes < 200 and 0.5 <= cpu < 2 and 3 <= files < 20
    assert tool._held(process.pid) == (0.0, 0.0, 0)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["load", "--folder=/nowhere"], "--folder=/nowhere is not a folder; give one that is there"),
        (["load", "--source=FACES"], "--source=FACES names no folder; give KIND=FOLDER"),
        (["load", "--source=folder=/nowhere"], "/nowhere is not a folder"),
        (["kills", "--kills=0"], "are at least 1"),
        (["kills", "--out=/proc/faults.json"], "cannot write /proc/faults.json"),
        (["load", "--figure=load.png"], "this needs av: pip install 'maskgan_jax.video.'"),
    ],
)
def test_what_cannot_be_is_told_before_the_first_fault(tool, monkeypatch, flags, message, capsys):
    monkeypatch.setattr(tool.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=message):
        tool.main(flags)
    assert not capsys.readouterr().out


def test_rows_are_kept_if_a_later_fault_cannot_be_made(tool, tmp_path, monkeypatch, capsys):
    """And each fault is made once, however often it is named."""

    def signals(work, flags):
        yield tool.Row("SIGTERM", 1, "nothing", True)

    def kills(work, flags):
        raise UserError("nothing has happened")
        yield

    monkeypatch.setattr(tool, "FAULTS", {"signals": signals, "kills": kills})
    out = tmp_path / "faults.json"
    with pytest.raises(UserError, match="nothing has happened"):
        tool.main(["signals", "signals", "kills", f"--out={out}"])
    assert json.loads(out.read_text()) == [{"fault": "SIGTERM", "times": 1, "lost": "nothing", "fine": True}]
    assert capsys.readouterr().out.count("SIGTERM") == 1


def test_a_run_without_a_checkpoint_is_not_the_same(tool, tmp_path):
    assert not tool.same_state(tmp_path / "one", tmp_path / "other")


def test_a_training_that_only_fails_is_not_started_for_ever(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "training", lambda *_: ["fails"])
    monkeypatch.setattr(tool, "command", lambda *_: [sys.executable, "-c", "import sys; sys.exit(1)"])
    monkeypatch.setattr(tool, "undisturbed", lambda work, steps: tmp_path / "undisturbed")
    row = next(tool.signals(tmp_path, types.SimpleNamespace(seed=0)))
    assert not row.fine and row.lost.startswith("nothing: exit codes 1, within 0.0 s; the bytes are NOT the same")


def test_a_process_that_does_not_end(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "command", lambda *_: [sys.executable, "-c", "import time; time.sleep(60)"])
    with (
        pytest.raises(UserError, match="`maskgan train` has not ended within"),
        tool.started(["train"], tmp_path / "log") as process,
    ):
        process.wait(0.1)
    assert process.poll() is not None


def test_nothing_is_left_behind_when_it_is_ended(tool, tmp_path, monkeypatch):
    def kills(work, flags):
        (work / "data").mkdir()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
        yield

    monkeypatch.setattr(tool, "FAULTS", {"kills": kills})
    handler = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # A training in another test may have left one.
    try:
        with pytest.raises(KeyboardInterrupt):
            tool.main(["kills", f"--folder={tmp_path}"])
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert not list(tmp_path.iterdir())
