"""Makes a page of tables of the scores of `tools/run_experiment.py paper`: the tables of the paper, with intervals.

    python tools/make_report.py RUNS --out=results.md

Intervals are of 95 %: percentiles of the means of 2,000 bootstrap samples, of people rather than of images, as those of one
person are alike. The samples are the same for all systems, so that differences are paired.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maskgan_jax.errors import UserError, exit_code
from maskgan_jax.files import write_text

SAMPLES = 2000
# Scores, what they are called, how they are written, and whether less is better.
COLUMNS = {
    "mse_masked": ("MSE in the mask", ".0f", True),
    "psnr": ("PSNR", ".2f", False),
    "ssim": ("SSIM", ".4f", False),
    "st_lpips": ("ST-LPIPS", ".4f", True),
}
MORE_COLUMNS = {
    "contour": ("contour error", ".4f", True),
    "mouth": ("mouth error", ".4f", True),
    "identity": ("identity distance", ".3f", True),
    "expression": ("same expression", ".2f", False),
}
# What the systems are compared with, and the differences that the paper reports from the latter, in per cent.
BASES = ("pix2pix", "yi")
OF_PAPER = {"mse_masked": -22.61, "psnr": 5.70, "ssim": 1.94, "st_lpips": -10.87}


class Scores(NamedTuple):
    """Of one system on one test set, by image.

    Attributes:
      values: {score: `[N]`}, NaN where there is none.
      people: `[N]`, a number for each person.
      labels: {'id', 'source', 'mask_type' and 'acted', the expression: `[N]` strings}.
    """

    values: dict[str, np.ndarray]
    people: np.ndarray
    labels: dict[str, np.ndarray]


def read_scores(path: Path, output: str) -> Scores | None:
    """The scores that `maskgan evaluate` wrote; None if they are of no mask remover.

    Args:
      path: the file.
      output: 'raw', what the generator drew, or 'composite', which has the known pixels of the photo. Methods without a
        generator have only the latter, which stands for both.

    Raises:
      UserError: it is no such file.
    """
    try:
        scores = json.loads(path.read_text())
        if "mse_masked" not in scores:
            return None
        images = scores.get("put_back", scores)["images"] if output == "composite" else scores["images"]
        names = [*COLUMNS, *(name for name in MORE_COLUMNS if name in images[0])]
        values = {name: np.array([np.nan if image[name] is None else image[name] for image in images], float) for name in names}
        labels = {name: np.array([image[name] for image in images]) for name in ("id", "source", "mask_type", "acted")}
        people = np.unique([image["person"] or image["id"] for image in images], return_inverse=True)[1]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path} has no scores of `maskgan evaluate` ({type(error).__name__}: {error})") from error
    return Scores(values, people, labels)


def resampled(values: np.ndarray, people: np.ndarray, seed: int = 0) -> np.ndarray:
    """Means of `values` `[N]` over bootstrap samples of people, `[SAMPLES]`; values that are NaN are left out."""
    known = ~np.isnan(values)
    count = people.max() + 1
    sums = np.bincount(people[known], values[known], count)
    sizes = np.bincount(people[known], minlength=count)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), SAMPLES)
    return (drawn @ sums) / np.maximum(drawn @ sizes, 1)


def interval(samples: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of samples."""
    low, high = np.percentile(samples, (2.5, 97.5))
    return float(low), float(high)


def table(systems: Mapping[str, Scores], columns: Mapping[str, tuple[str, str, bool]]) -> Iterator[str]:
    """Means with intervals."""
    yield "| system | " + " | ".join(f"{title} {'↓' if less else '↑'}" for title, _, less in columns.values()) + " |"
    yield "|---|" + "--:|" * len(columns)
    for name, scores in systems.items():
        cells = []
        for column, (_, form, _) in columns.items():
            if column not in scores.values:
                cells.append("")
                continue
            low, high = interval(resampled(scores.values[column], scores.people))
            cells.append(f"{np.nanmean(scores.values[column]):{form}} ({low:{form}} to {high:{form}})")
        yield f"| {name} | " + " | ".join(cells) + " |"


def differences(systems: Mapping[str, Scores], base: str) -> Iterator[str]:
    """Paired differences to `base` in per cent of it, with intervals; those whose interval has no 0 are bold."""
    yield "| system | " + " | ".join(title for title, *_ in COLUMNS.values()) + " |"
    yield "|---|" + "--:|" * len(COLUMNS)
    for name, scores in systems.items():
        if name == base:
            continue
        cells = []
        for column in COLUMNS:
            theirs, ours = (each.values[column] for each in (systems[base], scores))
            samples = 100 * (resampled(ours, scores.people) / resampled(theirs, systems[base].people) - 1)
            low, high = interval(samples)
            cell = f"{100 * (np.nanmean(ours) / np.nanmean(theirs) - 1):+.2f} ({low:+.2f} to {high:+.2f})"
            cells.append(cell if low <= 0 <= high else f"**{cell}**")
        yield f"| {name} | " + " | ".join(cells) + " |"


