"""The networks that the page gets: the numbers of the package's, in half the size."""

import numpy as np
import pytest

from maskgan_jax.networks.face_network import FaceNetwork, pretrained
from maskgan_jax.page import networks

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def run(path, **arrays):
    return onnxruntime.InferenceSession(path).run(None, arrays)


def test_the_same_numbers(site):
    for name in ("landmarks", "segmentation"):
        file, task = networks.NETWORKS[name]
        network = FaceNetwork(pretrained(file), task, batch_size=1)
        image = networks.test_image(network.size)
        (output,) = run(site / "networks" / f"{name}.onnx", picture=(image / 127.5 - 1)[None].astype(np.float32))
        np.testing.assert_allclose(output, network(image[None]), atol=0.02 if name == "landmarks" else 2e-3)


def test_what_browsers_are_slow_at_is_not_there(site):
    for name in networks.NETWORKS:
        model = onnx.load(site / "networks" / f"{name}.onnx")
        assert "ConvTranspose" not in {node.op_type for node in model.graph.node}
        large = [weight for weight in model.graph.initializer if np.prod(weight.dims) > 10_000]
        assert large and all(weight.data_type == onnx.TensorProto.FLOAT16 for weight in large)


def test_the_detector_takes_photos_of_any_size(site):
    rng = np.random.default_rng(0)
    for height, width in ((64, 96), (128, 32)):
        picture = rng.uniform(0, 255, (1, 3, height, width)).astype(np.float32)
        heat, sizes, offsets, points = run(site / "networks" / "detector.onnx", picture=picture)
        cells = (height // 4, width // 4)
        assert [array.shape for array in (heat, sizes, offsets, points)] == [(1, n, *cells) for n in (1, 2, 2, 10)]


def test_summaries():
    assert networks.summary(np.array([[0.5, 1.0]] * 3)) == [0.5, 1.0] * 3
    levels = np.zeros((16, 16, 3), np.uint8)
    levels[8:, :8, 1] = 64
    assert networks.summary(levels) == [0, 0, 0, 0, 0, 0, 0, 64, 0, 0, 0, 0]
