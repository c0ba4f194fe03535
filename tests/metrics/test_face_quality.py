import importlib.resources

import cv2
import dlib
import numpy as np
import pytest

from maskgan_jax.data.build.landmarks import find_box, landmarks_in_box, load_predictor
from maskgan_jax.data.masked_faces.reader import load_split
from maskgan_jax.errors import UserError
from maskgan_jax.files import read_image
from maskgan_jax.metrics import face_quality
from maskgan_jax.metrics.face_quality import FACE_METRICS, FacePair, check_face_metrics, face_scores
from maskgan_jax.models.expression_net import crop_for_expression, expression_probabilities, load_expression_net
from maskgan_jax.weights.fetch import weight_file

UNFETCHED = "the optional weights have not been fetched (maskgan weights --all)"


@pytest.fixture(scope="module")
def record(data_dir):
    return load_split(data_dir, "train")[0]


@pytest.fixture(scope="module")
def portrait():
    """A real face, 256 px, with dlib's landmarks."""
    photo = read_image(importlib.resources.files("maskgan_jax") / "data" / "portrait.jpg")
    photo = cv2.resize(photo, None, fx=600 / photo.shape[0], fy=600 / photo.shape[0], interpolation=cv2.INTER_AREA)
    return photo, landmarks_in_box(photo, find_box(photo))


@pytest.fixture(scope="module")
def optional_weights():
    try:
        check_face_metrics(FACE_METRICS)
    except UserError:
        pytest.skip(UNFETCHED)


def square_mask():
    mask = np.zeros((64, 64), bool)
    mask[16:48, 16:48] = True
    return mask


def test_detail_of_the_same_of_a_flat_and_of_a_blurred_face():
    real = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    detail = FACE_METRICS["detail"]
    assert detail(FacePair(real, real, square_mask())) == pytest.approx(1)
    assert detail(FacePair(np.full_like(real, 128), real, square_mask())) == 0
    assert 0 < detail(FacePair(cv2.GaussianBlur(real, (0, 0), 1), real, square_mask())) < 0.5
    thin = np.zeros((64, 64), bool)
    thin[20:26] = True
    assert np.isnan(detail(FacePair(real, real, thin)))


def seam_by_definition(image, real, mask):
    """Pixel by pixel."""
    changes = []
    for y in range(len(mask)):
        for x in range(len(mask[0])):
            for v, u in ((y + 1, x), (y, x + 1)):
                if v < len(mask) and u < len(mask[0]) and mask[y, x] != mask[v, u]:
                    of_image, of_real = (np.abs(each[y, x].astype(float) - each[v, u]).mean() for each in (image, real))
                    changes.append(of_image - of_real)
    return np.mean(changes)


def test_seam_as_by_definition():
    rng = np.random.default_rng(0)
    image, real = rng.integers(0, 256, (2, 20, 24, 3), np.uint8)
    mask = rng.random((20, 24)) < 0.3
    assert FACE_METRICS["seam"](FacePair(image, real, mask)) == pytest.approx(seam_by_definition(image, real, mask))


def test_a_step_along_the_outline_is_the_seam():
    real = np.full((64, 64, 3), 100, np.uint8)
    seam = FACE_METRICS["seam"]
    assert seam(FacePair(real, real, square_mask())) == 0
    for step in (3, 40):
        stepped = np.where(square_mask()[..., None], real + np.uint8(step), real)
        assert seam(FacePair(stepped, real, square_mask())) == step
    # What is inside, away from the outline, does not count.
    inner = real.copy()
    inner[20:40, 20:40] = 0
    assert seam(FacePair(inner, real, square_mask())) == 0
    assert np.isnan(seam(FacePair(real, real, np.ones((64, 64), bool))))


def test_contour_and_mouth_of_the_same_and_of_a_moved_face(record):
    mask = record["mask"][..., 0] > 127
    same = FacePair(record["real"], record["real"], mask, record["landmarks"])
    assert face_scores(same, ["contour", "mouth"]) == {"contour": 0, "mouth": 0}
    moved = FacePair(np.roll(record["real"], 4, axis=1), record["real"], mask, record["landmarks"])
    shift = 4 / np.hypot(*(record["landmarks"][36:42].mean(0) - record["landmarks"][42:48].mean(0)))
    for value in face_scores(moved, ["contour", "mouth"]).values():
        assert 0.3 * shift < value < 2 * shift


