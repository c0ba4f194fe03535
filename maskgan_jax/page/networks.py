"""The networks of the page, as ONNX files for browsers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from maskgan_jax.errors import UserError
from maskgan_jax.export.onnx import save_onnx, store_as_half
from maskgan_jax.files import replacing
from maskgan_jax.networks.face_network import FaceNetwork, pretrained
from maskgan_jax.networks.stored import load_network
from maskgan_jax.weights.fetch import weight_file

# The page's names, and those of the package: (file, task). `fast` draws what a camera sees.
NETWORKS = {
    "landmarks": ("landmarks", "landmarks"),
    "segmentation": ("segmentation", "segmentation"),
    "generator": ("unmask", "unmask"),
    "fast": ("unmask_fast", "unmask"),
}
# CenterFace's outputs, by the numbers that they have in its file.
_DETECTOR_OUTPUTS = {"537": "heat", "538": "sizes", "539": "offsets", "540": "points"}
# Side of the blocks over which the results of the self-test are averaged, in pixels; and of the photo that the detector gets.
BLOCK = 8
DETECTOR_SIZE = 128

# A face for the detector: hair, neck, face, eyes, brows, nose and mouth, each as (x, y, half width, half height, red, green,
# blue); the first four are fractions of the image's side.
BACKGROUND = (150, 160, 170)
ELLIPSES = (
    (0.5, 0.425, 0.2625, 0.3125, 60, 45, 40),
    (0.5, 0.775, 0.1125, 0.1375, 190, 150, 130),
    (0.5, 0.525, 0.2125, 0.275, 215, 170, 145),
    *((x, 0.475, 0.05, 0.03, 170, 125, 110) for x in (0.4125, 0.5875)),
    *((x, 0.475, 0.04, 0.02, 240, 240, 240) for x in (0.4125, 0.5875)),
    *((x, 0.475, 0.01875, 0.02, 40, 30, 30) for x in (0.4125, 0.5875)),
    *((x, 0.41875, 0.0625, 0.014, 70, 50, 40) for x in (0.4125, 0.5875)),
    (0.5, 0.55, 0.025, 0.075, 228, 185, 160),
    (0.5, 0.68, 0.08, 0.025, 175, 80, 80),
)


@dataclasses.dataclass(frozen=True)
class PageNetwork:
    """A network of the page.

    Attributes:
      size: side of the faces it takes, in pixels; None for the detector.
      zoom: of their squares; None for the detector.
      expected: what the network gives for `test_image`, the detector for `test_face`, as `summary` sums it up.
    """

    size: int | None
    zoom: float | None
    expected: list[float]


def export_networks(folder: Path) -> dict[str, PageNetwork]:
    """Writes the detector and the networks of the package into `folder`, each as NAME.onnx.

    Weights are float16, arithmetic is float32.

    Raises:
      UserError: the package onnx or the detector's weights are missing, or the folder cannot be written.
    """
    _export_detector(folder / "detector.onnx")
    networks = {"detector": PageNetwork(None, None, _expected_of_detector())}
    for name, (file, task) in NETWORKS.items():
        save_onnx(folder / f"{name}.onnx", load_network(pretrained(file), task), half=True, browser=True)
        network = FaceNetwork(pretrained(file), task, batch_size=1)
        result = network(test_image(network.size)[None], test_mask(network.size)[None])[0]
        networks[name] = PageNetwork(network.size, network.zoom, summary(result))
    return networks


def _expected_of_detector() -> list[float]:
    network = cv2.dnn.readNetFromONNX(str(weight_file("centerface.onnx")))
    network.setInput(cv2.dnn.blobFromImage(test_face(DETECTOR_SIZE)))
    maps = np.concatenate(network.forward(list(_DETECTOR_OUTPUTS)), axis=1)[0]
    return summary(maps.transpose(1, 2, 0))


def test_image(size: int) -> np.ndarray:
    """What the self-test shows the networks: `[size, size, 3]` uint8."""
    y, x, channel = np.indices((size, size, 3))
    return ((x + 2 * y + 40 * channel) % 256).astype(np.uint8)


def test_face(size: int) -> np.ndarray:
    """What the self-test shows the detector, which finds a face in it: `[size, size, 3]` uint8."""
    y, x = np.indices((size, size))
    image = np.full((size, size, 3), BACKGROUND, np.float64)
    for across, down, half_width, half_height, *colour in ELLIPSES:
        apart = ((x / size - across) / half_width) ** 2 + ((y / size - down) / half_height) ** 2
        weight = np.clip(2 * (1 - apart), 0, 1)[..., None]
        image = image * (1 - weight) + weight * np.array(colour)
    return np.rint(image).astype(np.uint8)


def test_mask(size: int) -> np.ndarray:
    """The mask of the self-test: the lower half, `[size, size, 1]` uint8, 255 = hidden."""
    mask = np.zeros((size, size, 1), np.uint8)
    mask[size // 2 :] = 255
    return mask


def summary(result: np.ndarray) -> list[float]:
    """A network's result in short: of maps `[S, S, ...]` the means of blocks, of points `[68, 2]` themselves."""
    if result.shape[0] == result.shape[1]:
        count = result.shape[0] // BLOCK
        result = result.astype(np.float64).reshape(count, BLOCK, count, BLOCK, -1).mean(axis=(1, 3))
    return [round(float(value), 4) for value in result.ravel()]


def _export_detector(path: Path) -> None:
    """CenterFace for photos of any size, with names for its outputs."""
    try:
        import onnx
    except ImportError as error:
        raise UserError("the page needs the package onnx: pip install 'maskgan_jax[onnx]'") from error
    model = onnx.load(weight_file("centerface.onnx"))
    graph = model.graph
    used = {name for node in graph.node for name in node.input}
    for weight in [weight for weight in graph.initializer if weight.name not in used]:  # Left over from its training.
        graph.initializer.remove(weight)
    for value in [value for value in graph.input if value.name not in used]:
        graph.input.remove(value)
    weights = {weight.name for weight in graph.initializer}
    (picture,) = (value for value in graph.input if value.name not in weights)
    names = {**_DETECTOR_OUTPUTS, picture.name: "picture"}
    for node in graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(name, name) for name in values]
    # Its file has the sizes of an example.
    shape = [1, 3, "height", "width"]
    described = [onnx.helper.make_tensor_value_info("picture", onnx.TensorProto.FLOAT, shape)]
    outputs = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, None, None, None])
        for name in _DETECTOR_OUTPUTS.values()
    ]
    for values, new in ((graph.input, described), (graph.output, outputs), (graph.value_info, [])):
        del values[:]
        values.extend(new)
    store_as_half(model)
    onnx.checker.check_model(model, full_check=True)
    with replacing(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
