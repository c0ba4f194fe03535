"""dlib's 68 landmarks (iBUG 300-W): the meaning of their numbers. Left and right are as seen in the image."""

from typing import Any

import cv2
import numpy as np

# The contour of the face, from ear to ear over the chin: the points of C1 (Eq. 4).
CONTOUR = slice(0, 17)
LEFT_EYE = slice(36, 42)
RIGHT_EYE = slice(42, 48)
MOUTH = slice(48, 68)
MOUTH_CORNERS = [48, 54]

# The number of each point in a mirror: contour, brows, bridge and base of the nose, eyes, outer lips, inner lips.
MIRRORED = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)]
    + [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    + [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
)

# Around the landmarks of an eye, as a fraction of the image's side, nothing is ever redrawn.
EYE_RIM = 1 / 64


def eye_centres(landmarks: np.ndarray) -> np.ndarray:
    """The middle of the left and of the right eye, `[2, 2]`, of landmarks `[68, 2]`."""
    return np.stack([landmarks[eye].mean(axis=0) for eye in (LEFT_EYE, RIGHT_EYE)])


def mouth_centre(landmarks: np.ndarray) -> np.ndarray:
    """The middle between the corners of the mouth, `[2]`, of landmarks `[68, 2]`."""
    return landmarks[MOUTH_CORNERS].mean(axis=0)


def face_width(landmarks: np.ndarray) -> float:
    """The distance between the ends of the contour, at the ears, of landmarks `[68, 2]`."""
    return float(np.hypot(*(landmarks[16] - landmarks[0])))


def hull_mask(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The convex hull of points `[N, 2]`, (x, y) in pixels, as a mask of `shape` (height, width): uint8, 255 inside."""
    hull = cv2.convexHull(np.rint(points).astype(np.int32))
    return cv2.fillConvexPoly(np.zeros(shape, np.uint8), hull, 255)


def dilated(mask: np.ndarray, radius: int) -> np.ndarray:
    """A mask, uint8, grown by a disc of a radius in pixels: `[height, width]`."""
    return cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)))


def eyes(landmarks: np.ndarray, shape: tuple[int, int], rim: float = EYE_RIM) -> np.ndarray:
    """The eyes, which no face mask hides, with a rim.

    Args:
      landmarks: `[68, 2]`, (x, y) in pixels.
      shape: height and width of the image.
      rim: its width, as a fraction of the image's side.

    Returns:
      `[height, width]` uint8, 255 inside.
    """
    mask = hull_mask(landmarks[LEFT_EYE], shape) | hull_mask(landmarks[RIGHT_EYE], shape)
    return dilated(mask, round(rim * shape[1]))


def landmark_errors(predicted: Any, landmarks: Any) -> Any:
    """Distance of each point `[B, 68, 2]` from the true one as a fraction of that between the eyes' centres: `[B, 68]`.

    Both are arrays of NumPy, or both are of JAX.
    """
    norm = predicted.__array_namespace__().linalg.norm
    between_eyes = norm(landmarks[:, LEFT_EYE].mean(1) - landmarks[:, RIGHT_EYE].mean(1), axis=-1)
    return norm(predicted - landmarks, axis=-1) / between_eyes[:, None]
