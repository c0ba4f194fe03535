"""Scoring a trained network, or a baseline, on a split of a data set."""

from __future__ import annotations

import csv
import itertools
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from maskgan_jax.data.grid import labelled_grid
from maskgan_jax.data.masked_faces.reader import load_split, readable, zoom_of
from maskgan_jax.errors import UserError
from maskgan_jax.files import replacing, write_png
from maskgan_jax.metrics.baselines import navier_stokes, telea
from maskgan_jax.metrics.scoring import Item, mean_scores, score_each, set_scores, without_features
from maskgan_jax.models.lpips import PerceptualWeights
from maskgan_jax.networks.face_network import FaceNetwork

# What the scores of an image say of it, and where a record has it. `identity` and `expression` are names of scores.
ORIGIN = {"source": "source", "mask_type": "mask_type", "person": "identity", "acted": "expression"}
BASELINES = {
    "input": lambda record: record["masked"],
    "telea": lambda record: telea(record["masked"], record["mask"]),
    "navier_stokes": lambda record: navier_stokes(record["masked"], record["mask"]),
}
METHODS = ("ours", *BASELINES)

# Repetitions of a batch, to tell how long a method takes.
TIMED = 7
# Faces smaller than this, in pixels, are shown enlarged.
SHOWN_SIDE = 128

Record = dict[str, Any]
# Images `[S, S, 3]` uint8 made from a record's `masked`, by their names.
Predictions = dict[str, np.ndarray]


def evaluate(
    method: str,
    data_dir: str | Path,
    *,
    workdir: str | Path | None = None,
    split: str = "test",
    lpips_weights: PerceptualWeights | None = None,
    pictures: str | Path | None = None,
    metrics: Sequence[str] = (),
    workers: int = 1,
) -> dict[str, Any]:
    """Scores a method on the records of a split.

    Args:
      method: 'ours' (the generator of `workdir`), 'input' (the masked image as it is), 'telea' or 'navier_stokes' (OpenCV,
        radius 3).
      data_dir: data set of `maskgan build`.
      workdir: folder of a training run, or an exported network; needed for 'ours'.
      split: 'train', 'validation' or 'test'.
      lpips_weights: to score LPIPS too.
      pictures: folder for the records' images, as PNG in `real`, `masked` and `mask`, and for the method's: in `ours` (raw)
        and `put_back`, or in one with the method's name. A face has one name in all of them: a number, in the order of the
        split, and its id. `real/faces.csv` tells who the faces are and what they express.
      metrics: more scores, names of `face_quality.FACE_METRICS`.
      workers: processes for those.

    Returns:
      The scores that `score_images` gives, with `method`, `split`, the means `by_source` and `by_mask_type`, and of every image
      also its source, type of mask, person and acted expression. For 'ours'
      these are of the generator's raw output, as in the paper, and `put_back` has the same for the images whose known pixels
      are put back. The baselines change only what is hidden: both would be the same. `seconds_per_image` is what the
      method takes on this machine as it is, in batches of `FaceNetwork.batch_size`, the median of some; `parameters` counts the
      weights of a generator.

    Raises:
      UserError: no such method, network, data set, split or metric, or `pictures` cannot be written.
    """
    if method not in METHODS:
        raise UserError(f"there is no method {method!r}; choose one of {', '.join(METHODS)}")
    if method == "ours" and workdir is None:
        raise UserError("the method 'ours' needs a workdir: the folder of a training run, or an exported network")
    records = load_split(data_dir, split)
    generator = network_for(workdir, "unmask", data_dir) if method == "ours" else None
    # Before there are other processes.
    cost: dict[str, Any] = {"seconds_per_image": _seconds_per_image(method, generator, records)}
    if generator is not None:
        cost["parameters"] = generator.parameters
    origins: list[tuple[str, dict[str, str]]] = []
    faces: list[dict[str, str]] = []

    def items(every: Iterable[Record]) -> Iterator[Item]:
        for number, (record, predictions) in enumerate(_predicted(method, generator, every)):
            if pictures is not None:
                file = _write_images(Path(pictures), number, record, predictions)
                faces.append({"file": file} | {key: record[key] for key in ("source", "identity", "expression")})
            for name, prediction in predictions.items():
                origins.append((name, {name: record[key] for name, key in ORIGIN.items()}))
                yield record["id"], prediction, record["real"], record["mask"], record["landmarks"]

    with tqdm(range(len(records)), desc=f"score {method}", unit="face") as numbers:
        scored = items(record for _, record in readable(records, numbers))
        scores = list(score_each(scored, lpips_weights=lpips_weights, metrics=metrics, workers=workers))
    if faces:
        _write_table(Path(pictures) / "real" / "faces.csv", faces)
    images: dict[str, list[dict[str, Any]]] = {}
    for (name, origin), score in zip(origins, scores, strict=True):
        images.setdefault(name, []).append(score | origin)
    summaries = {name: _summary(of_name) for name, of_name in images.items()}
    return {"method": method, "split": split} | cost | summaries.pop(method) | summaries


