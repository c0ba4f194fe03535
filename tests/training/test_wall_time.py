import json
import time

import jax
import pytest

from maskgan_jax.training.wall_time import PARTS, WallTime


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is told to go on."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def go_on(seconds):
        now[0] += seconds

    return go_on


def a_start(workdir, clock, first, last, **seconds):
    """A start of the run that spends `seconds` on its parts."""
    times = WallTime(workdir)
    times.go_on(first)
    for part, length in seconds.items():
        clock(length)
        times.spent(part)
    written = times.as_json(last)
    (workdir / "wall_time.json").write_text(json.dumps(written))
    return written


def test_parts_are_all_of_the_time(tmp_path, clock):
    written = a_start(tmp_path, clock, 0, 10, start=3, compile=20, input=1, step=40, validation=5, checkpoint=2)
    assert written["seconds"] == {
        "start": 3,
        "compile": 20,
        "input": 1,
        "step": 40,
        "validation": 5,
        "checkpoint": 2,
        "lost": 0,
    }
    (start,) = written["starts"]
    assert (start["from_step"], start["to_step"], start["devices"]) == (0, 10, jax.device_count())
    assert start["began"].endswith("+00:00") and start["written"] >= start["began"]


def test_a_part_may_come_again(tmp_path, clock):
    times = WallTime(tmp_path)
    times.go_on(0)
    for part in ("step", "input", "step"):
        clock(1.5)
        times.spent(part)
    seconds = times.as_json(2)["seconds"]
    assert seconds["step"] == 3 and seconds["input"] == 1.5


def test_what_is_done_again_was_lost(tmp_path, clock):
    a_start(tmp_path, clock, 0, 100, start=5, step=80, input=20, validation=7)
    a_start(tmp_path, clock, 60, 70, start=6, step=10)
    written = a_start(tmp_path, clock, 65, 100, start=6, step=30)
    first, second, third = written["starts"]
    # Of 100 steps 40 were done again; of the next 10, 5.
    assert first["seconds"] | {} == {
        **dict.fromkeys(PARTS, 0),
        "start": 5,
        "step": 48,
        "input": 12,
        "validation": 7,
        "lost": 40,
    }
    assert second["seconds"]["step"] == second["seconds"]["lost"] == 5
    assert third["seconds"]["lost"] == 0
    assert [(start["from_step"], start["to_step"]) for start in written["starts"]] == [(0, 60), (60, 65), (65, 100)]
    assert sum(written["seconds"].values()) == 5 + 80 + 20 + 7 + 6 + 10 + 6 + 30


def test_a_start_of_which_nothing_is_left(tmp_path, clock):
    a_start(tmp_path, clock, 50, 80, step=30)
    written = a_start(tmp_path, clock, 20, 90, step=70)
    assert written["starts"][0]["seconds"]["lost"] == 30 and written["starts"][0]["seconds"]["step"] == 0
    # It is not counted as lost a second time.
    written = a_start(tmp_path, clock, 10, 90, step=80)
    assert written["starts"][0]["seconds"]["lost"] == 30
    assert written["seconds"]["lost"] == 30 + 70


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"{}", b"[]", b'{"starts": [1]}', b'{"starts": [{}]}', b"\xff\xfe\x00junk", b"\xc3{}"),
        *(b"[" * 99999, b'{"starts": [{"from_step": 0, "to_step": 1, "seconds": {}}]}'),
    ],
)
def test_a_damaged_file_does_not_end_the_run(tmp_path, capsys, content):
    (tmp_path / "wall_time.json").write_bytes(content)
    times = WallTime(tmp_path)
    times.go_on(4)
    assert len(times.as_json(5)["starts"]) == 1 and "wall_time.json is damaged" in capsys.readouterr().out
