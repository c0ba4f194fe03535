import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from maskgan_jax.config import load_config
from maskgan_jax.errors import UserError
from maskgan_jax.models.yi import DILATIONS, EXCITED, SCALES, SegmentationNet, Yi, opened, yi_discriminators


def faces(side=64, batch=2):
    return np.random.default_rng(0).uniform(-1, 1, (batch, side, side, 3)).astype(np.float32)


def test_eleven_blocks_of_32_to_1024_channels():
    variables = jax.eval_shape(Yi().init, jax.random.key(0), jnp.zeros((1, 256, 256, 3)))["params"]
    blocks = {name: variables[name]["kernel"].shape for name in variables if f"{name}_norm" in variables}
    assert len(blocks) == 11
    assert [blocks[f"down_{i}"][-1] for i in range(5)] == [32, 64, 128, 256, 512] and blocks["bottleneck"][-1] == 1024
    # The image and the map; and on the way up, what comes from below and from beside.
    assert blocks["down_0"][2] == 4 and [blocks[f"up_{i}"][2] for i in range(5)] == [96, 192, 384, 768, 1536]
    assert variables["excitation_0"]["squeeze"]["kernel"].shape == (32, 2)


def test_weights_of_the_authors_loss():
    """100 (L1 + SSIM + perceptual) + adversarial; in the latter, the whole image counts 0.3 and the hidden part 0.7."""
    config = load_config("yi")
    weights = {name: weight for name, weight in config.losses.items() if weight}
    assert weights == {"adversarial": 1, "l1": 100, "ssim": 100, "perceptual_vgg": 100}
    discriminators = yi_discriminators(config, Yi())
    assert [(each.weight, each.joins) for each in discriminators.values()] == [(0.3, 0), (0.7, 0.4)]


def test_opening():
    rng = np.random.default_rng(1)
    masks = ndimage.gaussian_filter(rng.normal(size=(3, 48, 48)), (0, 2, 2)) > 0.05
    ours = np.asarray(opened(jnp.asarray(masks[..., None], jnp.float32)))[..., 0]
    # Beyond its border SciPy erodes as if nothing were found.
    inner = (slice(2, -2),) * 2
    for mask, result in zip(masks, ours, strict=True):
        expected = ndimage.binary_opening(mask, np.ones((3, 3)))
        np.testing.assert_array_equal(result[inner], expected[inner])
        assert 0 < expected.sum() < mask.sum()


def reference(variables, x, found):
    """The editing module in PyTorch; `x` and the result are NumPy, NHWC, `found` is the map `[B, S, S, 1]`."""
    import torch
    from torch.nn import functional

    params = jax.tree.map(lambda array: torch.tensor(np.asarray(array)), variables["params"])

    def conv(x, name, dilation=1):
        kernel = params[name]["kernel"].permute(3, 2, 0, 1)
        padding = dilation * (kernel.shape[-1] // 2)
        return functional.conv2d(x, kernel, params[name].get("bias"), padding=padding, dilation=dilation)

    def block(x, name):
        norm = params[f"{name}_norm"]
        return functional.leaky_relu(functional.instance_norm(conv(x, name), weight=norm["scale"], bias=norm["bias"]), 0.2)

    def excite(x, name):
        y = x.mean((2, 3))
        for layer, activation in (("squeeze", torch.relu), ("excite", torch.sigmoid)):
            y = activation(y @ params[name][layer]["kernel"] + params[name][layer]["bias"])
        return x * y[:, :, None, None]

    x = torch.tensor(np.concatenate([x, found], axis=-1)).permute(0, 3, 1, 2)
    skips = []
    for i in range(SCALES):
        x = block(x, f"down_{i}")
        skips.append(excite(x, f"excitation_{i}") if i < EXCITED else x)
        x = functional.max_pool2d(skips[-1], 2)
    x = block(x, "bottleneck")
    for i, dilation in enumerate(DILATIONS):
        x = functional.leaky_relu(conv(x, f"dilated_{i}", dilation), 0.2)
    for i in reversed(range(SCALES)):
        x = block(torch.cat([functional.interpolate(x, scale_factor=2), skips[i]], 1), f"up_{i}")
    return torch.tanh(conv(x, "output")).permute(0, 2, 3, 1).numpy()


def test_equals_pytorch(draw_variables):
    pytest.importorskip("torch")
    model, x = Yi(width=4), faces()
    variables = draw_variables(model, x, spread=0.2)
    inner = {kind: trees["map_net"] for kind, trees in variables.items()}
    map_net = jax.jit(SegmentationNet(16).apply)
    inner["params"]["up_0"]["bias"] -= float(np.quantile(map_net(inner, x), 0.3))  # Something is found, and something is not.
    logits = map_net(inner, x)
    found = np.asarray(opened((logits > 0).astype(np.float32)[..., None]))
    assert 0.02 < found.mean() < 0.98
    ours = np.asarray(jax.jit(model.apply)(variables, x))
    assert ours.std() > 0.05
    np.testing.assert_allclose(ours, reference(variables, x, found), atol=1e-4)


def test_the_map_module_gets_no_gradient(draw_variables):
    model, x = Yi(width=2), faces(batch=1)
    variables = draw_variables(model, x)
    gradient = jax.jit(jax.grad(lambda p: jnp.square(model.apply({**variables, "params": p}, x)).sum()))(variables["params"])
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient.pop("map_net")))
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient) if leaf.ndim == 4)


@pytest.mark.parametrize("shape", [(96, 96, 3), (32, 32, 3), (64, 128, 3), (64, 64, 4)], ids=str)
def test_impossible_shapes(shape):
    with pytest.raises(UserError, match="square RGB images of 64, 128, 256"):
        jax.eval_shape(Yi(width=2).init, jax.random.key(0), jnp.zeros((1, *shape)))
