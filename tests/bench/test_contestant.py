import os

import pytest

from maskgan_jax.bench import contestant
from maskgan_jax.bench.measuring import measure
from maskgan_jax.bench.rows import Row
from maskgan_jax.errors import UserError


def test_a_process_that_fails():
    with pytest.raises(UserError, match="maskgan failed: ValueError: its size is 48, not a power of two"):
        measure([Row("inference", 48, 4, 2)], pairs=1)


def die(*_):
    os.kill(os.getpid(), 9)


def die_in_the_first_round(_, connection):
    connection.send({"step_seconds": 1.0})
    die()


@pytest.mark.parametrize("serve", [die, die_in_the_first_round])
def test_a_process_that_is_killed(monkeypatch, serve):
    monkeypatch.setattr(contestant, "_serve", serve)
    with pytest.raises(UserError, match=r"the process of maskgan ended \(SIGKILL\); free some memory"):
        measure([Row("inference", 64, 4, 2)], pairs=1)


def test_peak_memory_where_the_system_does_not_tell(monkeypatch):
    monkeypatch.setattr(contestant.Path, "read_text", lambda _: "VmPeak: 1 kB")
    assert contestant._peak_resident_bytes() is None
