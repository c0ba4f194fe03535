"""Faces in photos, masked or not, by CenterFace (Xu et al. 2019): a box and five points of each."""

from __future__ import annotations

import threading
from typing import NamedTuple

import cv2
import numpy as np

from maskgan_jax.weights.fetch import weight_file

# The longest sides, in pixels, at which a photo is searched: large faces are found at the first, small ones at the second,
# which is left out for photos that are not much larger than the first.
SEARCHED_SIDES = (512, 1280)
# Detections with at least this confidence are faces: its authors' choice.
LEAST_SCORE = 0.5
# Boxes that overlap by more than this fraction of their union (IoU) are of one face.
SAME_FACE = 0.3
# Pixels to a cell of the detector's output; and the sides of its input must be multiples of this.
CELL = 4
MULTIPLE = 32

_networks = threading.local()


class Detection(NamedTuple):
    """A face that was found.

    Attributes:
      box: `[4]` float64: left, top, right and bottom edge, in pixels of the photo.
      score: the detector's confidence, 0 to 1.
      points: `[5, 2]` float64, (x, y) in pixels of the photo: the eyes and the tip of the nose, then the corners of the mouth,
        each pair as it is seen from left to right. Under a face mask they are guessed.
    """

    box: np.ndarray
    score: float
    points: np.ndarray


def detect_faces(photo: np.ndarray, sides: tuple[int, ...] = SEARCHED_SIDES) -> list[Detection]:
    """The faces in a photo `[H, W, 3]` RGB, uint8; the largest first.

    Args:
      photo: the photo.
      sides: the longest sides at which it is searched, the smallest first.

    Raises:
      UserError: the detector's weights have not been fetched.
    """
    longest = max(photo.shape[:2])
    found = _search(photo, sides[0])
    for side in sides[1:]:
        if longest > 1.5 * sides[0]:
            found += _search(photo, min(side, longest))
    found = _distinct(found)
    return sorted(found, key=lambda face: -np.prod(face.box[2:] - face.box[:2]))


def _search(photo: np.ndarray, side: int) -> list[Detection]:
    height, width = photo.shape[:2]
    scale = side / max(height, width)
    # The photo as a whole is stretched a little, so that its sides are multiples.
    across, down = (max(round(length * scale / MULTIPLE), 1) * MULTIPLE for length in (width, height))
    small = cv2.resize(photo, (across, down), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    network = _network()
    network.setInput(cv2.dnn.blobFromImage(small))
    heat, sizes, offsets, points = (output[0] for output in network.forward(["537", "538", "539", "540"]))
    rows, columns = np.nonzero(heat[0] > LEAST_SCORE)
    tall, wide = np.exp(sizes[:, rows, columns].astype(np.float64)) * CELL
    y, x = (offsets[:, rows, columns] + np.stack([rows, columns]) + 0.5) * CELL
    left, top = x - wide / 2, y - tall / 2
    # Points come as (y, x), as fractions of the box.
    points = points.reshape(5, 2, *heat.shape[1:])[:, ::-1, rows, columns] * np.stack([wide, tall]) + np.stack([left, top])
    # From pixel edges, where the detector counts from 0, to pixel centres.
    stretch = np.array([width / across, height / down])
    boxes = np.stack([left, top, left + wide, top + tall], axis=-1) * np.tile(stretch, 2) - 0.5
    points = points.transpose(2, 0, 1) * stretch - 0.5
    return [Detection(*face) for face in zip(boxes, heat[0, rows, columns].astype(float), points, strict=True)]


def _distinct(found: list[Detection]) -> list[Detection]:
    """Of detections that overlap, the one with the best score."""
    boxes = [(*face.box[:2], *(face.box[2:] - face.box[:2])) for face in found]
    kept = cv2.dnn.NMSBoxes(boxes, [face.score for face in found], LEAST_SCORE, SAME_FACE) if found else []
    return [found[i] for i in kept]


def _network() -> cv2.dnn.Net:
    """The detector; each thread has its own, because it holds its input."""
    if not hasattr(_networks, "centerface"):
        _networks.centerface = cv2.dnn.readNetFromONNX(str(weight_file("centerface.onnx")))
    return _networks.centerface
