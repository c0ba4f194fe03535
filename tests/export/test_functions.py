import jax
import numpy as np

from maskgan_jax.export.functions import exported_function
from maskgan_jax.networks.safetensors import save_safetensors
from maskgan_jax.networks.stored import load_network


def test_descriptions_tell_shapes(network, inputs, expected):
    described = network.description
    assert [array.shape[1:] for array in inputs] == list(described.inputs().values())
    assert [expected.shape[1:]] == list(described.output().values())


def test_arithmetic_is_float32_whatever_the_training_was_in(make_config, generator_variables, tmp_path):
    config = make_config()
    config.training.compute = "bfloat16"
    save_safetensors(tmp_path / "network.safetensors", generator_variables, config)
    network = load_network(tmp_path / "network.safetensors", "unmask")
    assert network.config["training"]["compute"] == "bfloat16"
    assert "bf16" not in str(jax.make_jaxpr(exported_function(network))(np.zeros((1, 64, 64, 3), np.float32)))
