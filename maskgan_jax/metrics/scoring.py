"""All the scores of a method: image by image, their means, and those of the set."""

from __future__ import annotations

import collections
import functools
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from maskgan_jax.errors import UserError
from maskgan_jax.files import images_by_name, read_image
from maskgan_jax.metrics.face_quality import FacePair, check_face_metrics, face_scores
from maskgan_jax.metrics.image_quality import METRICS
from maskgan_jax.metrics.set_quality import SET_METRICS
from maskgan_jax.models.lpips import PerceptualWeights, feature_distance, lpips
from maskgan_jax.models.st_lpips import alex_taps, load_st_lpips
from maskgan_jax.runtime.workers import mapped

# Name, prediction [H, W, 3], real [H, W, 3] and mask [H, W] or [H, W, 1] (above 127 = hidden), all uint8; and, if known, the
# landmarks of the real face [68, 2].
Item = tuple[str, np.ndarray, np.ndarray, np.ndarray] | tuple[str, np.ndarray, np.ndarray, np.ndarray, np.ndarray]

# What is kept of each image for the scores of a set.
FEATURES = "features"
# The networks of LPIPS run out of pixels below this.
SMALLEST_SIDE = 32


def score_images(
    items: Iterable[Item],
    *,
    batch_size: int = 4,
    lpips_weights: PerceptualWeights | None = None,
    metrics: Sequence[str] = (),
    workers: int = 1,
) -> dict[str, Any]:
    """Scores predictions against the real images: each of them, and their means.

    Args:
      items, batch_size, lpips_weights, metrics, workers: as for `score_each`.

    Returns:
      What `mean_scores` and `set_scores` give, and `images`: the scores of each.

    Raises:
      UserError: as `score_each` does.
    """
    images = list(score_each(items, batch_size=batch_size, lpips_weights=lpips_weights, metrics=metrics, workers=workers))
    return mean_scores(images) | set_scores(images) | {"images": without_features(images)}


