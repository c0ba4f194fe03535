"""Every format against the network itself."""

import re
import sys
from pathlib import Path

import jax
import jax.export
import numpy as np
import orbax.checkpoint as ocp
import pytest

from maskgan_jax.__main__ import main
from maskgan_jax.errors import UserError
from maskgan_jax.export.functions import signature
from maskgan_jax.export.onnx import save_onnx
from maskgan_jax.export.orbax import save_orbax
from maskgan_jax.export.pytorch import save_pytorch
from maskgan_jax.export.safetensors import load_safetensors, save_safetensors
from maskgan_jax.export.savedmodel import save_savedmodel
from maskgan_jax.export.stablehlo import save_stablehlo
from maskgan_jax.models.unet import create_generator
from maskgan_jax.unmasking import networks

DOCS = Path(__file__).parents[2] / "docs" / "export.md"


def assert_close(ours, expected):
    assert ours.dtype == np.float32 and np.std(expected) > 1e-3
    np.testing.assert_allclose(ours, expected, atol=1e-4 * max(1, np.abs(expected).max()))


def test_signature_tells_shapes(network, inputs, expected):
    described = signature(network)
    assert [(None, *array.shape[1:]) for array in inputs] == list(described.inputs.values())
    assert [(None, *expected.shape[1:])] == list(described.output.values())


def test_stablehlo_for_any_batch_and_platform(network, inputs, expected, tmp_path):
    save_stablehlo(tmp_path / "network", network)
    loaded = jax.export.deserialize(bytearray((tmp_path / "network").read_bytes()))
    assert loaded.platforms == ("cpu", "cuda", "tpu")
    assert_close(np.asarray(loaded.call(*inputs)), expected)
    assert_close(np.asarray(loaded.call(*(array[:1] for array in inputs))), expected[:1])


def test_stablehlo_for_one_batch(network, inputs, tmp_path):
    save_stablehlo(tmp_path / "network", network, batch=2)
    loaded = jax.export.deserialize(bytearray((tmp_path / "network").read_bytes()))
    assert loaded.in_avals[0].shape[0] == 2
    with pytest.raises(ValueError, match="shape"):
        loaded.call(*inputs)


