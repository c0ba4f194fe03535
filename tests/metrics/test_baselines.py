import numpy as np
import pytest

from maskgan_jax.metrics.baselines import navier_stokes, telea


@pytest.mark.parametrize("inpaint", [telea, navier_stokes])
def test_a_slope_is_filled_and_the_rest_left(inpaint):
    y, x = np.mgrid[:64, :64]
    real = np.stack([2 * x + 60, 3 * y + 20, x + y + 30], axis=-1).astype(np.uint8)
    mask = np.zeros((64, 64, 1), np.uint8)
    mask[24:40, 20:44] = 255
    masked = np.where(mask > 0, np.uint8([255, 0, 255]), real)
    filled = inpaint(masked, mask)
    assert filled.dtype == np.uint8 and filled.shape == real.shape
    hidden = mask[..., 0] > 0
    np.testing.assert_array_equal(filled[~hidden], real[~hidden])
    error = np.abs(filled[hidden].astype(int) - real[hidden])
    assert error.mean() < 0.1 * np.abs(masked[hidden].astype(int) - real[hidden]).mean()
