"""How close a face that was redrawn is to the real one: its seam, its detail, its shape, its identity and its expression.

These metrics are computed only if they are asked for (`maskgan score --metrics=...`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable

import cv2
import dlib
import numpy as np

from maskgan_jax.data.build.landmarks import find_box, landmarks_in_box
from maskgan_jax.data.points import CONTOUR, MOUTH, landmark_errors
from maskgan_jax.errors import UserError
from maskgan_jax.models.expression_net import (
    EXPRESSION_FILES,
    crop_for_expression,
    expression_probabilities,
    load_expression_net,
)
from maskgan_jax.weights.fetch import weight_file

DESCRIPTOR_FILE = "dlib_face_recognition_resnet_model_v1.dat"


class NoFaceError(Exception):
    """A metric needs landmarks, and there is no face in the real image."""


@dataclasses.dataclass
class FacePair:
    """A face and the real one, and what metrics find in them; each is found once, when it is first asked for.

    Attributes:
      image: `[H, W, 3]` uint8, the one to score.
      real: the same face in reality.
      mask: `[H, W]` bool, True = hidden.
      given_landmarks: `[68, 2]` of the real face, (x, y) in pixels; None for those of the largest face that dlib detects in
        `real`.
    """

    image: np.ndarray
    real: np.ndarray
    mask: np.ndarray
    given_landmarks: np.ndarray | None = None

    @property
    def landmarks(self) -> np.ndarray:
        """`[68, 2]` of the real face. Raises NoFaceError if dlib detects none."""
        landmarks = self._detected_landmarks if self.given_landmarks is None else self.given_landmarks
        if landmarks is None:
            raise NoFaceError
        return landmarks

    @functools.cached_property
    def _detected_landmarks(self) -> np.ndarray | None:
        box = find_box(self.real)
        return None if box is None else landmarks_in_box(self.real, box)

    @property
    def landmark_box(self) -> dlib.rectangle:
        """The bounding box of the landmarks, in whole pixels."""
        return dlib.rectangle(*map(int, (*self.landmarks.min(0), *self.landmarks.max(0))))

    @functools.cached_property
    def landmark_errors(self) -> np.ndarray:
        """`[68]`, how far dlib's points on the image are from those on the real face, over the distance between the eyes.

        Both are found in the same box, that of the real face.
        """
        box = self.landmark_box
        # dlib's boxes begin above the brows.
        box = dlib.rectangle(box.left(), box.top() - (box.bottom() - box.top()) // 8, box.right(), box.bottom())
        found, expected = (landmarks_in_box(image, box)[None] for image in (self.image, self.real))
        return landmark_errors(found, expected)[0]

    @functools.cached_property
    def expressions(self) -> np.ndarray:
        """`[2, 7]`, the probabilities of `EXPRESSIONS` for the image and for the real face, cropped in the same way."""
        faces = [crop_for_expression(image, self.landmarks) for image in (self.image, self.real)]
        return np.asarray(expression_probabilities(_expression_net(), np.stack(faces)))


def detail(pair: FacePair) -> float:
    """Energy of the fine detail inside the mask over that of the real face: 1 as real, 0 for a flat area.

    Fine detail is what a Gaussian of sigma 1 px takes away; its energy is the root mean square. The 4 pixels along the outline
    of the mask do not count. NaN if the mask has no others.
    """

    def energy(image: np.ndarray) -> float:
        fine = image.astype(np.float32) - cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1)
        return float(np.sqrt(np.square(fine[inside]).mean()))

    inside = cv2.erode(pair.mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    return energy(pair.image) / max(energy(pair.real), 1e-3) if inside.any() else float("nan")


def seam(pair: FacePair) -> float:
    """How much more the image changes across the outline of the mask than the real one does, in levels of 0..255.

    The change is the mean absolute difference, over R, G and B, of all neighbouring pixels (left and right, above and below) of
    which one is inside the mask and one outside. 0 for the real image; a step of s levels along the outline of an even area
    gives s; below 0 if the image is smoother there than the real one. NaN if the mask has no outline within the image.
    """

    def change(image: np.ndarray) -> np.ndarray:
        image = image.astype(np.int16)
        steps = [np.abs(np.diff(image, axis=axis))[np.diff(pair.mask, axis=axis)] for axis in (0, 1)]
        return np.concatenate(steps)

    difference = change(pair.image) - change(pair.real)
    return float(difference.mean()) if difference.size else float("nan")


def contour(pair: FacePair) -> float:
    """How far dlib's 17 points of the jaw are from those on the real face, over the distance between the eyes; 0 = equal."""
    return float(pair.landmark_errors[CONTOUR].mean())


def mouth(pair: FacePair) -> float:
    """How far dlib's 20 points of the mouth are from those on the real face, over the distance between the eyes; 0 = equal."""
    return float(pair.landmark_errors[MOUTH].mean())


def identity(pair: FacePair) -> float:
    """The Euclidean distance of dlib's face descriptors (128 numbers) of the image and of the real face; 0 = equal.

    dlib takes two faces for one person's if it is below 0.6. Both faces are aligned by the landmarks of the real one.

    Raises:
      UserError: the weights have not been fetched yet.
    """
    points = [dlib.point(int(x), int(y)) for x, y in np.rint(pair.landmarks)]
    shape = dlib.full_object_detection(pair.landmark_box, points)
    image, real = (np.array(_descriptor_net().compute_face_descriptor(each, shape)) for each in (pair.image, pair.real))
    return float(np.linalg.norm(image - real))


def expression(pair: FacePair) -> float:
    """1 if a classifier (`models/expression_net.py`) names the same expression in the image and in the real face, else 0.

    Raises:
      UserError: the weights have not been fetched yet.
    """
    named, expected = pair.expressions.argmax(axis=-1)
    return float(named == expected)


def expression_distance(pair: FacePair) -> float:
    """The total variation distance of the classifier's probabilities for the image and for the real face: 0 = equal, to 1.

    Raises:
      UserError: the weights have not been fetched yet.
    """
    return float(np.abs(pair.expressions[0] - pair.expressions[1]).sum() / 2)


@functools.cache
def _descriptor_net() -> dlib.face_recognition_model_v1:
    return dlib.face_recognition_model_v1(str(weight_file(DESCRIPTOR_FILE)))


_expression_net = functools.cache(load_expression_net)

# By their names in results.
FACE_METRICS: dict[str, Callable[[FacePair], float]] = {
    "detail": detail,
    "seam": seam,
    "contour": contour,
    "mouth": mouth,
    "identity": identity,
    "expression": expression,
    "expression_distance": expression_distance,
}
# What they need beside the weights that are always there.
METRIC_WEIGHTS = {
    "identity": (DESCRIPTOR_FILE,),
    "expression": EXPRESSION_FILES,
    "expression_distance": EXPRESSION_FILES,
}


def check_face_metrics(names: Iterable[str]) -> None:
    """Raises UserError if there is no such metric, or the weights for it have not been fetched yet."""
    for name in names:
        if name not in FACE_METRICS:
            raise UserError(f"there is no metric {name!r}; choose some of {', '.join(FACE_METRICS)}, separated by commas")
        for file in METRIC_WEIGHTS.get(name, ()):
            weight_file(file)


def face_scores(pair: FacePair, names: Iterable[str]) -> dict[str, float]:
    """The metrics `names` of `FACE_METRICS` for a pair of faces; NaN for those that cannot be told."""

    def score(metric: Callable[[FacePair], float]) -> float:
        try:
            return metric(pair)
        except NoFaceError:
            return float("nan")

    return {name: score(FACE_METRICS[name]) for name in names}
