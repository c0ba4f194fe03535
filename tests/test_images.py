import numpy as np

from maskgan_jax.images import binary_mask, composite, denormalize, normalize

LEVELS = np.arange(256, dtype=np.uint8)


def test_levels_and_the_unit_range():
    unit = np.asarray(normalize(LEVELS))
    assert unit.dtype == np.float32 and (unit[0], unit[255]) == (-1, 1)
    np.testing.assert_allclose(unit, np.linspace(-1, 1, 256), atol=1e-6)
    np.testing.assert_array_equal(denormalize(unit), LEVELS)


def test_levels_are_rounded_and_clipped():
    values = np.array([-3, -1.001, 0.499 / 127.5 - 1, 0.501 / 127.5 - 1, 1.001, 3], np.float32)
    np.testing.assert_array_equal(denormalize(values), [0, 0, 0, 1, 255, 255])


def test_hidden_is_above_127():
    mask = np.asarray(binary_mask(LEVELS.reshape(1, 16, 16, 1)))
    assert mask.dtype == np.float32
    np.testing.assert_array_equal(mask.ravel(), np.arange(256) >= 128)


def test_a_composite_keeps_the_known_pixels():
    rng = np.random.default_rng(0)
    generated, masked = rng.integers(0, 256, (2, 2, 8, 8, 3), np.uint8)
    mask = rng.choice(np.array([0, 127, 128, 255], np.uint8), (2, 8, 8, 1))
    expected = masked.copy()
    expected[mask[..., 0] > 127] = generated[mask[..., 0] > 127]
    np.testing.assert_array_equal(composite(generated, masked, mask), expected)
