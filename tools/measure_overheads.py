"""Measures what C1 and C2 add to a training step, and what everything around the steps adds to a run.

    python tools/measure_overheads.py --config=configs/cpu.py --data_dir=DATA --config.landmark_net.weights=LANDMARKS

C1 and C2: steps with and without them in turn, the median of the ratios. The rest: a short run, in which each part is timed
several times and counted as often as it comes in an epoch at the config's own intervals. A checkpoint counts until it is
whole, which a run waits for on a disk.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

import jax
from ml_collections import ConfigDict

from maskgan_jax import losses
from maskgan_jax.config import load_config
from maskgan_jax.data.masked_faces.reader import load_split
from maskgan_jax.data.pipeline import training_batches
from maskgan_jax.errors import UserError, exit_code
from maskgan_jax.files import check_writable, write_json
from maskgan_jax.run_files import read_rows
from maskgan_jax.runtime.allocator import compute_in_main_thread, restart_with_huge_pages
from maskgan_jax.training import checkpoints, gan, loop
from maskgan_jax.training.step import create_state, train_step

# Lengths of the short run in steps, and of its intervals: one for compilation and two to be measured.
INTERVAL = 20
INTERVALS = 3


def losses_share(config: ConfigDict, data_dir: str, pairs: int, steps: int = 3) -> float:
    """What C1 and C2 add to a training step, as a share of the step without them."""
    batch = jax.device_put(next(training_batches(load_split(data_dir, "train"), config)))
    key = jax.random.key(0)
    plain = config.copy_and_resolve_references()
    plain.landmark_net.weights, plain.losses.contour, plain.losses.masked = "", 0.0, 0.0

    def compiled(config: ConfigDict) -> Callable[[], float]:
        """A function that takes the next steps and tells how many seconds one took."""
        task = gan.GAN(config)
        state = jax.jit(partial(create_state, task, config, 1000))(key)
        frozen = jax.device_put(task.frozen)
        step = jax.jit(partial(train_step, task, config, 1000), donate_argnums=0)
        state, terms = step(state, frozen, batch, key)

        def seconds() -> float:
            nonlocal state, terms
            jax.block_until_ready(state)
            start = time.perf_counter()
            for _ in range(steps):
                state, terms = step(state, frozen, batch, key)
            jax.block_until_ready(state)
            return (time.perf_counter() - start) / steps

        return seconds

    proposed = compiled(config)
    # C2 is computed even where it has no weight, to be logged.
    with mock.patch.object(losses, "ALWAYS", ("adversarial", "l1")):
        pix2pix = compiled(plain)
    return statistics.median(proposed() / pix2pix() for _ in range(pairs)) - 1


class Stopwatch:
    """Seconds that each part of a run took, every time."""

    def __init__(self):
        """Nothing was timed yet."""
        self.seconds: dict[str, list[float]] = {}

    def timed(self, part: str, function: Callable, afterwards: Callable = lambda *_: None) -> Callable:
        """`function`, each call of which is timed; so is a call of `afterwards` with the same arguments."""

        def run(*arguments):
            start = time.perf_counter()
            result = function(*arguments)
            afterwards(*arguments)
            self.seconds.setdefault(part, []).append(time.perf_counter() - start)
            return result

        return run

    @contextmanager
    def running(self) -> Iterator[None]:
        """Times the parts of the runs of the block."""

        def written(manager, *_):
            manager.wait_until_finished()

        create_validator = loop.create_validator
        with ExitStack() as stack:
            for holder, name, replacement in (
                (loop, "_means", self.timed("log", loop._means)),
                (loop, "create_validator", lambda *arguments: self.timed("validation, pictures", create_validator(*arguments))),
                (checkpoints, "save_state", self.timed("checkpoint", checkpoints.save_state, written)),
                (checkpoints, "save_best", self.timed("best network", checkpoints.save_best, written)),
            ):
                stack.enter_context(mock.patch.object(holder, name, replacement))
            yield


def run_shares(config: ConfigDict, data_dir: str) -> tuple[float, float, dict[str, tuple[float, float]]]:
    """A short run.

    Returns:
      Seconds of a step; share of the time that is spent waiting for records; of each part that is done beside the steps the
      seconds, and as a share of the steps' own time at the intervals of the config.

    Raises:
      UserError: there are fewer records than in a batch, or as `loop.train` does.
    """
    records = len(load_split(data_dir, "train"))
    if records < config.input.batch_size:
        raise UserError(
            f"{data_dir} has {records} training records, fewer than a batch of {config.input.batch_size}; give more"
        )
    plan = loop.Plan.of(config, records)
    every = {
        "log": plan.log_every,
        "validation, pictures": plan.validate_every,
        "best network": plan.validate_every,
        "checkpoint": plan.checkpoint_every,
    }
    short = config.copy_and_resolve_references()
    short.training.update(
        steps=INTERVAL * INTERVALS, log_every=INTERVAL, validate_every=INTERVAL, checkpoint_every=INTERVAL, keep=1
    )
    stopwatch = Stopwatch()
    # No network is ever good enough: each is saved.
    with (
        tempfile.TemporaryDirectory() as folder,
        stopwatch.running(),
        mock.patch.object(checkpoints, "best_scores", lambda _: None),
    ):
        loop.train(short.lock(), data_dir, folder)
        rows = list(read_rows(Path(folder)))
    # The first of everything compiles.
    measured = [row for row in rows if row["phase"] == "train"][1:]
    step = statistics.median(config.input.batch_size / row["pictures_per_second"] for row in measured)
    waited = statistics.mean(row["input_wait"] for row in measured)
    parts = {name: statistics.median(seconds[1:]) for name, seconds in stopwatch.seconds.items()}
    return step, waited, {name: (seconds, seconds / (every[name] * step)) for name, seconds in parts.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the flags, measures, prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--pairs", type=int, default=9, help="how often steps with and without C1 and C2 are compared")
    parser.add_argument("--out", metavar="FILE", help="JSON file for the numbers")
    flags, overrides = parser.parse_known_args(arguments)
    if flags.pairs < 1:
        raise UserError(f"--pairs={flags.pairs}: give at least 1")
    config = load_config(flags.config, overrides)
    if flags.out:
        check_writable(flags.out)
    numbers = {}
    if config.task == "unmask" and config.landmark_net.weights:
        numbers["c1_c2_share_of_step"] = losses_share(config, flags.data_dir, flags.pairs)
    step, waited, parts = run_shares(config, flags.data_dir)
    numbers |= {
        "step_seconds": step,
        "input_wait": waited,
        "parts": {name: {"seconds": seconds, "share_of_run": share} for name, (seconds, share) in parts.items()},
        "share_of_run": sum(share for _, share in parts.values()),
    }
    print("| | seconds | added to the steps |\n|---|--:|--:|")
    if "c1_c2_share_of_step" in numbers:
        print(f"| C1 and C2 | | {numbers['c1_c2_share_of_step']:.1%} |")
    for name, (seconds, share) in parts.items():
        print(f"| {name} | {seconds:.3f} | {share:.2%} |")
    print(f"| all of these parts | | {numbers['share_of_run']:.2%} |")
    print(f"| waiting for records | | {waited:.2%} |")
    print(f"\na step takes {step:.3f} s")
    if flags.out:
        write_json(flags.out, numbers)


if __name__ == "__main__":
    # As `maskgan train` does.
    restart_with_huge_pages()
    compute_in_main_thread()
    sys.exit(exit_code("measure_overheads", main))