def mean_scores(images: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`n`, how many images there are (at least one), and the means of all their scores.

    A score that is NaN is left out of its mean; if there are such, `left_out` tells how many of each. The mean of none is None.
    """
    names = [name for name, value in images[0].items() if isinstance(value, float)]
    values = {name: np.array([image[name] for image in images]) for name in names}
    known = {name: of_name[~np.isnan(of_name)] for name, of_name in values.items()}
    left_out = {name: len(images) - len(of_name) for name, of_name in known.items() if len(of_name) < len(images)}
    means = {name: float(np.mean(of_name)) if len(of_name) else None for name, of_name in known.items()}
    return {"n": len(images), **means, **({"left_out": left_out} if left_out else {})}


def set_scores(images: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The scores in `SET_METRICS` of images that `score_each` gave; none of one image."""
    if len(images) < 2:
        return {}
    features = [np.stack(of_images) for of_images in zip(*(image[FEATURES] for image in images), strict=True)]
    return {name: metric(*features) for name, metric in SET_METRICS.items()}


def without_features(images: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The scores of images as they are written: None for those that are NaN."""

    def written(value: Any) -> Any:
        return None if isinstance(value, float) and np.isnan(value) else value

    return [{name: written(value) for name, value in image.items() if name != FEATURES} for image in images]


def score_each(
    items: Iterable[Item],
    *,
    batch_size: int = 4,
    lpips_weights: PerceptualWeights | None = None,
    metrics: Sequence[str] = (),
    workers: int = 1,
) -> Iterator[dict[str, Any]]:
    """Scores predictions against the real images, one by one.

    The images are read as they are needed, so that any number of them fits into memory. A score over some of them only
    could not be compared with others, so anything wrong with one stops it all.

    Args:
      items: (name, prediction, real, mask): `[H, W, 3]` twice and `[H, W]` or `[H, W, 1]`, uint8; mask above 127 = hidden. A
        fifth are the landmarks of the real face `[68, 2]`, for metrics that need them; without it, dlib looks for them.
      batch_size: images that go through the networks of ST-LPIPS and LPIPS at once.
      lpips_weights: from `load_lpips`; without them there is no `lpips`.
      metrics: more scores, names of `FACE_METRICS`.
      workers: processes for those.

    Yields:
      For each item in turn its `name`, the scores in `METRICS`, `st_lpips` (AlexNet), perhaps `lpips`, and those in `metrics`
      (NaN where one cannot be told: no face is found, or the mask is too thin); and for the scores of a set `features`: those
      of the prediction and of the real image, `[256]` each.

    Raises:
      UserError: sizes differ, an image is smaller than 32 px, a mask hides nothing, there are no images, there is no such
        metric, or the weights of ST-LPIPS or of a metric have not been fetched.
    """
    check_face_metrics(metrics)
    others: collections.deque[dict[str, Any]] = collections.deque()

    def faces() -> Iterator[FacePair]:
        for scores, face in _network_scores(items, batch_size, lpips_weights):
            others.append(scores)
            yield face

    of_face = functools.partial(face_scores, names=metrics)
    for scores in mapped(of_face, faces(), workers if metrics else 1):
        yield others.popleft() | scores


def _network_scores(
    items: Iterable[Item], batch_size: int, lpips_weights: PerceptualWeights | None
) -> Iterator[tuple[dict[str, Any], FacePair]]:
    """The scores that `score_each` computes in batches, and the face for the others."""
    st_lpips_weights = load_st_lpips()
    batch = None
    for batch in _batches(items, batch_size):
        names, predictions, real, masks, landmarks = zip(*batch, strict=True)
        predictions, real = np.stack(predictions), np.stack(real)
        masks = np.stack([mask.reshape(mask.shape[:2]) > 127 for mask in masks])
        networks = [_padded(images, batch_size) for images in (predictions, real)]
        # The networks run beside the metrics in NumPy until their values are asked for.
        distances, features = _st_lpips(st_lpips_weights, *networks)
        columns = {"st_lpips": distances}
        if lpips_weights is not None:
            columns["lpips"] = lpips(lpips_weights, *networks)
        columns = {name: metric(predictions, real, masks) for name, metric in METRICS.items()} | columns
        values = zip(*(np.asarray(column)[: len(names)].tolist() for column in columns.values()), strict=True)
        pairs = list(zip(*map(np.asarray, features), strict=True))
        faces = map(FacePair, predictions, real, masks, landmarks)
        for name, row, face, pair in zip(names, values, faces, pairs, strict=False):
            yield {"name": name, **dict(zip(columns, row, strict=True)), FEATURES: pair}, face
    if batch is None:
        raise UserError("there are no images to score")


def score_folders(
    predictions: str | os.PathLike,
    real: str | os.PathLike,
    masks: str | os.PathLike,
    *,
    lpips_weights: PerceptualWeights | None = None,
    metrics: Sequence[str] = (),
    workers: int = 1,
) -> dict[str, Any]:
    """Scores a folder of images against the real ones, as `score_images` does.

    Files belong together when their paths below the three folders are equal but for the suffix: `a/1.png` and `a/1.jpg`.

    Raises:
      UserError: also if a folder has images that another one lacks, two of one name, or one that cannot be read.
    """
    folders = [images_by_name(folder) for folder in (predictions, real, masks)]
    names = sorted(set().union(*folders))
    for images, folder in zip(folders, (predictions, real, masks), strict=True):
        if missing := [name for name in names if name not in images]:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise UserError(
                f"{folder} lacks images that the other folders have: {', '.join(missing[:5])}{more}; "
                "scores are over the same images in all three folders"
            )

    def read(name: str) -> Item:
        prediction, real_image, mask = (images[name] for images in folders)
        return name, read_image(prediction), read_image(real_image), read_image(mask, grey=True)

    with tqdm(names, desc="score", unit="picture") as bar:
        return score_images(map(read, bar), lpips_weights=lpips_weights, metrics=metrics, workers=workers)


@jax.jit
def _st_lpips(weights: PerceptualWeights, images: jax.Array, real: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """ST-LPIPS of pairs of images, `[B]`, and features of both, `[B, 256]`; images in [-1, 1]."""
    taps, real_taps = (alex_taps(weights.convolutions, each) for each in (images, real))
    return feature_distance(taps, real_taps, weights.heads), tuple(each[-1].mean((1, 2)) for each in (taps, real_taps))


def _batches(items: Iterable[Item], size: int) -> Iterator[list[tuple]]:
    """Runs of at most `size` items of one image size, each item checked; its landmarks are None if it has none."""
    for _, same_size in itertools.groupby(map(_checked, items), key=lambda item: item[2].shape):
        while batch := list(itertools.islice(same_size, size)):
            yield batch


def _checked(item: Item) -> tuple:
    name, prediction, real, mask, *landmarks = item
    sizes = {"prediction": prediction.shape[:2], "real image": real.shape[:2], "mask": mask.shape[:2]}
    if len(set(sizes.values())) > 1:
        sides = ", ".join(f"{what} {width} x {height}" for what, (height, width) in sizes.items())
        raise UserError(f"{name}: the sizes differ ({sides}); save all three at one size")
    if min(real.shape[:2]) < SMALLEST_SIDE:
        raise UserError(f"{name} is smaller than {SMALLEST_SIDE} px a side, too small for ST-LPIPS")
    if not (mask > 127).any():
        raise UserError(f"{name}: its mask hides nothing (no pixel above 127), so that there is nothing to score; leave it out")
    return name, prediction, real, mask, landmarks[0] if landmarks else None


def _padded(images: Sequence[np.ndarray], size: int) -> np.ndarray:
    """`[size, H, W, 3]` float32 in -1..1, filled up with grey, so that a last, shorter batch is not compiled anew."""
    batch = np.zeros((size, *images[0].shape), np.float32)
    batch[: len(images)] = np.asarray(images) / np.float32(127.5) - 1
    return batch
