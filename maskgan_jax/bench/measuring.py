"""Rows in, numbers out."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import os
import platform
import re
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from maskgan_jax.bench.contestant import Contestant, started
from maskgan_jax.bench.rows import Row
from maskgan_jax.bench.setup import GPU_TORCH_VARIANTS, TORCH_VARIANTS, Setup, config_of
from maskgan_jax.errors import UserError
from maskgan_jax.runtime.chips import chip_of
from maskgan_jax.runtime.workers import available_cores

# How many times PyTorch's images per second ours must reach.
TARGET = 1.2
# The largest difference between outputs, in [-1, 1], of the same weights in float32.
MAX_DIFFERENCE = 1e-4
# Environment variables that may change speed or memory.
SETTINGS = re.compile(r"(JAX|XLA|OMP|KMP|GOMP|MKL|MALLOC|TORCH|TORCHINDUCTOR)_.*|GLIBC_TUNABLES|LD_PRELOAD")


def measure(
    rows: Sequence[Row],
    *,
    against: str | None = None,
    compute: str = "float32",
    device: str = "",
    upsampling: str = "native",
    peak: float | None = None,
    pairs: int = 7,
    seconds: float = 2.0,
    keep: Callable[[dict[str, Any]], None] = lambda result: None,
) -> dict[str, Any]:
    """Measures rows; the result can be written as JSON and goes into `table.format_table`.

    Args:
      rows: some of `rows.ROWS` and `rows.GPU_ROWS`, or others.
      against: 'torch' or None.
      compute: 'float32', 'bfloat16' or, on a GPU, 'tf32', for both. On a GPU, 'float32' is without TF32.
      device: 'cpu' or 'gpu'; by default 'cpu' with `against`, else what JAX finds.
      upsampling: on a GPU, how transposed convolutions are computed: 'native' or 'phases'.
      peak: FLOP/s of the device in this arithmetic, for its utilization; by default that of `runtime/chips.py`.
      pairs: how often each is measured.
      seconds: about how long each time; at least one step is done.
      keep: called with the result so far after each row.

    Raises:
      UserError: PyTorch is not installed, or a process failed.
    """
    if against == "torch" and not importlib.util.find_spec("torch"):
        raise UserError("PyTorch is not installed; install it with `pip install torch==2.13.0`, or leave out --against")
    results: dict[str, Any] = {}
    device = device or ("cpu" if against else "")
    result = {"machine": _machine(against), "compute": compute, "target": TARGET, "pairs": pairs, "rows": results}
    if device == "gpu":
        result["upsampling"] = upsampling
    with tqdm(rows, unit="row") as progress, tempfile.TemporaryDirectory() as folder:
        for row in progress:
            setup = Setup(row, config_of(row, compute, Path(folder)), Path(folder), "", compute, device, upsampling)
            measure_row = _measure_alone if device == "gpu" else _measure_row
            results[row.name] = measure_row(setup, against, pairs, seconds, progress.set_description)
            if device == "gpu":
                _add_utilization(results[row.name], compute, peak)
            keep(result)
    return result


def equal_outputs(result: dict[str, Any]) -> bool:
    """Whether the outputs of both differ by at most `MAX_DIFFERENCE` in all rows; always true for bfloat16 and tf32."""
    differences = [row["output_difference"] for row in result["rows"].values() if "output_difference" in row]
    return result["compute"] != "float32" or all(difference <= MAX_DIFFERENCE for difference in differences)


def _machine(against: str | None) -> dict[str, Any]:
    """What the numbers depend on."""
    try:
        model = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        model = None
    packages = ["jax", "jaxlib", "flax", "numpy", *(["torch"] if against else [])]
    return {
        "cpu": model[1] if model else platform.processor(),
        "cores": os.cpu_count(),
        "threads": available_cores(),
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in packages},
        "environment": {name: value for name, value in sorted(os.environ.items()) if SETTINGS.fullmatch(name)},
    }


def _measure_row(setup: Setup, against: str | None, pairs: int, seconds: float, tell: Callable[[str], None]) -> dict[str, Any]:
    row = setup.row
    with contextlib.ExitStack() as processes:

        def start(name: str, variant: str) -> Contestant:
            tell(f"{row.name}: warming up {name}")
            return processes.enter_context(started(dataclasses.replace(setup, variant=variant), name))

        ours = start("maskgan", "")
        contestants = [ours]
        if against:
            theirs, tried, unavailable = _fastest_torch(row, seconds, start)
            contestants.append(theirs)

        rates: list[list[float]] = [[] for _ in contestants]
        for pair in range(pairs):
            tell(f"{row.name}: round {pair + 1} of {pairs}")
            for contestant, of_contestant in zip(contestants, rates, strict=True):
                of_contestant.append(row.batch / contestant.round(seconds))
        result = {**dataclasses.asdict(row), "maskgan": ours.report(rates[0])}
        if against:
            result["torch"] = {
                "variant": theirs.variant,
                **theirs.report(rates[1]),
                "tried_images_per_second": tried,
                "unavailable": unavailable,
            }
            ratios = [one / other for one, other in zip(*rates, strict=True)]
            ratio = statistics.median(ratios)
            result |= {"ratio": ratio, "ratio_range": [min(ratios), max(ratios)], "met": ratio >= TARGET}
            if ours.facts["output"] is not None:
                result["output_difference"] = float(np.abs(ours.facts["output"] - theirs.facts["output"]).max())
        return result


def _measure_alone(
    setup: Setup, against: str | None, pairs: int, seconds: float, tell: Callable[[str], None]
) -> dict[str, Any]:
    """As `_measure_row`, each contestant after the other has ended."""
    row = setup.row

    def measured(name: str, variant: str) -> dict[str, Any]:
        tell(f"{row.name}: {name}")
        with started(dataclasses.replace(setup, variant=variant), name) as contestant:
            report = contestant.report([row.batch / contestant.round(seconds) for _ in range(pairs)])
            return {"variant": variant, **report, "output": contestant.facts["output"]}

    ours = measured("maskgan", "")
    result = {**dataclasses.asdict(row), "maskgan": ours}
    if against:
        tried, unavailable = [], {}
        for variant, options in GPU_TORCH_VARIANTS.items():
            try:
                tried.append(measured(f"PyTorch, {variant}", variant))
            except UserError as error:
                if not options["compiled"]:
                    raise
                unavailable[variant] = str(error)
        theirs = max(tried, key=lambda report: report["images_per_second"])
        result["torch"] = {
            **theirs,
            "tried_images_per_second": {report["variant"]: report["images_per_second"] for report in tried},
            "unavailable": unavailable,
        }
        ratio = ours["images_per_second"] / theirs["images_per_second"]
        extremes = [min(ours["rounds"]) / max(theirs["rounds"]), max(ours["rounds"]) / min(theirs["rounds"])]
        result |= {"ratio": ratio, "ratio_range": extremes, "met": ratio >= TARGET}
        if ours["output"] is not None:
            result["output_difference"] = float(np.abs(ours["output"] - theirs["output"]).max())
        del result["torch"]["output"]
    del ours["output"], ours["variant"]
    return result


def _add_utilization(result: dict[str, Any], compute: str, peak: float | None) -> None:
    """Adds the FLOPs of a step, and the fraction that each contestant does of the device's peak, if that is known."""
    ours = result["maskgan"]
    result["flops"] = ours.pop("flops")
    chip = chip_of(ours["device"])
    # Volta and Turing compute float32 without TF32 in any case.
    peak = peak or (chip and (getattr(chip, compute) or (chip.float32 if compute == "tf32" else None)))
    if peak:
        for contestant in (result[name] for name in ("maskgan", "torch") if name in result):
            contestant["flop_utilization"] = contestant["images_per_second"] / result["batch"] * result["flops"] / peak


def _fastest_torch(
    row: Row, seconds: float, start: Callable[[str, str], Contestant]
) -> tuple[Contestant, dict[str, float], dict[str, str]]:
    """The fastest way to run PyTorch, the images per second of each that runs, and the error of each that does not."""
    fastest = None
    tried: dict[str, float] = {}
    unavailable: dict[str, str] = {}
    for variant, options in TORCH_VARIANTS.items():
        try:
            challenger = start(f"PyTorch, {variant}", variant)
        except UserError as error:
            # Compiling needs a C++ compiler; without one, the rest is compared.
            if not options["compiled"]:
                raise
            unavailable[variant] = str(error)
            continue
        rivals = [challenger, *([fastest] if fastest else [])]
        rounds = [[rival.round(seconds) for rival in rivals] for _ in range(2)]
        best = [min(of_rival) for of_rival in zip(*rounds, strict=True)]
        tried |= {rival.variant: row.batch / step for rival, step in zip(rivals, best, strict=True)}
        fastest = rivals[best.index(min(best))]
        for rival in rivals:
            if rival is not fastest:  # Keep one only, to save memory.
                rival.stop()
    return fastest, tried, unavailable
