import dataclasses

import dlib
import numpy as np
import pytest

from maskgan_jax.data.points import MIRRORED
from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.errors import UserError

FACES = 40
BROWS, LEFT_EYE, RIGHT_EYE, MOUTH = slice(17, 27), slice(36, 42), slice(42, 48), slice(48, 68)


@pytest.fixture(scope="module")
def faces():
    return [render_face(index, seed=7) for index in range(FACES)]


def mean_colour(face, middle, radius):
    """Mean RGB of a square of the picture."""
    x, y = np.round(middle).astype(int)
    return face.image[y - radius : y + radius + 1, x - radius : x + radius + 1].reshape(-1, 3).mean(0)


def upright(face):
    """The landmarks, turned so that the eyes are level, between them as origin, in units of their distance."""
    left, right = face.landmarks[LEFT_EYE].mean(0), face.landmarks[RIGHT_EYE].mean(0)
    across = (right - left) / np.sum((right - left) ** 2)
    return (face.landmarks - (left + right) / 2) @ np.array([[across[0], -across[1]], [across[1], across[0]]])


def test_types_and_ranges(faces):
    for face in faces:
        assert face.image.shape == (320, 320, 3) and face.image.dtype == np.uint8
        assert face.landmarks.shape == (68, 2) and face.landmarks.dtype == np.float32
        assert face.landmarks.min() >= 0 and face.landmarks.max() <= 319
        assert face.image.std() > 20
    assert {face.expression for face in faces} == {"neutral", "happy", "sad", "surprised", "angry"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        faces[0].identity = "another"


def test_a_given_expression(faces):
    given = {expression: render_face(3, 7, expression=expression) for expression in ("happy", "angry", faces[3].expression)}
    assert {name: face.expression for name, face in given.items()} == {name: name for name in given}
    assert len({face.identity for face in given.values()}) == 1
    np.testing.assert_array_equal(given[faces[3].expression].image, faces[3].image)
    corners = {name: upright(face)[[48, 54], 1].mean() - upright(face)[51, 1] for name, face in given.items()}
    assert corners["happy"] < corners["angry"]
    with pytest.raises(UserError, match="faces are rendered neutral, .*; there is no expression 'bored'"):
        render_face(3, 7, expression="bored")


def test_same_arguments_same_face(faces):
    again = render_face(3, seed=7)
    np.testing.assert_array_equal(again.image, faces[3].image)
    np.testing.assert_array_equal(again.landmarks, faces[3].landmarks)
    assert (again.identity, again.expression) == (faces[3].identity, faces[3].expression)


def test_seeds_and_indices_give_other_faces(faces):
    other = render_face(3, seed=8)
    assert other.identity != faces[3].identity
    assert np.abs(other.image.astype(int) - faces[3].image).mean() > 5
    assert np.abs(faces[2].image.astype(int) - faces[3].image).mean() > 5


def test_two_pictures_to_an_identity(faces):
    identities = [face.identity for face in faces]
    assert identities[::2] == identities[1::2]
    assert len(set(identities)) == FACES // 2


def test_landmarks_are_in_dlib_order(faces):
    for face in faces:
        points = upright(face)
        x, y = points[:, 0], points[:, 1]
        # At an angle the first points, before the ear, come to lie one above the other.
        assert (np.diff(x[3:14]) > 0).all() and x[:3].max() < x[5] and x[14:17].min() > x[11]
        assert (np.diff(y[:9]) > 0).all() and (np.diff(y[8:17]) < 0).all() and y[8] > y[MOUTH].max()
        assert (np.diff(x[BROWS]) > 0).all()
        assert y[17:22].mean() < y[LEFT_EYE].mean() and y[22:27].mean() < y[RIGHT_EYE].mean()
        assert (np.diff(y[27:31]) > 0).all() and (np.diff(x[31:36]) > 0).all()
        assert x[36] < x[39] < x[42] < x[45]
        assert y[37] < y[41] and y[38] < y[40] and y[43] < y[47] and y[44] < y[46]
        assert x[48] < x[60] < x[62] < x[64] < x[54]
        assert y[33] < y[51] < y[62] <= y[66] < y[57] < y[8]
        assert 1.4 < y[8] < 2.4


def test_mirror_pairs_points_of_the_two_halves(faces):
    np.testing.assert_array_equal(MIRRORED[MIRRORED], np.arange(68))
    average = np.mean([upright(face) for face in faces], 0)
    np.testing.assert_allclose(average[MIRRORED] * (-1, 1), average, atol=0.12)


def test_dlib_finds_the_faces(faces):
    detector = dlib.get_frontal_face_detector()
    found = 0
    for face in faces:
        boxes = detector(face.image, 0) or detector(face.image, 1)
        if boxes:
            box = max(boxes, key=dlib.rectangle.area)
            found += sum(box.contains(int(x), int(y)) for x, y in face.landmarks[17:]) >= 48
    assert found >= 0.95 * FACES


def test_features_are_drawn_at_their_landmarks(faces):
    darker_eyes, redder_lips, darker_brows = 0, 0, 0
    for face in faces:
        points = face.landmarks
        eyes = [points[LEFT_EYE].mean(0), points[RIGHT_EYE].mean(0)]
        cheeks = [(points[36] + points[48]) / 2, (points[45] + points[54]) / 2]
        darker_eyes += all(
            mean_colour(face, eye, 2).mean() < mean_colour(face, cheek, 3).mean()
            for eye, cheek in zip(eyes, cheeks, strict=True)
        )

        def redness(colour):
            return colour[0] / colour.sum()

        lip = mean_colour(face, (points[66] + points[57]) / 2, 1)
        redder_lips += redness(lip) > max(redness(mean_colour(face, cheek, 3)) for cheek in cheeks)
        forehead = points[[19, 24]].mean(0) - 0.35 * (points[27] - points[[19, 24]].mean(0))
        darker_brows += mean_colour(face, points[19], 1).mean() < mean_colour(face, forehead, 3).mean()
    assert darker_eyes >= 0.95 * FACES
    assert redder_lips >= 0.95 * FACES
    assert darker_brows >= 0.9 * FACES


def test_size_only_scales():
    small, large = render_face(5, seed=1, size=96), render_face(5, seed=1, size=320)
    assert small.image.shape == (96, 96, 3)
    np.testing.assert_allclose(small.landmarks * 320 / 96, large.landmarks, rtol=1e-4)


@pytest.mark.parametrize(("index", "seed", "size"), [(-1, 0, 320), (0, -1, 320), (0, 0, 63), (0, 0, 0)])
def test_bad_arguments(index, seed, size):
    with pytest.raises(UserError):
        render_face(index, seed, size)
