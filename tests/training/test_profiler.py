from types import SimpleNamespace

import jax
import pytest

from maskgan_jax.errors import Unfinished
from maskgan_jax.training.profiler import Profiler


@pytest.fixture
def traced(monkeypatch):
    """What the profiler begins and ends, in order."""
    calls = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: calls.append(f"start {folder}"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append("stop"))
    return calls


def profiler(config, tmp_path, profile, start=0, steps=9):
    config.training.profile = profile
    return Profiler(config, start, steps, SimpleNamespace(folder=tmp_path, flush=lambda: None))


@pytest.mark.parametrize(
    ("profile", "start", "expected"),
    [
        ((), 0, []),
        ((2, 4), 0, [2, 4]),
        ((1, 1), 0, [1, 1]),
        ((2, 4), 2, [3, 4]),  # A run that goes on in the middle.
        ((2, 4), 4, []),
        ((8, 20), 0, [8, 9]),
        ((10, 20), 0, []),
    ],
)
def test_the_steps_that_are_traced(profile, start, expected, traced, config, tmp_path):
    found = []
    with profiler(config, tmp_path, profile, start) as it:
        for step in range(start + 1, 10):
            it.before(step)
            found += [step] * (len(traced) - len(found))
            it.after(step, ())
            found += [step] * (len(traced) - len(found))
    assert found == expected
    assert traced == ([f"start {tmp_path / 'profile'}", "stop"] if expected else [])


def test_a_trace_that_cannot_be_written_hides_no_other_error(traced, config, tmp_path, monkeypatch, capsys):
    def full():
        raise RuntimeError("no space")

    monkeypatch.setattr(jax.profiler, "stop_trace", full)
    with pytest.raises(Unfinished, match="SIGTERM came"), profiler(config, tmp_path, (1, 3)) as it:
        it.before(1)
        raise Unfinished("SIGTERM came")
    assert "the trace could not be written (RuntimeError: no space)" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match="no space"), profiler(config, tmp_path, (1, 3)) as it:
        it.before(1)


def test_after_an_unknown_error_the_devices_are_not_waited_for(traced, config, tmp_path):
    with pytest.raises(ValueError, match="lost"), profiler(config, tmp_path, (1, 3)) as it:
        it.before(1)
        raise ValueError("lost")
    assert traced == [f"start {tmp_path / 'profile'}"]
