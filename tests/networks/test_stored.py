import json
import tracemalloc
from pathlib import Path

import jax
import numpy as np
import pytest

from maskgan_jax.config import save_config
from maskgan_jax.errors import UserError
from maskgan_jax.export.orbax import save_orbax
from maskgan_jax.networks.description import describe
from maskgan_jax.networks.safetensors import save_safetensors
from maskgan_jax.networks.stored import checkpoint_of, load_network, read_description, workdir_of
from maskgan_jax.training.checkpoints import open_best, save_best


@pytest.fixture
def workdir(tmp_path, config, generator_variables):
    """The folder of a run with a best network."""
    save_config(tmp_path / "config.json", config)
    with open_best(tmp_path) as best:
        save_best(best, 3, {"batch_stats": {}, **generator_variables}, {"mse_masked": 1.0})
    return tmp_path


def test_run_and_exported_file_hold_the_same(workdir, generator_file, config, generator_variables):
    for path in (workdir, generator_file, str(generator_file)):
        network = load_network(path, "unmask")
        variables = network.variables
        assert network.description == read_description(path)[0] == describe(config)
        assert network.config == json.loads(json.dumps(config.to_dict()))
        assert jax.tree.map(np.shape, variables["params"]) == jax.tree.map(np.shape, generator_variables["params"])
        jax.tree.map(np.testing.assert_array_equal, variables["params"], generator_variables["params"])


def test_the_other_network(workdir, landmark_file):
    with pytest.raises(UserError, match="trained for 'unmask', but one for 'landmarks' is needed"):
        load_network(workdir, "landmarks")
    with pytest.raises(UserError, match="trained for 'landmarks', but one for 'unmask' is needed"):
        load_network(landmark_file, "unmask")


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match="there is no network at .*nowhere"):
        load_network(tmp_path / "nowhere", "unmask")


def test_folder_that_is_no_run(tmp_path):
    with pytest.raises(UserError, match="cannot read .*config.json"):
        load_network(tmp_path, "unmask")


def test_folder_that_was_exported_for_another_program(generator_file, tmp_path):
    save_orbax(tmp_path / "generator.orbax", load_network(generator_file, "unmask"))
    (tmp_path / "generator.savedmodel" / "variables").mkdir(parents=True)
    for name in ("generator.orbax", "generator.savedmodel"):
        with pytest.raises(UserError, match=f"{name} is an export for other programs; give .*export --format=safetensors`"):
            load_network(tmp_path / name, "unmask")


@pytest.mark.parametrize("begun", [False, True])
def test_run_without_a_validation(tmp_path, config, begun):
    save_config(tmp_path / "config.json", config)
    if begun:
        open_best(tmp_path).close()
    with pytest.raises(UserError, match="holds no trained network yet"):
        load_network(tmp_path, "unmask")


def test_a_network_that_says_it_is_enormous_takes_no_memory(tmp_path, config, generator_variables):
    config.data.size = 4096
    save_safetensors(tmp_path / "enormous.safetensors", generator_variables, config)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="does not have the shapes that its config says"):
            load_network(tmp_path / "enormous.safetensors", "unmask")
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


def test_arrays_that_do_not_fit_their_config(tmp_path, config, generator_variables):
    config.generator.width *= 2
    save_safetensors(tmp_path / "wide.safetensors", generator_variables, config)
    with pytest.raises(UserError, match="does not have the shapes that its config says"):
        load_network(tmp_path / "wide.safetensors", "unmask")


def test_damaged_network_of_a_run(workdir, capfd):
    for path in (workdir / "best" / "3" / "network").glob("**/d/*"):
        path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match="the network in .*best/3 cannot be read .*; if it is damaged, put it aside"):
        load_network(workdir, "unmask")
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("text", ["{", "[1]", "{}", '{"task": "unmask"}'])
def test_folder_whose_config_is_damaged(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match="config.json is not a saved config"):
        read_description(tmp_path)


