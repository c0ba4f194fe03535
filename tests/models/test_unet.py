import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.models import unet
from maskgan_jax.models.generators import create_generator
from maskgan_jax.models.unet import UNet


def pictures(side=64, batch=2, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (batch, side, side, 3)).astype(np.float32)


def abstract_output(model, shape, **kwargs):
    """Shapes and types of the output and the variables, without computing anything."""
    return jax.eval_shape(lambda key, x: model.init_with_output(key, x, **kwargs), jax.random.key(0), jnp.zeros(shape))


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_as_many_parameters_as_pix2pix(norm):
    picture, variables = abstract_output(UNet(norm=norm), (1, 256, 256, 3))
    assert picture.shape == (1, 256, 256, 3)
    assert sum(array.size for array in jax.tree.leaves(variables["params"])) == 54_413_955


@pytest.mark.parametrize("side", [64, 128, 512])
def test_sizes(side):
    picture, variables = abstract_output(UNet(width=4), (2, side, side, 3))
    assert picture.shape == (2, side, side, 3)
    downs = [name for name in variables["params"] if name.startswith("down_") and "norm" not in name]
    assert 2 ** len(downs) == side


@pytest.mark.parametrize("shape", [(96, 96, 3), (32, 32, 3), (64, 128, 3), (64, 64, 1)], ids=str)
def test_impossible_shapes(shape):
    with pytest.raises(UserError, match="square RGB images of 64, 128, 256"):
        abstract_output(UNet(width=4), (1, *shape))


def reference_unet(variables, x, norm):
    """pix2pix's U-Net in PyTorch, from the inside out as its authors write it; `x` and the result are NumPy, NHWC."""
    import torch
    from torch.nn import functional

    params = jax.tree.map(lambda array: torch.tensor(np.asarray(array)), variables["params"])
    depth = x.shape[1].bit_length() - 1

    def normalize(x, name):
        scale, bias = params[name]["scale"], params[name]["bias"]
        if norm == "instance":
            return functional.instance_norm(x, weight=scale, bias=bias)
        return functional.batch_norm(x, None, None, scale, bias, training=True)

    def block(x, level):
        outermost, innermost = level == 0, level == depth - 1
        y = x if outermost else functional.leaky_relu(x, 0.2)
        y = functional.conv2d(y, params[f"down_{level}"]["kernel"].permute(3, 2, 0, 1), stride=2, padding=1)
        if not outermost and not innermost:
            y = normalize(y, f"down_norm_{level}")
        if not innermost:
            y = block(y, level + 1)
        up = params[f"up_{level}"]
        weight = up["kernel"].permute(2, 3, 0, 1)
        y = functional.conv_transpose2d(functional.relu(y), weight, up.get("bias"), stride=2, padding=1)
        if outermost:
            return torch.tanh(y)
        return torch.cat([x, normalize(y, f"up_norm_{level}")], dim=1)

    return block(torch.tensor(x).permute(0, 3, 1, 2), 0).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_equals_pytorch(norm, draw_variables):
    pytest.importorskip("torch")
    model = UNet(width=4, norm=norm, dropout=0.0)
    x = pictures()
    variables = draw_variables(model, x)
    ours, _ = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"]))(variables, x)
    assert np.std(ours) > 0.1
    np.testing.assert_allclose(ours, reference_unet(variables, x, norm), atol=1e-4)


def test_dropout_acts_at_the_given_sides_and_in_training_alone(monkeypatch):
    sides = []
    monkeypatch.setattr(unet, "drop_out", lambda x, rate, key: sides.append(x.shape[1]) or x)
    model = UNet(width=4, dropout_sides=(4, 16))
    variables = jax.eval_shape(model.init, jax.random.key(0), pictures(batch=1))
    for train, expected in ((True, [4, 16]), (False, [])):
        sides.clear()
        jax.eval_shape(
            lambda v, train=train: model.apply(v, pictures(batch=1), train=train, rngs={"dropout": jax.random.key(0)}),
            variables,
        )
        assert sides == expected


