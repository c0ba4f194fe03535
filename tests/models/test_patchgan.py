import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskgan_jax.models.patchgan import PatchGAN, create_discriminator


def abstract_output(model, side):
    picture = jnp.zeros((2, side, side, 3))
    return jax.eval_shape(model.init_with_output, jax.random.key(0), picture, picture)


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_as_many_parameters_and_logits_as_pix2pix(norm):
    (logits, layers), variables = abstract_output(PatchGAN(norm=norm), 256)
    assert logits.shape == (2, 30, 30)
    assert [layer.shape for layer in layers] == [(2, 128, 128, 64), (2, 64, 64, 128), (2, 32, 32, 256), (2, 31, 31, 512)]
    assert sum(array.size for array in jax.tree.leaves(variables)) == 2_768_705
    assert list(variables) == ["params"]


def test_a_patch_is_70_pixels(draw_variables):
    model = PatchGAN(width=1, norm="none")
    picture = jnp.zeros((1, 128, 128, 3))
    # Positive weights, so that nothing cancels.
    variables = jax.tree.map(lambda array: np.abs(array) + 0.1, draw_variables(model, picture, picture))
    gradient = jax.jit(jax.grad(lambda x: model.apply(variables, picture, x)[0][0, 7, 7]))(picture)
    rows, columns = np.nonzero(np.asarray(gradient)[0].sum(-1))
    assert np.ptp(rows) + 1 == np.ptp(columns) + 1 == 70


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_equals_pytorch(norm, draw_variables):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    model = PatchGAN(width=4, norm=norm)
    masked, picture = np.random.default_rng(0).uniform(-1, 1, (2, 2, 64, 64, 3)).astype(np.float32)
    variables = draw_variables(model, masked, picture)
    ours, layers = jax.jit(model.apply)(variables, masked, picture)

    params = jax.tree.map(lambda array: torch.tensor(np.asarray(array)), variables["params"])
    x = torch.tensor(np.concatenate([masked, picture], axis=-1)).permute(0, 3, 1, 2)
    for i, stride in enumerate((2, 2, 2, 1)):
        layer = params[f"conv_{i}"]
        x = functional.conv2d(x, layer["kernel"].permute(3, 2, 0, 1), layer.get("bias"), stride=stride, padding=1)
        if i > 0:
            scale, bias = params[f"norm_{i}"]["scale"], params[f"norm_{i}"]["bias"]
            if norm == "instance":
                x = functional.instance_norm(x, weight=scale, bias=bias)
            else:
                x = functional.batch_norm(x, None, None, scale, bias, training=True)
        x = functional.leaky_relu(x, 0.2)
        np.testing.assert_allclose(layers[i], x.permute(0, 2, 3, 1).numpy(), atol=1e-4)
    x = functional.conv2d(x, params["logits"]["kernel"].permute(3, 2, 0, 1), params["logits"]["bias"], padding=1)
    np.testing.assert_allclose(ours, x[:, 0].numpy(), atol=1e-4)


def test_bfloat16_keeps_float32_parameters_and_logits():
    model = PatchGAN(width=4, dtype=jnp.bfloat16)
    (logits, layers), variables = abstract_output(model, 64)
    assert {array.dtype for array in (logits, *jax.tree.leaves(variables))} == {jnp.dtype("float32")}
    assert {layer.dtype for layer in layers} == {jnp.dtype("bfloat16")}


def test_from_a_config(config):
    config.discriminator.layers = 2
    config.discriminator.norm = "batch"
    assert create_discriminator(config) == PatchGAN(4, 2, "batch", jnp.dtype("float32"))
