"""Records where the time of a training step goes, and prints the operations that take most of it.

python tools/gpu_kit/profile_step.py --config=pix2pix --config.input.batch_size=64 --out=PROFILE

PROFILE gets `operations.json` and JAX's trace, which XProf reads too (tools/gpu_kit/README.md).
"""

from __future__ import annotations

import argparse
import collections
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
from jax.profiler import ProfileData

from maskgan_jax.bench.setup import random_batch
from maskgan_jax.config import load_config
from maskgan_jax.errors import UserError, exit_code
from maskgan_jax.files import check_writable, write_json
from maskgan_jax.training.gan import GAN
from maskgan_jax.training.step import create_state, train_step

WARM_UP = 3
ROWS = 30


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the flags, traces, prints and writes a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="pix2pix", help="a config file; settings: --config.KEY=VALUE")
    parser.add_argument("--steps", type=int, default=10, metavar="N", help="steps that are traced (default: 10)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the trace and the table")
    flags, overrides = parser.parse_known_args(arguments)
    if flags.steps < 1:
        raise UserError(f"--steps is {flags.steps}; it must be at least 1")
    check_writable(flags.out / "operations.json")
    config = load_config(flags.config, overrides)
    seconds = trace(config, flags.steps, flags.out)
    traces = sorted(flags.out.rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime)
    operations = operations_of(ProfileData.from_file(str(traces[-1])))
    report = {
        "device": jax.devices()[0].device_kind,
        "compute": config.training.compute,
        "batch": config.input.batch_size,
        "steps": flags.steps,
        "traced_step_ms": 1e3 * seconds / flags.steps,
        "operations": [{**row, "ms": row["ms"] / flags.steps, "calls": row["calls"] / flags.steps} for row in operations],
    }
    write_json(flags.out / "operations.json", report)
    print("\n".join(lines_of(report)))


def trace(config: Any, steps: int, folder: Path) -> float:
    """Does steps on random images, after a few that are not traced; returns their seconds, tracing included."""
    task = GAN(config)
    arguments = jax.device_put((task.frozen, random_batch(config), jax.random.key(1)))
    state = jax.jit(partial(create_state, task, config, 10**6))(jax.random.key(0))
    step = jax.jit(partial(train_step, task, config, 10**6), donate_argnums=0)
    for _ in range(WARM_UP):
        state, _ = step(state, *arguments)
    jax.block_until_ready(state)
    with jax.profiler.trace(str(folder)):
        since = time.perf_counter()
        for _ in range(steps):
            state, _ = step(state, *arguments)
        jax.block_until_ready(state)
        return time.perf_counter() - since


def operations_of(profile: ProfileData) -> list[dict[str, Any]]:
    """The compiled program's operations on all devices: `name`, `ms` and `calls`, the longest first.

    Those are the kernels on GPUs, which carry the name of the operation that they are for; on CPUs, whose operations run in
    threads of the host, what carries such a name.
    """
    planes = list(profile.planes)
    of_devices = [plane for plane in planes if plane.name.startswith("/device:")]
    milliseconds: collections.Counter[str] = collections.Counter()
    calls: collections.Counter[str] = collections.Counter()
    for plane in of_devices or planes:
        for line in plane.lines:
            # XProf's own sums, of the same events.
            if line.name in ("Steps", "XLA Modules", "Framework Ops", "Framework Name Scope", "Source code"):
                continue
            for event in line.events:
                stats = dict(event.stats)
                if "hlo_op" in stats:
                    name = str(stats["hlo_op"])
                    if of_devices and event.name != name:
                        name = f"{name} ({event.name[:80]})"
                    milliseconds[name] += event.duration_ns / 1e6
                    calls[name] += 1
    return [{"name": name, "ms": total, "calls": calls[name]} for name, total in milliseconds.most_common()]


def lines_of(report: dict[str, Any]) -> list[str]:
    """The report for people."""
    total = sum(row["ms"] for row in report["operations"])
    count = len(report["operations"])
    lines = [
        f"{report['device']}, {report['compute']}, batch {report['batch']}: a step takes {report['traced_step_ms']:.2f} ms "
        f"while it is traced; its {count} operations, {total:.2f} ms (those that overlap are counted twice)",
        f"{'ms':>9} {'of all':>7} {'calls':>6}  operation",
    ]
    for row in report["operations"][:ROWS]:
        lines.append(f"{row['ms']:9.3f} {row['ms'] / total:7.1%} {row['calls']:6.1f}  {row['name']}")
    return lines


if __name__ == "__main__":
    sys.exit(exit_code("profile_step", main))