def test_mouth_and_contour_are_of_their_points(record):
    pair = FacePair(record["real"], record["real"], record["mask"][..., 0] > 127, record["landmarks"])
    pair.landmark_errors = np.where(np.arange(68) < 17, 0.5, 0.0) + np.where(np.arange(68) >= 48, 0.25, 0.0)
    assert face_scores(pair, ["contour", "mouth"]) == {"contour": 0.5, "mouth": 0.25}


def test_landmarks_are_found_once_in_the_real_image(portrait, monkeypatch):
    photo, landmarks = portrait
    searched = []
    monkeypatch.setattr(face_quality, "find_box", lambda image: searched.append(image) or find_box(image))
    pair = FacePair(np.zeros_like(photo), photo, np.ones(photo.shape[:2], bool))
    scores = face_scores(pair, ["contour", "mouth"])
    assert len(searched) == 1 and searched[0] is photo and all(value > 0 for value in scores.values())
    np.testing.assert_array_equal(pair.landmarks, landmarks)


def test_without_a_face_there_is_no_value(monkeypatch):
    grey = np.full((64, 64, 3), 128, np.uint8)
    searched = []
    monkeypatch.setattr(face_quality, "find_box", lambda image: searched.append(image))
    scores = face_scores(FacePair(grey, grey, square_mask()), FACE_METRICS)
    assert scores["seam"] == 0 and not np.isnan(scores["detail"])
    assert all(np.isnan(scores[name]) for name in set(FACE_METRICS) - {"seam", "detail"})
    assert len(searched) == 1


def test_identity_as_by_dlib_itself(portrait, optional_weights):
    photo, _ = portrait
    other = cv2.GaussianBlur(photo, (0, 0), 4)
    # As dlib's examples do it.
    shape = load_predictor()(photo, find_box(photo))
    network = dlib.face_recognition_model_v1(str(weight_file("dlib_face_recognition_resnet_model_v1.dat")))
    expected = np.linalg.norm(np.subtract(*(network.compute_face_descriptor(image, shape) for image in (photo, other))))
    points = np.array([(point.x, point.y) for point in shape.parts()], np.float32)
    mask = np.ones(photo.shape[:2], bool)
    assert FACE_METRICS["identity"](FacePair(other, photo, mask, points)) == pytest.approx(expected, abs=1e-5)
    assert FACE_METRICS["identity"](FacePair(photo, photo, mask)) == 0


def test_another_face_is_another_person(portrait, record, optional_weights):
    photo, landmarks = portrait
    brighter = np.clip(photo.astype(int) + 15, 0, 255).astype(np.uint8)
    mask = np.ones(photo.shape[:2], bool)
    assert FACE_METRICS["identity"](FacePair(brighter, photo, mask, landmarks)) < 0.3
    # A rendered face in its place.
    matrix, _ = cv2.estimateAffinePartial2D(record["landmarks"], landmarks)
    other = cv2.warpAffine(record["real"], matrix, photo.shape[1::-1])
    assert FACE_METRICS["identity"](FacePair(other, photo, mask, landmarks)) > 0.6


def test_expression_as_by_the_network_itself(portrait, optional_weights):
    photo, landmarks = portrait
    upside_down = np.ascontiguousarray(photo[::-1])
    crops = np.stack([crop_for_expression(image, landmarks) for image in (upside_down, photo)])
    expected = np.asarray(expression_probabilities(load_expression_net(), crops))
    pair = FacePair(upside_down, photo, np.ones(photo.shape[:2], bool), landmarks)
    scores = face_scores(pair, ["expression", "expression_distance"])
    assert scores["expression"] == (expected[0].argmax() == expected[1].argmax())
    assert scores["expression_distance"] == pytest.approx(np.maximum(expected[0] - expected[1], 0).sum(), abs=1e-5)
    same = FacePair(photo, photo, np.ones(photo.shape[:2], bool), landmarks)
    assert face_scores(same, ["expression", "expression_distance"]) == {"expression": 1, "expression_distance": 0}


def test_bad_names_and_missing_weights(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="there is no metric 'beauty'; choose some of detail, seam, "):
        check_face_metrics(["seam", "beauty"])
    monkeypatch.setenv("MASKGAN_CACHE", str(tmp_path))
    check_face_metrics(["seam", "contour"])
    for name in ("identity", "expression", "expression_distance"):
        with pytest.raises(UserError, match="run `maskgan weights --all`"):
            check_face_metrics([name])
