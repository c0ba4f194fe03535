import jax
import jax.numpy as jnp

from maskgan_jax.export.functions import exported_function, signature


def test_signature_tells_shapes(network, inputs, expected):
    described = signature(network)
    assert [(None, *array.shape[1:]) for array in inputs] == list(described.inputs.values())
    assert [(None, *expected.shape[1:])] == list(described.output.values())


def test_arithmetic_is_float32_whatever_the_training_was_in(network, inputs):
    coarse = network._replace(module=network.module.clone(dtype=jnp.bfloat16))
    assert "bf16" not in str(jax.make_jaxpr(exported_function(coarse))(*inputs))
    assert "bf16" in str(jax.make_jaxpr(coarse.module.apply)(network.variables, *inputs))
