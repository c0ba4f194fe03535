"""Faces and their 68 landmarks in unmasked photos, by dlib."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import cv2
import dlib
import numpy as np

from maskgan_jax.errors import UserError
from maskgan_jax.weights.fetch import weight_file

# Faces are searched for in at most this many pixels a side: the detector finds faces from 80 pixels on.
LONGEST_SIDE = 1024
# Pictures larger than this, in pixels a side, are searched at half their size first if only the largest face is wanted.
COARSE_SIDE = 512
# dlib rounds landmarks to whole pixels, so they are located on a picture enlarged until the face is this many pixels wide.
FACE_WIDTH = 400


@functools.cache
def _detector() -> dlib.fhog_object_detector:
    return dlib.get_frontal_face_detector()


@functools.cache
def load_predictor(path: str = "") -> dlib.shape_predictor:
    """A dlib shape predictor with 68 points, from a file or, with '', the stock one; loaded once per process.

    Raises:
      UserError: the file is missing or is no such predictor.
    """
    path = path or str(weight_file("shape_predictor_68_face_landmarks.dat"))
    try:
        predictor = dlib.shape_predictor(path)
    except (MemoryError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"cannot load the shape predictor {path} ({reason:.80}); set data.shape_predictor to a dlib file with 68 points"
        ) from error
    points = predictor(np.zeros((100, 100, 3), np.uint8), dlib.rectangle(0, 0, 99, 99)).num_parts
    if points != 68:
        raise UserError(f"the shape predictor {path} has {points} points; set data.shape_predictor to one with 68")
    return predictor


def resized(picture: np.ndarray, scale: float) -> np.ndarray:
    """A picture, `[H, W]` or `[H, W, 3]` uint8, as many times as large, as dlib's detector and predictor are given it."""
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=interpolation)


def find_boxes(picture: np.ndarray, *, largest_only: bool = False) -> list[dlib.rectangle]:
    """The boxes of the faces in a picture `[H, W, 3]` RGB, uint8, the largest first; in pixels.

    The picture is searched as it is, and, if there is nothing, at twice its size. With `largest_only` the largest face alone is
    looked for, in a large picture at half its size first, which takes a quarter of the time.
    """
    if largest_only and max(picture.shape[:2]) > COARSE_SIDE:
        # Whatever is larger than a face found at half the size would be found there, too.
        if boxes := _detector()(resized(picture, 0.5)):
            box = _by_size(boxes)[0]
            return [dlib.rectangle(2 * box.left(), 2 * box.top(), 2 * box.right() + 1, 2 * box.bottom() + 1)]
    picture = np.ascontiguousarray(picture)
    boxes = _by_size(_detector()(picture) or _detector()(picture, 1))
    return boxes[:1] if largest_only else boxes


def _by_size(boxes: Iterable[dlib.rectangle]) -> list[dlib.rectangle]:
    return sorted(boxes, key=lambda box: box.area(), reverse=True)


def find_box(picture: np.ndarray) -> dlib.rectangle | None:
    """The box of the largest face in a picture, or None; as for `find_boxes`."""
    return next(iter(find_boxes(picture, largest_only=True)), None)


def landmarks_in_box(picture: np.ndarray, box: dlib.rectangle, shape_predictor: str = "") -> np.ndarray:
    """The 68 landmarks of the face in a box.

    Args:
      picture: `[H, W, 3]` RGB, uint8.
      box: of the face, from `find_box`.
      shape_predictor: file of a dlib shape predictor with 68 points; '' for the stock one.

    Returns:
      `[68, 2]` float32, (x, y) in pixels, pixel centres at integers.

    Raises:
      UserError: the shape predictor is missing or unusable.
    """
    enlargement = float(np.clip(FACE_WIDTH / box.width(), 1, 4))
    # The predictor looks at the face and what is near, and only that is enlarged.
    x, y = max(0, box.left() - box.width()), max(0, box.top() - box.height())
    near = picture[y : box.bottom() + box.height(), x : box.right() + box.width()]
    sides = (box.left() - x, box.top() - y, box.right() - x, box.bottom() - y)
    rectangle = dlib.rectangle(*(round(side * enlargement) for side in sides))
    shape = load_predictor(shape_predictor)(resized(near, enlargement), rectangle)
    points = np.array([(point.x, point.y) for point in shape.parts()], np.float64)
    return ((points + 0.5) / enlargement - 0.5 + [x, y]).astype(np.float32)


def largest_face_landmarks(picture: np.ndarray, shape_predictor: str = "") -> np.ndarray:
    """The 68 landmarks of the largest face in a photo. Args, result and errors as for `find_all_landmarks`."""
    return find_all_landmarks(picture, shape_predictor, largest_only=True)[0]


def find_all_landmarks(picture: np.ndarray, shape_predictor: str = "", *, largest_only: bool = False) -> list[np.ndarray]:
    """The 68 landmarks of every face in a photo, the largest face first; by the stock predictor, in a photo without masks.

    Args and each result as for `landmarks_in_box`; `largest_only` as for `find_boxes`.

    Raises:
      UserError: no face is found, or the shape predictor is missing or unusable.
    """
    load_predictor(shape_predictor)  # A missing one is told even where there is no face.
    shrinkage = min(1.0, LONGEST_SIDE / max(picture.shape[:2]))
    if min(picture.shape[:2]) * shrinkage < 2:  # A strip, of which nothing would be left.
        raise UserError("no face found")
    searched = resized(picture, shrinkage) if shrinkage < 1 else picture
    boxes = find_boxes(searched, largest_only=largest_only)
    faces = [landmarks_in_box(searched, box, shape_predictor).astype(np.float64) for box in boxes]
    if not faces:
        raise UserError("no face found")
    return [((landmarks + 0.5) / shrinkage - 0.5).astype(np.float32) for landmarks in faces]
