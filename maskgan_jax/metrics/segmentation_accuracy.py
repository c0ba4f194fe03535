"""How well a segmentation network finds face masks, and how often it finds one on a bare face."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from maskgan_jax.data.masked_faces.reader import load_split
from maskgan_jax.data.occluders import occlude
from maskgan_jax.data.pipeline import ARRAYS, evaluation_batches
from maskgan_jax.metrics.evaluation import network_for

BATCH = 32
SCORES = ("iou", "precision", "recall", "false_alarm", "iou_occluded", "occluder_found")


def evaluate_segmentation(data_dir: str | Path, workdir: str | Path, *, split: str = "test") -> dict[str, Any]:
    """Scores the masks that a segmentation network finds on the records of a split.

    Args:
      data_dir: data set of `maskgan build`.
      workdir: folder of a training run of 'segmentation', or an exported network.
      split: 'train', 'validation' or 'test'.

    Returns:
      `n`, how many faces the split has, and means over them, each from 0 to 1: of the masked faces `iou` (intersection over
      union of the mask that was found and the true one), `precision` (fraction of what was found that is hidden) and `recall`
      (fraction of what is hidden that was found); of the same faces without a mask `false_alarm` (fraction of the image that is
      taken for a mask); of the masked faces with a hand, hair or a thing in front (`data/occluders.py`) `iou_occluded`, and
      `occluder_found` (fraction of what is in front of the mask that is taken for the mask; of the faces where something is).

    Raises:
      UserError: no such network, data set or split, or the network is for faces of another size or zoom.
    """
    records = load_split(data_dir, split)
    network = network_for(workdir, "segmentation", data_dir, BATCH)
    scores: dict[str, list[np.ndarray]] = {name: [] for name in SCORES}
    numbers = itertools.count()
    for batch in tqdm(evaluation_batches(records, BATCH), "segmentation", -(-len(records) // BATCH), unit="batch"):
        counts = np.flatnonzero(batch["weight"] > 0)
        if not len(counts):  # All of them are damaged.
            continue
        occluded = [occlude({name: batch[name][i] for name in ARRAYS}, np.random.default_rng(next(numbers))) for i in counts]
        found, alarm, found_occluded = (
            network(images) > 0.5
            for images in (batch["masked"][counts], batch["real"][counts], np.stack([each["masked"] for each in occluded]))
        )
        true = batch["mask"][counts][..., 0] > 127
        visible = np.stack([each["mask"] for each in occluded])[..., 0] > 127
        both, in_front = found & true, true & ~visible
        scores["iou"].append(_iou(found, true))
        scores["precision"].append(both.sum((1, 2)) / np.maximum(found.sum((1, 2)), 1))
        scores["recall"].append(both.sum((1, 2)) / np.maximum(true.sum((1, 2)), 1))
        scores["false_alarm"].append(alarm.mean((1, 2)))
        scores["iou_occluded"].append(_iou(found_occluded, visible))
        faces = in_front.any((1, 2))
        found_in_front = (in_front & found_occluded)[faces].sum((1, 2))
        scores["occluder_found"].append(found_in_front / in_front[faces].sum((1, 2)))
    columns = {name: np.concatenate(values) for name, values in scores.items()}
    means = {name: float(column.mean()) if len(column) else None for name, column in columns.items()}
    return {"method": "ours", "split": split, "n": len(columns["iou"]), **means}


def _iou(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    return (found & true).sum((1, 2)) / np.maximum((found | true).sum((1, 2)), 1)
