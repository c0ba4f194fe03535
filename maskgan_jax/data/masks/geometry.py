"""Where a mask sits on a face: six points from the 68 landmarks, and the homography that carries a flat mask onto them.

The six points are those of MaskTheFace (Anwar and Raychowdhury, 2020), always in the order a-f: a, c left and right end of
the mask's top edge, b nose bridge, d, f left and right side at the height of the lower lip, e chin.
"""

from __future__ import annotations

import cv2
import numpy as np

from maskgan_jax.data.points import CONTOUR, LEFT_EYE, RIGHT_EYE
from maskgan_jax.errors import UserError

NOSE_TOP, NOSE_TIP = 27, 30
LOWER_LIP = (48, 54, 55, 56, 57, 58, 59, 60, 64, 65, 66, 67)


def six_points(landmarks: np.ndarray) -> np.ndarray:
    """The points a-f of a face, as MaskTheFace finds them.

    Args:
      landmarks: `[68, 2]`, (x, y) in pixels.

    Returns:
      `[6, 2]` float64, (x, y) in pixels.

    Raises:
      UserError: the landmarks are no face (wrong shape, not finite, or fallen together).
    """
    landmarks = np.asarray(landmarks, np.float64)
    if landmarks.shape != (68, 2) or not np.isfinite(landmarks).all():
        raise UserError(f"landmarks must be 68 finite (x, y) points, not an array of shape {landmarks.shape} or with NaN")
    jaw = landmarks[CONTOUR]
    left_eye, right_eye = landmarks[LEFT_EYE].mean(axis=0), landmarks[RIGHT_EYE].mean(axis=0)
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


def side_of_face(landmarks: np.ndarray, threshold: float = 13.0) -> str:
    """Which view of a mask a turned face needs, as MaskTheFace decides it.

    Args:
      landmarks: `[68, 2]`, (x, y) in pixels.
      threshold: angle in degrees between the nose bridge and the line from its top to the lower lip.

    Returns:
      'left', 'right' or 'front'.
    """
    top = landmarks[NOSE_TOP]
    nose, lip = landmarks[NOSE_TIP] - top, landmarks[list(LOWER_LIP)].mean(axis=0) - top
    angle = np.degrees(np.arctan2(nose[1], nose[0]) - np.arctan2(lip[1], lip[0]))
    return "left" if angle > threshold else "right" if angle < -threshold else "front"


def moved(points: np.ndarray, shift: tuple[float, float], rotation: float, scale: float) -> np.ndarray:
    """Points moved as a whole: `shift` is a share of the distance a-c, `rotation` in degrees about their mean."""
    centre = points.mean(axis=0)
    cos, sin = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
    width = np.linalg.norm(points[2] - points[0])
    return (points - centre) @ np.array([[cos, sin], [-sin, cos]]) * scale + centre + np.multiply(shift, width)


def homography(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The 3x3 matrix that carries the points `source` onto `target` (both `[6, 2]`) best in the sense of least squares.

    Raises:
      UserError: there is none, because the points lie on a line or fall together.
    """
    matrix, _ = cv2.findHomography(source.astype(np.float64), target.astype(np.float64), 0)
    if matrix is None or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
        raise UserError("the six points of the mask or of the face lie on a line; check the landmarks and masks.cfg")
    return matrix


def transformed(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points `[N, 2]` carried by a homography."""
    return cv2.perspectiveTransform(np.asarray(points, np.float64)[None], matrix)[0]


def _crossings(polyline: np.ndarray, point: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Where the polyline `[N, 2]` crosses the endless line through `point`: `[K, 2]`, in the order of the polyline."""
    normal = np.array((-direction[1], direction[0]))
    height = (polyline - point) @ normal
    start, end = height[:-1], height[1:]
    hit = (start >= 0) != (end >= 0)
    share = start[hit] / (start[hit] - end[hit])
    return polyline[:-1][hit] + share[:, None] * np.diff(polyline, axis=0)[hit]


def _sides(jaw: np.ndarray, point: np.ndarray, across: np.ndarray, ends: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The left and right point where a line across the face leaves it."""
    points = _crossings(jaw, point, across)
    if len(points) < 2:
        # The line passes above an end of the jaw: go on along an ellipse.
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
