"""What JPEG leaves of an image."""

from __future__ import annotations

import cv2
import numpy as np


def through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """An image `[h, w, 3]` uint8 RGB as a JPEG of a quality of 1 to 100 gives it back."""
    data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
