"""Retrains dlib's 68-point shape predictor on faces with and without masks in equal parts (Yoshihashi et al., section 4.2).

    python tools/retrain_shape_predictor.py --data_dir=DATA --out=FILE.dat

trains on the training split of a data set of `maskgan build`: every face as it is and with its mask, both in the box that
dlib's detector finds without the mask, and both with the landmarks of the record, which dlib's stock predictor found without
the mask. Then it compares both predictors on the test split, writes the errors beside the predictor as FILE.dat.json and
prints them as tables. A FILE.dat that is there already is not trained again, only compared.

`maskgan build` takes the file as --config.data.shape_predictor.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import dlib
import numpy as np
from tqdm import tqdm

from maskgan_jax.data.build.landmarks import find_box, landmarks_in_box, resized
from maskgan_jax.data.masked_faces.reader import Records, load_split, readable
from maskgan_jax.data.points import CONTOUR, landmark_errors
from maskgan_jax.errors import UserError, exit_code
from maskgan_jax.files import replacing, write_json

# Faces are trained on at this width of their boxes, in pixels: dlib takes only landmarks that are whole pixels.
BOX_WIDTH = 200
# The faces of a data set are upright, those in photos are not: each picture is turned by a random angle. Its standard deviation
# and its bound, beyond which dlib's detector finds hardly any face, in degrees:
TURN = 12.0
LARGEST_TURN = 30.0
# dlib's training options, by its names. docs/landmarks.md has the measurements behind them.
OPTIONS = {
    "cascade_depth": 15,
    "num_trees_per_cascade_level": 300,
    "num_test_splits": 50,
    "oversampling_amount": 3,
    # The detector finds a masked face elsewhere than the bare one, if it finds it at all: by up to 0.1 of the box.
    "oversampling_translation_jitter": 0.1,
    "feature_pool_region_padding": 0.1,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the flags, trains, compares, prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, metavar="DIR", help="data set of `maskgan build`")
    parser.add_argument("--out", required=True, metavar="FILE.dat", help="the retrained predictor")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="for the training (default: all cores)")
    parser.add_argument("--seed", type=int, default=0, help="with as many threads, the same seed gives the same file")
    for name, value in OPTIONS.items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"dlib's training option (default: {value})")
    flags = parser.parse_args(arguments)
    if flags.threads < 1 or min(flags.seed, *(getattr(flags, name) for name in OPTIONS)) < 0:
        raise UserError("--threads must be at least 1, and all other numbers at least 0")

    out, tested = Path(flags.out), load_split(flags.data_dir, "test")
    if out.exists():
        print(f"{out} is there already and is not trained again")
    else:
        options = dlib.shape_predictor_training_options()
        options.be_verbose = True
        options.num_threads = flags.threads
        options.random_seed = str(flags.seed)
        for name in OPTIONS:
            setattr(options, name, getattr(flags, name))
        train(load_split(flags.data_dir, "train"), options, np.random.default_rng(flags.seed), out)

    comparison = compare(tested, {"stock": "", "retrained": str(out)})
    write_json(f"{out}.json", comparison)
    print(markdown(comparison))
    print(f"the retrained predictor is {out} ({out.stat().st_size / 1e6:.0f} MB); the errors are in {out}.json")


def train(records: Records, options: dlib.shape_predictor_training_options, rng: np.random.Generator, out: Path) -> None:
    """Trains a predictor on the faces of the records, with and without masks and turned, and writes it to a file.

    Raises:
      UserError: the detector finds no face in them, dlib refuses the options, or the file cannot be written.
    """
    with replacing(out) as temporary:  # Before all else, as it tells whether the file can be written.
        pictures, shapes = [], []
        for _, record in readable(records, tqdm(range(len(records)), "boxes", unit="face")):
            if (box := find_box(record["real"])) is not None:
                for picture in (record["real"], record["masked"]):
                    angle = float(np.clip(rng.normal(0, TURN), -LARGEST_TURN, LARGEST_TURN))
                    enlarged, shape = _example(*_turned(picture, record["landmarks"], box, angle), box)
                    pictures.append(enlarged)
                    shapes.append([shape])
        if not pictures:
            raise UserError("dlib's detector finds no face in the training split; build a data set with data.size=128 or more")
        print(f"training on {len(pictures)} pictures of {len(pictures) // 2} faces", flush=True)
        start = time.monotonic()
        try:
            dlib.train_shape_predictor(pictures, shapes, options).save(str(temporary))
        except RuntimeError as error:
            raise UserError(f"dlib cannot train with these options ({' '.join(str(error).split())})") from error
        print(f"trained for {(time.monotonic() - start) / 60:.0f} minutes")


def _turned(picture: np.ndarray, landmarks: np.ndarray, box: dlib.rectangle, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """A picture, and the landmarks in it, turned around the centre of a box."""
    turn = cv2.getRotationMatrix2D((box.dcenter().x, box.dcenter().y), degrees, 1)
    height, width = picture.shape[:2]
    turned = cv2.warpAffine(picture, turn, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return turned, (landmarks @ turn[:, :2].T + turn[:, 2]).astype(np.float32)


def _example(picture: np.ndarray, landmarks: np.ndarray, box: dlib.rectangle) -> tuple[np.ndarray, dlib.full_object_detection]:
    """A grey picture and the landmarks in it as dlib's training takes them. dlib looks at pictures in grey, too."""
    scale = BOX_WIDTH / box.width()
    enlarged = resized(np.rint(picture.mean(axis=-1)).astype(np.uint8), scale)
    points = np.rint((landmarks + 0.5) * scale - 0.5).astype(int).tolist()
    sides = (round(side * scale) for side in (box.left(), box.top(), box.right(), box.bottom()))
    return enlarged, dlib.full_object_detection(dlib.rectangle(*sides), [dlib.point(x, y) for x, y in points])


