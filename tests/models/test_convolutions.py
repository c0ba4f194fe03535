import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskgan_jax.models import convolutions
from maskgan_jax.models.convolutions import (
    DIMENSIONS,
    MATMUL_SIDE,
    Conv,
    convolve,
    convolve_as_matmul,
    convolve_natively,
    transpose_convolve,
    transpose_convolve_as_matmul,
    transpose_convolve_natively,
)

CHANNELS, FEATURES = 3, 5

# Height and width of the smaller feature map.
SHAPES = [(1, 1), (2, 2), (4, 4), (8, 8), (16, 16), (3, 2)]


def convolved(x, kernel, stride=2):
    """By the definition, output pixel by output pixel."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = ((side + 2 - 4) // stride + 1 for side in x.shape[1:3])
    y = np.zeros((len(x), height, width, kernel.shape[-1]))
    for i, j in np.ndindex(height, width):
        y[:, i, j] = np.tensordot(padded[:, stride * i : stride * i + 4, stride * j : stride * j + 4], kernel, 3)
    return y


def transpose_convolved(x, kernel):
    """By the definition, input pixel by input pixel."""
    batch, height, width, _ = x.shape
    y = np.zeros((batch, 2 * height + 2, 2 * width + 2, kernel.shape[-1]))
    for i, j in np.ndindex(height, width):
        y[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += np.einsum("bc,uvcd->buvd", x[:, i, j], kernel)
    return y[:, 1:-1, 1:-1]


# Each way of computing, what it must equal, and how many times larger than the smaller feature map its input is.
FORMULATIONS = {
    "convolve": (convolve, convolved, 2),
    "convolve_natively": (convolve_natively, convolved, 2),
    "convolve_as_matmul": (convolve_as_matmul, convolved, 2),
    "convolve_stride_1": (functools.partial(convolve, stride=1), functools.partial(convolved, stride=1), 2),
    "transpose_convolve": (transpose_convolve, transpose_convolved, 1),
    "transpose_convolve_natively": (transpose_convolve_natively, transpose_convolved, 1),
    "transpose_convolve_as_matmul": (transpose_convolve_as_matmul, transpose_convolved, 1),
}


def value_and_gradients(function):
    """A function from (x, kernel, cotangent) to the value and the gradients in x and kernel."""

    @jax.jit
    def run(x, kernel, cotangent):
        value, pull = jax.vjp(function, x, kernel)
        return value, *pull(cotangent)

    return run


def drawn(shape, scale, reference, seed=0):
    """Random x `[2, H, W, 3]`, kernel `[4, 4, 3, 5]` and cotangent, all float32."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, scale * shape[0], scale * shape[1], CHANNELS)).astype(np.float32)
    kernel = rng.normal(size=(4, 4, CHANNELS, FEATURES)).astype(np.float32)
    return x, kernel, rng.normal(size=reference(x, kernel).shape).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES, ids="{0[0]}x{0[1]}".format)
@pytest.mark.parametrize("name", FORMULATIONS)
def test_equals_the_definition_in_value_and_gradients(name, shape):
    function, reference, scale = FORMULATIONS[name]
    x, kernel, cotangent = drawn(shape, scale, reference)
    value, x_gradient, kernel_gradient = value_and_gradients(function)(x, kernel, cotangent)
    np.testing.assert_allclose(value, reference(x, kernel), atol=1e-4)
    # Linear in x and in the kernel: the change along any direction is the value at that direction, without remainder.
    rng = np.random.default_rng(1)
    for _ in range(4):
        direction = rng.normal(size=x.shape)
        assert np.vdot(x_gradient, direction) == pytest.approx(np.vdot(cotangent, reference(direction, kernel)), abs=1e-2)
        direction = rng.normal(size=kernel.shape)
        assert np.vdot(kernel_gradient, direction) == pytest.approx(np.vdot(cotangent, reference(x, direction)), abs=1e-2)


