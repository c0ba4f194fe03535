import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from maskgan_jax.metrics.image_quality import masked_mse, psnr, psnr_masked, ssim


@pytest.fixture
def pictures():
    """Real pictures, noisy ones, and regions: a rectangle, scattered pixels, everything."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:48, :40]
    real = np.stack([127 + 100 * np.sin(x / (4 + k) + y / 7)[..., None] * [1, 0.8, 0.5] for k in range(3)])
    noisy = np.clip(real + rng.normal(0, [[[[5]]], [[[20]]], [[[60]]]], real.shape), 0, 255)
    regions = np.zeros((3, 48, 40), bool)
    regions[0, 20:40, 10:30] = regions[2] = True
    regions[1] = rng.random((48, 40)) < 0.2
    return noisy.astype(np.uint8), real.astype(np.uint8), regions


def test_masked_mse_by_hand():
    real = np.zeros((1, 2, 2, 3), np.uint8)
    picture = real.copy()
    picture[0, 0, 0] = 3, 4, 0
    picture[0, 0, 1] = 0, 0, 255
    picture[0, 1, 1] = 200, 200, 200
    region = np.array([[[True, True], [False, False]]])
    assert masked_mse(picture, real, region) == [(25 + 255**2) / 2]
    assert masked_mse(real, picture, region) == [(25 + 255**2) / 2]


def test_masked_scores_as_by_definition(pictures):
    noisy, real, regions = pictures
    for k, region in enumerate(regions):
        difference = noisy[k][region].astype(float) - real[k][region]
        np.testing.assert_allclose(masked_mse(noisy, real, regions)[k], np.mean(np.sum(difference**2, axis=1)))
        expected = peak_signal_noise_ratio(real[k][region], noisy[k][region])
        np.testing.assert_allclose(psnr_masked(noisy, real, regions)[k], expected)


def test_psnr_and_ssim_as_scikit_image(pictures):
    noisy, real, _ = pictures
    options = {"channel_axis": -1, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    for k in range(3):
        np.testing.assert_allclose(psnr(noisy, real)[k], peak_signal_noise_ratio(real[k], noisy[k]))
        np.testing.assert_allclose(ssim(noisy, real)[k], structural_similarity(noisy[k], real[k], **options), atol=1e-7)


def test_equal_pictures(pictures):
    _, real, regions = pictures
    assert (masked_mse(real, real, regions) == 0).all()
    assert (psnr(real, real) == 100).all() and (psnr_masked(real, real, regions) == 100).all()
    np.testing.assert_allclose(ssim(real, real), 1)


def test_nothing_hidden(pictures):
    noisy, real, regions = pictures
    regions[1] = False
    assert np.isnan(masked_mse(noisy, real, regions)).tolist() == [False, True, False]
    assert np.isnan(psnr_masked(noisy, real, regions)).tolist() == [False, True, False]
