import sys

import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.export.onnx import save_onnx


@pytest.mark.parametrize("batch", [None, 3])
def test_onnxruntime_gives_the_same(batch, network, inputs, expected, assert_close, tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed (pip install 'maskgan_jax[onnx]')")
    onnxruntime = pytest.importorskip("onnxruntime")
    save_onnx(tmp_path / "network.onnx", network, batch)
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx")
    described = network.description
    assert [value.name for value in session.get_inputs()] == list(described.inputs())
    assert [value.shape[0] for value in session.get_inputs()] == [batch or "batch"] * len(inputs)
    (output,) = session.run(list(described.output()), dict(zip(described.inputs(), inputs, strict=True)))
    assert_close(output, expected)
    if batch is None:
        (one,) = session.run(None, {name: array[:1] for name, array in zip(described.inputs(), inputs, strict=True)})
        assert_close(one, expected[:1])


def test_residual_generator_with_other_norms(other_residual, assert_close, tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed (pip install 'maskgan_jax[onnx]')")
    onnxruntime = pytest.importorskip("onnxruntime")
    network, inputs, expected = other_residual
    save_onnx(tmp_path / "network.onnx", network)
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx")
    (output,) = session.run(None, dict(zip(network.description.inputs(), inputs, strict=True)))
    assert_close(output, expected)


def test_missing_package_is_named(network, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"pip install 'maskgan_jax\[onnx\]'"):
        save_onnx(tmp_path / "network.onnx", network)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("half", [False, True])
def test_for_browsers(half, network, inputs, expected, assert_close, tmp_path, monkeypatch):
    """Without transposed convolutions, with Winograd's algorithm even for few channels; of half precision, nearly the same."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install 'maskgan_jax[onnx]')")
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr("maskgan_jax.export.onnx.LEAST_WINOGRAD", 8)
    monkeypatch.setattr("maskgan_jax.export.onnx.LEAST_HALVED", 2000)  # More than Winograd's own factors.
    save_onnx(tmp_path / "network.onnx", network, half=half, browser=True)
    graph = onnx.load(tmp_path / "network.onnx").graph
    assert "ConvTranspose" not in {node.op_type for node in graph.node}
    is_residual = type(network.module).__name__ == "ResidualUNet"
    assert any(weight.name == "winograd.taps" for weight in graph.initializer) == is_residual
    assert any(weight.data_type == onnx.TensorProto.FLOAT16 for weight in graph.initializer) == half
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx")
    (output,) = session.run(None, {name: array[:1] for name, array in zip(network.description.inputs(), inputs, strict=True)})
    if half:
        assert abs(output - expected[:1]).max() < 0.02 * max(1, abs(expected).max())
    else:
        assert_close(output, expected[:1])
