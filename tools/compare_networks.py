"""Compares mask removers on the same faces, with drawn masks and with two kinds of other ones; prints Markdown tables.

python tools/compare_networks.py --data_dir=DATA maskgan_jax/pretrained/unmask_fast.safetensors \
    maskgan_jax/pretrained/unmask.safetensors --faces=400 --examples=examples.png --by=source --by=age --labels=PHOTOS/faces.csv

The masks are those of the data set (`drawn`), polygons on the landmarks with hard edges (`foreign`), and flat templates of
other shapes and prints than the drawn ones, warped by six landmarks as MaskTheFace does it (`templates`). The networks must be
for the zoom of the data set; one for another size sees the faces enlarged or shrunk to it, and its result is brought back. All
scores are of composites; `input` is the masked face itself. What they mean: docs/metrics.md. The
default metrics need `maskgan weights --all`; `--metrics=detail,contour` do not.
"""

from __future__ import annotations

import argparse
import csv
import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from maskgan_jax.data.grid import labelled_grid
from maskgan_jax.data.masked_faces.reader import load_split, readable
from maskgan_jax.data.masks.geometry import Homography, six_points
from maskgan_jax.data.masks.random_templates import draw_template
from maskgan_jax.data.points import eyes
from maskgan_jax.errors import UserError, exit_code
from maskgan_jax.files import check_writable, write_json, write_png
from maskgan_jax.metrics.evaluation import BASELINES, network_for
from maskgan_jax.metrics.face_quality import check_face_metrics
from maskgan_jax.metrics.scoring import mean_scores, score_each
from maskgan_jax.networks.face_network import FaceNetwork

METRICS = "detail,contour,seam,mouth,identity,expression"
# Headings and formats of the scores in the tables; others are shown by their own names.
COLUMNS = {
    "mse_masked": ("MSE in mask", ".0f"),
    "psnr": ("PSNR, dB", ".2f"),
    "ssim": ("SSIM", ".4f"),
    "st_lpips": ("ST-LPIPS", ".4f"),
    "detail": ("fine detail", ".2f"),
    "contour": ("contour error", ".4f"),
    "seam": ("seam", ".2f"),
    "mouth": ("mouth error", ".4f"),
    "identity": ("identity distance", ".3f"),
    "expression": ("same expression", ".2f"),
}
# Ages below these are one band, those from the one before it on.
AGES = (13, 20, 40, 60)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the flags, scores, prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", metavar="NETWORK", help="exported files, or workdirs of runs")
    parser.add_argument("--data_dir", required=True, help="data set of `maskgan build`")
    parser.add_argument("--split", default="test")
    parser.add_argument("--faces", type=int, default=400, help="number of faces, evenly taken from the split (default: 400)")
    parser.add_argument("--metrics", default=METRICS, help=f"as for `maskgan score` (default: {METRICS})")
    parser.add_argument(
        "--by",
        action="append",
        default=[],
        choices=["source", "mask_type", "expression", "age"],
        help="also a table with the faces grouped; may be given several times",
    )
    parser.add_argument("--labels", metavar="FILE", help="faces.csv with the columns file, expression, age; for --by")
    parser.add_argument("--out", metavar="FILE.json", help="where all scores are written")
    parser.add_argument("--examples", metavar="FILE.png", help="also draw 12 of the faces with foreign masks and templates")
    flags = parser.parse_args(arguments)
    metrics = flags.metrics.split(",")
    check_face_metrics(metrics)
    if "age" in flags.by and not flags.labels:
        raise UserError("--by=age needs --labels: a faces.csv with the columns file and age")
    labels = read_labels(flags.labels) if flags.labels else {}
    if flags.faces < 1:
        raise UserError(f"--faces={flags.faces}: give at least 1")
    names = [Path(path).name.removesuffix(".safetensors") for path in flags.networks]
    if twice := [name for number, name in enumerate(names) if name in (*BASELINES, *names[:number])]:
        raise UserError(f"the tables would have two rows called {twice[0]}; rename one of the networks")
    methods = {name: BASELINES[name] for name in ("input", "telea")}
    for name, path in zip(names, flags.networks, strict=True):
        methods[name] = functools.partial(_redrawn, network_for(path, "unmask", flags.data_dir, batch_size=1))
    records = load_split(flags.data_dir, flags.split)
    for path in filter(None, (flags.out, flags.examples)):
        check_writable(path)
    numbers = np.linspace(0, len(records) - 1, min(flags.faces, len(records))).astype(int)
    chosen = [record for _, record in readable(records, numbers)]
    faces_with = {
        "drawn": chosen,
        "foreign": [with_foreign_mask(record, np.random.default_rng(number)) for number, record in enumerate(chosen)],
        "templates": [with_template(record, np.random.default_rng(number)) for number, record in enumerate(chosen)],
    }
    # In the examples.
    shown = np.linspace(0, len(chosen) - 1, 6).astype(int)
    images: dict[str, list[dict[str, Any]]] = {}
    pictures: dict[str, dict[str, list[np.ndarray]]] = {}
    for masks, faces in faces_with.items():
        pictures[masks] = {}
        for name, method in methods.items():
            drawn = [method(record) for record in tqdm(faces, f"{name}, {masks} masks", unit="face")]
            items = [(r["id"], image, r["real"], r["mask"], r["landmarks"]) for r, image in zip(faces, drawn, strict=True)]
            images[f"{name}, {masks}"] = [
                score | {f"by_{by}": _group(record, by, labels) for by in flags.by}
                for score, record in zip(score_each(items, metrics=metrics), faces, strict=True)
            ]
            pictures[masks][name] = [drawn[i] for i in shown]
    scores = {name: mean_scores(of_name) for name, of_name in images.items()}
    print_table(scores)
    result = {"data_dir": flags.data_dir, "faces": len(chosen), "scores": scores}
    for by in flags.by:
        result[f"by_{by}"] = groups = {
            f"{name}, {value}": mean_scores([image for image in of_name if image[f"by_{by}"] == value])
            for name, of_name in images.items()
            for value in sorted({image[f"by_{by}"] for image in of_name})
        }
        print(f"\nBy {by}:\n")
        print_table(groups)
    if flags.out:
        write_json(flags.out, result)
    if flags.examples:
        real = [chosen[i]["real"] for i in shown]
        rows = [row for masks in ("foreign", "templates") for row in zip(*pictures[masks].values(), real, strict=True)]
        headings = ["masked", *list(methods)[1:], "real"]  # The first is the masked face itself.
        write_png(flags.examples, labelled_grid(rows, headings, columns=2))
        print(f"faces are in {flags.examples}")


