import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskgan_jax.models import convolutions
from maskgan_jax.models.convolutions import (
    DIMENSIONS,
    Conv,
    convolve,
    convolve_densely,
    dense_formulation,
    dense_input_gradient,
    dense_kernel_gradient,
    downsample,
    formulation,
    kernel_gradient,
    transpose_convolve,
    upsample,
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


# The layers, what they must equal, and how many times larger than the smaller feature map their input is.
LAYERS = {
    "convolve": (convolve, convolved, 2),
    "convolve_stride_1": (functools.partial(convolve, stride=1), functools.partial(convolved, stride=1), 2),
    "transpose_convolve": (transpose_convolve, transpose_convolved, 1),
}
WAYS = ["native", "taps", "phases", "winograd"]
# Winograd's algorithm takes long to compile; three shapes meet tiles of both sides, whole ones and parts.
WAYS_AND_SHAPES = [(way, shape) for way in ("native", "taps", "phases") for shape in SHAPES]
WAYS_AND_SHAPES += [("winograd", shape) for shape in ((3, 2), (4, 4), (6, 6))]


@pytest.fixture
def only(monkeypatch):
    """A function that has every layer computed in one way; natively where that way is not for it."""

    def choose(way):
        monkeypatch.setattr(
            convolutions, "formulation", lambda *_, up=False, **__: "native" if way == "phases" and not up else way
        )
        monkeypatch.setattr(convolutions, "dense_formulation", lambda *_: way if way == "winograd" else "native")

    return choose


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


@pytest.mark.parametrize(("way", "shape"), WAYS_AND_SHAPES, ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_equals_the_definition_in_value_and_gradients(name, way, shape, only):
    only(way)
    function, reference, scale = LAYERS[name]
    x, kernel, cotangent = drawn(shape, scale, reference)
    value, x_gradient, kernel_gradient = value_and_gradients(function)(x, kernel, cotangent)
    np.testing.assert_allclose(value, reference(x, kernel), atol=1e-3)
    # Linear in x and in the kernel: the change along any direction is the value at that direction, without remainder.
    rng = np.random.default_rng(1)
    for _ in range(4):
        direction = rng.normal(size=x.shape)
        assert np.vdot(x_gradient, direction) == pytest.approx(np.vdot(cotangent, reference(direction, kernel)), abs=1e-2)
        direction = rng.normal(size=kernel.shape)
        assert np.vdot(kernel_gradient, direction) == pytest.approx(np.vdot(cotangent, reference(x, direction)), abs=1e-2)


@pytest.mark.parametrize(
    ("way", "shape"), [("native", (8, 8)), ("taps", (2, 2)), ("phases", (3, 2)), ("winograd", (6, 6))], ids=str
)
@pytest.mark.parametrize("name", LAYERS)
def test_equals_pytorch_in_value_and_gradients(name, way, shape, only):
    torch = pytest.importorskip("torch")
    only(way)
    function, reference, scale = LAYERS[name]
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
        np.testing.assert_allclose(one, other.detach().numpy(), atol=1e-3)


def by_xla(name):
    """The layer as XLA's convolution, whose gradients JAX derives."""

    def plain(x, kernel):
        if name == "transpose_convolve":
            padding, dilation, kernel = (2, 2), (2, 2), kernel[::-1, ::-1]
            return jax.lax.conv_general_dilated(
                x, kernel, (1, 1), (padding, padding), lhs_dilation=dilation, dimension_numbers=DIMENSIONS
            )
        strides = (1, 1) if name.endswith("1") else (2, 2)
        return jax.lax.conv_general_dilated(x, kernel, strides, ((1, 1), (1, 1)), dimension_numbers=DIMENSIONS)

    return plain


@pytest.mark.parametrize(
    ("way", "side"), [("native", 1), ("native", 8), ("taps", 1), ("taps", 4), ("phases", 1), ("phases", 4), ("winograd", 4)]
)
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_by_hand_equal_automatic_differentiation(name, way, side, only):
    only(way)
    function, reference, scale = LAYERS[name]
    arrays = drawn((side, side), scale, reference)
    for one, other in zip(value_and_gradients(function)(*arrays), value_and_gradients(by_xla(name))(*arrays), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_by_hand_equal_finite_differences(name, way, only):
    only(way)
    function, reference, scale = LAYERS[name]
    x, kernel, cotangent = drawn((4, 4), scale, reference)
    _, x_gradient, kernel_gradient = value_and_gradients(function)(x, kernel, cotangent)

    def loss(x, kernel):
        return np.vdot(cotangent, reference(x, kernel))

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


def test_taps_of_a_layer_with_one_feature():
    rng = np.random.default_rng(0)
    x, kernel, y = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 9, 7, 6), (4, 4, 6, 1), (2, 8, 6, 1)))
    np.testing.assert_allclose(convolve_densely(x, kernel, "taps"), convolved(x, kernel, 1), atol=1e-4)
    for function, arrays in ((dense_input_gradient, (y, kernel)), (dense_kernel_gradient, (x, y))):
        np.testing.assert_allclose(function(*arrays, "taps"), function(*arrays, "native"), atol=1e-4)


