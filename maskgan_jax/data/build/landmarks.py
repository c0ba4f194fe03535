"""Faces and their 68 landmarks in unmasked photos, found by dlib."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import cv2
import dlib
import numpy as np

from maskgan_jax.errors import UserError
from maskgan_jax.weights.fetch import weight_file

# Photos are reduced to this many pixels a side for detection; the detector finds faces from 80 pixels on.
LONGEST_SIDE = 1024
# Images larger than this, in pixels a side, are first searched at half their size.
COARSE_SIDE = 512
# dlib rounds landmarks to whole pixels, so small faces are enlarged to this many pixels for it.
FACE_WIDTH = 400


@functools.cache
def _detector() -> dlib.fhog_object_detector:
    return dlib.get_frontal_face_detector()


@functools.cache
def load_predictor(path: str = "") -> dlib.shape_predictor:
    """A dlib shape predictor with 68 points, from a file or, with '', the stock one; loaded once per process.

    Raises:
      UserError: the file is missing or is not such a predictor.
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


def resized(image: np.ndarray, scale: float) -> np.ndarray:
    """An image, `[H, W]` or `[H, W, 3]` uint8, scaled the way it is scaled for dlib's detector and predictor."""
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=interpolation)


def find_box(image: np.ndarray) -> dlib.rectangle | None:
    """The box, in pixels, of the largest face in an image `[H, W, 3]` RGB, uint8, or None.

    Large images are searched at half their size first, which takes a quarter of the time. An image in which there is no face is
    searched again at twice its size.
    """
    if max(image.shape[:2]) > COARSE_SIDE:
        # A face larger than one found at half the size would be found there, too.
        if boxes := _detector()(resized(image, 0.5)):
            box = _largest(boxes)
            return dlib.rectangle(2 * box.left(), 2 * box.top(), 2 * box.right() + 1, 2 * box.bottom() + 1)
    image = np.ascontiguousarray(image)
    return _largest(_detector()(image) or _detector()(image, 1))


def _largest(boxes: Iterable[dlib.rectangle]) -> dlib.rectangle | None:
    return max(boxes, key=lambda box: box.area(), default=None)


def landmarks_in_box(image: np.ndarray, box: dlib.rectangle, shape_predictor: str = "") -> np.ndarray:
    """The 68 landmarks of the face in a box.

    Args:
      image: `[H, W, 3]` RGB, uint8.
      box: of the face, from `find_box`.
      shape_predictor: file of a dlib shape predictor with 68 points; '' for the stock one.

    Returns:
      `[68, 2]` float32, (x, y) in pixels, pixel centres at integers.

    Raises:
      UserError: the shape predictor is missing or unusable.
    """
    enlargement = float(np.clip(FACE_WIDTH / box.width(), 1, 4))
    # The predictor needs the face and its surroundings only.
    x, y = max(0, box.left() - box.width()), max(0, box.top() - box.height())
    near = image[y : box.bottom() + box.height(), x : box.right() + box.width()]
    sides = (box.left() - x, box.top() - y, box.right() - x, box.bottom() - y)
    rectangle = dlib.rectangle(*(round(side * enlargement) for side in sides))
    shape = load_predictor(shape_predictor)(resized(near, enlargement), rectangle)
    points = np.array([(point.x, point.y) for point in shape.parts()], np.float64)
    return ((points + 0.5) / enlargement - 0.5 + [x, y]).astype(np.float32)


def largest_face_landmarks(image: np.ndarray, shape_predictor: str = "") -> np.ndarray:
    """The 68 landmarks of the largest face in a photo. Arguments and result as for `landmarks_in_box`.

    Raises:
      UserError: no face is found, or the shape predictor is missing or unusable.
    """
    load_predictor(shape_predictor)  # To report a missing one even if there is no face.
    shrinkage = min(1.0, LONGEST_SIDE / max(image.shape[:2]))
    if min(image.shape[:2]) * shrinkage < 2:  # A strip of which nothing would be left.
        raise UserError("no face found")
    searched = resized(image, shrinkage) if shrinkage < 1 else image
    box = find_box(searched)
    if box is None:
        raise UserError("no face found")
    landmarks = landmarks_in_box(searched, box, shape_predictor).astype(np.float64)
    return ((landmarks + 0.5) / shrinkage - 0.5).astype(np.float32)
