import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.models.normalization import EPSILON, MOMENTUM, Normalization

AXES = {"instance": (1, 2), "batch": (0, 1, 2)}


@pytest.fixture
def x():
    rng = np.random.default_rng(0)
    return (3 * rng.normal(size=(4, 6, 6, 5)) + rng.normal(size=5) + 2).astype(np.float32)


@pytest.fixture
def params():
    rng = np.random.default_rng(1)
    return {name: rng.normal(size=5).astype(np.float32) for name in ("scale", "bias")}


def normalized(x, params, mean, variance):
    return (x - mean) / np.sqrt(variance + EPSILON) * params["scale"] + params["bias"]


@pytest.mark.parametrize("kind", AXES)
def test_equals_the_definition(kind, x, params):
    expected = normalized(x, params, x.mean(AXES[kind], keepdims=True), x.var(AXES[kind], keepdims=True))
    np.testing.assert_allclose(Normalization(kind).apply({"params": params}, x), expected, atol=1e-5)


@pytest.mark.parametrize("kind", AXES)
def test_equals_pytorch(kind, x, params):
    torch = pytest.importorskip("torch")
    layer = {"instance": torch.nn.InstanceNorm2d, "batch": torch.nn.BatchNorm2d}[kind](5, affine=True)
    layer.weight.data, layer.bias.data = torch.tensor(params["scale"]), torch.tensor(params["bias"])
    expected = layer(torch.tensor(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).detach().numpy()
    np.testing.assert_allclose(Normalization(kind).apply({"params": params}, x), expected, atol=1e-5)


def test_running_averages_follow_the_batches_and_serve_where_nothing_is_trained(x, params):
    layer = Normalization("batch", running=True)
    variables = {"params": params, "batch_stats": layer.init(jax.random.key(0), x)["batch_stats"]}
    mean, variance = np.zeros(5), np.ones(5)
    for factor in (1, 2, 0.5):
        _, updated = layer.apply(variables, factor * x, train=True, mutable=["batch_stats"])
        variables |= updated
        mean = MOMENTUM * mean + (1 - MOMENTUM) * (factor * x).mean((0, 1, 2))
        variance = MOMENTUM * variance + (1 - MOMENTUM) * (factor * x).var((0, 1, 2))
    np.testing.assert_allclose(variables["batch_stats"]["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(variables["batch_stats"]["variance"], variance, rtol=1e-5)
    np.testing.assert_allclose(
        layer.apply(variables, x, train=False), normalized(x, params, mean, variance), rtol=1e-4, atol=1e-5
    )
    # Then a picture's result does not depend on the others in its batch.
    np.testing.assert_allclose(
        layer.apply(variables, x[:1], train=False), layer.apply(variables, x, train=False)[:1], rtol=1e-5, atol=1e-6
    )


def test_initialisation_leaves_the_running_averages_alone(x):
    stats = Normalization("batch", running=True).init(jax.random.key(0), x)["batch_stats"]
    assert not stats["mean"].any() and (stats["variance"] == 1).all()


@pytest.mark.parametrize(("kind", "running"), [("instance", True), ("batch", False), ("none", True)])
def test_only_batch_norm_keeps_averages_and_only_when_asked(kind, running, x):
    assert "batch_stats" not in Normalization(kind, running).init(jax.random.key(0), x)


def test_none_changes_nothing(x):
    value, variables = Normalization("none").init_with_output(jax.random.key(0), x)
    np.testing.assert_array_equal(value, x)
    assert not variables


def test_scale_starts_near_one_as_in_pix2pix():
    params = Normalization("instance").init(jax.random.key(0), jnp.zeros((1, 2, 2, 4096)))["params"]
    assert np.mean(params["scale"]) == pytest.approx(1, abs=0.002) and np.std(params["scale"]) == pytest.approx(0.02, rel=0.05)
    assert not params["bias"].any()


def test_statistics_are_float32_for_bfloat16_input(x, params):
    value = Normalization("instance").apply({"params": params}, jnp.asarray(x, jnp.bfloat16))
    assert value.dtype == jnp.bfloat16
    exact = normalized(x, params, x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True))
    np.testing.assert_allclose(value.astype(np.float32), exact, atol=0.1)


def test_unknown_kind(x):
    with pytest.raises(UserError, match="no norm 'layer'; choose"):
        Normalization("layer").init(jax.random.key(0), x)
