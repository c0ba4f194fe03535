"""How close pictures are to the real ones: squared error, PSNR and SSIM, on the 0..255 pictures as they are saved.

Pictures are uint8 `[N, H, W, 3]` and regions boolean `[N, H, W]`, True = hidden; there is one value for each picture.
"""

from __future__ import annotations

import cv2
import numpy as np

# Equal pictures have infinite PSNR, which JSON cannot hold and no mean survives. One 256 px picture that differs in one
# colour by one level has 101 dB.
PSNR_CAP = 100.0


def masked_mse(pictures: np.ndarray, real: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Squared error summed over R, G and B, averaged over the hidden pixels (paper, Eq. 5 and Table 2).

    Args:
      pictures: `[N, H, W, 3]` uint8.
      real: the same.
      regions: `[N, H, W]` bool, True = hidden.

    Returns:
      `[N]` float64 in 0..195075; NaN where nothing is hidden.
    """
    counts = np.count_nonzero(regions, axis=(1, 2))
    sums = np.where(regions, _squared_error(pictures, real).sum(axis=-1), 0).sum(axis=(1, 2))
    return np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)


def psnr(pictures: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio over the whole picture, `[N]` float64 in dB, at most 100 (equal pictures)."""
    return _decibels(_squared_error(pictures, real).mean(axis=(1, 2, 3)))


def psnr_masked(pictures: np.ndarray, real: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio over the hidden pixels, `[N]` float64 in dB, at most 100; NaN where nothing is hidden."""
    return _decibels(masked_mse(pictures, real, regions) / 3)


def ssim(pictures: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Structural similarity over the whole picture, with the Gaussian window of Wang et al. (2004), mean over R, G and B.

    As scikit-image's `structural_similarity(..., channel_axis=-1, gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=255)`: 11 x 11 window, K1 = 0.01, K2 = 0.03, five pixels at each edge left out.

    Args:
      pictures: `[N, H, W, 3]` uint8, at least 11 px a side.
      real: the same.

    Returns:
      `[N]` float64, at most 1.
    """
    return np.array([_ssim(x, y) for x, y in zip(pictures.astype(np.float64), real.astype(np.float64), strict=True)])


def _ssim(x: np.ndarray, y: np.ndarray) -> float:
    window = cv2.getGaussianKernel(11, 1.5)

    def mean(z: np.ndarray) -> np.ndarray:
        return cv2.sepFilter2D(z, -1, window, window)[5:-5, 5:-5]

    mean_x, mean_y = mean(x), mean(y)
    variance_x = mean(x * x) - mean_x**2
    variance_y = mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return np.mean(luminance * (2 * covariance + c2) / (variance_x + variance_y + c2))


def _squared_error(pictures: np.ndarray, real: np.ndarray) -> np.ndarray:
    return np.square(pictures.astype(np.int32) - real)


def _decibels(squared_error: np.ndarray) -> np.ndarray:
    """PSNR in dB for mean squared errors per channel on the 0..255 scale."""
    return np.minimum(10 * np.log10(255**2 / np.maximum(squared_error, 1e-9)), PSNR_CAP)