@pytest.mark.parametrize("batch", [None, 3])
def test_onnx(batch, network, inputs, expected, tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed (pip install 'maskgan_jax[onnx]')")
    onnxruntime = pytest.importorskip("onnxruntime")
    save_onnx(tmp_path / "network.onnx", network, batch)
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx")
    described = signature(network)
    assert [value.name for value in session.get_inputs()] == list(described.inputs)
    assert [value.shape[0] for value in session.get_inputs()] == [batch or "batch"] * len(inputs)
    (output,) = session.run(list(described.output), dict(zip(described.inputs, inputs, strict=True)))
    assert_close(output, expected)
    if batch is None:
        (one,) = session.run(None, {name: array[:1] for name, array in zip(described.inputs, inputs, strict=True)})
        assert_close(one, expected[:1])


def test_pytorch(network, inputs, expected, tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    from maskgan_jax.pytorch.networks import create_generator, create_landmark_net, create_segmentation_net

    create = {"unmask": create_generator, "landmarks": create_landmark_net, "segmentation": create_segmentation_net}
    task = network.config.task
    if task == "unmask" and network.config.generator.norm == "batch":
        pytest.skip("tests/tools/test_pytorch_convert.py has it")
    save_pytorch(tmp_path / "network.safetensors", network)
    module = create[task](network.config)
    module.load_state_dict(load_file(tmp_path / "network.safetensors"))
    module.eval()
    with torch.no_grad():
        output = module(*(torch.tensor(array).permute(0, 3, 1, 2) for array in inputs))
    output = output.permute(0, 2, 3, 1) if task == "unmask" else output.sigmoid() if task == "segmentation" else output
    assert_close(output.numpy(), expected)


def test_savedmodel(network, inputs, expected, tmp_path):
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed (pip install 'maskgan_jax[tensorflow]')")
    save_savedmodel(tmp_path / "network", network)
    loaded = tf.saved_model.load(tmp_path / "network").signatures["serving_default"]
    described = signature(network)
    for part in (slice(None), slice(1)):
        output = loaded(**{name: array[part] for name, array in zip(described.inputs, inputs, strict=True)})
        assert_close(output[next(iter(described.output))].numpy(), expected[part])


def test_orbax_and_half_precision(network, tmp_path):
    save_orbax(tmp_path / "network", network)
    with ocp.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(tmp_path / "network" / "variables")
    given = {name: tree for name, tree in network.variables.items() if tree}
    jax.tree.map(np.testing.assert_array_equal, {name: restored[name] for name in given}, given)
    assert sorted(path.name for path in (tmp_path / "network").iterdir()) == ["config.json", "variables"]
    for half, kind in ((True, np.float16), (False, np.float32)):
        path = tmp_path / f"{half}.safetensors"
        save_safetensors(path, network.variables, network.config, half=half)
        rounded = jax.tree.map(lambda array, kind=kind: array.astype(kind).astype(np.float32), network.variables)
        jax.tree.map(np.testing.assert_array_equal, load_safetensors(path), rounded)
    assert (tmp_path / "True.safetensors").stat().st_size < 0.6 * (tmp_path / "False.safetensors").stat().st_size


def test_missing_packages_are_named(network, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"pip install 'maskgan_jax\[onnx\]'"):
        save_onnx(tmp_path / "network.onnx", network)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(UserError, match=r"pip install 'maskgan_jax\[tensorflow\]'"):
        save_savedmodel(tmp_path / "network", network)
    assert not list(tmp_path.iterdir())


# Of docs/export.md: the heading of each format, the command that writes the file, and the program that loads it.
EXAMPLES = re.findall(r"^## (\w+)\n.*?^```\n(maskgan export .*?)\n```.*?^```python\n(.*?)^```", DOCS.read_text(), re.M | re.S)
NEEDS = {"onnx": ["onnx", "onnxruntime"], "savedmodel": ["tensorflow"], "pytorch": ["torch"]}


@pytest.mark.parametrize(("form", "command", "program"), EXAMPLES, ids=[form for form, *_ in EXAMPLES])
def test_examples_of_the_docs(form, command, program, make_config, draw_variables, tmp_path, monkeypatch, capsys):
    for package in NEEDS.get(form, []):
        pytest.importorskip(package)
    config = make_config()
    config.generator.update(inpaints=True, upsampling="nearest")
    module = create_generator(config)
    variables = draw_variables(module, np.zeros((1, 64, 64, 3), np.float32), np.zeros((1, 64, 64, 1), np.float32))
    monkeypatch.setattr(networks, "PRETRAINED", tmp_path / "pretrained")
    save_safetensors(tmp_path / "pretrained" / "unmask.safetensors", variables, config)
    monkeypatch.chdir(tmp_path)
    assert main(command.split()[1:]) == 0
    assert capsys.readouterr().out.startswith("the network is in generator.")
    exec(program, {})
    assert capsys.readouterr().out.strip()


def test_all_formats_have_an_example():
    assert [form for form, *_ in EXAMPLES] == ["orbax", "safetensors", "stablehlo", "onnx", "savedmodel", "pytorch"]


def test_wrong_requests(generator_file, tmp_path, capsys):
    out = tmp_path / "network"
    for arguments in (
        [f"--workdir={generator_file}", f"--out={out}", "--batch=2"],
        [f"--workdir={generator_file}", f"--out={out}", "--format=onnx", "--batch=0"],
        [f"--workdir={generator_file}", f"--out={out}", "--format=onnx", "--half"],
        [f"--workdir={generator_file}", "--pretrained=unmask", f"--out={out}"],
        [f"--out={out}"],
    ):
        with pytest.raises(SystemExit) as end:
            main(["export", *arguments])
        assert end.value.code == 2
    capsys.readouterr()
    assert main(["export", f"--workdir={tmp_path / 'gone'}", f"--out={out}", "--format=stablehlo"]) == 1
    assert "there is no network at" in capsys.readouterr().err
    out.mkdir()
    assert main(["export", f"--workdir={generator_file}", f"--out={out}", "--format=orbax"]) == 1
    assert "is there already" in capsys.readouterr().err
    assert not list(out.iterdir())
