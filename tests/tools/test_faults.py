import os
import subprocess
import sys
import time

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


def test_too_short_a_load(tool):
    with pytest.raises(UserError, match="build took too short to be judged"):
        tool.judged("build", 100, samples(tool, lambda _: 1.0)[:4])


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_what_a_process_holds(tool):
    work = "x = bytearray(80_000_000); import time; end = time.process_time() + 0.5\nwhile time.process_time() < end: pass\n"
    with subprocess.Popen([sys.executable, "-c", work + "print(1, flush=True); input()"], stdin=-1, stdout=-1) as process:
        process.stdout.readline()
        megabytes, cpu, files = tool._held(process.pid)
        process.communicate(b"\n")
    assert 80 < megabytes < 200 and 0.5 <= cpu < 2 and 3 <= files < 20
    assert tool._held(process.pid) == (0.0, 0.0, 0)