def by_label(systems: Mapping[str, Scores], label: str) -> Iterator[str]:
    """The MSE in the mask by source, or by another label."""
    groups = sorted(set(next(iter(systems.values())).labels[label]))
    first = next(iter(systems.values())).labels[label]
    yield "| system | " + " | ".join(f"{group} ({(first == group).sum()})" for group in groups) + " |"
    yield "|---|" + "--:|" * len(groups)
    for name, scores in systems.items():
        means = [np.nanmean(scores.values["mse_masked"][scores.labels[label] == group]) for group in groups]
        yield f"| {name} | " + " | ".join(f"{mean:.0f}" for mean in means) + " |"


def drops(systems: Mapping[str, Scores], others: Mapping[str, Mapping[str, Scores]]) -> Iterator[str]:
    """The MSE in the mask on other test sets, over that on the experiment's own."""
    yield "| system | own masks | " + " | ".join(others) + " |"
    yield "|---|--:|" + "--:|" * len(others)
    for name, scores in systems.items():
        own = np.nanmean(scores.values["mse_masked"])
        there = [np.nanmean(of[name].values["mse_masked"]) if name in of else np.nan for of in others.values()]
        yield f"| {name} | {own:.0f} | " + " | ".join(f"{mean:.0f} ({mean / own:.2f})" for mean in there) + " |"


def report(runs: Path) -> str:
    """The whole page.

    Raises:
      UserError: there are no scores, `pix2pix`, with which the systems are compared, has none, or a system has those of other
        images.
    """

    def read(file: str, output: str) -> dict[str, Scores]:
        read = {path.parent.name: read_scores(path, output) for path in sorted(runs.glob(f"*/{file}"))}
        return {name: scores for name, scores in read.items() if scores}

    raw, composite = read("scores.json", "raw"), read("scores.json", "composite")
    if "pix2pix" not in raw:
        raise UserError(f"{runs} has no pix2pix/scores.json, with which the systems are compared; run the experiment first")
    for name, scores in raw.items():
        if not np.array_equal(scores.labels["id"], raw["pix2pix"].labels["id"]):
            raise UserError(
                f"{runs / name / 'scores.json'} is of other images than pix2pix/scores.json; delete it and score again"
            )
    endings = sorted({path.name for path in runs.glob("*/scores_*.json")})
    others = {name.removeprefix("scores_").removesuffix(".json"): read(name, "composite") for name in endings}
    images, people = len(raw["pix2pix"].people), raw["pix2pix"].people.max() + 1
    parts: list[Sequence[str] | Iterator[str]] = [
        ["# The paper's experiment", "", f"{images} test images of {people} people. Made by `tools/make_report.py`."],
        ["", "## Table 2: what the generator draws", ""],
        table(raw, COLUMNS),
        ["", "## Table 2: the composite", ""],
        table(composite, COLUMNS),
        ["", "## More scores, of the composite", ""],
        table(composite, MORE_COLUMNS),
    ]
    for base in (base for base in BASES if base in raw):
        parts += [["", f"## Difference to {base}, per cent", ""], differences(raw, base)]
        if base == "yi":
            paper = ", ".join(f"{COLUMNS[name][0]} {value:+.2f}" for name, value in OF_PAPER.items())
            parts += [["", f"The paper has, for its method: {paper} (its LPIPS is another network's)."]]
    for label, title in (("source", "source"), ("mask_type", "kind of mask"), ("acted", "expression")):
        parts += [["", f"## MSE in the mask by {title}", ""], by_label(composite, label)]
    if others:
        parts += [
            ["", "## Masks unlike those trained on: MSE in the mask, and over that on own masks", ""],
            drops(composite, others),
        ]
    return "\n".join(line for part in parts for line in part) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the flags, writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, metavar="RUNS", help="folder of tools/run_experiment.py")
    parser.add_argument("--out", required=True, metavar="FILE.md")
    flags = parser.parse_args(arguments)
    write_text(flags.out, report(flags.runs))
    print(f"the report is in {flags.out}")


if __name__ == "__main__":
    sys.exit(exit_code("make_report", main))
