"""Trains and scores the runs of an experiment, one after the other; what is done is skipped, so the same command goes on.

    python tools/run_experiment.py large_batches --data_dir=DATA --out=RUNS
    python tools/run_experiment.py large_batches --data_dir=DATA --out=RUNS --part=1/2      # --part=2/2 elsewhere

Each run has a folder in RUNS: the workdir of `maskgan train`, and `scores.json`, which `maskgan evaluate --step=last` made on
the test split; and for each --test=NAME=DIR, `scores_NAME.json` on that of another data set. SIGTERM ends the experiment
after a checkpoint. At the end, or with --report before that, what there is to report is printed (with a figure, for which
`pip install 'maskgan_jax[study]'` brings matplotlib). --part=K/N does every Nth run only, beginning with the Kth: for several
machines with one folder, or several cores (`taskset -c 0 python ...`). Runs of `paper` and of `table_1` need each other, and
are not divided. --only=NAME,NAME does these runs in this order; what a run needs comes before it, as in
--only=landmarks,contour. Flags such as --config.input.processes=12 go to every `maskgan train`.

`paper`: every system of the paper's tables, on the data of configs/experiment.py; tools/make_report.py makes its tables. The
systems' sizes, batch, learning rate, epochs and arithmetic are those of the config that the data set was built with
(DATA/config.json); the networks that they need have its size alone. For the paper's own size, let configs/experiment.py begin
with `default.get_config()`, or give `maskgan build` what is to be different: --config.data.size=256
--config.generator.width=64.

`table_1`: the proposed method at 64 px for 300 epochs, on that data built with --config.data.size=64; it is scored after 10,
30, 60, 100 and 300, as in the paper's Table 1.

`large_batches`: what a batch of 8 to 512 costs at equal epochs, and what scaling of the learning rate, warm-up and norms do
about it. pix2pix at 64 px, width 8.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import math
import re
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from maskgan_jax.config import read_config
from maskgan_jax.errors import UserError, exit_code
from maskgan_jax.files import replacing


class Run(NamedTuple):
    """What is trained, and how it is scored.

    Attributes:
      train: flags of `maskgan train`; none for a method without training.
      evaluate: flags of `maskgan evaluate`, which scores what was trained last unless they say otherwise.
      metrics: flags of it for the experiment's own test split only, as they take long.
      epochs: those after which it is scored too, on that split, as `epoch_N.json`.
    """

    train: list[str]
    evaluate: list[str]
    metrics: tuple[str, ...] = ()
    epochs: tuple[int, ...] = ()


Runs = dict[str, Run]

BATCHES = (8, 16, 64, 256, 512)
# The batch that the learning rate is for.
SCALING_BATCH = 16
SCALINGS = ("none", "sqrt", "linear")
# Epochs of the run, and of its warm-up.
EPOCHS, WARMUP = 5, 0.5
# What is reported of it: the axis, and the digits behind the point.
BATCH_METRICS = {"mse_masked": ("MSE in the mask", 0), "st_lpips": ("ST-LPIPS", 3)}


# Of the paper's experiment: what all its runs take from the config of the data set, and what its systems do. All but `yi` also
# have that generator's width.
RUN_SETTINGS = ("data.size", "data.zoom")
SYSTEM_SETTINGS = (
    *("input.batch_size", "discriminator.width", "optimizer.learning_rate"),
    *("training.epochs", "training.compute"),
)
# The paper's Table 1 has the last five.
SCORED_EPOCHS = (1, 2, 3, 6, 10, 30, 60, 100, 300)
PAPER_METRICS = ("--metrics=contour,mouth,identity,expression",)
COLUMNS = {"mse_masked": ".0f", "psnr": ".2f", "ssim": ".4f", "st_lpips": ".4f"}


def paper(data_dir: Path, out: Path) -> Runs:
    """Every system, with the same data, steps and seed; two seeds for the two that matter most.

    What the systems need comes first: the landmark network of C1, and the map module of `yi`; their best networks are used, and
    scored. Raises UserError if the data set has no config.
    """
    if not (data_dir / "config.json").is_file():
        raise UserError(f"{data_dir} has no config.json, from which the runs take their sizes; build the data set again")
    built_with = read_config(data_dir / "config.json")

    def of_data(names: Sequence[str]) -> list[str]:
        return [f"--config.{name}={attrgetter(name)(built_with)}" for name in names]

    of_run = of_data(RUN_SETTINGS)
    shared = [*of_run, *of_data(SYSTEM_SETTINGS), "--config.input.threads=2", "--config.training.keep=1"]
    width = built_with.generator.width
    generator = f"--config.generator.width={width}"
    contour = f"--config.landmark_net.weights={out / 'landmarks'}"
    runs = {
        "landmarks": Run(["--config=landmarks", *of_run], ["--step=best"]),
        "map": Run(["--config=default_segmentation", "--config.segmentation_net.width=16", *of_run], ["--step=best"]),
    }
    systems = {
        "pix2pix": ["--config=pix2pix", generator],
        "proposed": ["--config=paper", generator, contour],
        # Its authors' network is half as wide at the first scale as pix2pix's.
        "yi": ["--config=yi", f"--config.generator.width={width // 2}", f"--config.segmentation_net.weights={out / 'map'}"],
        "contour": ["--config=contour", generator, contour],
        # With its own weight, what C1 does is hard to tell from what another seed does.
        "contour_x5": ["--config=contour", "--config.losses.contour=0.3", generator, contour],
        "masked": ["--config=masked", generator],
        "default": ["--config=fast_model", generator, contour],
    }
    for name, flags in systems.items():
        runs[name] = Run([*flags, *shared], [], PAPER_METRICS)
    runs |= {name: Run([], [f"--method={name}"], PAPER_METRICS) for name in ("input", "telea", "navier_stokes")}
    before = tuple(epoch for epoch in SCORED_EPOCHS if epoch < built_with.training.epochs)
    runs["proposed"] = _with_epochs(runs["proposed"], before)
    for name in ("pix2pix", "proposed"):
        runs[f"{name}_seed1"] = Run([*systems[name], *shared, "--config.seed=1"], [], PAPER_METRICS)
    return runs


def table_1(data_dir: Path, out: Path) -> Runs:
    """The proposed method for all the epochs of the paper's Table 1, at 64 px and width 16, and its landmark network."""
    del data_dir
    flags = [
        "--config=cpu",
        "--config.data.size=64",
        "--config.generator.width=16",
        "--config.discriminator.width=16",
        f"--config.training.epochs={float(SCORED_EPOCHS[-1])}",
        "--config.input.threads=2",
        "--config.training.keep=1",
        f"--config.landmark_net.weights={out / 'landmarks'}",
    ]
    return {
        "landmarks": Run(["--config=landmarks", "--config.data.size=64"], ["--step=best"]),
        "proposed": _with_epochs(Run(flags, [], PAPER_METRICS), SCORED_EPOCHS[-5:-1]),
    }


