"""The files that a run of `maskgan train` keeps in its workdir, for all that writes or reads them. Needs no JAX."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etils import epath

from maskgan_jax.storage import reaching

CONFIG = "config.json"
LOCK = ".lock"
# Folders of checkpoints, each named after its step: to resume from, the best by validation, and those that cannot be read.
CHECKPOINTS, BEST, DAMAGED = "checkpoints", "best", "checkpoints.damaged"
METRICS, WALL_TIME = "metrics.jsonl", "wall_time.json"
PICTURES, PROFILE = "pictures", "profile"
# TensorBoard's; their names go on after a dot.
EVENTS = "events"
NAMES = (CONFIG, LOCK, CHECKPOINTS, BEST, DAMAGED, METRICS, WALL_TIME, PICTURES, PROFILE)


def is_of_run(path: Path, workdir: Path) -> bool:
    """Whether a path (both real) is one of these files or lies in one of these folders of a run."""
    if path == workdir or not path.is_relative_to(workdir):
        return False
    name = path.relative_to(workdir).parts[0]
    return name in NAMES or name.startswith(f"{EVENTS}.")


def read_rows(workdir: Path | epath.Path) -> Iterator[dict[str, Any]]:
    """The lines of the run's `metrics.jsonl` that can be read, each with `step` and `phase`; none if there is no such file."""
    path = workdir / METRICS
    with reaching(workdir):
        lines = path.read_bytes().decode(errors="replace").splitlines() if path.exists() else []
    for line in lines:
        try:
            row = json.loads(line)
            is_row = row["step"] >= 0 and isinstance(row["phase"], str)
        except (ValueError, LookupError, TypeError):  # Such as the last line of a run that was killed while it wrote.
            continue
        if is_row:
            yield row


def read_curves(workdir: Path | epath.Path, phase: str) -> dict[str, tuple[list[int], list[float]]]:
    """What a run has logged in a phase, 'train' or 'validation': {name: (steps, values)}."""
    curves: dict[str, tuple[list[int], list[float]]] = {}
    for row in read_rows(workdir):
        step, found = row.pop("step"), row.pop("phase")
        for name, value in row.items() if found == phase else ():
            steps, values = curves.setdefault(name, ([], []))
            steps.append(step)
            values.append(value)
    return curves
