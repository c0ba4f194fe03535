import cv2
import numpy as np
import pytest

from maskgan_jax.data.points import LEFT_EYE, RIGHT_EYE
from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.unmasking import detection
from maskgan_jax.unmasking.detection import (
    SEARCHED_SIDES,
    Detection,
    _distinct,
    are_same_face,
    detect_close_up,
    detect_faces,
    detect_turned,
    overlap,
)
from maskgan_jax.unmasking.tracking import SEARCHED_SIDE


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


def test_after_a_large_input_the_detector_is_loaded_anew(monkeypatch):
    """And finds the same."""
    photo = render_face(1, seed=0, size=320).image
    expected = detect_faces(photo)
    monkeypatch.setattr(detection, "MOST_PIXELS_KEPT", 512 * 512 - 1)
    (found,) = detect_faces(photo)
    assert not hasattr(detection._networks, "centerface")
    np.testing.assert_array_equal(found.box, expected[0].box)
    monkeypatch.setattr(detection, "MOST_PIXELS_KEPT", 512 * 512)
    detect_faces(photo)
    assert detection._networks.centerface


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


@pytest.mark.parametrize(
    ("side", "whole", "closer"), [(512, 1, 0), (768, 1, 0), (770, 1, 1), (819, 1, 1), (820, 2, 0), (1900, 2, 0), (2000, 2, 1)]
)
def test_a_photo_is_searched_as_often_as_its_size_needs(side, whole, closer, monkeypatch):
    calls = []
    monkeypatch.setattr(detection, "_search", lambda *_: calls.append("whole") or ([], np.zeros((1, 2))))
    monkeypatch.setattr(detection, "_search_closer", lambda *_: calls.append("closer") or [])
    detect_faces(np.zeros((side // 2, side, 3), np.uint8))
    assert (calls.count("whole"), calls.count("closer")) == (whole, closer)


def test_small_faces_of_a_large_photo_are_found(crowd):
    assert len(detect_faces(crowd)) > 180


@pytest.mark.parametrize("width", [40, 56, 80])
def test_faces_of_few_pixels_in_a_very_wide_photo_are_found(width):
    photo = np.full((1000, 6000, 3), 150, np.uint8)
    faces = [cv2.resize(render_face(i, seed=0, size=256).image, (2 * width, 2 * width)) for i in range(5)]
    for i in range(20):
        x, y = 60 + i % 10 * 580, 60 + i // 10 * 500
        photo[y : y + 2 * width, x : x + 2 * width] = faces[i % 5]
    found = detect_faces(photo)
    assert len(found) == 20
    assert {(round((box[0] - 60) // 580), round((box[1] - 60) // 500)) for box, _, _ in found} == {
        (i % 10, i // 10) for i in range(20)
    }


@pytest.mark.parametrize(("shape", "sides"), [((1000, 12000), SEARCHED_SIDES), ((2160, 3840), (SEARCHED_SIDE,))])
def test_faces_of_80_pixels_in_a_panorama_and_in_a_4k_frame(shape, sides):
    photo = np.full((*shape, 3), 150, np.uint8)
    step = shape[1] // 10
    for i in range(20):
        x, y = 60 + i % 10 * step, 60 + i // 10 * 500
        photo[y : y + 160, x : x + 160] = cv2.resize(render_face(i % 5, seed=0, size=256).image, (160, 160))
    found = [((box[0] - 60) // step, (box[1] - 60) // 500) for box, _, _ in detect_faces(photo, sides)]
    assert sorted(found) == [(i, j) for i in range(10) for j in range(2)]


@pytest.mark.parametrize("side", [900, 3000])
def test_a_face_that_fills_the_photo(astronaut, side):
    """The larger one is shrunk before it gets its border."""
    left, top, right, bottom = detect_faces(astronaut)[0].box
    width, height = right - left, bottom - top
    x, y = round(left + 0.25 * width), round(top + 0.15 * height)
    close = astronaut[y : round(bottom - 0.05 * height), x : round(right - 0.25 * width)]
    scale = side / close.shape[0]
    close = cv2.resize(close, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    assert detect_faces(close) == []
    (found,) = detect_close_up(close)
    expected = (detect_faces(astronaut)[0].points - (x, y) + 0.5) * scale - 0.5
    assert np.hypot(*(found.points - expected).T).max() < 0.15 * width * scale
    elsewhere = np.array([-0.1, -0.1, -0.04, -0.04]) * side  # Not large.
    (again,) = detect_close_up(close, [found._replace(box=elsewhere)])
    np.testing.assert_array_equal(again.box, found.box)
    for box in (elsewhere * 10, found.box):
        assert detect_close_up(close, [found._replace(box=box)]) == []
    wide = np.concatenate([close, np.zeros((len(close), 8 * side, 3), np.uint8)], axis=1)  # In which it is not large itself.
    assert detect_close_up(wide, [found]) == []


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_face(quarters):
    photo = np.full((300, 500, 3), 150, np.uint8)
    face = render_face(3, seed=0, size=240)
    photo[40:280, 220:460] = face.image
    (upright,) = detect_faces(photo)
    turned = np.ascontiguousarray(np.rot90(photo, quarters))

    def in_turned(points):
        """Where points of the photo are in the turned one, by marks."""
        marks = np.zeros((len(points), *photo.shape[:2]), bool)
        marks[np.arange(len(points)), *np.rint(points).astype(int).T[::-1]] = True
        return np.argwhere(np.rot90(marks, quarters, axes=(1, 2)))[:, :0:-1]

    points = in_turned(upright.points)
    found = min(detect_turned(turned), key=lambda face: np.abs(face.points - points).max())
    assert np.abs(found.points - points).max() < 3
    corners = in_turned(upright.box.reshape(2, 2))
    assert np.abs(found.box - [*corners.min(axis=0), *corners.max(axis=0)]).max() < 3


def test_overlap():
    box = np.array([0, 0, 10, 20.0])
    assert overlap(box, box) == 1
    assert overlap(box, box + [5, 0, 5, 0]) == pytest.approx(100 / 300)
    assert overlap(box, box + 30) == 0


def test_a_part_of_a_face_is_of_the_same_face():
    face, eye, other = np.array([0, 0, 100, 100.0]), np.array([20, 30, 40, 45.0]), np.array([90, 0, 190, 100.0])
    assert are_same_face(face, eye) and are_same_face(eye, face)
    assert not are_same_face(face, other) and not are_same_face(eye, other)


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
