import csv
import os
from pathlib import Path

import numpy as np
import pytest

from maskgan_jax.data.build.landmarks import largest_face_landmarks
from maskgan_jax.errors import UserError
from maskgan_jax.files import read_image
from maskgan_jax.models.expression_net import (
    EXPRESSIONS,
    MEAN,
    crop_for_expression,
    expression_probabilities,
    load_expression_net,
)

CHANNELS = (3, 32, 64, 128, 256)


@pytest.fixture(scope="module")
def published():
    try:
        return load_expression_net()
    except UserError:
        pytest.skip("the expression network has not been fetched (maskgan weights --all)")


@pytest.fixture(scope="module")
def weights():
    """Random weights with the published names and shapes."""
    rng = np.random.default_rng(0)
    shapes = {"fc/weights": (256, 7), "fc/bias": (7,)}
    for block in range(4):
        for layer in range(4):
            name, features, out = f"dense{block}/conv{layer}", CHANNELS[block + (layer > 0)], CHANNELS[block + 1]
            if block == layer == 0:
                shapes[f"{name}/filters"] = (3, 3, features, out)
            else:
                shapes |= {f"{name}/depthwise_filter": (3, 3, features, 1), f"{name}/pointwise_filter": (1, 1, features, out)}
            shapes[f"{name}/bias"] = (out,)
    return {name: rng.normal(0, np.prod(shape[:-1]) ** -0.4, shape).astype(np.float32) for name, shape in shapes.items()}


def reference(weights, faces):
    """The network in PyTorch, after face-api's `denseBlock4`."""
    torch = pytest.importorskip("torch")
    conv2d = torch.nn.functional.conv2d
    weights = {name: torch.tensor(array, dtype=torch.float64) for name, array in weights.items()}

    def layer(name, x, stride=1):
        # TensorFlow's SAME: of an odd number of pixels, the additional one is at the end.
        x = torch.nn.functional.pad(x, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
        bias = weights[f"{name}/bias"]
        if f"{name}/filters" in weights:
            return conv2d(x, weights[f"{name}/filters"].permute(3, 2, 0, 1), bias, stride)
        x = conv2d(x, weights[f"{name}/depthwise_filter"].permute(2, 3, 0, 1), None, stride, groups=x.shape[1])
        return conv2d(x, weights[f"{name}/pointwise_filter"].permute(3, 2, 0, 1), bias)

    x = (torch.tensor(faces.transpose(0, 3, 1, 2), dtype=torch.float64) - torch.tensor(MEAN).reshape(3, 1, 1)) / 255
    for block in range(4):
        out1 = torch.relu(layer(f"dense{block}/conv0", x, 2))
        out2 = layer(f"dense{block}/conv1", out1)
        out3 = layer(f"dense{block}/conv2", torch.relu(out1 + out2))
        out4 = layer(f"dense{block}/conv3", torch.relu(out1 + out2 + out3))
        x = torch.relu(out1 + out2 + out3 + out4)
    pooled = torch.nn.functional.avg_pool2d(x, 7, 2).flatten(1)
    return torch.softmax(pooled @ weights["fc/weights"] + weights["fc/bias"], 1).numpy()


def test_as_in_pytorch(weights):
    faces = np.random.default_rng(1).integers(0, 256, (3, 112, 112, 3), np.uint8)
    expected = reference(weights, faces)
    assert expected.max() < 0.999  # Random weights that saturate would hide errors.
    np.testing.assert_allclose(expression_probabilities(weights, faces), expected, atol=1e-5)


def test_the_published_weights_as_in_pytorch(published, weights):
    assert {name: array.shape for name, array in published.items()} == {name: array.shape for name, array in weights.items()}
    faces = np.random.default_rng(1).integers(0, 256, (2, 112, 112, 3), np.uint8)
    np.testing.assert_allclose(expression_probabilities(published, faces), reference(published, faces), atol=1e-4)


def test_the_crop_is_the_square_around_the_landmarks():
    image = np.random.default_rng(0).integers(0, 256, (200, 240, 3), np.uint8)
    landmarks = np.full((68, 2), 100.0)
    landmarks[0], landmarks[1] = (44, 70), (156, 130)  # 112 wide and 60 high, with its middle at (100, 100).
    np.testing.assert_array_equal(crop_for_expression(image, landmarks), image[44:156, 44:156])
    beyond = crop_for_expression(image, landmarks - (60, 0))
    np.testing.assert_array_equal(beyond[:, 16:], image[44:156, :96])
    np.testing.assert_array_equal(beyond[:, :16], np.repeat(image[44:156, :1], 16, axis=1))


def test_real_faces(published):
    """Acted expressions: most smiles are told, all seven in more than half of the photos (chance: a seventh)."""
    if not (folder := os.environ.get("MASKGAN_FACES")):
        pytest.skip("MASKGAN_FACES is not set to the folder of photos")
    with open(Path(folder, "faces.csv"), newline="", encoding="utf-8") as file:
        acted = [row for row in csv.DictReader(file) if row["source"] == "expressions"][::15]
    faces, labels = [], []
    for row in acted:
        image = read_image(Path(folder, row["file"]))
        try:
            faces.append(crop_for_expression(image, largest_face_landmarks(image)))
        except UserError:
            continue
        labels.append(EXPRESSIONS.index(row["expression"]))
    named = np.asarray(expression_probabilities(published, np.stack(faces))).argmax(1)
    labels = np.array(labels)
    assert np.mean(named == labels) > 0.5
    assert np.mean(named[labels == EXPRESSIONS.index("happy")] == EXPRESSIONS.index("happy")) > 0.8
