"""dlib's 68 landmarks (iBUG 300-W): the meaning of their numbers. Left and right are as seen in the image."""

from typing import Any

import cv2
import numpy as np

# The contour of the face, from ear to ear over the chin: the points of C1 (Eq. 4).
CONTOUR = slice(0, 17)
LEFT_EYE = slice(36, 42)
RIGHT_EYE = slice(42, 48)
MOUTH = slice(48, 68)

# The number of each point in a mirror: contour, brows, bridge and base of the nose, eyes, outer lips, inner lips.
MIRRORED = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)]
    + [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    + [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
)

# Around the landmarks of an eye, as a fraction of the image's side, nothing is ever redrawn.
EYE_RIM = 1 / 64


def eyes(landmarks: np.ndarray, shape: tuple[int, int], rim: float = EYE_RIM) -> np.ndarray:
    """The eyes, which no face mask hides, with a rim.

    Args:
      landmarks: `[68, 2]`, (x, y) in pixels.
      shape: height and width of the image.
      rim: its width, as a fraction of the image's side.

    Returns:
      `[height, width]` uint8, 255 inside.
    """
    mask = np.zeros(shape, np.uint8)
    for eye in (landmarks[LEFT_EYE], landmarks[RIGHT_EYE]):
        cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(eye).astype(np.int32)), 255)
    reach = 2 * round(rim * shape[1]) + 1
    return cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))


def landmark_errors(predicted: Any, landmarks: Any) -> Any:
    """Distance of each point `[B, 68, 2]` from the true one as a fraction of that between the eyes' centers: `[B, 68]`.

    Both are arrays of NumPy, or both are of JAX.
    """
    norm = predicted.__array_namespace__().linalg.norm
    between_eyes = norm(landmarks[:, LEFT_EYE].mean(1) - landmarks[:, RIGHT_EYE].mean(1), axis=-1)
    return norm(predicted - landmarks, axis=-1) / between_eyes[:, None]
