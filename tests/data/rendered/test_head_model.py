import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from maskgan_jax.data.points import CONTOUR, MIRRORED
from maskgan_jax.data.rendered.head_model import EXPRESSIONS, LEFT_HALF, Projection, draw_person, express, rotation


@pytest.fixture(scope="module")
def people():
    return [draw_person(np.random.default_rng(seed)) for seed in range(200)]


def test_people_are_drawn_from_the_average_face(people):
    average = np.mean([person.landmarks for person in people], axis=0)
    for number, point in LEFT_HALF.items():
        np.testing.assert_allclose(average[number], point, atol=2.5)
        np.testing.assert_allclose(average[MIRRORED[number]] * (-1, 1, 1), point, atol=2.5)


def test_traits_go_together(people):
    """So that what is visible says something of what a mask hides."""
    bearded = [person for person in people if person.beard]
    assert bearded and all(person.masculinity > 0.6 for person in bearded)
    chins = np.array([person.landmarks[8, 1] for person in people])
    assert np.corrcoef(chins, [person.masculinity for person in people])[0, 1] > 0.4
    young = [person for person in people if person.age < 0.5]  # Grey hair is as light on all.
    assert np.corrcoef([person.skin.mean() for person in young], [person.hair.mean() for person in young])[0, 1] > 0.3
    for person in people:
        assert all(0 <= colour.min() and colour.max() <= 1 for colour in (person.skin, person.lips, person.hair, person.eyes))


def test_the_same_seed_gives_the_same_person(people):
    again = draw_person(np.random.default_rng(3))
    np.testing.assert_array_equal(again.landmarks, people[3].landmarks)
    assert again.hair_style == people[3].hair_style and again.texture == people[3].texture


def test_what_expressions_do(people):
    neutral = people[0].landmarks
    before = neutral.copy()
    faces = {name: express(neutral, name, np.random.default_rng(1)) for name in EXPRESSIONS}
    np.testing.assert_array_equal(neutral, before)
    assert np.abs(faces["neutral"] - neutral).max() < 1.5
    y = {name: face[:, 1] - neutral[:, 1] for name, face in faces.items()}
    assert (y["happy"][[48, 54]] < -1).all() and (y["sad"][[48, 54]] > 3).all()  # The corners of the mouth; y points down.
    assert faces["happy"][54, 0] - faces["happy"][48, 0] > 1.1 * (neutral[54, 0] - neutral[48, 0])
    assert (
        faces["surprised"][66, 1] - faces["surprised"][62, 1] > 8 and y["surprised"][8] > 5
    )  # The mouth opens, the chin drops.
    assert (y["surprised"][[19, 24]] < -3).all() and (y["angry"][[21, 22]] > 3).all()  # Brows.
    assert y["surprised"][CONTOUR][[0, 16]].max() < 1e-9  # The jaw turns about the ears.
    for face in faces.values():
        np.testing.assert_array_equal(face[27:36], neutral[27:36])  # The nose stays.


@pytest.mark.parametrize("angles", [(0.0, 0.0, 0.0), (0.4, 0.0, 0.0), (0.0, -0.2, 0.0), (0.0, 0.0, 0.3), (0.4, -0.2, 0.3)])
def test_rotation(angles):
    yaw, pitch, roll = angles
    np.testing.assert_allclose(rotation(*angles), Rotation.from_euler("yxz", (yaw, pitch, roll)).as_matrix(), atol=1e-12)


def test_projection_is_that_of_a_pinhole_camera():
    """By homogeneous coordinates."""
    points = np.random.default_rng(0).normal(scale=50, size=(7, 3))
    turned = rotation(0.3, 0.1, -0.2)
    pivot = np.array([0, 40, -75])
    camera = np.array([[2.5 * 900, 0, 160], [0, 2.5 * 900, 120], [0, 0, 1]])
    seen = (turned @ (points - pivot).T).T + pivot
    seen[:, 2] = 900 - seen[:, 2]  # Away from the lens.
    homogeneous = seen @ camera.T
    expected = homogeneous[:, :2] / homogeneous[:, 2:]
    np.testing.assert_allclose(Projection(turned, 2.5, np.array([160, 120])).project(points), expected)