def test_run_of_another_version(workdir, generator_variables):
    """Settings that this version does not know, or not yet, do not matter to the network."""
    saved = json.loads((workdir / "config.json").read_text())
    saved["losses"]["style"] = 3.0
    saved["generator"]["glow"] = True
    del saved["generator"]["architecture"], saved["data"]["zoom"], saved["optimizer"]
    (workdir / "config.json").write_text(json.dumps(saved))
    network = load_network(workdir, "unmask")
    assert network.description.zoom == 1.0
    jax.tree.map(np.testing.assert_array_equal, network.variables["params"], generator_variables["params"])


def test_config_with_an_integer_for_a_float(workdir, config, generator_variables):
    """As the configs of finished runs have it."""
    config.generator.dropout = 0.0
    saved = json.loads((workdir / "config.json").read_text())
    saved["generator"]["dropout"] = 0
    (workdir / "config.json").write_text(json.dumps(saved))
    network = load_network(workdir, "unmask")
    assert network.description == describe(config) and isinstance(network.description.settings["dropout"], float)
    jax.tree.map(np.testing.assert_array_equal, network.variables["params"], generator_variables["params"])


def test_paths_may_be_relative(workdir, generator_variables, monkeypatch):
    monkeypatch.chdir(workdir.parent)
    network = load_network(workdir.name, "unmask")
    jax.tree.map(np.testing.assert_array_equal, network.variables["params"], generator_variables["params"])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(value, config, generator_variables, tmp_path):
    leaves, tree = jax.tree.flatten(generator_variables)
    leaves[-1] = np.full_like(leaves[-1], value)
    save_safetensors(tmp_path / "broken.safetensors", jax.tree.unflatten(tree, leaves), config)
    with pytest.raises(UserError, match="broken.safetensors has weights that are not finite numbers"):
        load_network(tmp_path / "broken.safetensors", "unmask")


def test_architecture_that_is_not_there(config, generator_variables, workdir):
    """As in a run of a program with one more."""
    saved = json.loads((workdir / "config.json").read_text())
    saved["generator"]["architecture"] = "cathedral"
    (workdir / "config.json").write_text(json.dumps(saved))
    with pytest.raises(UserError, match=f"cannot use the network in {workdir}: generator.architecture is 'cathedral'"):
        load_network(workdir, "unmask")


def test_steps_are_of_runs_that_have_checkpoints(workdir, generator_file):
    assert checkpoint_of(generator_file, "best") == generator_file
    with pytest.raises(UserError, match="--step=last is for the workdir of a run, and .* is none; leave it out"):
        checkpoint_of(generator_file, "last")
    with pytest.raises(UserError, match="holds no checkpoint yet"):
        checkpoint_of(workdir, "last")
    (workdir / "checkpoints" / "8").mkdir(parents=True)
    assert checkpoint_of(workdir, "last") == checkpoint_of(workdir, "8") == workdir / "checkpoints" / "8"
    with pytest.raises(UserError, match="--step=last is for the workdir of a run, and .*/checkpoints/8 is none; leave it out"):
        checkpoint_of(workdir / "checkpoints" / "8", "last")
    for step in ("9", "08", "²", "-8", "8.0", "9" * 5000):
        with pytest.raises(UserError, match=f"has no checkpoint of step {step}; give --step=best, last or one of 8"):
            checkpoint_of(workdir, step)


def test_checkpoints_may_be_relative(workdir, monkeypatch):
    (workdir / "checkpoints" / "8").mkdir(parents=True)
    for folder, path in ((".", "checkpoints/8"), ("checkpoints", "8"), ("checkpoints/8", "."), ("best", "../checkpoints/8")):
        monkeypatch.chdir(workdir / folder)
        assert workdir_of(Path(path)) == workdir
        assert read_description(path) == read_description(workdir)
    assert workdir_of(workdir) is None and workdir_of(workdir / "checkpoints") is None