def _with_epochs(run: Run, epochs: tuple[int, ...]) -> Run:
    keep = f"--config.training.keep_epochs=({''.join(f'{epoch},' for epoch in epochs)})"
    return run._replace(train=[*run.train, keep], epochs=epochs)


def report_paper(out: Path, scores: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """The means on the test split; tools/make_report.py has more."""
    yield "| system | " + " | ".join(COLUMNS) + " |"
    yield "|---|" + "--:|" * len(COLUMNS)
    for name, of_run in scores.items():
        early = sorted((out / name).glob("epoch_*.json"), key=lambda path: int(path.stem.partition("_")[2]))
        for title, means in [*((f"{name}, {path.stem}", read_json(path)) for path in early), (name, of_run)]:
            if COLUMNS.keys() <= means.keys():
                yield f"| {title} | " + " | ".join(f"{means[column]:{form}}" for column, form in COLUMNS.items()) + " |"


def large_batches(data_dir: Path, out: Path) -> Runs:
    """Batches with every scaling, with two seeds: with warm-up, large ones without it, and all with batch norm."""
    del out
    records = _training_records(data_dir)
    runs = {}
    variants = [("instance", True), ("instance", False), ("batch", True)]
    for (norm, warmup), seed in itertools.product(variants, (0, 1)):
        for batch, scaling in itertools.product(BATCHES, SCALINGS):
            if batch == SCALING_BATCH and scaling != "none":
                continue  # The same for all.
            if not warmup and batch <= SCALING_BATCH:
                continue  # Warm-up is for learning rates that were raised.
            steps_per_epoch = records // batch
            steps = EPOCHS * steps_per_epoch
            name = f"{norm}_{'warmup' if warmup else 'cold'}_{scaling}_{batch}_seed{seed}"
            flags = [
                "--config=pix2pix",
                "--config.data.size=64",
                "--config.generator.width=8",
                "--config.discriminator.width=8",
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
            runs[name] = Run(flags, [])
    return runs


def report_large_batches(out: Path, scores: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """A table of the means over seeds, with their ranges, and a figure of it."""
    tables: dict[str, dict[tuple[str, int], list[dict[str, Any]]]] = {}
    for name, of_run in scores.items():
        norm, warmup, scaling, batch = re.fullmatch(r"(\w+?)_(\w+?)_(\w+?)_(\d+)_seed\d+", name).groups()
        table = tables.setdefault(f"{norm} norm, {'with' if warmup == 'warmup' else 'without'} warm-up", {})
        for each in SCALINGS if int(batch) == SCALING_BATCH else (scaling,):
            table.setdefault((each, int(batch)), []).append(of_run)
    if not tables:
        return
    columns = [f"{label}: {each}" if each == SCALINGS[0] else each for label, _ in BATCH_METRICS.values() for each in SCALINGS]
    yield "mean (range over seeds)\n"
    yield "| | batch | " + " | ".join(columns) + " |"
    yield "|---|--:|" + "--:|" * len(columns)
    for title, table in tables.items():
        for batch in sorted({batch for _, batch in table}):
            cells = [
                _cell([of_run[metric] for of_run in table.get((each, batch), [])], digits)
                for metric, (_, digits) in BATCH_METRICS.items()
                for each in SCALINGS
            ]
            yield f"| {title} | {batch} | " + " | ".join(cells) + " |"
    _draw(out / "large_batches.png", tables)
    yield f"\nfigure: {out / 'large_batches.png'}"


def _draw(path: Path, tables: Mapping[str, Mapping[tuple[str, int], Sequence[dict[str, Any]]]]) -> None:
    """The tables as curves: means, and the range over seeds."""
    from matplotlib.figure import Figure

    figure = Figure((4 * len(tables) + 1, 3 * len(BATCH_METRICS)), layout="constrained")
    rows = figure.subplots(len(BATCH_METRICS), len(tables), sharex=True, sharey="row", squeeze=False)
    for row, (metric, (label, _)) in zip(rows, BATCH_METRICS.items(), strict=True):
        for axes, (title, table) in zip(row, tables.items(), strict=True):
            for scaling in SCALINGS:
                points = {batch: table[scaling, batch] for batch in BATCHES if (scaling, batch) in table}
                values = [[of_run[metric] for of_run in runs] for runs in points.values()]
                means = np.array([statistics.mean(of_batch) for of_batch in values])
                ranges = [means - [*map(min, values)], np.array([*map(max, values)]) - means]
                axes.errorbar([*points], means, yerr=ranges, marker="o", markersize=4, capsize=3, label=scaling)
            axes.set_xscale("log", base=2)
            axes.set_xticks(BATCHES, BATCHES)
            axes.set(title=title, xlabel="batch")
            axes.grid(alpha=0.3)
        row[0].set(ylabel=label)
    figure.legend(*rows[0][0].get_legend_handles_labels(), title="scaling", loc="outside right upper")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")


def _cell(values: Sequence[float], digits: int) -> str:
    if not values:
        return ""
    spread = f" ({max(values) - min(values):.{digits}f})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


# Of an experiment: its runs for a data set, and the lines of its report.
EXPERIMENTS: dict[str, tuple[Callable[[Path, Path], Runs], Callable[[Path, Mapping[str, dict[str, Any]]], Iterator[str]]]] = {
    "paper": (paper, report_paper),
    "table_1": (table_1, report_paper),
    "large_batches": (large_batches, report_large_batches),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the flags, trains and scores what is not done yet, reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--data_dir", required=True, type=Path, metavar="DIR", help="data set made by `maskgan build`")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the runs")
    parser.add_argument(
        "--test",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="score on the test split of this data set too; repeatable",
    )
    parser.add_argument(
        "--part", type=_part, default=(1, 1), metavar="K/N", help="every Nth run, from the Kth on (default: 1/1)"
    )
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="NAME,NAME", help="these runs, in this order")
    parser.add_argument("--report", action="store_true", help="train nothing: report what is done")
    flags, settings = parser.parse_known_args(arguments)
    if unknown := [flag for flag in settings if not flag.startswith("--config.")]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if not (flags.data_dir / "card.json").is_file():
        raise UserError(f"there is no data set in {flags.data_dir}; make one with `maskgan build`")
    tests = {"": flags.data_dir}
    for test in flags.test:
        name, _, folder = test.partition("=")
        if not name or not (Path(folder) / "card.json").is_file():
            raise UserError(f"--test={test}: give NAME=DIR, where DIR is a data set made by `maskgan build`")
        tests[f"_{name}"] = Path(folder)
    runs_of, report = EXPERIMENTS[flags.experiment]
    runs = runs_of(flags.data_dir, flags.out)
    if unknown := set(flags.only or []) - runs.keys():
        raise UserError(f"--only: {flags.experiment} has no run {sorted(unknown)[0]!r}; it has {', '.join(runs)}")
    first, parts = flags.part
    if flags.experiment in ("paper", "table_1") and parts > 1:
        raise UserError(f"the runs of {flags.experiment} need each other, so they are not divided; leave out --part")
    if flags.experiment == "large_batches" and not importlib.util.find_spec("matplotlib"):
        raise UserError("the figure needs matplotlib: pip install 'maskgan_jax[study]'")
    if not flags.report:
        for name in tqdm((flags.only or list(runs))[first - 1 :: parts], flags.experiment, unit="run"):
            run = runs[name]
            if run.train:
                run = run._replace(train=[*run.train, *settings])
            train_and_score(run, tests, flags.out / name)
    done = {name: flags.out / name / "scores.json" for name in runs if (flags.out / name / "scores.json").is_file()}
    print(f"{len(done)} of {len(runs)} runs are done")
    print("\n".join(report(flags.out, {name: read_json(path) for name, path in done.items()})))


def _part(text: str) -> tuple[int, int]:
    if not re.fullmatch(r"[1-9]\d*/[1-9]\d*", text) or (part := tuple(map(int, text.split("/"))))[0] > part[1]:
        raise argparse.ArgumentTypeError(f"{text!r} is no part; give K/N, such as 1/2 for every second run")
    return part


def read_json(path: Path) -> dict[str, Any]:
    """What is in a file. Raises UserError if it is damaged."""
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it and start again") from error


def train_and_score(run: Run, tests: Mapping[str, Path], workdir: Path) -> None:
    """One run, as far as it is not done.

    Args:
      run: what to do.
      tests: data sets by the ending of their scores' name; that without any is trained on.
      workdir: of the run.

    Raises:
      UserError: a command failed, or SIGTERM ended it.
    """
    missing = {name: folder for name, folder in tests.items() if not (workdir / f"scores{name}.json").is_file()}
    if run.train and "" in missing:
        _maskgan(["train", *run.train, f"--data_dir={tests['']}", f"--workdir={workdir}"])
    trained = [f"--workdir={workdir}", "--step=last"] if run.train else []
    for name, folder in missing.items():
        flags = [*trained, *run.evaluate, *(() if name else run.metrics)]
        _maskgan(["evaluate", *flags, f"--data_dir={folder}", f"--out={workdir / f'scores{name}.json'}"])
    for epoch in run.epochs:
        scores = workdir / f"epoch_{epoch}.json"
        if not scores.is_file():
            step = epoch * (_training_records(tests[""]) // read_config(workdir / "config.json").input.batch_size)
            flags = [f"--workdir={workdir}", f"--step={step}", f"--data_dir={tests['']}", f"--out={scores}"]
            _maskgan(["evaluate", *run.evaluate, *flags])


def _training_records(data_dir: Path) -> int:
    splits = read_json(data_dir / "card.json").get("splits", {})
    if "train" not in splits:
        raise UserError(f"{data_dir / 'card.json'} tells of no training split; build the data set again")
    return splits["train"]["records"]


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
