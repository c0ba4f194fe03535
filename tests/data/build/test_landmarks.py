import numpy as np
import pytest

from maskgan_jax.data.build import landmarks as module
from maskgan_jax.data.build.landmarks import find_box, largest_face_landmarks, load_predictor
from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.errors import UserError


def eye_distance(landmarks: np.ndarray) -> float:
    return float(np.hypot(*(landmarks[36:42].mean(axis=0) - landmarks[42:48].mean(axis=0))))


@pytest.mark.parametrize("size", [320, 1400])
def test_landmarks_of_a_rendered_face(size):
    """The true landmarks are known; 1400 pixels take the way through a smaller picture."""
    face = render_face(4, seed=0, size=size)
    found = largest_face_landmarks(face.image)
    assert found.shape == (68, 2)
    assert found.dtype == np.float32
    error = np.hypot(*(found - face.landmarks).T).mean() / eye_distance(face.landmarks)
    # dlib was not made for rendered faces; what counts here is that they are in the right place.
    assert error < 0.1
    assert np.abs((found - face.landmarks).mean(axis=0)).max() / eye_distance(face.landmarks) < 0.05


def test_the_largest_face_is_found(monkeypatch):
    large, small = render_face(0, seed=0, size=400), render_face(2, seed=0, size=250)
    picture = np.full((400, 700, 3), 128, np.uint8)
    picture[:250, :250] = small.image
    picture[:, 300:] = large.image
    assert find_box(small.image) is not None
    found = largest_face_landmarks(picture)
    # It was looked for at half the size.
    monkeypatch.setattr(module, "COARSE_SIDE", 700)
    expected = largest_face_landmarks(picture)
    assert expected[:, 0].min() > 300
    assert np.hypot(*(found - expected).T).mean() < 0.05 * eye_distance(expected)


@pytest.mark.parametrize("place", [0, 700])
def test_a_face_too_small_for_half_the_size(place, monkeypatch):
    """It is found as in a picture that holds little else, be it at an edge or not."""
    picture = np.full((1000, 1000, 3), 128, np.uint8)
    picture[place : place + 150, place : place + 150] = render_face(2, seed=0, size=150).image
    found = largest_face_landmarks(picture)
    monkeypatch.setattr(module, "COARSE_SIDE", 1000)
    np.testing.assert_array_equal(found, largest_face_landmarks(picture))
    expected = largest_face_landmarks(picture[place : place + 151, place : place + 151])
    assert np.hypot(*(found - place - expected).T).mean() < 0.05 * eye_distance(expected)


@pytest.mark.parametrize("shape", [(200, 200), (1, 1), (1, 3000), (3000, 2)])
def test_no_face(shape):
    with pytest.raises(UserError, match="no face found"):
        largest_face_landmarks(np.full((*shape, 3), 90, np.uint8))


def test_faulty_predictors(tmp_path):
    with pytest.raises(UserError, match="cannot load the shape predictor"):
        load_predictor(str(tmp_path / "missing.dat"))
    (tmp_path / "broken.dat").write_bytes(b"not a predictor")
    with pytest.raises(UserError, match="68 points") as caught:
        load_predictor(str(tmp_path / "broken.dat"))
    assert "\n" not in str(caught.value)


def test_a_damaged_stock_predictor(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKGAN_CACHE", str(tmp_path))
    (tmp_path / "shape_predictor_68_face_landmarks.dat").write_bytes(b"half of a predictor")
    with pytest.raises(UserError, match="damaged; run `maskgan weights`"):
        load_predictor.__wrapped__()
