"""Faces in photos, masked or not, by CenterFace (Xu et al. 2019): a box and five points of each."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from maskgan_jax.weights.fetch import weight_file

# The longest sides, in pixels, at which a photo is searched: large faces are found at the first, small ones at the second.
SEARCHED_SIDES = (512, 1280)
# A photo no larger than this many times what was searched is not searched again as a whole. What may be a small face in it is
# looked at more closely, if the photo is larger by LARGER at least.
MUCH_LARGER = 1.6
LARGER = 1.5
# A large photo is shrunk to no less than one in so many pixels of its sides, or faces of 56 pixels leave no trace.
MOST_SHRUNK = 4
# Detections with at least this confidence are faces: its authors' choice.
LEAST_SCORE = 0.5
# Where the detector is less confident than that, but at least as much as this, there may be a small face. CLOSER_SIDE pixels
# around such a trace are searched at MOST_SHRUNK times the size. Faces of 16 pixels nearly always leave one, little else does.
LEAST_TRACE = 0.1
CLOSER_SIDE = 256
# If no face is this fraction of the photo's width, there may be one that fills it. Such faces are found at CLOSE_UP_SIDE, with
# a border of the fraction BORDER of the photo around it.
LARGE_FACE = 0.25
CLOSE_UP_SIDE = 192
BORDER = 0.4
# A larger photo is shrunk to this before it gets the border, which makes it several times larger.
MOST_BORDERED = 1024
# Boxes that overlap by more than this fraction of their union (IoU) are of one face.
SAME_FACE = 0.3
# A box that lies by this fraction of its area in another is of a part of that face, such as an eye.
PART_OF_FACE = 0.7
# Pixels to a cell of the detector's output; and the sides of its input must be multiples of this.
CELL = 4
MULTIPLE = 32

# The detector never frees what its largest input took, some 230 bytes a pixel. After one of more pixels than this it is loaded
# anew, which takes less than a tenth of a second.
MOST_PIXELS_KEPT = 1280 * 1280

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
    """The upright faces in a photo `[H, W, 3]` RGB, uint8; the largest first.

    Args:
      photo: the photo.
      sides: the longest sides at which it is searched, the smallest first. The last is larger for large photos, where small
        faces are then looked at more closely.

    Raises:
      UserError: the detector's weights have not been fetched.
    """
    longest = max(photo.shape[:2])
    *coarser, finest = sides
    sides = (*coarser, max(finest, math.ceil(longest / MOST_SHRUNK)))
    scales = [sides[0] / longest]
    if longest > MUCH_LARGER * sides[0]:
        scales += [min(side / longest, 1) for side in sides[1:]]
    found = []
    for scale in scales:
        faces, traces = _search(photo, scale)
        found += faces
    closer = min(scale * MOST_SHRUNK, 1)
    if closer > LARGER * scale:
        found += _search_closer(photo, closer, _beside(traces, found))
    return _largest_first(found)


def detect_close_up(photo: np.ndarray, known: Sequence[Detection] = ()) -> list[Detection]:
    """As `detect_faces`, but faces that fill the photo, or reach beyond its edges.

    Without those that are `known`, confirmed or not, and without any if one of these is large.
    """
    if any(box_width(face.box) >= LARGE_FACE * photo.shape[1] for face in known):
        return []
    shape = np.array(photo.shape[1::-1])
    if max(shape) > MOST_BORDERED:
        small = np.maximum(np.rint(shape * MOST_BORDERED / max(shape)).astype(int), 1)
        photo = cv2.resize(photo, tuple(map(int, small)), interpolation=cv2.INTER_AREA)
    stretch = shape / photo.shape[1::-1]
    border = round(BORDER * max(photo.shape[:2]))
    bordered = cv2.copyMakeBorder(photo, *[border] * 4, cv2.BORDER_CONSTANT, value=(128, 128, 128))
    found, _ = _search(bordered, CLOSE_UP_SIDE / max(bordered.shape[:2]))

    def placed(points: np.ndarray) -> np.ndarray:
        return (points - border + 0.5) * stretch - 0.5

    found = [Detection(placed(box.reshape(2, 2)).ravel(), score, placed(points)) for box, score, points in found]
    return _largest_first([face for face in found if all(overlap(face.box, other.box) <= SAME_FACE for other in known)])


def detect_turned(photo: np.ndarray, sides: tuple[int, ...] = SEARCHED_SIDES) -> list[Detection]:
    """As `detect_faces`, but faces that lie on a side or stand on their head. Many come twice, once with wrong points."""
    found = []
    for quarters in (1, 2, 3):
        turned = np.ascontiguousarray(np.rot90(photo, quarters))
        found += [_turned_back(face, quarters, photo.shape[:2]) for face in detect_faces(turned, sides)]
    return found


def _search(photo: np.ndarray, scale: float) -> tuple[list[Detection], np.ndarray]:
    """Detections in a photo that is resized by `scale`, and traces of others: `[N, 2]`, (x, y) in pixels of the photo."""
    height, width = photo.shape[:2]
    # The photo as a whole is stretched a little, so that its sides are multiples.
    across, down = (max(round(length * scale / MULTIPLE), 1) * MULTIPLE for length in (width, height))
    small = cv2.resize(photo, (across, down), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    network = _network()
    network.setInput(cv2.dnn.blobFromImage(small))
    heat, sizes, offsets, points = (output[0] for output in network.forward(["537", "538", "539", "540"]))
    if across * down > MOST_PIXELS_KEPT:
        del network, _networks.centerface
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
    found = [Detection(*face) for face in zip(boxes, heat[0, rows, columns].astype(float), points, strict=True)]
    _, _, _, centres = cv2.connectedComponentsWithStats((heat[0] > LEAST_TRACE).astype(np.uint8))
    return _distinct(found), (centres[1:] + 0.5) * CELL * stretch - 0.5


def _search_closer(photo: np.ndarray, scale: float, traces: np.ndarray) -> list[Detection]:
    """Searches the surroundings of traces, `[N, 2]`, (x, y) in pixels of the photo, resized by `scale`."""
    found = []
    side = round(CLOSER_SIDE / scale)
    while len(traces):
        x, y = np.clip(np.rint(traces[0] - side / 2).astype(int), 0, np.maximum(np.array(photo.shape[1::-1]) - side, 0))
        # Those well inside this square need none of their own.
        traces = traces[(np.abs(traces - (x, y) - side / 2) > side / 4).any(axis=1) & (np.arange(len(traces)) > 0)]
        square = photo[y : y + side, x : x + side]
        faces, _ = _search(square, scale)
        found += [Detection(face.box + (x, y, x, y), face.score, face.points + (x, y)) for face in faces]
    return found


def _beside(traces: np.ndarray, found: list[Detection]) -> np.ndarray:
    """Those of the traces, `[N, 2]`, that lie in no box that was found."""
    inside = [((traces > face.box[:2]) & (traces < face.box[2:])).all(axis=1) for face in found]
    return traces[~np.any(inside, axis=0)] if inside else traces


def _turned_back(face: Detection, quarters: int, shape: tuple[int, int]) -> Detection:
    """A face of a photo that `np.rot90` turned, as it lies in the photo of `shape` (height, width) itself."""
    box, points = face.box.reshape(2, 2), face.points
    for turned in range(quarters, 0, -1):
        # The width of the photo that this quarter turned, whose right edge came to the top.
        width = shape[1] if turned % 2 else shape[0]
        box, points = ((width - 1 - xy[:, 1], xy[:, 0]) for xy in (box, points))
        box, points = np.stack(box, axis=1), np.stack(points, axis=1)
    return Detection(np.concatenate([box.min(axis=0), box.max(axis=0)]), face.score, points)


def _largest_first(found: list[Detection]) -> list[Detection]:
    return sorted(_distinct(found), key=lambda face: -box_area(face.box))


def _distinct(found: list[Detection]) -> list[Detection]:
    """Of detections that overlap, the one with the best score."""
    boxes = [(*face.box[:2], *(face.box[2:] - face.box[:2])) for face in found]
    kept = cv2.dnn.NMSBoxes(boxes, [face.score for face in found], LEAST_SCORE, SAME_FACE) if found else []
    return [found[i] for i in kept]


def box_area(box: np.ndarray) -> float:
    """The area of a box `[4]`, in square pixels."""
    return float(np.prod(box[2:] - box[:2]))


def box_width(box: np.ndarray) -> float:
    """The width of a box `[4]`, in pixels."""
    return float(box[2] - box[0])


def overlap(box: np.ndarray, other: np.ndarray) -> float:
    """The intersection of two boxes `[4]` over their union, 0 to 1."""
    shared = _shared_area(box, other)
    return shared / (box_area(box) + box_area(other) - shared)


def are_same_face(box: np.ndarray, other: np.ndarray) -> bool:
    """Whether two boxes `[4]` are of one face, or one of them is of a part of it."""
    return overlap(box, other) > SAME_FACE or _shared_area(box, other) > PART_OF_FACE * min(box_area(box), box_area(other))


def _shared_area(box: np.ndarray, other: np.ndarray) -> float:
    """The area of the intersection of two boxes."""
    sides = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
    return float(np.prod(np.maximum(sides, 0)))


def _network() -> cv2.dnn.Net:
    """The detector; each thread has its own, because it holds its input."""
    if not hasattr(_networks, "centerface"):
        _networks.centerface = cv2.dnn.readNetFromONNX(str(weight_file("centerface.onnx")))
    return _networks.centerface
