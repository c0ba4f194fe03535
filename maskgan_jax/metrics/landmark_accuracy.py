"""How far landmarks are from dlib's on the unmasked face: found by a trained landmark network, or by dlib under the mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from maskgan_jax.data.build.landmarks import find_box, landmarks_in_box
from maskgan_jax.data.masked_faces.reader import Records, load_split, readable
from maskgan_jax.data.pipeline import evaluation_batches
from maskgan_jax.data.points import CONTOUR, landmark_errors
from maskgan_jax.errors import UserError
from maskgan_jax.metrics.evaluation import network_for
from maskgan_jax.networks.face_network import FaceNetwork

METHODS = ("ours", "dlib")
BATCH = 32


def evaluate_landmarks(
    method: str, data_dir: str | Path, *, workdir: str | Path | None = None, split: str = "test"
) -> dict[str, Any]:
    """Scores landmarks on the records of a split, as distances from the records' own over the inter-ocular distance.

    Args:
      method: 'ours' (the network of `workdir`), or 'dlib' (the stock predictor on the aligned image, in the box that its
        detector finds on the unmasked one: better than it could do by itself where a mask hides the face from the detector).
      data_dir: data set of `maskgan build`.
      workdir: folder of a training run of 'landmarks', or an exported network; needed for 'ours'.
      split: 'train', 'validation' or 'test'.

    Returns:
      `n`, how many faces the split has, and `unmasked` and `masked`: the mean over all 68 points (`error`), over the contour
      (`contour`) and, for dlib, the fraction of these `n` faces that its detector finds by itself (`detected`). The network's
      errors are over all faces; dlib's are over the `n_found` whose unmasked image its detector finds, the easier ones.

    Raises:
      UserError: no such method, network, data set or split, or the network is for faces of another size or zoom.
    """
    if method == "ours" and workdir is None:
        raise UserError(
            "the method 'ours' needs a workdir: the folder of a training run of 'landmarks', or an exported network"
        )
    records = load_split(data_dir, split)
    if method == "ours":
        errors = _errors_of_network(records, network_for(workdir, "landmarks", data_dir, BATCH))
        detected = {}
    elif method == "dlib":
        errors, detected = _errors_of_dlib(records)
    else:
        raise UserError(f"there is no method {method!r} for landmarks; choose one of {', '.join(METHODS)}")
    result: dict[str, Any] = {"method": method, "split": split, "n": len(records) - len(records.damaged)}
    if method == "dlib":
        result["n_found"] = len(errors["unmasked"])
    for name, values in errors.items():
        result[name] = {"error": float(values.mean()), "contour": float(values[:, CONTOUR].mean())}
        if name in detected:
            result[name]["detected"] = detected[name]
    return result


def _errors_of_network(records: Records, network: FaceNetwork) -> dict[str, np.ndarray]:
    errors: dict[str, list[np.ndarray]] = {"unmasked": [], "masked": []}
    for batch in tqdm(evaluation_batches(records, BATCH), "landmarks", -(-len(records) // BATCH), unit="batch"):
        for name, key in (("unmasked", "real"), ("masked", "masked")):
            distances = landmark_errors(network(batch[key]), batch["landmarks"])
            errors[name].append(np.asarray(distances)[batch["weight"] > 0])
    return {name: np.concatenate(parts) for name, parts in errors.items()}


def _errors_of_dlib(records: Records) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    errors: dict[str, list[np.ndarray]] = {"unmasked": [], "masked": []}
    found = {"unmasked": 0, "masked": 0}
    for _, record in readable(records, tqdm(range(len(records)), "landmarks", unit="face")):
        boxes = {name: find_box(record[key]) for name, key in (("unmasked", "real"), ("masked", "masked"))}
        for name, key in (("unmasked", "real"), ("masked", "masked")):
            found[name] += boxes[name] is not None
            if boxes["unmasked"] is not None:
                points = landmarks_in_box(record[key], boxes["unmasked"])
                errors[name].append(np.asarray(landmark_errors(points[None], record["landmarks"][None]))[0])
    if not errors["unmasked"]:
        raise UserError("dlib finds no face in any of the images; its detector needs faces of about 100 px or more")
    count = len(records) - len(records.damaged)
    return {name: np.stack(rows) for name, rows in errors.items()}, {name: hits / count for name, hits in found.items()}