@pytest.mark.parametrize("rate", [0.5, 0.25, 0.1])
def test_dropout_drops_the_share_and_keeps_the_mean(rate):
    x = np.ones((64, 8, 8, 30), np.float32)
    y = np.asarray(unet.drop_out(jnp.asarray(x), rate, jax.random.key(0)))
    # Four standard deviations of so many draws, and the 512th that a rate is rounded by.
    assert np.mean(y == 0) == pytest.approx(rate, abs=4 * np.sqrt(rate * (1 - rate) / y.size) + 1 / 512)
    assert y.mean() == pytest.approx(1, abs=0.01)
    kept = y[y != 0]
    np.testing.assert_array_equal(kept, kept[0])
    # No two of the channels that share a draw, or of the others, go together.
    correlation = np.corrcoef((y == 0).reshape(-1, 30).T)
    assert np.abs(correlation - np.eye(30)).max() < 5 / np.sqrt(64 * 64)


def test_dropout_is_the_only_noise(draw_variables):
    model = UNet(width=4)
    x = pictures(batch=1)
    variables = draw_variables(model, x)
    run = jax.jit(lambda key: model.apply(variables, x, train=True, rngs={"dropout": key}))
    first, again, other = (run(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-5


def test_bfloat16_is_the_type_of_the_arithmetic_alone():
    model = UNet(width=4, norm="batch", dtype=jnp.bfloat16)
    picture, variables = abstract_output(model, (1, 64, 64, 3))
    assert {array.dtype for array in jax.tree.leaves((picture, variables))} == {jnp.dtype("float32")}
    program = jax.make_jaxpr(model.apply)(variables, jnp.zeros((1, 64, 64, 3)))
    for equation in program.eqns:
        if equation.primitive.name in ("conv_general_dilated", "dot_general"):
            assert {variable.aval.dtype for variable in equation.invars} == {jnp.dtype("bfloat16")}


def test_from_a_config(config):
    config.generator.dropout_sides = (2, 4, 8)
    config.training.compute = "bfloat16"
    assert create_generator(config) == UNet(4, "instance", 0.5, (2, 4, 8), dtype=jnp.dtype("bfloat16"))


@pytest.fixture(scope="module")
def inpainting(draw_variables):
    """A network that is told the region, its variables, pictures and regions."""
    model = UNet(width=4, upsampling="nearest", inpaints=True)
    x = pictures()
    mask = (np.random.default_rng(1).random((2, 64, 64, 1)) < 0.4).astype(np.float32)
    return model, draw_variables(model, x, mask), x, mask


def test_inpainting_changes_the_region_alone(inpainting):
    model, variables, x, mask = inpainting
    assert variables["params"]["down_0"]["kernel"].shape == (4, 4, 4, 4)
    assert variables["params"]["up_3"]["kernel"].shape[:2] == (3, 3)
    result = np.asarray(jax.jit(model.apply)(variables, x, mask))
    known = np.broadcast_to(mask == 0, x.shape)
    np.testing.assert_array_equal(result[known], x[known])
    assert np.abs(result - x)[~known].mean() > 0.1


def test_inpainting_does_not_see_what_is_hidden(inpainting):
    model, variables, x, mask = inpainting
    apply = jax.jit(model.apply)
    other = np.where(mask > 0, pictures(seed=9), x)
    hidden = np.broadcast_to(mask > 0, x.shape)
    np.testing.assert_array_equal(apply(variables, x, mask)[hidden], apply(variables, other, mask)[hidden])
    seen = np.where(mask > 0, x, pictures(seed=9))
    assert np.abs(apply(variables, x, mask)[hidden] - apply(variables, seen, mask)[hidden]).mean() > 1e-3


def test_a_network_that_does_not_inpaint_does_not_ask_for_the_region(draw_variables):
    model = UNet(width=4)
    x = pictures()
    variables = draw_variables(model, x)
    apply = jax.jit(model.apply)
    np.testing.assert_array_equal(apply(variables, x), apply(variables, x, np.ones((2, 64, 64, 1), np.float32)))
