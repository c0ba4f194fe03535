import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskgan_jax.training.segmentation import Segmentation, add_prints, segmentation_loss, soften, vary_colour


def test_loss_is_cross_entropy_and_dice():
    rng = np.random.default_rng(0)
    logits, region = rng.normal(0, 3, (2, 8, 8)), (rng.random((2, 8, 8)) < 0.3).astype(float)
    p = 1 / (1 + np.exp(-logits))
    entropy = -(region * np.log(p) + (1 - region) * np.log(1 - p)).mean()
    dice = [(2 * (a * b).sum() + 1) / (a.sum() + b.sum() + 1) for a, b in zip(p, region, strict=True)]
    assert float(segmentation_loss(logits, region)) == pytest.approx(entropy + 1 - np.mean(dice), rel=1e-5)


def test_loss_of_perfect_results_is_0():
    region = np.zeros((2, 8, 8), np.float32)
    region[0, 2:5] = 1
    assert float(segmentation_loss(jnp.where(region > 0, 50.0, -50.0), region)) == pytest.approx(0, abs=1e-5)


def test_prints_stay_on_the_masks_and_on_some_of_them():
    rng = np.random.default_rng(0)
    masked, others = rng.uniform(-1, 1, (2, 64, 8, 8, 3)).astype(np.float32)
    region = np.zeros((64, 8, 8, 1), np.float32)
    region[:, 4:] = 1
    result = np.asarray(add_prints(masked, region, others, jax.random.key(0)))
    np.testing.assert_array_equal(result[:, :4], masked[:, :4])
    assert np.abs(result).max() <= 1
    changed = np.abs(result - masked).max(axis=(1, 2, 3)) > 0
    assert 0.3 < changed.mean() < 0.7
    # Some prints are shapes: they leave the plain mask around them.
    parts = (np.abs(result - masked)[changed, 4:] > 0).any(axis=-1).mean(axis=(1, 2))
    assert 0.2 < (parts < 0.95).mean() < 0.8


def test_other_light_changes_all_pixels_of_a_picture_alike():
    pictures = np.full((200, 4, 4, 3), -0.2, np.float32)
    result = np.asarray(vary_colour(pictures, jax.random.key(0)))
    assert np.ptp(result, axis=(1, 2)).max() < 1e-6
    assert np.abs(result).max() <= 1
    gains = (result[:, 0, 0] + 1) / 0.8
    assert np.percentile(gains, 1) < 0.7 and np.percentile(gains, 90) > 1.3
    # Most tints are mild, some are strong.
    tints = np.ptp(gains, axis=1) / gains.mean(axis=1)
    assert 0.05 < np.median(tints) < 0.3 and tints.max() > 0.5


def test_haze_takes_contrast_away():
    pictures = np.full((200, 4, 4, 3), -1.0, np.float32)
    result = np.asarray(vary_colour(pictures, jax.random.key(0)))  # Black stays black under any light, but not in haze.
    hazy = result.max(axis=(1, 2, 3)) > -1
    assert 0.07 < hazy.mean() < 0.25
    assert result.max() < 2 * 0.7 - 1 + 1e-6


def test_some_pictures_are_softened():
    rng = np.random.default_rng(0)
    pictures = rng.uniform(-1, 1, (100, 16, 16, 3)).astype(np.float32)
    result = np.asarray(soften(pictures, jax.random.key(0)))
    changed = np.abs(result - pictures).max(axis=(1, 2, 3)) > 0
    assert 0.15 < changed.mean() < 0.45
    assert result[changed].std() < 0.7 * pictures.std()
    assert np.abs(result).max() <= 1
    # What is smooth stays as it is.
    plain = np.broadcast_to(rng.uniform(-1, 1, (50, 1, 1, 3)).astype(np.float32), (50, 16, 16, 3))
    np.testing.assert_allclose(soften(plain, jax.random.key(0)), plain, atol=1e-6)


@pytest.fixture(scope="module")
def task(make_config):
    config = make_config()
    config.task = "segmentation"
    config.segmentation_net.width = 4
    return Segmentation(config)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    real, masked = rng.integers(0, 256, (2, 4, 64, 64, 3), np.uint8)
    mask = np.zeros((4, 64, 64, 1), np.uint8)
    mask[:, 30:60, 10:50] = 255
    return {"real": real, "masked": masked, "mask": mask, "weight": np.ones(4, np.float32), "number": np.arange(4)}


def test_gradients_reach_all_parameters(task, batch):
    params, batch_stats = jax.jit(task.init)(jax.random.key(0))
    gradients, stats, terms = jax.jit(task.gradients)(params, batch_stats, {}, batch, jax.random.key(1))
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(gradients))
    assert any(np.any(a != b) for a, b in zip(jax.tree.leaves(stats), jax.tree.leaves(batch_stats), strict=True))
    assert terms.keys() == {"segmentation"} and float(terms["segmentation"]) > 0


def test_validation_of_what_is_found_everywhere(task, batch):
    """A network whose last bias drowns all else finds a mask everywhere."""
    params, batch_stats = jax.jit(task.init)(jax.random.key(0))
    net = params["segmentation_net"]
    net = {**net, "up_0": {**net["up_0"], "bias": jnp.full(1, 1e6)}}
    scores = jax.jit(task.validate)({"params": net, "batch_stats": batch_stats}, batch).compute()
    share = 30 * 40 / 64**2
    assert {name: float(value) for name, value in scores.items()} == pytest.approx(
        {"iou": share, "false_alarm": 1.0, "error": 2 - share}
    )
    drawn = task.draw({"params": net, "batch_stats": batch_stats}, batch)
    assert drawn.shape == (4 * 64, 4 * 64, 3)
    np.testing.assert_array_equal(drawn[:64, :64], batch["masked"][0])
