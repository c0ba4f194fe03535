"""Compares mask removers on the same faces, with the drawn masks and with foreign ones; prints a Markdown table.

python tools/compare_networks.py --data_dir=DATA maskgan_jax/pretrained/unmask_fast.safetensors \
    maskgan_jax/pretrained/unmask.safetensors --faces=400 --examples=examples.png

The foreign masks are polygons on the landmarks with hard edges, unlike the drawn ones (docs/recipe.md). The networks must be
for the zoom of the data set; one for another size sees the faces enlarged or shrunk to it, and its result is brought back. All
scores are of composites. The contour error is how far the 17 points of the jaw that dlib finds on the result are from those on
the real face, in the same box, over the distance between the eyes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import dlib
import numpy as np
from tqdm import tqdm

from maskgan_jax.data.build.landmarks import landmarks_in_box
from maskgan_jax.data.grid import labelled_grid
from maskgan_jax.data.masked_faces.reader import load_split, readable, zoom_of
from maskgan_jax.data.points import CONTOUR, LEFT_EYE, RIGHT_EYE, eyes
from maskgan_jax.errors import UserError, exit_code
from maskgan_jax.files import write_json, write_png
from maskgan_jax.metrics.baselines import telea
from maskgan_jax.metrics.scoring import mean_scores, score_each
from maskgan_jax.networks.face_network import FaceNetwork


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the flags, scores, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", metavar="NETWORK", help="exported files, or workdirs of runs")
    parser.add_argument("--data_dir", required=True, help="data set of `maskgan build`")
    parser.add_argument("--split", default="test")
    parser.add_argument("--faces", type=int, default=400, help="so many, evenly taken from the split (default: 400)")
    parser.add_argument("--out", metavar="FILE.json", help="where all scores are written")
    parser.add_argument("--examples", metavar="FILE.png", help="also draw 12 of the faces with foreign masks")
    flags = parser.parse_args(arguments)
    networks = {Path(path).stem: FaceNetwork(path, "unmask", batch_size=1) for path in flags.networks}
    zoom = zoom_of(flags.data_dir)
    for name, network in networks.items():
        if network.zoom != zoom:
            raise UserError(f"{name} is for faces with data.zoom={network.zoom:g}, those in {flags.data_dir} have {zoom:g}")
    records = load_split(flags.data_dir, flags.split)
    numbers = np.linspace(0, len(records) - 1, min(flags.faces, len(records))).astype(int)
    chosen = [record for _, record in readable(records, numbers)]
    foreign = [with_foreign_mask(record, np.random.default_rng(number)) for number, record in enumerate(chosen)]
    scores: dict[str, Any] = {}
    pictures = {}
    for masks, faces in (("drawn", chosen), ("foreign", foreign)):
        for name in ("telea", *networks):
            drawn = [_redrawn(networks.get(name), record) for record in tqdm(faces, f"{name}, {masks} masks", unit="face")]
            items = [(r["id"], picture, r["real"], r["mask"]) for r, picture in zip(faces, drawn, strict=True)]
            each = [
                {**score, "detail": _detail_ratio(*item[1:]), "contour": _contour_error(picture, record)}
                for score, item, picture, record in zip(score_each(items), items, drawn, faces, strict=True)
            ]
            scores[f"{name}, {masks}"] = mean_scores(each)
            pictures[name] = drawn
    headings = ("network, masks", "MSE in mask", "PSNR, dB", "SSIM", "ST-LPIPS", "fine detail", "contour error")
    print(f"| {' | '.join(headings)} |\n{'|---' * len(headings)}|")
    for name, mean in scores.items():
        print(
            f"| {name} | {mean['mse_masked']:.0f} | {mean['psnr']:.2f} | {mean['ssim']:.4f} | {mean['st_lpips']:.4f} "
            f"| {mean['detail']:.2f} | {mean['contour']:.4f} |"
        )
    if flags.out:
        write_json(flags.out, {"data_dir": flags.data_dir, "faces": len(chosen), "scores": scores})
    if flags.examples:
        shown = np.linspace(0, len(chosen) - 1, 12).astype(int)
        rows = [[foreign[i]["masked"], *(pictures[name][i] for name in pictures), foreign[i]["real"]] for i in shown]
        write_png(flags.examples, labelled_grid(rows, ["masked", *pictures, "real"], columns=2))
        print(f"faces are in {flags.examples}")


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
    mask = np.where(eyes(points, mask.shape) > 0, np.uint8(0), mask)[..., None]
    colour = rng.integers(40, 230, 3).astype(np.uint8)
    return {**record, "mask": mask, "masked": np.where(mask > 0, colour, record["real"])}


def _redrawn(network: FaceNetwork | None, record: dict[str, Any]) -> np.ndarray:
    """A face without its mask, by a network or, without one, by Telea's method."""
    if network is None:
        return telea(record["masked"], record["mask"])
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


def _detail_ratio(picture: np.ndarray, real: np.ndarray, mask: np.ndarray) -> float:
    """What a Gaussian of sigma 1 takes away inside the mask, root mean square, over the same of the real face."""

    def energy(image: np.ndarray) -> float:
        fine = image.astype(np.float32) - cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1)
        return float(np.sqrt(np.square(fine[inside]).mean()))

    # Not across the outline, where the known pixels begin.
    inside = cv2.erode(mask[..., 0], np.ones((9, 9), np.uint8)) > 127
    return energy(picture) / max(energy(real), 1e-3) if inside.any() else float("nan")


def _contour_error(image: np.ndarray, record: dict[str, Any]) -> float:
    """How far dlib's points of the jaw are from those on the real face, over the distance between the eyes."""
    points = record["landmarks"]
    left, top, right, bottom = map(int, (*points.min(0), *points.max(0)))
    box = dlib.rectangle(left, top - (bottom - top) // 8, right, bottom)
    found, expected = (landmarks_in_box(each, box) for each in (image, record["real"]))
    between_eyes = np.hypot(*(points[LEFT_EYE].mean(0) - points[RIGHT_EYE].mean(0)))
    return float(np.linalg.norm(found - expected, axis=-1)[CONTOUR].mean() / between_eyes)


if __name__ == "__main__":
    sys.exit(exit_code("compare_networks", main))
