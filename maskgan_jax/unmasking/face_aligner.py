"""From the detector's points to landmarks and an aligned square, by the landmark network."""

from __future__ import annotations

import numpy as np

from maskgan_jax.data.align import FaceSquare
from maskgan_jax.networks.face_network import FaceNetwork
from maskgan_jax.unmasking.detection import Detection

# From the detector's points, each round of the landmark network brings the square closer to where it belongs.
ROUNDS = 3


class FaceAligner:
    """Finds the landmarks of a face, and the square that follows from them."""

    def __init__(self, network: FaceNetwork):
        """Of a landmark network."""
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
