import numpy as np
import pytest

from maskgan_jax.data.align import FaceSquare
from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.unmasking.detection import Detection
from maskgan_jax.unmasking.face_aligner import FaceAligner

SIDE = 64


class Pointer:
    """Stands in for a landmark network that knows the landmarks in the photo, but takes every square for the first."""

    size, zoom = SIDE, 4 / 3

    def __init__(self, landmarks):
        self.landmarks, self.square, self.calls = landmarks, None, 0

    def __call__(self, images):
        self.calls += 1
        assert images.shape == (1, SIDE, SIDE, 3)
        return self.square.to_aligned(self.landmarks)[None]


def test_the_first_square_is_that_of_the_five_points():
    landmarks = render_face(3, seed=0, size=320).landmarks.astype(np.float64)
    eyes = [landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0)]
    points = np.array([*eyes, landmarks[30], landmarks[48], landmarks[54]])
    square = FaceAligner(Pointer(landmarks)).first_square(Detection(np.zeros(4), 1.0, points))
    expected = FaceSquare.around(landmarks, SIDE, 4 / 3)
    assert square.size == SIDE
    np.testing.assert_allclose(square.corners, expected.corners)


@pytest.mark.parametrize("rounds", [1, 3])
def test_landmarks_come_in_pixels_of_the_photo_and_give_the_square(rounds):
    face = render_face(3, seed=0, size=320)
    network = Pointer(face.landmarks)
    network.square = square = FaceSquare.around(face.landmarks + 5, SIDE, 4 / 3)
    landmarks, found = FaceAligner(network)(face.image, square, rounds)
    assert network.calls == rounds
    assert found == FaceSquare.around(landmarks, SIDE, 4 / 3)
    if rounds == 1:
        np.testing.assert_allclose(landmarks, face.landmarks, atol=1e-6)
