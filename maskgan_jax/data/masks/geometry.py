"""How a flat face mask is mapped onto a face.

Two ways. A homography by the six points of MaskTheFace (Anwar and Raychowdhury, 2020), always in the order a-f: a, c left and
right end of the mask's top edge, b nose bridge, d, f left and right side at the height of the lower lip, e chin. Or a mesh that
follows the jaw and the nose, so that a mask stays on a tilted or turned face without being sheared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np
from scipy.interpolate import RBFInterpolator

from maskgan_jax.data.points import CONTOUR, eye_centres
from maskgan_jax.errors import UserError

UNFIT = "the mask cannot be fitted to this face (its landmarks are far from a face's); leave this photo out"
NOSE_TOP, NOSE_TIP = 27, 30
NOSE = slice(27, 31)
LOWER_LIP = (48, 54, 55, 56, 57, 58, 59, 60, 64, 65, 66, 67)

# A face is turned if the bridge of its nose and the line from its top to the lower lip form a larger angle, in degrees.
TURNED = 13.0

# The frame of the face: its origin is the top of the nose, its unit the width of the face between landmarks 0 and 16. In it,
# the mean of dlib's landmarks over frontal adult faces, made symmetric: the contour's right half from the chin up, the nose,
# and the six points.
_RIGHT_MEAN = ((0.0, 0.805), (0.126, 0.784), (0.239, 0.714), (0.337, 0.629), (0.41, 0.524), (0.453, 0.403), (0.476, 0.275)) + (
    (0.492, 0.144), (0.5, 0.013))  # fmt: skip
CONTOUR_MEAN = np.array([(-x, y) for x, y in _RIGHT_MEAN[:0:-1]] + list(_RIGHT_MEAN))
NOSE_MEAN = np.array(((0.0, 0.0), (0.0, 0.089), (0.0, 0.176), (0.0, 0.266)))
SIX_MEAN = np.array(((-0.475, 0.279), (0.0, 0.133), (0.475, 0.279), (-0.372, 0.58), (0.0, 0.805), (0.372, 0.58)))
# Points wherever face masks lie, down to the neck.
REACH = np.stack(np.meshgrid(np.linspace(-0.65, 0.65, 8), np.linspace(-0.15, 1.5, 10)), axis=-1).reshape(-1, 2)
# About the middle of a face mask.
PIVOT = np.array((0.0, 0.5))
# Where a mask ends under the chin.
CHIN = np.array((0.0, 0.88))


class Homography:
    """Maps points from one plane to another."""

    def __init__(self, source: np.ndarray, target: np.ndarray):
        """The least-squares fit that maps the points `source` to `target`, both `[6, 2]`.

        Raises:
          UserError: there is none, because the points are collinear or coincide.
        """
        self._matrix, _ = cv2.findHomography(source.astype(np.float64), target.astype(np.float64), 0)
        if self._matrix is None or not np.isfinite(self._matrix).all() or abs(np.linalg.det(self._matrix)) < 1e-12:
            raise UserError("the six points of the mask or of the face lie on a line; check the landmarks and masks.cfg")
        self._inverse = np.linalg.inv(self._matrix)

    def to_image(self, points: np.ndarray) -> np.ndarray:
        """Maps points `[N, 2]` from the plane of `source` to that of `target`."""
        return cv2.perspectiveTransform(np.asarray(points, np.float64)[None], self._matrix)[0]

    def to_frame(self, points: np.ndarray) -> np.ndarray:
        """Maps points `[N, 2]` from the plane of `target` to that of `source`."""
        return cv2.perspectiveTransform(np.asarray(points, np.float64)[None], self._inverse)[0]


class Mesh:
    """Maps points by a thin-plate spline through control points, smooth and nearly exact at these.

    The inverse is a second spline, through points mapped by the first: exact to about a hundredth of the face's width wherever
    a face mask lies.
    """

    # Landmarks need not be met exactly, as dlib's are not exact.
    SMOOTHING = 2e-3

    def __init__(self, frame: np.ndarray, image: np.ndarray):
        """The one between control points `frame`, in the frame of the face, and `image`, in pixels, both `[N, 2]`.

        Raises:
          UserError: there is none, because the points coincide.
        """
        # In units of the face's size, so that smoothing does not depend on the resolution.
        self._centre, self._size = image.mean(axis=0), float(np.ptp(image, axis=0).max())
        if not self._size:
            raise UserError(UNFIT)
        local = (image - self._centre) / self._size
        settings = {"kernel": "thin_plate_spline", "smoothing": self.SMOOTHING}
        try:
            self._forward = RBFInterpolator(frame, local, **settings)
            self._backward = RBFInterpolator(self._forward(REACH), REACH, kernel="thin_plate_spline")
        except np.linalg.LinAlgError as error:
            raise UserError(UNFIT) from error

    def to_image(self, points: np.ndarray) -> np.ndarray:
        """Maps points `[N, 2]` from the frame of the face to pixels of the image."""
        return self._forward(points) * self._size + self._centre

    def to_frame(self, points: np.ndarray) -> np.ndarray:
        """Maps points `[N, 2]` from pixels of the image to the frame of the face."""
        return self._backward((points - self._centre) / self._size)


@dataclasses.dataclass(frozen=True)
class Worn:
    """How one face mask sits on one face: moved in the frame of the face, which is mapped onto the image.

    Attributes:
      placement: of the frame of the face.
      shift: right and down, in widths of the face.
      rotation: clockwise in degrees, about `PIVOT`.
      scale: about `PIVOT`.
      squeeze: factor of the height, measured from `CHIN` up.
    """

    placement: Homography | Mesh
    shift: tuple[float, float]
    rotation: float
    scale: float
    squeeze: float = 1.0

    def to_image(self, points: np.ndarray) -> np.ndarray:
        """Maps points `[N, 2]` of the mask to pixels of the image."""
        points = (points - CHIN) * (1, self.squeeze) + CHIN
        return self.placement.to_image((points - PIVOT) @ self._turn().T * self.scale + PIVOT + self.shift)

    def to_frame(self, points: np.ndarray) -> np.ndarray:
        """Maps points `[N, 2]` from pixels of the image to the frame in which the mask is drawn."""
        points = (self.placement.to_frame(points) - PIVOT - self.shift) @ self._turn() / self.scale + PIVOT
        return (points - CHIN) / (1, self.squeeze) + CHIN

    def _turn(self) -> np.ndarray:
        cos, sin = np.cos(np.radians(self.rotation)), np.sin(np.radians(self.rotation))
        return np.array([[cos, -sin], [sin, cos]])


def keeps_orientation(transform: Callable[[np.ndarray], np.ndarray], points: np.ndarray) -> bool:
    """Whether `transform` maps the rectangle around `points`, `[N, 2]`, without folding it or turning it over."""
    low, high = points.min(axis=0), points.max(axis=0)
    grid = np.stack(np.meshgrid(*np.linspace(low, high, 12).T), axis=-1)
    moved = transform(grid.reshape(-1, 2)).reshape(grid.shape)
    across, down = np.diff(moved, axis=1)[:-1], np.diff(moved, axis=0)[:, :-1]
    return bool((across[..., 0] * down[..., 1] > across[..., 1] * down[..., 0]).all())


def six_points(landmarks: np.ndarray) -> np.ndarray:
    """The points a-f of a face, as MaskTheFace finds them.

    Args:
      landmarks: `[68, 2]`, (x, y) in pixels.

    Returns:
      `[6, 2]` float64, (x, y) in pixels.

    Raises:
      UserError: the landmarks are not a face (wrong shape, not finite, or degenerate).
    """
    landmarks = np.asarray(landmarks, np.float64)
    if landmarks.shape != (68, 2) or not np.isfinite(landmarks).all():
        raise UserError(f"landmarks must be 68 finite (x, y) points, not an array of shape {landmarks.shape} or with NaN")
    jaw = landmarks[CONTOUR]
    left_eye, right_eye = eye_centres(landmarks)
    eyes = (left_eye + right_eye) / 2
    across = right_eye - left_eye
    nose = landmarks[NOSE_TIP, 1] - landmarks[NOSE_TOP, 1]
    lips = landmarks[list(LOWER_LIP)]

    a, c = _sides(jaw, eyes + (0, nose), across, ends=(0, 16))
    d, f = _sides(jaw, (eyes[0], lips[:, 1].max()), across, ends=(4, 12))
    chins = [
        _lowest(_crossings(jaw, eyes + (0, nose / 2), np.array((-across[1], across[0])))),
        _lowest(_crossings(jaw, landmarks[NOSE_TOP], lips.mean(axis=0) - landmarks[NOSE_TOP])),
    ]
    chins = [chin for chin in chins if chin is not None] or [jaw[8]]
    points = np.array([a, landmarks[[NOSE_TOP, NOSE_TIP]].mean(axis=0), c, d, np.mean(chins, axis=0), f])

    # a b c d e f in this order walk along the top and back along the bottom: a b c f e d is the outline.
    outline = points[[0, 1, 2, 5, 4, 3]].astype(np.float32)
    if nose <= 0 or across[0] <= 0 or cv2.contourArea(outline, oriented=True) < 1 or not cv2.isContourConvex(outline):
        raise UserError("the landmarks do not form an upright face, so no mask can be fitted; leave this photo out")
    return points


def side_of_face(landmarks: np.ndarray) -> str:
    """Which view of a mask a turned face needs, as MaskTheFace decides it.

    Args:
      landmarks: `[68, 2]`, (x, y) in pixels.

    Returns:
      'left', 'right' or 'front'.
    """
    top = landmarks[NOSE_TOP]
    nose, lip = landmarks[NOSE_TIP] - top, landmarks[list(LOWER_LIP)].mean(axis=0) - top
    angle = np.degrees(np.arctan2(nose[1], nose[0]) - np.arctan2(lip[1], lip[0]))
    return "left" if angle > TURNED else "right" if angle < -TURNED else "front"


def _crossings(polyline: np.ndarray, point: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Where the polyline `[N, 2]` crosses the infinite line through `point`: `[K, 2]`, in the order of the polyline."""
    normal = np.array((-direction[1], direction[0]))
    height = (polyline - point) @ normal
    start, end = height[:-1], height[1:]
    hit = (start >= 0) != (end >= 0)
    fraction = start[hit] / (start[hit] - end[hit])
    return polyline[:-1][hit] + fraction[:, None] * np.diff(polyline, axis=0)[hit]


def _sides(jaw: np.ndarray, point: np.ndarray, across: np.ndarray, ends: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The left and right point where a line across the face leaves it."""
    points = _crossings(jaw, point, across)
    if len(points) < 2:
        # The line passes above an end of the jaw: continue it as an ellipse.
        (x, y), axes, angle = cv2.fitEllipse(jaw.astype(np.float32))
        turn = np.linspace(0, 2 * np.pi, 73)
        cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        ellipse = np.stack([axes[0] / 2 * np.cos(turn), axes[1] / 2 * np.sin(turn)], axis=1)
        points = _crossings(ellipse @ np.array([[cos, sin], [-sin, cos]]) + (x, y), point, across)
    if len(points) < 2:
        points = jaw[list(ends)]
    points = points[np.argsort(points @ across)]
    return points[0], points[-1]


def _lowest(points: np.ndarray) -> np.ndarray | None:
    return points[np.argmax(points[:, 1])] if len(points) else None
