"""The values are those of the authors' own code: the package stlpips_pytorch 0.0.2 with its weights, on `drawn` pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.models.st_lpips import load_st_lpips, st_lpips


def drawn(height, width):
    """Waves, the same with a finer pattern on top, and the waves mirrored; each `[1, height, width, 3]` in -1..1."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    waves = np.stack([np.sin(x / (5 + c) + y / (9 - c)) for c in range(3)], -1)
    finer = waves + 0.3 * np.stack([np.cos(x * y / (40 + 5 * c)) for c in range(3)], -1)
    pictures = (np.clip(np.round(127.5 + 100 * z), 0, 255) for z in (waves, finer, waves[:, ::-1]))
    return [np.float32(picture / 127.5 - 1)[None] for picture in pictures]


@pytest.mark.parametrize(
    ("network", "size", "finer_value", "mirrored_value"),
    [
        ("alex", (64, 64), 0.58444870, 0.32762268),
        ("alex", (128, 128), 0.19271824, 0.43568769),
        ("alex", (75, 91), 0.42895579, 0.43452117),
        ("vgg", (64, 64), 0.38336265, 0.62793028),
        ("vgg", (128, 128), 0.55797547, 0.80080968),
        ("vgg", (75, 91), 0.48419958, 0.75641853),
    ],
)
def test_values_of_the_authors_code(network, size, finer_value, mirrored_value):
    waves, finer, mirrored = drawn(*size)
    weights = load_st_lpips(network)
    pictures, others = np.concatenate([waves] * 3), np.concatenate([finer, mirrored, waves])
    distance = st_lpips(weights, pictures, others, network)
    np.testing.assert_allclose(distance, [finer_value, mirrored_value, 0], atol=1e-5)
    np.testing.assert_allclose(st_lpips(weights, others, pictures, network), distance, atol=1e-6)


def test_a_shift_by_one_pixel_is_small():
    waves, finer, _ = drawn(96, 97)
    weights = load_st_lpips()
    shifted, different = st_lpips(weights, np.concatenate([waves[:, :, 1:]] * 2), np.concatenate([waves, finer])[:, :, :-1])
    assert shifted < 0.1 * different


def test_missing_weights_name_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKGAN_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="maskgan weights"):
        load_st_lpips()


def test_differentiable():
    waves, finer, _ = drawn(48, 48)
    gradient = jax.grad(lambda x: st_lpips(load_st_lpips(), x, finer).sum())(jnp.asarray(waves))
    assert jnp.isfinite(gradient).all() and jnp.abs(gradient).max() > 0
