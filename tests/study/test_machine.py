"""The classifier in the raters' place: with answers that are known, and with its published weights."""

import numpy as np
import pytest

from maskgan_jax.data.build.landmarks import largest_face_landmarks
from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.errors import UserError
from maskgan_jax.files import read_image, write_png
from maskgan_jax.metrics import face_quality
from maskgan_jax.metrics.face_quality import check_face_metrics
from maskgan_jax.study import machine
from maskgan_jax.study.images import find_images
from maskgan_jax.study.machine import machine_tables
from maskgan_jax.study.server import PORTRAIT


@pytest.fixture
def faces(tmp_path):
    """Two rendered faces, and a third image without a face; by `ours`, all are grey."""
    for number in range(3):
        image = render_face(2 * number, 0, 256).image if number < 2 else np.full((256, 256, 3), 90, np.uint8)
        write_png(tmp_path / "real" / f"{number}.png", image)
        write_png(tmp_path / "ours" / f"{number}.png", np.full_like(image, 128))
    return find_images({"ours": tmp_path / "ours"}, tmp_path / "real")


@pytest.fixture
def classifier(monkeypatch):
    """A classifier that calls grey crops neutral and others happy; least likely is a class that raters cannot choose."""

    def probabilities(weights, crops):
        of_grey = np.float32([0.3, 0.1, 0, 0, 0.6, 0, 0])
        of_faces = np.float32([0.1, 0.3, 0, 0, 0.6, 0, 0])
        return np.stack([of_grey if crop.std() == 0 else of_faces for crop in crops])

    monkeypatch.setattr(face_quality, "expression_probabilities", probabilities)
    monkeypatch.setattr(face_quality, "_expression_net", lambda: None)
    monkeypatch.setattr(machine, "check_face_metrics", lambda names: None)


def test_it_chooses_among_the_raters_expressions(faces, classifier):
    tables = machine_tables(faces, {"0": "happy", "1": "sad", "2": "happy"})
    assert tables["faces"] == 2
    assert tables["accuracy"] == {"real": 50, "ours": 0}
    assert tables["table5"]["confusion"]["ours"]["sad"]["neutral"] == 1
    assert "a machine, not a person" in tables["rater"]


def test_the_published_weights(tmp_path):
    """A smiling portrait, and two rendered faces; by `ours`, all are grey below the nose's tip: nobody smiles there."""
    try:
        check_face_metrics(["expression"])
    except UserError:
        pytest.skip("the expression network has not been fetched (maskgan weights --all)")
    faces = {"happy": read_image(PORTRAIT), "sad": render_face(2, 0, 256).image, "neutral": render_face(4, 0, 256).image}
    for expression, image in faces.items():
        write_png(tmp_path / "real" / f"{expression}.png", image)
        grey = image.copy()
        grey[int(largest_face_landmarks(image)[30, 1]) :] = 128
        write_png(tmp_path / "ours" / f"{expression}.png", grey)
    tables = machine_tables(find_images({"ours": tmp_path / "ours"}, tmp_path / "real"), {name: name for name in faces})
    assert tables["faces"] == 3
    assert tables["accuracy"] == {"real": 100, "ours": 0}
    # It seems to take the grey for an open mouth.
    assert tables["table5"]["confusion"]["ours"]["happy"]["surprised"] == 1


def test_without_expressions(faces, classifier):
    with pytest.raises(UserError, match="the expressions of this study's faces are not known"):
        machine_tables(faces, dict.fromkeys(faces.faces, ""))


def test_without_weights(faces, monkeypatch, tmp_path):
    monkeypatch.setenv("MASKGAN_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="maskgan weights"):
        machine_tables(faces, dict.fromkeys(faces.faces, "happy"))
