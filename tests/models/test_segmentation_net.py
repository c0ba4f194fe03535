import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskgan_jax.models.segmentation_net import SegmentationNet, create_segmentation_net


@pytest.mark.parametrize("side", [64, 128])
def test_a_logit_for_each_pixel(side):
    model = SegmentationNet(width=4)
    logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), jnp.zeros((2, side, side, 3)))
    assert logits.shape == (2, side, side) and logits.dtype == jnp.float32
    downs = [name for name in variables["params"] if name.startswith("down_") and "norm" not in name]
    assert side // 2 ** len(downs) == 4


def test_equals_pytorch(draw_variables):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    model = SegmentationNet(width=4)
    x = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)
    variables = draw_variables(model, x)
    params, stats = (jax.tree.map(lambda a: torch.tensor(np.asarray(a)), variables[name]) for name in ("params", "batch_stats"))

    def norm(y, name):
        mean, variance = stats[name]["mean"], stats[name]["variance"]
        y = functional.batch_norm(y, mean, variance, params[name]["scale"], params[name]["bias"], eps=1e-5)
        return functional.relu(y)

    def kernel(name):
        return params[name]["kernel"].permute(3, 2, 0, 1)

    def up(y, name, bias=None):
        return functional.conv2d(functional.interpolate(y, scale_factor=2), kernel(name), bias, padding=1)

    y = torch.tensor(x).permute(0, 3, 1, 2)
    skips = []
    for i in range(4):
        skips.append(y)
        y = norm(functional.conv2d(y, kernel(f"down_{i}"), stride=2, padding=1), f"down_norm_{i}")
    for i in (3, 2, 1):
        y = torch.cat([skips[i], norm(up(y, f"up_{i}"), f"up_norm_{i}")], dim=1)
    expected = up(y, "up_0", params["up_0"]["bias"])[:, 0].numpy()
    np.testing.assert_allclose(jax.jit(model.apply)(variables, x), expected, atol=1e-4 * np.abs(expected).max())


def test_created_as_the_config_says(config):
    config.segmentation_net.width = 6
    config.training.compute = "bfloat16"
    assert create_segmentation_net(config) == SegmentationNet(6, jnp.dtype("bfloat16"))