def print_table(rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints mean scores as a Markdown table; '-' for those that no face has."""
    names = [name for name in next(iter(rows.values())) if name not in ("n", "left_out", "psnr_masked")]
    columns = {name: COLUMNS.get(name, (name, ".4f")) for name in names}
    print(
        f"| network, masks | faces | {' | '.join(heading for heading, _ in columns.values())} |\n{'|---' * (len(columns) + 2)}|"
    )
    for row, mean in rows.items():
        values = ("-" if mean[name] is None else f"{mean[name]:{form}}" for name, (_, form) in columns.items())
        print(f"| {row} | {mean['n']} | {' | '.join(values)} |")


def read_labels(path: str) -> dict[str, dict[str, str]]:
    """The rows of a faces.csv, by the ids that `maskgan build` gives to its photos.

    Raises:
      UserError: it cannot be read, or has no column 'file'.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path} ({error}); give a faces.csv") from error
    if not rows or "file" not in rows[0]:
        raise UserError(f"{path} has no rows with a column 'file'; give a faces.csv")
    labels = {}
    for row in rows:
        file, source = row["file"] or "", row.get("source") or "folder"
        labels[file if file.startswith(f"{source}/") else f"{source}/{file}"] = row
    return labels


def _group(record: Mapping[str, Any], by: str, labels: Mapping[str, Mapping[str, str]]) -> str:
    """What a record is grouped by: its source, type of mask, expression, or band of ages; 'unknown' without one."""
    label = labels.get(record["id"], {})
    if by != "age":
        return label.get(by) or record[by] or "unknown"
    age = label.get("age") or ""
    if not age.isdecimal():
        return "unknown"
    low, high = max(a for a in (0, *AGES) if a <= int(age)), min((a for a in AGES if a > int(age)), default=None)
    return f"{low:02}-{high - 1}" if high else f"{low} and older"


def with_foreign_mask(record: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """The record with a flat mask that follows the jaw roughly: a polygon through landmarks that are moved at random."""
    points, side = record["landmarks"], len(record["real"])
    width = np.hypot(*(points[16] - points[0]))
    bridge = points[28] + (points[29] - points[28]) * rng.uniform(-0.3, 1.2)
    jaw = points[[2, 4, 6, 8, 10, 12, 14]]
    middle = points[33]
    jaw = middle + (jaw - middle) * rng.uniform(0.85, 1.15) + rng.normal(0, 0.02 * width, jaw.shape)
    polygon = np.rint(np.vstack([bridge, jaw])).astype(np.int32)
    mask = cv2.fillPoly(np.zeros((side, side), np.uint8), [polygon], 255)
    return _masked(record, mask > 0, rng.integers(40, 230, 3).astype(np.uint8), "polygon")


def with_template(record: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """The record with a random template, warped by the six points of MaskTheFace, without light or blur."""
    template = draw_template(rng)
    side = len(record["real"])
    fit = Homography(template.points, six_points(record["landmarks"]))
    pixels = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)
    places = fit.to_frame(pixels).astype(np.float32).reshape(side, side, 2)
    layer = cv2.remap(template.image, places, None, cv2.INTER_NEAREST)
    return _masked(record, layer[..., 3] > 0, layer[..., :3], "template")


def _masked(record: dict[str, Any], mask: np.ndarray, colours: np.ndarray, mask_type: str) -> dict[str, Any]:
    """The record with another mask, `[S, S]` bool: flat `colours`, `[3]` or `[S, S, 3]`, with hard edges; never on the eyes."""
    mask = (mask & (eyes(record["landmarks"], mask.shape) == 0))[..., None]
    masked = np.where(mask, colours, record["real"])
    return {**record, "mask": mask * np.uint8(255), "masked": masked, "mask_type": mask_type}


def _redrawn(network: FaceNetwork, record: dict[str, Any]) -> np.ndarray:
    """A face without its mask, by a network."""
    side, size = len(record["real"]), network.size
    face, mask = record["masked"], record["mask"]
    if size != side:
        way = cv2.INTER_AREA if size < side else cv2.INTER_CUBIC
        face = cv2.resize(face, (size, size), interpolation=way)
        # Whatever holds some of the mask is hidden.
        mask = (cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA) > 0)[..., None] * np.uint8(255)
    drawn = network(face[None], mask[None])[0]
    if size != side:
        drawn = cv2.resize(drawn, (side, side), interpolation=cv2.INTER_CUBIC if size < side else cv2.INTER_AREA)
    return np.where(record["mask"] > 127, drawn, record["masked"])


if __name__ == "__main__":
    sys.exit(exit_code("compare_networks", main))
