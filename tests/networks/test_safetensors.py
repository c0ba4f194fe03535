import json
import struct

import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from maskgan_jax.configs import default
from maskgan_jax.errors import UserError
from maskgan_jax.export.pytorch import save_pytorch
from maskgan_jax.export.stablehlo import save_stablehlo
from maskgan_jax.networks.description import describe
from maskgan_jax.networks.safetensors import VERSION, load_safetensors, read_header, save_safetensors, save_untrained
from maskgan_jax.networks.stored import load_network


@pytest.fixture
def variables():
    rng = np.random.default_rng(0)
    return {
        "params": {"down_0": {"kernel": rng.normal(size=(4, 4, 3, 2)).astype(np.float32)}},
        "batch_stats": {"norm": {"mean": np.zeros(2, np.float32)}},
    }


def test_round_trip(tmp_path, variables, config):
    path = tmp_path / "new" / "network.safetensors"
    save_safetensors(path, variables, config)
    loaded = load_safetensors(path)
    assert jax.tree.structure(loaded) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)
    assert read_header(path) == (describe(config), json.loads(json.dumps(config.to_dict())))


def test_without_running_averages(tmp_path, variables, config):
    variables["batch_stats"] = {}
    save_safetensors(tmp_path / "network.safetensors", variables, config)
    loaded = load_safetensors(tmp_path / "network.safetensors")
    assert loaded["batch_stats"] == {}
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)


def test_any_reader_of_the_format_finds_the_names(tmp_path, variables, config):
    save_safetensors(tmp_path / "network.safetensors", variables, config)
    with safe_open(tmp_path / "network.safetensors", framework="numpy") as file:
        assert set(file.keys()) == {"params/down_0/kernel", "batch_stats/norm/mean"}
        assert json.loads(file.metadata()["config"]) == json.loads(json.dumps(config.to_dict()))


def test_arrays_from_a_device(tmp_path, variables, config):
    save_safetensors(tmp_path / "network.safetensors", jax.device_put(variables), config)
    jax.tree.map(np.testing.assert_array_equal, load_safetensors(tmp_path / "network.safetensors"), variables)


def hostile_files():
    def with_header(header, data=b""):
        header = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(header)) + header + data

    ours = {"__metadata__": {"format": "maskgan_jax", "config": "{}"}}
    tensor = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    return {
        "empty": b"",
        "text": b"not a network at all",
        "pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
        "endless header": struct.pack("<Q", 2**60) + b"{}",
        "broken header": with_header(b"{" * 64),
        "data cut off": with_header({**ours, "a": tensor}, b"\0" * 8),
        "offsets outside": with_header({**ours, "a": {**tensor, "data_offsets": [0, 2**40]}}, b"\0" * 16),
        "huge shape": with_header({**ours, "a": {**tensor, "shape": [2**62, 2**62]}}, b"\0" * 16),
    }


@pytest.mark.parametrize("kind", hostile_files())
def test_hostile_file(tmp_path, kind):
    path = tmp_path / "network.safetensors"
    path.write_bytes(hostile_files()[kind])
    for read in (read_header, load_safetensors):
        with pytest.raises(UserError, match="network.safetensors"):
            read(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "was not written by maskgan"),
        ({"format": "pt"}, "network.safetensors is for PyTorch; .* `python -m maskgan_jax.pytorch.convert FILE"),
        ({"format": "maskgan_jax"}, "cannot read the network"),
        ({"format": "maskgan_jax", "config": "{"}, "cannot read the network"),
        ({"format": "maskgan_jax", "config": "[1]"}, "cannot read the network"),
        ({"format": "maskgan_jax", "config": "[1]", "version": "2"}, "cannot read the network"),
        ({"format": "maskgan_jax", "config": '"x"', "version": "2"}, "cannot read the network"),
        ({"format": "maskgan_jax", "config": "[" * 9999}, "cannot read the network"),
    ],
)
def test_file_of_another_program(tmp_path, metadata, message):
    path = tmp_path / "network.safetensors"
    save_file({"a": np.zeros(3, np.float32)}, path, metadata=metadata)
    with pytest.raises(UserError, match=message):
        read_header(path)