def write_examples(
    path: str | Path, data_dir: str | Path, workdir: str | Path, *, split: str = "test", count: int = 24
) -> None:
    """Writes a PNG of `count` faces, evenly taken from a split: masked, Telea, raw output, known pixels put back, real.

    Raises:
      UserError: no such network, data set or split, all records taken are damaged, or the file cannot be written.
    """
    records = load_split(data_dir, split)
    generator = network_for(workdir, "unmask", data_dir)
    numbers = np.linspace(0, len(records) - 1, min(count, len(records))).astype(int)
    chosen = [record for _, record in readable(records, numbers)]
    if not chosen:
        raise UserError(f"the records of {split} in {data_dir} that were to be shown are damaged; build the data set again")
    enlarged = max(1, SHOWN_SIDE // generator.size)
    rows = []
    for record, ours in _predicted("ours", generator, chosen):
        row = [record["masked"], BASELINES["telea"](record), *ours.values(), record["real"]]
        rows.append([cv2.resize(face, None, fx=enlarged, fy=enlarged, interpolation=cv2.INTER_CUBIC) for face in row])
    write_png(path, labelled_grid(rows, ["masked", "Telea", "output", "put back", "real"], columns=3))


def network_for(path: str | Path, task: str, data_dir: str | Path, batch_size: int = 8) -> FaceNetwork:
    """The network for a task to score on a data set. Raises UserError if there is none, or it is for other squares."""
    network = FaceNetwork(path, task, batch_size)
    zoom = zoom_of(data_dir)
    if network.zoom != zoom:
        raise UserError(
            f"the network in {path} is for faces with data.zoom={network.zoom:g}, those in {data_dir} have {zoom:g}; "
            "build a data set for it"
        )
    return network


def _predicted(method: str, generator: FaceNetwork | None, records: Iterable[Record]) -> Iterator[tuple[Record, Predictions]]:
    """Each record with the image that a method makes of it; 'ours' makes two: its raw output, and `put_back`."""
    if generator is None:
        yield from ((record, {method: BASELINES[method](record)}) for record in records)
        return
    # The network runs once for both.
    stream = iter(records)
    while batch := list(itertools.islice(stream, generator.batch_size)):
        for record, raw in zip(batch, _generated(generator, batch), strict=True):
            yield record, {"ours": raw, "put_back": np.where(record["mask"] > 127, raw, record["masked"])}


def _generated(generator: FaceNetwork, batch: Sequence[Record]) -> np.ndarray:
    return generator(*(np.stack([record[name] for record in batch]) for name in ("masked", "mask")))


def _seconds_per_image(method: str, generator: FaceNetwork | None, records: Sequence[Record]) -> float:
    """The median over some repetitions of one batch; the first, in which a network is compiled, does not count."""
    size = generator.batch_size if generator else 1
    batch = [record for _, record in itertools.islice(readable(records, range(len(records))), size)]
    if not batch:
        raise UserError("there are no images to score")
    seconds = []
    for _ in range(TIMED + 1):
        start = time.perf_counter()
        if generator:
            _generated(generator, batch)
        else:
            BASELINES[method](batch[0])
        seconds.append((time.perf_counter() - start) / len(batch))
    return float(np.median(seconds[1:]))


def picture_name(number: int, record_id: str) -> str:
    """What the images of a record are called, without suffix: its number among those that can be read, and its id."""
    return f"{number:05}_{re.sub('[^A-Za-z0-9-]+', '_', record_id)[-100:]}"


def _write_images(folder: Path, number: int, record: Record, predictions: Predictions) -> str:
    """Writes the images of a record; returns their file name."""
    name = f"{picture_name(number, record['id'])}.png"
    for kind, image in ({kind: record[kind] for kind in ("real", "masked", "mask")} | predictions).items():
        if kind != "input":  # Which is `masked`.
            write_png(folder / kind / name, image)
    return name


def _write_table(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Writes the table of a folder of photos, as the source `folder` of `maskgan build` reads it."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def _summary(images: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Scores of all images, of those of each source and of each type of mask, and those of the images themselves."""

    def by(key: str) -> dict[str, dict[str, Any]]:
        values = sorted({image[key] for image in images})
        return {value: mean_scores([image for image in images if image[key] == value]) for value in values}

    return (
        mean_scores(images)
        | set_scores(images)
        | {f"by_{key}": by(key) for key in ("source", "mask_type")}
        | {"images": without_features(images)}
    )
