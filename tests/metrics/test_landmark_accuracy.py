import jax
import numpy as np
import pytest

from maskgan_jax.data.masked_faces.reader import load_split
from maskgan_jax.errors import UserError
from maskgan_jax.metrics import landmark_accuracy
from maskgan_jax.metrics.landmark_accuracy import evaluate_landmarks
from maskgan_jax.models.landmark_net import LandmarkNet, create_landmark_net
from maskgan_jax.networks.safetensors import load_safetensors, save_safetensors


def error(predicted, landmarks):
    """Mean distances of all points and of the contour, over the distance of the eyes' centres."""
    eyes = np.linalg.norm(landmarks[36:42].mean(0) - landmarks[42:48].mean(0))
    distances = np.linalg.norm(predicted - landmarks, axis=-1) / eyes
    return distances.mean(), distances[:17].mean()


@pytest.fixture(scope="module")
def records(data_dir):
    split = load_split(data_dir, "test")
    return [split[i] for i in range(len(split))]


def test_network(data_dir, landmark_file, records):
    result = evaluate_landmarks("ours", data_dir, workdir=landmark_file)
    assert (result["method"], result["split"], result["n"]) == ("ours", "test", 4)
    variables = load_safetensors(landmark_file)
    apply = jax.jit(LandmarkNet(4).apply)
    for name, key in (("unmasked", "real"), ("masked", "masked")):
        points = apply(variables, np.stack([r[key] for r in records]) / np.float32(127.5) - 1)
        errors = [error(p, record["landmarks"]) for p, record in zip(np.asarray(points), records, strict=True)]
        assert result[name] == pytest.approx(dict(zip(("error", "contour"), np.mean(errors, axis=0), strict=True)), rel=1e-3)


def test_dlib_in_the_box_of_the_unmasked_face(data_dir, records, monkeypatch):
    # At 64 px its detector finds no face by itself.
    boxes = iter([(8, 8, 56, 56), None] * 2 + [None, None] + [(10, 10, 54, 54), (0, 0, 64, 64)])
    monkeypatch.setattr(landmark_accuracy, "find_box", lambda picture: next(boxes))
    monkeypatch.setattr(landmark_accuracy, "landmarks_in_box", lambda picture, box: np.full((68, 2), box[0], np.float32))
    result = evaluate_landmarks("dlib", data_dir)
    assert (result["n"], result["n_found"]) == (4, 3)
    assert result["unmasked"]["detected"] == 0.75 and result["masked"]["detected"] == 0.25
    expected = [error(np.full((68, 2), at), records[i]["landmarks"]) for i, at in ((0, 8), (1, 8), (3, 10))]
    for name in ("unmasked", "masked"):
        assert (result[name]["error"], result[name]["contour"]) == pytest.approx(tuple(np.mean(expected, axis=0)), rel=1e-5)


def test_dlib_that_finds_no_face_at_all(data_dir, monkeypatch):
    monkeypatch.setattr(landmark_accuracy, "find_box", lambda picture: None)
    with pytest.raises(UserError, match="dlib"):
        evaluate_landmarks("dlib", data_dir)


def test_wrong_requests(data_dir, generator_file):
    with pytest.raises(UserError, match="there is no method 'telea' for landmarks; choose one of ours, dlib"):
        evaluate_landmarks("telea", data_dir)
    with pytest.raises(UserError, match="trained for 'unmask'"):
        evaluate_landmarks("ours", data_dir, workdir=generator_file)
    with pytest.raises(UserError, match="needs a workdir"):
        evaluate_landmarks("ours", data_dir)


@pytest.mark.parametrize(
    ("size", "zoom", "message"),
    [
        (128, 1.0, "takes faces of 128 px, not 64 x 64"),
        (64, 1.25, "for faces with data.zoom=1.25, those in .* have 1; build a data set for it"),
    ],
)
def test_a_network_for_other_faces(size, zoom, message, data_dir, make_config, draw_variables, tmp_path):
    config = make_config()
    config.task, config.data.size, config.data.zoom = "landmarks", size, zoom
    variables = draw_variables(create_landmark_net(config), np.zeros((1, size, size, 3), np.float32))
    save_safetensors(tmp_path / "network.safetensors", variables, config)
    with pytest.raises(UserError, match=message):
        evaluate_landmarks("ours", data_dir, workdir=tmp_path / "network.safetensors")
