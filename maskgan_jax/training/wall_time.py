"""Where the time of a run went, over all its starts: `wall_time.json` in its workdir."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
from etils import epath

from maskgan_jax.run_files import WALL_TIME
from maskgan_jax.storage import reaching

# What a start of a run spends its time on: until the first step, with what it loads and restores; compiling the step; waiting
# for records while the devices have nothing to do; steps; validation, with its pictures; checkpoints, as far as the steps wait
# for them. Each but the first is counted from where the one before it ended, so that together they are all of the time.
PARTS = ("start", "compile", "input", "step", "validation", "checkpoint")


class WallTime:
    """The time of this start of a run, and what is known of earlier ones."""

    def __init__(self, workdir: Path | epath.Path):
        """Starts the clock."""
        self._before = workdir / WALL_TIME
        self._last = time.monotonic()
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._began = _now()
        self._from = 0
        self._earlier: list[dict[str, Any]] = []

    def go_on(self, step: int) -> None:
        """The run goes on after `step`: what earlier starts did beyond that is done again, and was lost."""
        self._from = step
        with reaching(self._before):
            before = self._before.read_bytes() if self._before.exists() else b'{"starts": []}'
        try:
            self._earlier = [_without(step, start) for start in json.loads(before)["starts"]]
            total(self._earlier)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            print(f"{self._before} is damaged; the time of earlier starts is not known")  # The run does not need it to go on.
            self._earlier = []

    def spent(self, part: str) -> None:
        """All the time since the last call was spent on this one of PARTS."""
        now = time.monotonic()
        self._seconds[part] += now - self._last
        self._last = now

    def as_json(self, step: int) -> dict[str, Any]:
        """What `wall_time.json` says as of `step`: `seconds` of all starts, see `total`, and of each of the `starts`."""
        this = {
            "began": self._began,
            "written": _now(),
            "devices": jax.device_count(),
            "from_step": self._from,
            "to_step": step,
            "seconds": {**self._seconds, "lost": 0.0},
        }
        starts = [*self._earlier, this]
        return {"seconds": total(starts), "starts": starts}


def total(starts: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds of all starts by part: PARTS, and `lost`: steps, and waiting for their records, that a later start did again."""
    return {part: sum(start["seconds"][part] for start in starts) for part in (*PARTS, "lost")}


def _without(step: int, start: dict[str, Any]) -> dict[str, Any]:
    """A start of which only what it did up to `step` counts."""
    first, last, seconds = start["from_step"], start["to_step"], dict(start["seconds"])
    kept = max(first, step)
    if last <= kept:
        return start
    # Steps take the same time, on the whole.
    fraction = (last - kept) / (last - first)
    for part in ("input", "step"):
        seconds["lost"] += seconds[part] * fraction
        seconds[part] *= 1 - fraction
    return {**start, "to_step": kept, "seconds": seconds}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