def compare(records: Records, predictors: dict[str, str]) -> dict[str, Any]:
    """Errors of shape predictors: distances from the records' landmarks over the inter-ocular distance.

    Args:
      records: held-out ones.
      predictors: {name: file}, '' for the stock one.

    Returns:
      {table: {row: {"faces": their number, name: {"error": mean over all 68 points, "contour": over the contour}}}}. The tables
      are by the box that is given to the predictors: the one that the detector finds on the unmasked picture, or on the masked
      one; the third is for both pictures turned by a random angle, in the box found on the unmasked one. The rows are
      'unmasked', 'masked' and each type of mask; only faces of which the detector finds the box are counted.

    Raises:
      UserError: the detector finds none of the faces, or a predictor is unusable.
    """
    tables = ("box of the unmasked face", "box found on the masked face", f"turned by up to {LARGEST_TURN:.0f} degrees")
    found: dict[str, dict[str, list[np.ndarray]]] = {table: {} for table in tables}
    rng = np.random.default_rng(0)

    def add(table: str, rows: tuple[str, ...], picture: np.ndarray, landmarks: np.ndarray, box: dlib.rectangle | None) -> None:
        if box is not None:
            points = np.stack([landmarks_in_box(picture, box, file) for file in predictors.values()])
            errors = np.asarray(landmark_errors(points, np.stack([landmarks] * len(points))))
            for row in rows:
                found[table].setdefault(row, []).append(errors)

    for _, record in readable(records, tqdm(range(len(records)), "comparison", unit="face")):
        bare, masked, landmarks = record["real"], record["masked"], record["landmarks"]
        box = find_box(bare)
        add(tables[0], ("unmasked",), bare, landmarks, box)
        add(tables[0], ("masked", record["mask_type"]), masked, landmarks, box)
        add(tables[1], ("masked", record["mask_type"]), masked, landmarks, find_box(masked))
        if box is not None:
            angle = rng.uniform(-LARGEST_TURN, LARGEST_TURN)
            (bare, turned), (masked, _) = (_turned(picture, landmarks, box, angle) for picture in (bare, masked))
            box = find_box(bare)
            add(tables[2], ("unmasked",), bare, turned, box)
            add(tables[2], ("masked",), masked, turned, box)
    if not found[tables[0]]:
        raise UserError("dlib's detector finds no face in the test split; build a data set with data.size=128 or more")
    return {
        table: {row: _means(np.stack(rows[row]), list(predictors)) for row in _ordered(rows)}
        for table, rows in found.items()
        if rows
    }


def _ordered(rows: dict[str, Any]) -> list[str]:
    first = [row for row in ("unmasked", "masked") if row in rows]
    return [*first, *sorted(rows.keys() - first)]


def _means(errors: np.ndarray, names: list[str]) -> dict[str, Any]:
    """One row, from errors `[faces, predictors, 68]`."""
    means = {
        name: {"error": float(errors[:, i].mean()), "contour": float(errors[:, i, CONTOUR].mean())}
        for i, name in enumerate(names)
    }
    return {"faces": len(errors), **means}


def markdown(comparison: dict[str, Any]) -> str:
    """The result of `compare` as Markdown tables."""
    lines = []
    for title, rows in comparison.items():
        names = [name for name in next(iter(rows.values())) if name != "faces"]
        columns = [f"{name}, {points}" for name in names for points in ("all 68", "contour")]
        lines += ["", f"| {title} | faces | {' | '.join(columns)} |", "|---" * (2 + len(columns)) + "|"]
        for row, values in rows.items():
            cells = [f"{values[name][points]:.4f}" for name in names for points in ("error", "contour")]
            lines.append(f"| {row} | {values['faces']} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(exit_code("retrain_shape_predictor", main))