@pytest.mark.parametrize("swapped", [False, True])
def test_many_pixels_by_taps(swapped):
    """More than the products of all taps are made at once for."""
    rng = np.random.default_rng(0)
    side = 8
    assert 2 * side**2 > convolutions.BATCHED_PIXELS
    kernel = rng.normal(size=(4, 4, *((5, 3) if swapped else (3, 5)))).astype(np.float32)
    x, y = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 2 * side, 2 * side, 3), (2, side, side, 5)))
    for function, arrays in ((downsample, (x, kernel)), (upsample, (y, kernel)), (kernel_gradient, (x, y))):
        expected = function(*arrays, swapped, "native")
        np.testing.assert_allclose(function(*arrays, swapped, "taps"), expected, atol=2e-4)


@pytest.mark.parametrize(
    ("backend", "pixels", "large", "small", "swapped", "dtype", "expected"),
    [
        ("cpu", 512, 256, 512, True, jnp.float32, "taps"),
        ("cpu", 513, 256, 512, True, jnp.float32, "winograd"),
        ("cpu", 10**6, 256, 512, False, jnp.bfloat16, "native"),
        ("cpu", 10**6, 16, 512, False, jnp.float32, "native"),
        ("cpu", 10**6, 3, 64, False, jnp.float32, "taps"),
        ("cpu", 10**6, 3, 64, True, jnp.float32, "native"),
        ("gpu", 4, 256, 512, True, jnp.float32, "native"),
        ("tpu", 10**6, 256, 512, False, jnp.float32, "native"),
    ],
)
def test_which_formulation_is_taken(monkeypatch, backend, pixels, large, small, swapped, dtype, expected):
    monkeypatch.setattr(convolutions.jax, "default_backend", lambda: backend)
    assert formulation(pixels, large, small, swapped, dtype) == expected


@pytest.mark.parametrize(
    ("backend", "pixels", "large", "small", "swapped", "expected"),
    [
        ("cpu", 10**6, 3, 64, True, "taps"),
        ("cpu", 1023, 32, 128, True, "taps"),
        ("cpu", 1024, 32, 128, True, "winograd"),
        ("cpu", 1024, 16, 128, True, "taps"),
        ("cpu", 8192, 32, 128, True, "winograd"),
        ("cpu", 1000, 128, 512, True, "winograd"),
        ("cpu", 513, 16, 512, False, "taps"),
        ("cpu", 10**6, 16, 512, False, "native"),
        ("gpu", 1024, 32, 128, True, "native"),
    ],
)
def test_which_formulation_is_taken_for_inference(monkeypatch, backend, pixels, large, small, swapped, expected):
    monkeypatch.setattr(convolutions.jax, "default_backend", lambda: backend)
    assert formulation(pixels, large, small, swapped, jnp.float32, prepared=True) == expected


