"""Where the time of a run went, over all its starts: `wall_time.json` in its workdir, written by process 0 alone."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax

from maskgan_jax.files import write_json

# What a start of a run spends its time on: until the first step, with what it loads and restores; compiling the step; waiting
# for records while the devices have nothing to do; steps; validation, with its pictures; checkpoints, as far as the steps wait
# for them. Each but the first is counted from where the one before it ended, so that together they are all of the time.
PARTS = ("start", "compile", "input", "step", "validation", "checkpoint")


class WallTime:
    """The time of this start of a run, and what is known of earlier ones."""

    def __init__(self, workdir: Path):
        """Starts the clock."""
        self.path = workdir / "wall_time.json"
        self._last = time.monotonic()
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._began = _now()
        self._from = 0
        self._earlier: list[dict[str, Any]] = []

    def go_on(self, step: int) -> None:
        """The run goes on after `step`: what earlier starts did beyond that is done again, and was lost."""
        self._from = step
        if self.path.exists():
            self._earlier = [_without(step, start) for start in json.loads(self.path.read_text())["starts"]]

    def spent(self, part: str) -> None:
        """All the time since the last call was spent on this one of PARTS."""
        now = time.monotonic()
        self._seconds[part] += now - self._last
        self._last = now

    def write(self, step: int) -> None:
        """Writes the file, as of `step`."""
        if jax.process_index() != 0:
            return
        this = {
            "began": self._began,
            "written": _now(),
            "from_step": self._from,
            "to_step": step,
            "devices": jax.device_count(),
        }
        starts = [*self._earlier, {**this, "seconds": {**self._seconds, "lost": 0.0}}]
        write_json(self.path, {"seconds": total(starts), "starts": starts})


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
