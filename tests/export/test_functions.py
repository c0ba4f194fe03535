from maskgan_jax.export.functions import signature


def test_signature_tells_shapes(network, inputs, expected):
    described = signature(network)
    assert [(None, *array.shape[1:]) for array in inputs] == list(described.inputs.values())
    assert [(None, *expected.shape[1:])] == list(described.output.values())
