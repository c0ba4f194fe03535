"""Trains and scores the runs of an experiment, one after the other; what is done is skipped, so the same command goes on.

    maskgan build --config=default --config.data.size=64 --source=folder=$MASKGAN_FACES --data_dir=DATA
    python tools/run_experiment.py large_batches --data_dir=DATA --out=RUNS

Each run has a folder in RUNS: the workdir of `maskgan train`, and `scores.json`, which `maskgan evaluate --step=last` made on
the test split. SIGTERM ends the experiment after a checkpoint. When all runs are done, or with --report before that, tables of
them are printed, and charts are written beside the runs.

`large_batches`: what a batch of 8 to 512 costs at equal epochs, and what scaling of the learning rate, warm-up and norms do
about it. pix2pix at 64 px, width 16.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from maskgan_jax.demo.report import line_chart
from maskgan_jax.errors import UserError, exit_code
from maskgan_jax.files import write_text

# Flags of `maskgan train`, by the name of a run.
Runs = dict[str, list[str]]

BATCHES = (8, 16, 32, 64, 128, 256, 512)
# The batch that the learning rate is for.
SCALING_BATCH = 16
SCALINGS = ("none", "sqrt", "linear")
# Epochs of the run, and of its warm-up.
EPOCHS, WARMUP = 10, 0.5


def large_batches(data_dir: Path) -> Runs:
    """Batches with every scaling: with warm-up and two seeds; with one, without warm-up, and with batch norm."""
    splits = json.loads((data_dir / "card.json").read_text())["splits"]
    runs = {}
    variants = [("instance", True, 0), ("instance", True, 1), ("instance", False, 0), ("batch", True, 0)]
    for norm, warmup, seed in variants:
        for batch, scaling in itertools.product(BATCHES, SCALINGS):
            if batch == SCALING_BATCH and scaling != "none":
                continue  # The same for all.
            steps_per_epoch = splits["train"]["records"] // batch
            steps = EPOCHS * steps_per_epoch
            name = f"{norm}_{'warmup' if warmup else 'cold'}_{scaling}_{batch}_seed{seed}"
            runs[name] = [
                "--config=pix2pix",
                "--config.data.size=64",
                "--config.generator.width=16",
                "--config.discriminator.width=16",
                f"--config.generator.norm={norm}",
                f"--config.discriminator.norm={norm}",
                f"--config.input.batch_size={batch}",
                "--config.input.threads=2",
                f"--config.optimizer.scaling={scaling}",
                f"--config.optimizer.scaling_batch={SCALING_BATCH}",
                f"--config.optimizer.warmup={math.ceil(WARMUP * steps_per_epoch) if warmup else 0}",
                f"--config.training.epochs={float(EPOCHS)}",
                f"--config.training.validate_every={steps}",
                f"--config.training.checkpoint_every={math.ceil(steps / 4)}",
                "--config.training.keep=1",
                "--config.training.validation_records=256",
                f"--config.seed={seed}",
            ]
    return runs


def report_large_batches(out: Path, scores: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """A table for each kind of norm and warm-up, of the means over seeds; a chart of the first."""
    table: dict[tuple[str, str, str, int], list[float]] = {}
    for name, of_run in scores.items():
        norm, warmup, scaling, batch = re.fullmatch(r"(\w+?)_(\w+?)_(\w+?)_(\d+)_seed\d+", name).groups()
        for each in SCALINGS if int(batch) == SCALING_BATCH else (scaling,):
            table.setdefault((norm, warmup, each, int(batch)), []).append(of_run["mse_masked"])
    for norm, warmup in dict.fromkeys(key[:2] for key in table):
        how = "with" if warmup == "warmup" else "without"
        yield f"\n{norm} norm, {how} warm-up: MSE in the mask (the largest less the smallest of the seeds)\n"
        yield "| batch | " + " | ".join(SCALINGS) + " |"
        yield "|--:|" + "--:|" * len(SCALINGS)
        for batch in BATCHES:
            yield f"| {batch} | " + " | ".join(_cell(table.get((norm, warmup, each, batch), [])) for each in SCALINGS) + " |"
    lines = {
        f"{norm} norm, {warmup}, {scaling}": [
            (math.log2(batch), statistics.mean(table[norm, warmup, scaling, batch]))
            for batch in BATCHES
            if (norm, warmup, scaling, batch) in table
        ]
        for norm, warmup, scaling in dict.fromkeys(key[:3] for key in table)
    }
    for kind in dict.fromkeys(name.rpartition(", ")[0] for name in lines):
        chart = {
            name.rpartition(", ")[2]: tuple(zip(*points, strict=True))
            for name, points in lines.items()
            if name.startswith(kind)
        }
        path = out / (re.sub(r"\W+", "_", kind) + ".svg")
        html = line_chart(chart, "MSE in the mask", "log2 of the batch")
        svg = html[html.index("<svg") : html.index("</svg>") + 6].replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
        write_text(path, svg)
        yield f"\nchart: {path}"


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    spread = f" ({max(values) - min(values):.0f})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.0f}{spread}"


# Of an experiment: its runs for a data set, and the lines of its report.
EXPERIMENTS: dict[str, tuple[Callable[[Path], Runs], Callable[[Path, Mapping[str, dict[str, Any]]], Iterator[str]]]] = {
    "large_batches": (large_batches, report_large_batches),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the flags, trains and scores what is not done yet, reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--data_dir", required=True, type=Path, metavar="DIR", help="data set made by `maskgan build`")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the runs")
    parser.add_argument("--report", action="store_true", help="train nothing: report what is done")
    flags = parser.parse_args(arguments)
    if not (flags.data_dir / "card.json").is_file():
        raise UserError(f"there is no data set in {flags.data_dir}; make one with `maskgan build`")
    runs_of, report = EXPERIMENTS[flags.experiment]
    runs = runs_of(flags.data_dir)
    if not flags.report:
        for name in tqdm(runs, flags.experiment, unit="run"):
            train_and_score(runs[name], flags.data_dir, flags.out / name)
    done = {name: flags.out / name / "scores.json" for name in runs if (flags.out / name / "scores.json").is_file()}
    print(f"{len(done)} of {len(runs)} runs are done")
    print("\n".join(report(flags.out, {name: json.loads(path.read_text()) for name, path in done.items()})))


def train_and_score(options: Sequence[str], data_dir: Path, workdir: Path) -> None:
    """One run; nothing if it has its scores.

    Raises:
      UserError: a command failed, or SIGTERM ended it.
    """
    scores = workdir / "scores.json"
    if scores.is_file():
        return
    run = [f"--data_dir={data_dir}", f"--workdir={workdir}"]
    _maskgan(["train", *options, *run])
    _maskgan(["evaluate", *run, "--step=last", f"--out={scores}"])


def _maskgan(arguments: Sequence[str]) -> None:
    child = subprocess.Popen([sys.executable, "-m", "maskgan_jax", *arguments])
    before = signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    try:
        code = child.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
    if code:
        raise UserError(f"`maskgan {' '.join(arguments)}` ended with code {code}; see above, then start again to go on")


if __name__ == "__main__":
    sys.exit(exit_code("run_experiment", main))
