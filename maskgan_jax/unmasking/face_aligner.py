"""From the detector's points to landmarks and an aligned square, by the landmark network."""

from __future__ import annotations

import numpy as np

from maskgan_jax.data.align import FaceSquare
from maskgan_jax.data.points import eye_centres, mouth_centre
from maskgan_jax.networks.face_network import FaceNetwork
from maskgan_jax.unmasking.detection import Detection, detect_faces, overlap

# From the detector's points, each round of the landmark network brings the square closer to where it belongs.
ROUNDS = 3
# Detector and landmark network look at an upright face if they see the eyes no farther apart than this, on average and over the
# distance between the eyes or from them to the mouth, and if the boxes of what they see overlap by at least this fraction of
# their union (IoU).
MOST_APART = 0.28
LEAST_OVERLAP = 0.4
# Side, in pixels, of the upright square in which a doubtful face is looked for again.
UPRIGHT_SIDE = 256


class FaceAligner:
    """Finds the landmarks of a face, and the square that follows from them."""

    def __init__(self, network: FaceNetwork):
        """Takes a landmark network."""
        self.network = network

    def first_square(self, found: Detection) -> FaceSquare:
        """A first, rough square by the detector's points. Raises UserError if they span none."""
        left_eye, right_eye, _, *corners = found.points
        return FaceSquare.from_points(left_eye, right_eye, np.mean(corners, axis=0), self.network.size, self.network.zoom)

    def __call__(self, photo: np.ndarray, square: FaceSquare, rounds: int = ROUNDS) -> tuple[np.ndarray, FaceSquare]:
        """Landmarks `[68, 2]`, in pixels of the photo `[H, W, 3]`, of the face in about this square; and their square."""
        for _ in range(rounds):
            landmarks = square.to_photo(self.network(square.cut_out(photo)[None])[0])
            square = FaceSquare.around(landmarks, self.network.size, self.network.zoom)
        return landmarks, square


def is_face(found: Detection, landmarks: np.ndarray) -> bool:
    """Whether landmarks `[68, 2]`, in pixels of the photo, agree with the detection that they come from.

    On an ear, an eye or a face that is turned by 90 degrees, the two networks see different things.
    """
    eyes = eye_centres(landmarks)
    apart = np.hypot(*(found.points[:2] - eyes).T).mean()
    # In profile, the eyes are closer to each other than to the mouth.
    unit = max(np.hypot(*(eyes[1] - eyes[0])), np.hypot(*(mouth_centre(landmarks) - eyes.mean(axis=0))))
    box = np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)])
    return bool(apart <= MOST_APART * unit) and overlap(found.box, box) >= LEAST_OVERLAP


def is_face_upright(photo: np.ndarray, landmarks: np.ndarray) -> bool:
    """Whether the detector finds the face of these landmarks, once it is upright.

    Of one that is tilted it may see the eyes in wrong places.

    Args:
      photo: `[H, W, 3]` RGB, uint8.
      landmarks: `[68, 2]`, in pixels of the photo.

    Raises:
      UserError: eyes and mouth span no square.
    """
    square = FaceSquare.around(landmarks, UPRIGHT_SIDE)
    points = square.to_aligned(landmarks)
    return any(is_face(found, points) for found in detect_faces(square.cut_out(photo), (UPRIGHT_SIDE,)))
