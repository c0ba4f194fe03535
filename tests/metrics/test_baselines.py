import numpy as np

from maskgan_jax.metrics.baselines import telea


def test_telea_fills_a_slope_and_leaves_the_rest():
    y, x = np.mgrid[:64, :64]
    real = np.stack([2 * x + 60, 3 * y + 20, x + y + 30], axis=-1).astype(np.uint8)
    mask = np.zeros((64, 64, 1), np.uint8)
    mask[24:40, 20:44] = 255
    masked = np.where(mask > 0, np.uint8([255, 0, 255]), real)
    filled = telea(masked, mask)
    assert filled.dtype == np.uint8 and filled.shape == real.shape
    hidden = mask[..., 0] > 0
    np.testing.assert_array_equal(filled[~hidden], real[~hidden])
    error = np.abs(filled[hidden].astype(int) - real[hidden])
    assert error.mean() < 0.1 * np.abs(masked[hidden].astype(int) - real[hidden]).mean()
