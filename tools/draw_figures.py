"""Draws test faces beside what the systems of `tools/run_experiment.py paper` make of them, as the paper's Figures 5 to 7.

    python tools/draw_figures.py RUNS --data_dir=DATA --out=FOLDER

Writes `faces.png`, some faces of each source (Figure 5), and `expressions_1.png`, ..., the people with the most acted
expressions, a face for each (Figures 6 and 7). Of a system, the generator's raw output is shown, known pixels included.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from maskgan_jax.data.grid import labelled_grid
from maskgan_jax.data.masked_faces.reader import load_split, readable
from maskgan_jax.errors import UserError, exit_code
from maskgan_jax.files import write_png
from maskgan_jax.metrics.evaluation import BASELINES, network_for
from maskgan_jax.networks.stored import checkpoint_of

Record = dict[str, Any]
# From a record to an image `[S, S, 3]` uint8.
System = Callable[[Record], np.ndarray]


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the flags, draws, says where the figures are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, metavar="RUNS", help="folder of tools/run_experiment.py")
    parser.add_argument("--data_dir", required=True, metavar="DIR", help="data set whose test split is shown")
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER")
    parser.add_argument("--systems", default="pix2pix,yi,proposed", help="runs to show (default: pix2pix,yi,proposed)")
    parser.add_argument("--faces", type=int, default=2, help="faces of each source (default: 2)")
    parser.add_argument("--people", type=int, default=2, help="people with expressions (default: 2)")
    flags = parser.parse_args(arguments)
    if flags.faces < 1 or flags.people < 0:
        raise UserError(f"--faces={flags.faces} --people={flags.people}: give at least 1 face, and no less than 0 people")
    records = load_split(flags.data_dir, "test")
    systems: dict[str, System] = {"masked": BASELINES["input"], "Telea": BASELINES["telea"]}
    systems |= {name: _generator(flags.runs / name, flags.data_dir) for name in flags.systems.split(",")}
    systems["real"] = lambda record: record["real"]

    by_source, by_person, captions = defaultdict(list), defaultdict(dict), {}
    for number, record in readable(records, tqdm(range(len(records)), "look for people", unit="face")):
        by_source[record["source"]].append(number)
        captions[number] = f"{record['source']}, {record['mask_type']}"
        if record["expression"]:
            by_person[record["identity"]].setdefault(record["expression"], number)
    figures = {"faces": {}}
    for _, numbers in sorted(by_source.items()):
        for place in np.linspace(0, len(numbers), flags.faces, endpoint=False).astype(int):
            figures["faces"][numbers[place]] = captions[numbers[place]]
    people = sorted(by_person, key=lambda person: (-len(by_person[person]), person))[: flags.people]
    for place, person in enumerate(people, 1):
        figures[f"expressions_{place}"] = {number: expression for expression, number in sorted(by_person[person].items())}
    for name, shown in figures.items():
        write_png(flags.out / f"{name}.png", figure(records, shown, systems))
        print(f"{flags.out / name}.png: {len(shown)} faces")


def figure(records: Sequence[Record], shown: Mapping[int, str], systems: Mapping[str, System]) -> np.ndarray:
    """A row for each record, with its caption, and a column for each system: `[H, W, 3]` uint8."""
    rows = [[system(record) for system in systems.values()] for _, record in readable(records, shown)]
    return labelled_grid(rows, list(systems), captions=list(shown.values()))


def _generator(workdir: Path, data_dir: str) -> System:
    network = network_for(checkpoint_of(workdir, "last"), "unmask", data_dir, batch_size=1)
    return lambda record: network(record["masked"][None], record["mask"][None])[0]


if __name__ == "__main__":
    sys.exit(exit_code("draw_figures", main))