@pytest.mark.parametrize(("backend", "chosen"), [("gpu", "phases"), ("tpu", "native")])
def test_phases_can_be_chosen_for_gpus_and_only_for_the_way_up(monkeypatch, backend, chosen):
    monkeypatch.setattr(convolutions, "GPU_UPSAMPLING", "phases")
    layer = Conv(5, transpose=True)
    x = jnp.zeros((1, 4, 4, 3))
    with convolutions.compiling_for(backend):
        assert formulation(16, 5, 3, True, jnp.float32, up=True) == chosen
        assert formulation(16, 5, 3, True, jnp.float32) == "native"
        program = jax.make_jaxpr(jax.grad(lambda v: layer.apply(v, x).sum()))({"params": {"kernel": jnp.zeros((4, 4, 3, 5))}})
    dilated = "lhs_dilation=(2, 2)" in str(program)
    assert dilated == (chosen == "native")


@pytest.mark.parametrize(
    ("backend", "features", "dtype", "expected"),
    [
        ("cpu", 1, jnp.bfloat16, "taps"),
        ("cpu", 64, jnp.float32, "winograd"),
        ("cpu", 64, jnp.bfloat16, "native"),
        ("cpu", 2, jnp.float32, "native"),
        ("tpu", 1, jnp.float32, "native"),
        ("gpu", 64, jnp.float32, "native"),
    ],
)
def test_which_formulation_is_taken_at_stride_1(monkeypatch, backend, features, dtype, expected):
    monkeypatch.setattr(convolutions.jax, "default_backend", lambda: backend)
    assert dense_formulation(jax.ShapeDtypeStruct((4, 4, 64, features), dtype), dtype) == expected


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


@pytest.mark.parametrize(("way", "shape"), WAYS_AND_SHAPES, ids=str)
@pytest.mark.parametrize("transpose", [False, True])
def test_prepared_kernels_give_what_the_kernel_gives(transpose, way, shape, only):
    only(way)
    reference, scale = (transpose_convolved, 1) if transpose else (convolved, 2)
    x, kernel, _ = drawn(shape, scale, reference)
    layer = Conv(FEATURES, transpose=transpose)
    variables = {"params": {"kernel": kernel}}
    _, prepared = layer.apply(variables, jnp.zeros_like(x), mutable=["prepared"])
    # What is prepared is all that counts: the kernel itself is not looked at again.
    value = layer.apply({"params": {"kernel": jnp.full_like(kernel, jnp.nan)}, **prepared}, x)
    np.testing.assert_allclose(value, reference(x, kernel), atol=1e-3)


def test_nothing_is_prepared_unless_asked_for():
    variables = Conv(FEATURES).init(jax.random.key(0), jnp.zeros((1, 8, 8, CHANNELS)))
    assert set(variables) == {"params"}


@pytest.mark.parametrize("rows", [3, 9])
def test_product_with_either_factor_first(rows):
    rng = np.random.default_rng(0)
    x, matrix = rng.normal(size=(rows, 4)).astype(np.float32), rng.normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_allclose(jax.jit(convolutions._matrix_first)(matrix, x), x @ matrix.T, atol=1e-5)


def test_enlarging_kernel_equals_doubling_pixels_and_convolving():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 5, 7, 3)).astype(np.float32), rng.normal(size=(3, 3, 3, 4)).astype(np.float32)
    doubled = torch.nn.functional.interpolate(torch.tensor(x).permute(0, 3, 1, 2), scale_factor=2, mode="nearest")
    expected = torch.nn.functional.conv2d(doubled, torch.tensor(kernel).permute(3, 2, 0, 1), padding=1)
    ours = convolutions.transpose_convolve(x, convolutions.enlarging_kernel(jnp.asarray(kernel)))
    np.testing.assert_allclose(ours, expected.permute(0, 2, 3, 1).numpy(), atol=1e-5)


def test_layer_that_doubles_pixels_draws_no_checkerboard():
    """Of an even picture, but for its rim, comes an even one, whatever the kernel; a transposed convolution cannot say that."""
    x = jnp.ones((1, 6, 6, 2))
    for nearest in (True, False):
        layer = convolutions.Conv(3, transpose=True, nearest=nearest)
        inner = layer.apply(layer.init(jax.random.key(0), x), x)[0, 2:-2, 2:-2]
        assert (np.ptp(inner, axis=(0, 1)) < 1e-6).all() == nearest
