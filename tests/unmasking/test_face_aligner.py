import cv2
import numpy as np
import pytest

from maskgan_jax.data.align import FaceSquare
from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.unmasking.detection import Detection
from maskgan_jax.unmasking.face_aligner import FaceAligner, is_face, is_face_upright

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


def found_at(landmarks):
    """A detection of which the eyes, and about the box, are those of landmarks `[68, 2]`."""
    points = [landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0), landmarks[30], landmarks[48], landmarks[54]]
    return Detection(np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)]), 0.8, np.array(points))


@pytest.mark.parametrize(("right", "expected"), [(0, True), (0.2, True), (0.35, False), (3, False)])
def test_a_face_is_where_detector_and_landmarks_see_the_same(right, expected):
    """The landmarks are moved by a part of the distance between the eyes."""
    landmarks = render_face(3, seed=0, size=320).landmarks.astype(np.float64)
    found = found_at(landmarks)
    between_eyes = np.hypot(*(found.points[1] - found.points[0]))
    assert is_face(found, landmarks + [right * between_eyes, 0]) is expected


def test_in_profile_the_distance_to_the_mouth_counts():
    landmarks = render_face(3, seed=0, size=320).landmarks.astype(np.float64)
    landmarks[:, 0] = landmarks[:, 0].mean() + 0.4 * (landmarks[:, 0] - landmarks[:, 0].mean())
    found = found_at(landmarks)
    eyes_to_mouth = np.hypot(*(found.points[3:].mean(axis=0) - found.points[:2].mean(axis=0)))
    assert is_face(found._replace(points=found.points + [0, 0.2 * eyes_to_mouth]), landmarks)
    assert not is_face(found._replace(points=found.points + [0, 0.35 * eyes_to_mouth]), landmarks)


def test_landmarks_far_larger_than_the_box_are_of_no_face():
    landmarks = render_face(3, seed=0, size=320).landmarks.astype(np.float64)
    found = found_at(landmarks)
    eyes = found.points[:2].mean(axis=0)
    large = landmarks.copy()
    large[:17] = eyes + 2 * (landmarks[:17] - eyes)  # The eyes stay.
    assert is_face(found, landmarks) and not is_face(found, large)
    assert not is_face(found, np.zeros((68, 2)))


@pytest.mark.parametrize("degrees", [0, 45, 180])
def test_a_tilted_face_is_one_by_its_own_landmarks_alone(degrees):
    face = render_face(3, seed=0, size=320)
    matrix = cv2.getRotationMatrix2D((159.5, 159.5), degrees, 0.7)
    photo = cv2.warpAffine(face.image, matrix, (320, 320), borderMode=cv2.BORDER_REPLICATE)
    landmarks = face.landmarks @ matrix[:, :2].T + matrix[:, 2]
    assert is_face_upright(photo, landmarks)
    # As the landmark network may see it upright though it stands on its head; or beside it.
    wrong = landmarks.mean(axis=0) - 0.9 * (landmarks - landmarks.mean(axis=0))
    assert not is_face_upright(photo, wrong)
    assert not is_face_upright(photo, landmarks * 0.2)
