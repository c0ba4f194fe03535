"""Ways to fill a masked region without learning, to compare with."""

import cv2
import numpy as np

# Radius of the neighbourhood that a point is filled from, in pixels.
RADIUS = 3


def telea(masked: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Fast-marching inpainting (Telea, 2004), the paper's patch-based baseline, by OpenCV.

    Args:
      masked: `[H, W, 3]` uint8, the image with the mask.
      mask: `[H, W]` or `[H, W, 1]` uint8, above 127 = hidden.

    Returns:
      `[H, W, 3]` uint8; what is not hidden is as in `masked`.
    """
    return _inpaint(masked, mask, cv2.INPAINT_TELEA)


def navier_stokes(masked: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Inpainting by the Navier-Stokes equations (Bertalmio et al. 2001), by OpenCV; arguments and result as of `telea`."""
    return _inpaint(masked, mask, cv2.INPAINT_NS)


def _inpaint(masked: np.ndarray, mask: np.ndarray, method: int) -> np.ndarray:
    hidden = (mask.reshape(mask.shape[:2]) > 127).astype(np.uint8)
    return cv2.inpaint(np.ascontiguousarray(masked), hidden, RADIUS, method)