@pytest.mark.parametrize("shape", SHAPES, ids="{0[0]}x{0[1]}".format)
@pytest.mark.parametrize("name", FORMULATIONS)
def test_equals_pytorch_in_value_and_gradients(name, shape):
    torch = pytest.importorskip("torch")
    function, reference, scale = FORMULATIONS[name]
    arrays = drawn(shape, scale, reference)
    ours = value_and_gradients(function)(*arrays)

    x, kernel, cotangent = (torch.tensor(array) for array in arrays)
    x.requires_grad_()
    kernel.requires_grad_()
    if scale == 2:
        stride = 1 if name.endswith("1") else 2
        value = torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1), stride=stride, padding=1)
    else:
        value = torch.nn.functional.conv_transpose2d(x.permute(0, 3, 1, 2), kernel.permute(2, 3, 0, 1), stride=2, padding=1)
    value = value.permute(0, 2, 3, 1)
    value.backward(cotangent)
    for one, other in zip(ours, (value, x.grad, kernel.grad), strict=True):
        np.testing.assert_allclose(one, other.detach().numpy(), atol=2e-4)


@pytest.mark.parametrize("side", [1, 2, 4, 8, 16])
def test_gradient_by_hand_equals_automatic_differentiation(side):
    x, kernel, cotangent = drawn((side, side), 1, transpose_convolved)

    def plain(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel[::-1, ::-1], (1, 1), ((2, 2), (2, 2)), lhs_dilation=(2, 2), dimension_numbers=DIMENSIONS
        )

    by_hand = value_and_gradients(transpose_convolve_natively)(x, kernel, cotangent)
    for one, other in zip(by_hand, value_and_gradients(plain)(x, kernel, cotangent), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)


def test_gradient_by_hand_equals_finite_differences():
    x, kernel, cotangent = drawn((4, 4), 1, transpose_convolved)
    _, x_gradient, kernel_gradient = value_and_gradients(transpose_convolve_natively)(x, kernel, cotangent)

    def loss(x, kernel):
        return np.vdot(cotangent, transpose_convolved(x, kernel))

    step = 1e-3
    for place in ((0, 0, 0, 0), (1, 3, 3, 2), (0, 1, 2, 1)):
        nudge = np.zeros(x.shape)
        nudge[place] = step
        assert x_gradient[place] == pytest.approx((loss(x + nudge, kernel) - loss(x - nudge, kernel)) / (2 * step), abs=1e-3)
    for place in ((0, 0, 0, 0), (3, 3, 2, 4), (1, 2, 1, 3)):
        nudge = np.zeros(kernel.shape)
        nudge[place] = step
        difference = (loss(x, kernel + nudge) - loss(x, kernel - nudge)) / (2 * step)
        assert kernel_gradient[place] == pytest.approx(difference, abs=1e-3)


@pytest.mark.parametrize(
    ("backend", "side", "matmul"),
    [("cpu", MATMUL_SIDE, True), ("cpu", 2 * MATMUL_SIDE, False), ("gpu", MATMUL_SIDE, False), ("tpu", 1, False)],
)
def test_small_feature_maps_are_matrix_products_on_cpus_alone(monkeypatch, backend, side, matmul):
    called = []
    monkeypatch.setattr(convolutions.jax, "default_backend", lambda: backend)
    for name in ("convolve", "transpose_convolve"):
        for way in ("natively", "as_matmul"):
            monkeypatch.setattr(convolutions, f"{name}_{way}", lambda *args, way=way: called.append(way))
    convolve(jnp.zeros((1, 2 * side, 2 * side, 1)), jnp.zeros((4, 4, 1, 1)))
    transpose_convolve(jnp.zeros((1, side, side, 1)), jnp.zeros((4, 4, 1, 1)))
    assert called == ["as_matmul" if matmul else "natively"] * 2


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(Conv(7), (2, 4, 4, 7)), (Conv(7, stride=1), (2, 7, 7, 7)), (Conv(7, transpose=True), (2, 16, 16, 7))],
    ids=["down", "stride 1", "up"],
)
def test_layer(layer, shape):
    x = jnp.zeros((2, 8, 8, 3))
    value, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), x)
    assert value.shape == shape
    assert {name: array.shape for name, array in variables["params"].items()} == {"kernel": (4, 4, 3, 7)}


def test_layer_with_bias_in_bfloat16_keeps_float32_parameters():
    layer = Conv(64, bias=True, dtype=jnp.bfloat16)
    value, variables = layer.init_with_output(jax.random.key(0), jnp.zeros((1, 4, 4, 32)))
    assert value.dtype == jnp.bfloat16
    assert {array.dtype for array in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    # pix2pix starts from N(0, 0.02).
    assert np.std(variables["params"]["kernel"]) == pytest.approx(0.02, rel=0.05)
    assert not variables["params"]["bias"].any()