def test_what_was_exported_for_another_program(network, tmp_path):
    save_pytorch(tmp_path / "network.pt.safetensors", network)
    save_stablehlo(tmp_path / "network.stablehlo", network)
    for name, fault in (("network.pt.safetensors", "is for PyTorch"), ("network.stablehlo", "cannot read the network")):
        with pytest.raises(UserError, match=f"{fault}.* give .* made by `maskgan export --format=safetensors`$"):
            read_header(tmp_path / name)


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a")])
def test_names_that_contradict_each_other(tmp_path, names, config):
    path = tmp_path / "network.safetensors"
    metadata = {"format": "maskgan_jax", "config": config.to_json()}
    save_file({name: np.zeros(3, np.float32) for name in names}, path, metadata=metadata)
    with pytest.raises(UserError, match="network.safetensors"):
        load_safetensors(path)


def test_names_with_thousands_of_levels(tmp_path, config):
    path = tmp_path / "network.safetensors"
    metadata = {"format": "maskgan_jax", "config": config.to_json()}
    save_file({"a/" * 3000 + "b": np.zeros(3, np.float32)}, path, metadata=metadata)
    with pytest.raises(UserError, match="network.safetensors .names of arrays with too many levels"):
        load_safetensors(path)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="cannot read the network in .*nothing.safetensors"):
        read_header(tmp_path / "nothing.safetensors")


def test_half_precision(network, tmp_path):
    for half, kind in ((True, np.float16), (False, np.float32)):
        path = tmp_path / f"{half}.safetensors"
        save_safetensors(path, network.variables, network.config, half=half)
        rounded = jax.tree.map(lambda array, kind=kind: array.astype(kind).astype(np.float32), network.variables)
        jax.tree.map(np.testing.assert_array_equal, load_safetensors(path), rounded)
    assert (tmp_path / "True.safetensors").stat().st_size < 0.6 * (tmp_path / "False.safetensors").stat().st_size


OLD = {"task": "unmask", "data": {"size": 128}, "generator": {"width": 32, "norm": "batch", "weights": "RUN"}}


def test_file_of_the_first_version(tmp_path):
    """It had only the config, strict and whole, as it was then."""
    path = tmp_path / "old.safetensors"
    save_file({"a": np.zeros(3, np.float32)}, path, metadata={"format": "maskgan_jax", "config": json.dumps(OLD)})
    description, config = read_header(path)
    assert (description.task, description.size, description.zoom) == ("unmask", 128, 1.0)
    assert description.settings["width"] == 32 and description.settings["architecture"] == "unet"
    assert "weights" not in description.settings
    assert config == OLD


def test_file_of_before_a_setting_was_added(tmp_path, variables, config, monkeypatch):
    """A later program, with one more setting of generators, still reads the files of this one."""
    path = tmp_path / "network.safetensors"
    save_safetensors(path, variables, config)
    expected, _ = read_header(path)

    later = default.get_config()
    later.generator.glow = 3
    monkeypatch.setattr(default, "get_config", lambda: later)
    assert read_header(path)[0].settings == expected.settings | {"glow": 3}


def test_file_of_a_later_version(tmp_path):
    path = tmp_path / "later.safetensors"
    metadata = {"format": "maskgan_jax", "version": str(VERSION + 1), "network": "{}", "config": "{}"}
    save_file({"a": np.zeros(3, np.float32)}, path, metadata=metadata)
    with pytest.raises(
        UserError, match=r"was written by a later maskgan_jax .format 3, and this one reads up to 2.; update maskgan_jax"
    ):
        read_header(path)


@pytest.mark.parametrize("network", ["{}", "[]", '{"task": "dance", "size": 64, "zoom": 1.0, "settings": {}}'])
def test_header_that_describes_nothing(tmp_path, network):
    path = tmp_path / "odd.safetensors"
    metadata = {"format": "maskgan_jax", "version": str(VERSION), "network": network, "config": "{}"}
    save_file({"a": np.zeros(3, np.float32)}, path, metadata=metadata)
    with pytest.raises(UserError, match="odd.safetensors"):
        read_header(path)


@pytest.mark.parametrize("task", ["unmask", "landmarks", "segmentation"])
def test_untrained_networks(task, make_config, tmp_path):
    config = make_config()
    config.generator.inpaints = True
    for seed in (None, 1):
        save_untrained(tmp_path / "network.safetensors", config, task, seed)
        leaves = jax.tree.leaves(load_network(tmp_path / "network.safetensors", task).variables["params"])
        assert any(np.any(leaf) for leaf in leaves) == (seed is not None)
    assert config.task == "unmask"
