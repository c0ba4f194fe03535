import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.models import same_convolutions
from maskgan_jax.models.convolutions import compiling_for
from maskgan_jax.models.generators import create_generator
from maskgan_jax.models.residual_unet import ResidualBlock, ResidualUNet, SelfAttention


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    picture = rng.uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)
    mask = np.zeros((2, 64, 64, 1), np.float32)
    mask[0, 30:, 16:50], mask[1, 40:60, 5:60] = 1, 1
    return picture, mask


@pytest.fixture(scope="module")
def network(inputs, draw_variables):
    model = ResidualUNet(width=4, blocks=2)
    # With less, nothing that is seen gets through to the output.
    return model, draw_variables(model, *inputs, spread=0.4)


def test_size_at_256_px():
    picture = jnp.zeros((1, 256, 256, 3))
    output, variables = jax.eval_shape(ResidualUNet().init_with_output, jax.random.key(0), picture, picture[..., :1])
    assert output.shape == (1, 256, 256, 3) and output.dtype == jnp.float32
    assert sum(array.size for array in jax.tree.leaves(variables["params"])) == 14_863_395


def test_draws_inside_the_mask_alone_and_is_not_told_what_is_there(network, inputs):
    model, variables = network
    picture, mask = inputs
    run = jax.jit(model.apply)
    drawn = run(variables, picture, mask)
    np.testing.assert_array_equal(np.where(mask > 0, 0, drawn), np.where(mask > 0, 0, picture))
    assert np.abs(drawn).max() <= 1 and np.std(np.asarray(drawn)[mask[..., 0] > 0]) > 1e-3
    np.testing.assert_array_equal(run(variables, np.where(mask > 0, 0.7, picture), mask), drawn)
    assert np.any(run(variables, np.where(mask > 0, picture, -picture), mask)[mask[..., 0] > 0] != drawn[mask[..., 0] > 0])


def test_what_is_prepared_for_inference_draws_the_same(monkeypatch, network, inputs):
    """On CPUs by Winograd's algorithm; as on a GPU by XLA's convolutions, from the kernels themselves."""
    monkeypatch.setattr(same_convolutions, "WINOGRAD_CHANNELS", 4)
    model, variables = network
    _, prepared = jax.jit(lambda v: model.apply(v, *inputs, mutable=["prepared"]))(variables)
    assert "kernel" in prepared["prepared"]["middle_block_1"]["conv_0"]
    drawn = jax.jit(model.apply)({**variables, **prepared}, *inputs)
    with compiling_for("gpu"):
        expected = jax.jit(lambda v: model.apply(v, *inputs))(variables)
    np.testing.assert_allclose(drawn, expected, atol=1e-4)
    assert np.std(expected - inputs[0]) > 1e-2


def test_training_moves_the_running_statistics(network, inputs):
    model, variables = network
    _, updated = jax.jit(lambda v: model.apply(v, *inputs, train=True, mutable=["batch_stats"]))(variables)
    assert all(
        np.any(old != new)
        for old, new in zip(*map(jax.tree.leaves, (variables["batch_stats"], updated["batch_stats"])), strict=True)
    )


def test_every_parameter_has_a_gradient(network, inputs):
    model, variables = network

    def loss(params):
        output, _ = model.apply({**variables, "params": params}, *inputs, train=True, mutable=["batch_stats"])
        return jnp.square(output - 0.3).mean()

    for path, gradient in jax.tree.leaves_with_path(jax.jit(jax.grad(loss))(variables["params"])):
        assert np.any(gradient != 0), jax.tree_util.keystr(path)


@pytest.mark.parametrize("shape", [(96, 96, 3), (32, 32, 3), (64, 128, 3)], ids=str)
def test_impossible_shapes(shape):
    picture = jnp.zeros((1, *shape))
    with pytest.raises(UserError, match="square RGB images of 64, 128, 256"):
        jax.eval_shape(ResidualUNet(width=4).init, jax.random.key(0), picture, picture[..., :1])


def test_attention_by_its_formula(draw_variables):
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 8)).astype(np.float32)
    module = SelfAttention("none")
    variables = draw_variables(module, x)
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), variables["params"])
    y = (x + params["position"]).reshape(2, 15, 8)
    query, key, value = np.split(y @ params["qkv"]["kernel"] + params["qkv"]["bias"], 3, axis=-1)
    out = np.zeros_like(y)
    for head in range(4):
        part = np.s_[..., 2 * head : 2 * head + 2]
        scores = np.exp(query[part] @ key[part].swapaxes(1, 2) / np.sqrt(2))
        out[part] = scores / scores.sum(-1, keepdims=True) @ value[part]
    expected = x + (out @ params["output"]["kernel"] + params["output"]["bias"]).reshape(x.shape)
    np.testing.assert_allclose(module.apply(variables, x), expected, atol=1e-5)


@pytest.mark.parametrize("dilation", [1, 2])
def test_residual_block_is_pytorchs(dilation, draw_variables):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(2, 9, 9, 4)).astype(np.float32)
    module = ResidualBlock("batch", dilation)
    variables = draw_variables(module, x)
    params = jax.tree.map(lambda a: torch.tensor(np.asarray(a)), variables["params"])
    y = torch.tensor(x).permute(0, 3, 1, 2)
    for i in range(2):
        norm, conv = params[f"norm_{i}"], params[f"conv_{i}"]
        y = torch.relu(torch.nn.functional.batch_norm(y, torch.zeros(4), torch.ones(4), norm["scale"], norm["bias"]))
        kernel = conv["kernel"].permute(3, 2, 0, 1)
        reach = dilation if i == 0 else 1
        y = torch.nn.functional.conv2d(y, kernel, conv.get("bias"), padding=reach, dilation=reach)
    expected = x + y.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(module.apply(variables, x), expected, atol=1e-4)


def test_it_inpaints_or_is_refused(config):
    config.generator.architecture = "residual"
    with pytest.raises(UserError, match="set generator.inpaints=True"):
        create_generator(config)
    config.generator.inpaints = True
    assert create_generator(config) == ResidualUNet(4, 4, "instance")
