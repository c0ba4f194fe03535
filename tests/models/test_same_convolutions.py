import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskgan_jax.models import same_convolutions
from maskgan_jax.models.convolutions import compiling_for
from maskgan_jax.models.same_convolutions import Join, SameConv, convolve_transformed, transformed


def convolved(x, kernel, dilation):
    """By the definition, tap by tap, in float64."""
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (dilation, dilation), (dilation, dilation), (0, 0)))
    height, width = x.shape[1:3]
    return sum(
        padded[:, i * dilation : i * dilation + height, j * dilation : j * dilation + width]
        @ np.asarray(kernel[i, j], np.float64)
        for i, j in np.ndindex(3, 3)
    )


def arrays(*shapes):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize(("height", "width", "dilation"), [(8, 8, 1), (7, 5, 1), (1, 2, 1), (8, 8, 2), (10, 6, 2), (9, 6, 3)])
@pytest.mark.parametrize("outputs", [2, 3])
def test_winograd_by_the_definition(height, width, dilation, outputs):
    x, kernel = arrays((2, height, width, 3), (3, 3, 3, 5))
    result = jax.jit(convolve_transformed, static_argnums=(2, 3))(
        x, transformed(jnp.asarray(kernel), outputs), outputs, dilation
    )
    np.testing.assert_allclose(result, convolved(x, kernel, dilation), atol=1e-4)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dilation", [1, 2])
def test_a_layer_by_the_definition_with_and_without_prepared_kernels(monkeypatch, draw_variables, dilation, bias):
    monkeypatch.setattr(same_convolutions, "WINOGRAD_CHANNELS", 3)
    (x,) = arrays((2, 8, 6, 3))
    layer = SameConv(4, dilation, bias)
    variables = draw_variables(layer, x)
    assert set(variables) == {"params"}
    expected = convolved(x, variables["params"]["kernel"], dilation) + (variables["params"]["bias"] if bias else 0)
    result, prepared = layer.apply(variables, x, mutable=["prepared"])
    assert prepared["prepared"]["kernel"].shape[1:] == (3, 4)
    zeros = jax.tree.map(jnp.zeros_like, variables["params"])
    for by in (
        layer.apply(variables, x),
        result,
        # What is prepared stands in for the kernel.
        layer.apply({"params": {**zeros, "bias": variables["params"].get("bias", 0)}, **prepared}, x),
    ):
        np.testing.assert_allclose(by, expected, atol=1e-4)


@pytest.mark.parametrize("dilation", [5, 6, 9])
def test_taps_that_meet_padding_only_are_left_out(draw_variables, dilation):
    (x,) = arrays((2, 4, 6, 3))
    layer = SameConv(5, dilation)
    variables = draw_variables(layer, x)
    expected = convolved(x, variables["params"]["kernel"], dilation) + variables["params"]["bias"]
    np.testing.assert_allclose(layer.apply(variables, x), expected, atol=1e-5)
    assert ("conv_general_dilated" in str(jax.make_jaxpr(layer.apply)(variables, x))) == (dilation == 5)


def prepared(layer, shape):
    variables = jax.eval_shape(layer.init, jax.random.key(0), jnp.zeros(shape))
    return jax.eval_shape(lambda v, x: layer.apply(v, x, mutable=["prepared"]), variables, jnp.zeros(shape))[1]


def test_where_winograd_is_taken():
    shape = (1, 4, 6, 64)
    assert prepared(SameConv(64), shape) and prepared(SameConv(64, dilation=2), shape)
    for layer in (SameConv(64, dtype=jnp.bfloat16), SameConv(32), SameConv(64, dilation=4)):
        assert not prepared(layer, shape)
    for backend in ("gpu", "tpu"):
        with compiling_for(backend):
            assert not prepared(SameConv(64), shape)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_layers_begin_and_compute_as_flax_has_them(dtype):
    (x,) = arrays((2, 8, 6, 3))
    ours, flax = SameConv(4, 2, dtype=dtype), nn.Conv(4, (3, 3), kernel_dilation=2, dtype=dtype)
    (a, of_ours), (b, of_flax) = (layer.init_with_output(jax.random.key(1), x) for layer in (ours, flax))
    np.testing.assert_array_equal(a, b)
    assert a.dtype == dtype
    for one, other in zip(*map(jax.tree.leaves, (of_ours, of_flax)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_joined_maps_are_those_of_one_convolution(draw_variables, backend):
    x, skip = arrays((2, 4, 5, 3), (2, 4, 5, 2))
    layer = Join(6)
    variables = draw_variables(layer, x, skip)
    params = variables["params"]
    expected = np.concatenate([x, skip], axis=-1) @ params["kernel"][0, 0] + params["bias"]
    with compiling_for(backend):
        np.testing.assert_allclose(layer.apply(variables, x, skip), expected, atol=1e-5)
        gradient = jax.grad(lambda params: jnp.square(layer.apply({"params": params}, x, skip)).sum())(params)
    both = np.concatenate([x, skip], axis=-1)
    np.testing.assert_allclose(gradient["kernel"][0, 0], 2 * np.einsum("bhwc,bhwd->cd", both, expected), rtol=1e-4, atol=1e-3)
