import cv2
import numpy as np
import pytest

from maskgan_jax.data.points import LEFT_EYE, RIGHT_EYE
from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.unmasking.detection import Detection, _distinct, detect_faces


@pytest.mark.parametrize("size", [100, 320, 1800])
def test_box_and_points_are_where_the_face_is(size):
    face = render_face(1, seed=0, size=size)
    (found,) = detect_faces(face.image)
    marks = face.landmarks
    eye_distance = np.hypot(*(marks[RIGHT_EYE].mean(axis=0) - marks[LEFT_EYE].mean(axis=0)))
    expected = [marks[LEFT_EYE].mean(axis=0), marks[RIGHT_EYE].mean(axis=0), marks[30], marks[48], marks[54]]
    assert np.hypot(*(found.points - expected).T).max() < 0.25 * eye_distance
    left, top, right, bottom = found.box
    inside = (marks > [left, top]) & (marks < [right, bottom])
    assert inside.all(axis=1).mean() > 0.8
    assert 0.5 < found.score <= 1


def test_the_place_in_the_photo_does_not_matter():
    """An oblong photo, whose sides are no multiples of what the network takes; the face is found where it was put."""
    face = render_face(2, seed=0, size=200).image
    (alone,) = detect_faces(face)
    photo = np.full((333, 611, 3), 120, np.uint8)
    photo[101:301, 371:571] = face
    (found,) = detect_faces(photo)
    np.testing.assert_allclose(found.points, alone.points + [371, 101], atol=5)


def test_masked_faces_are_found(portrait, couple):
    assert len(detect_faces(portrait)) == 1
    first, second = detect_faces(couple)
    assert first.box[0] > 300 > second.box[2]  # The larger one first.


def test_small_faces_of_a_large_photo_are_found(crowd):
    assert len(detect_faces(crowd)) > 180


def test_no_face():
    assert detect_faces(np.full((200, 300, 3), 90, np.uint8)) == []
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    assert detect_faces(cv2.GaussianBlur(noise, (0, 0), 2)) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (7, 3)])
def test_strips_and_specks(shape):
    assert detect_faces(np.full((*shape, 3), 90, np.uint8)) == []


def test_of_boxes_that_overlap_the_surest_is_kept():
    def face(left, score):
        return Detection(np.array([left, 0, left + 100, 100.0]), score, np.zeros((5, 2)))

    kept = _distinct([face(0, 0.6), face(10, 0.9), face(80, 0.7)])
    assert sorted(found.score for found in kept) == [0.7, 0.9]
