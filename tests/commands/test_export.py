"""`maskgan export`, and what docs/export.md says of it."""

import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from maskgan_jax.__main__ import main
from maskgan_jax.config import save_config
from maskgan_jax.models.generators import create_generator
from maskgan_jax.networks import face_network as networks
from maskgan_jax.networks import stored
from maskgan_jax.networks.safetensors import load_safetensors, save_safetensors

DOCS = Path(__file__).parents[2] / "docs" / "export.md"
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


def test_a_network_is_not_written_over_itself(generator_file, capsys):
    before = generator_file.read_bytes()
    assert main(["export", f"--workdir={generator_file}", f"--out={generator_file}", "--half"]) == 1
    assert "is the network itself" in capsys.readouterr().err
    assert generator_file.read_bytes() == before


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "checkpoints/2/state",
        "checkpoints.damaged/2",
        "best",
        "metrics.jsonl",
        ".lock",
        "pictures/a.png",
        "profile",
        "events.out.tfevents.1.host",
    ],
)
def test_a_run_is_not_written_over(name, generator_file, tmp_path, monkeypatch, capsys):
    network = stored.load_network(generator_file, "unmask")
    monkeypatch.setattr(stored, "load_network", lambda *_: network)
    save_config(tmp_path / "run" / "config.json", ConfigDict(network.config))
    before = (tmp_path / "run" / "config.json").read_bytes()
    assert main(["export", f"--workdir={tmp_path / 'run'}", f"--out={tmp_path / 'elsewhere' / '..' / 'run' / name}"]) == 1
    assert f"run/{name} is a part of the run itself; give another --out" in capsys.readouterr().err
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    (tmp_path / "run" / "checkpoints" / "8").mkdir(parents=True)
    assert main(["export", f"--workdir={tmp_path / 'run' / 'checkpoints' / '8'}", f"--out={tmp_path / 'run' / name}"]) == 1
    assert f"run/{name} is a part of the run itself; give another --out" in capsys.readouterr().err
    assert main(["export", f"--workdir={tmp_path / 'run'}", f"--out={tmp_path / 'run' / 'network.safetensors'}"]) == 0


@pytest.mark.parametrize(
    "config", [{}, {"task": "unmask"}, {"task": []}, {"task": "unmask", "generator": 3, "data": {"size": 64}}]
)
@pytest.mark.parametrize("form", ["safetensors", "orbax"])
def test_a_config_that_is_another_networks(config, form, generator_file, tmp_path, capsys):
    data = generator_file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"]["config"] = json.dumps(config)
    text = json.dumps(header).encode()
    path = tmp_path / "changed.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    assert main(["export", f"--workdir={path}", f"--format={form}", f"--out={tmp_path / 'network'}"]) == 1
    told = f"the config in {path} does not describe its network, which can be used, but not exported"
    assert told in capsys.readouterr().err and not (tmp_path / "network").exists()


@pytest.mark.parametrize("form", ["safetensors", "orbax", "stablehlo"])
def test_empty_out(form, generator_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export", f"--workdir={generator_file}", f"--format={form}", "--out="]) == 1
    error = capsys.readouterr().err
    assert error.startswith("maskgan export: error: cannot write to ''") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_file_is_replaced(generator_file, tmp_path, capsys):
    (tmp_path / "network").write_text("old")
    assert main(["export", f"--workdir={generator_file}", f"--out={tmp_path / 'network'}"]) == 0
    # Not byte for byte: the header's entries have no fixed order.
    jax.tree.map(np.testing.assert_array_equal, load_safetensors(tmp_path / "network"), load_safetensors(generator_file))
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    assert "the file, which is replaced if it is there" in " ".join(capsys.readouterr().out.split())
