"""How well a segmentation network finds face masks, and how often it finds one on a bare face."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from maskgan_jax.data.masked_faces.reader import load_split, zoom_of
from maskgan_jax.data.pipeline import evaluation_batches
from maskgan_jax.metrics.landmark_accuracy import check_fits
from maskgan_jax.networks.face_network import FaceNetwork

BATCH = 32


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
      taken for a mask).

    Raises:
      UserError: no such network, data set or split, or the network is for faces of another size or zoom.
    """
    records = load_split(data_dir, split)
    network = FaceNetwork(workdir, "segmentation", BATCH)
    check_fits(network, records, zoom_of(data_dir), workdir)
    scores: dict[str, list[np.ndarray]] = {name: [] for name in ("iou", "precision", "recall", "false_alarm")}
    for batch in tqdm(evaluation_batches(records, BATCH), "segmentation", -(-len(records) // BATCH), unit="batch"):
        counts = batch["weight"] > 0
        found, alarm = (network(batch[name][counts]) > 0.5 for name in ("masked", "real"))
        true = batch["mask"][counts][..., 0] > 127
        both, either = ((way(found, true)).sum((1, 2)) for way in (np.logical_and, np.logical_or))
        scores["iou"].append(both / np.maximum(either, 1))
        scores["precision"].append(both / np.maximum(found.sum((1, 2)), 1))
        scores["recall"].append(both / np.maximum(true.sum((1, 2)), 1))
        scores["false_alarm"].append(alarm.mean((1, 2)))
    columns = {name: np.concatenate(values) for name, values in scores.items()}
    return {"method": "ours", "split": split, "n": len(columns["iou"])} | {n: float(c.mean()) for n, c in columns.items()}
