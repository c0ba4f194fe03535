"""Scoring a trained network, or a baseline, on a split of a data set."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from maskgan_jax.data.masked_faces import load_split
from maskgan_jax.data.sheet import labelled_grid
from maskgan_jax.errors import UserError
from maskgan_jax.files import write_png
from maskgan_jax.metrics.baselines import telea
from maskgan_jax.metrics.scoring import Item, score_pictures
from maskgan_jax.models.lpips import PerceptualWeights
from maskgan_jax.unmasking.generate import Unmasker

METHODS = ("ours", "input", "telea")

# Faces smaller than this, in pixels, are shown enlarged.
SHOWN_SIDE = 128

Record = dict[str, Any]
Predict = Callable[[Sequence[Record]], Sequence[np.ndarray]]


def evaluate(
    method: str,
    data_dir: str | Path,
    *,
    workdir: str | Path | None = None,
    split: str = "test",
    lpips_weights: PerceptualWeights | None = None,
) -> dict[str, Any]:
    """Scores a method on the records of a split.

    Args:
      method: 'ours' (the generator of `workdir`), 'input' (the masked picture as it is) or 'telea' (OpenCV, radius 3).
      data_dir: data set of `maskgan build`.
      workdir: folder of a training run, or an exported network; needed for 'ours'.
      split: 'train', 'validation' or 'test'.
      lpips_weights: to score LPIPS too.

    Returns:
      The scores that `score_pictures` gives, with `method`, `split`, and the means `by_source` and `by_mask_type`. For 'ours'
      these are of the generator's raw output, as in the paper, and `put_back` has the same for the pictures whose known pixels
      are put back. The baselines change nothing but the region: both would be the same.

    Raises:
      UserError: no such method, network, data set or split.
    """
    if method not in METHODS:
        raise UserError(f"there is no method {method!r}; choose one of {', '.join(METHODS)}")
    records = load_split(data_dir, split)
    result = {"method": method, "split": split}
    if method != "ours":
        fill = {"input": lambda record: record["masked"], "telea": lambda record: telea(record["masked"], record["mask"])}[
            method
        ]
        return result | _score(records, lambda batch: [fill(record) for record in batch], 1, method, lpips_weights)
    unmasker = Unmasker(workdir)
    raw, composite = _generated(unmasker)
    result |= _score(records, raw, unmasker.batch_size, "raw output", lpips_weights)
    result["put_back"] = _score(records, composite, unmasker.batch_size, "known pixels put back", lpips_weights)
    return result


def write_examples(
    path: str | Path, data_dir: str | Path, workdir: str | Path, *, split: str = "test", count: int = 24
) -> None:
    """Writes a PNG of `count` faces, evenly taken from a split: masked, Telea, raw output, known pixels put back, real."""
    records = load_split(data_dir, split)
    unmasker = Unmasker(workdir)
    chosen = [records[i] for i in np.linspace(0, len(records) - 1, min(count, len(records))).astype(int)]
    enlarged = max(1, SHOWN_SIDE // unmasker.size)
    rows = []
    for batch in _batched(chosen, unmasker.batch_size):
        for record, raw, composite in zip(batch, *(predict(batch) for predict in _generated(unmasker)), strict=True):
            row = [record["masked"], telea(record["masked"], record["mask"]), raw, composite, record["real"]]
            rows.append([cv2.resize(face, None, fx=enlarged, fy=enlarged, interpolation=cv2.INTER_CUBIC) for face in row])
    write_png(path, labelled_grid(rows, ["masked", "Telea", "output", "put back", "real"], columns=3))


def _generated(unmasker: Unmasker) -> tuple[Predict, Predict]:
    """The raw output for a batch of records, and the one with the known pixels put back."""

    def raw(batch: Sequence[Record]) -> Sequence[np.ndarray]:
        return unmasker(np.stack([record["masked"] for record in batch]))

    def composite(batch: Sequence[Record]) -> Sequence[np.ndarray]:
        return [np.where(r["mask"] > 127, generated, r["masked"]) for r, generated in zip(batch, raw(batch), strict=True)]

    return raw, composite


def _score(
    records: Sequence[Record], predict: Predict, batch_size: int, label: str, lpips_weights: PerceptualWeights | None
) -> dict[str, Any]:
    kinds: list[dict[str, str]] = []

    def items() -> Iterator[Item]:
        every = (records[i] for i in tqdm(range(len(records)), desc=f"score {label}", unit="face"))
        for batch in _batched(every, batch_size):
            for record, prediction in zip(batch, predict(batch), strict=True):
                kinds.append({"source": record["source"], "mask_type": record["mask_type"]})
                yield record["id"], prediction, record["real"], record["mask"]

    scores = score_pictures(items(), lpips_weights=lpips_weights)
    images = [image | kind for kind, image in zip(kinds, scores.pop("images"), strict=True)]
    groups = {f"by_{key}": _grouped(images, key) for key in ("source", "mask_type")}
    return scores | groups | {"images": images}


def _grouped(images: list[dict[str, Any]], key: str) -> dict[str, dict[str, float]]:
    """The means over the images of each value of `key`."""
    result = {}
    for value in sorted({image[key] for image in images}):
        group = [image for image in images if image[key] == value]
        names = [name for name, score in group[0].items() if isinstance(score, float)]
        result[value] = {"n": len(group), **{name: float(np.mean([image[name] for image in group])) for name in names}}
    return result


def _batched(records: Any, size: int) -> Iterator[list[Record]]:
    stream = iter(records)
    while batch := list(itertools.islice(stream, size)):
        yield batch
