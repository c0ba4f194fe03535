"""How close images are to the real ones: squared error, PSNR and SSIM, on the 0..255 images as they are saved.

Images are uint8 `[N, H, W, 3]` and masks boolean `[N, H, W]`, True = hidden; there is one value for each image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

# Equal images have infinite PSNR, which JSON cannot hold and no mean survives. One 256 px image that differs in one
# colour by one level has 101 dB.
PSNR_CAP = 100.0


def masked_mse(images: np.ndarray, real: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Squared error summed over R, G and B, averaged over the hidden pixels (paper, Eq. 5 and Table 2).

    Args:
      images: `[N, H, W, 3]` uint8.
      real: the same.
      masks: `[N, H, W]` bool, True = hidden.

    Returns:
      `[N]` float64 in 0..195075; NaN where nothing is hidden.
    """
    counts = np.count_nonzero(masks, axis=(1, 2))
    sums = np.where(masks, _squared_error(images, real).sum(axis=-1), 0).sum(axis=(1, 2))
    return np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)


def psnr(images: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio over the whole image, `[N]` float64 in dB, at most 100 (equal images)."""
    return decibels(_squared_error(images, real).mean(axis=(1, 2, 3)))


def psnr_masked(images: np.ndarray, real: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio over the hidden pixels, `[N]` float64 in dB, at most 100; NaN where nothing is hidden."""
    return decibels(masked_mse(images, real, masks) / 3)


def ssim(images: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Structural similarity over the whole image, with the Gaussian window of Wang et al. (2004), mean over R, G and B.

    As scikit-image's `structural_similarity(..., channel_axis=-1, gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=255)`: 11 x 11 window, K1 = 0.01, K2 = 0.03, five pixels at each edge left out.

    Args:
      images: `[N, H, W, 3]` uint8, at least 11 px a side.
      real: the same.

    Returns:
      `[N]` float64, at most 1.
    """
    return np.array([_ssim(x, y) for x, y in zip(images.astype(np.float64), real.astype(np.float64), strict=True)])


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


# The scores of single images, by their names in results: functions of images, real ones and masks.
METRICS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "mse_masked": masked_mse,
    "psnr": lambda images, real, masks: psnr(images, real),
    "psnr_masked": psnr_masked,
    "ssim": lambda images, real, masks: ssim(images, real),
}


def _squared_error(images: np.ndarray, real: np.ndarray) -> np.ndarray:
    return np.square(images.astype(np.int32) - real)


def decibels(squared_error: Any) -> Any:
    """PSNR in dB, at most 100, for mean squared errors per channel on the 0..255 scale; of NumPy or of JAX."""
    xp = squared_error.__array_namespace__()
    return xp.minimum(10 * xp.log10(255**2 / xp.maximum(squared_error, 1e-9)), PSNR_CAP)
