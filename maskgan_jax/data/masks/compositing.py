"""Layers of linear light: warped onto a face with anti-aliased edges and blended with it.

A layer is `[h, w, 4]` float32, premultiplied: red, green, blue in linear light times alpha, and alpha in 0..1.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from maskgan_jax.data.window import Window
from maskgan_jax.errors import UserError

# Pixels of a layer per pixel of the image, in each direction.
SUPERSAMPLING = 2
# Distance in pixels between points whose position in the layer is computed; in between it is interpolated.
STRIDE = 8


def to_linear(srgb: np.ndarray) -> np.ndarray:
    """Linear light in 0..1 of sRGB values in 0..255 (IEC 61966-2-1), float32."""
    srgb = np.asarray(srgb)
    if srgb.dtype == np.uint8:
        return _LINEAR[srgb]
    value = srgb.astype(np.float32) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def to_srgb(linear: np.ndarray) -> np.ndarray:
    """sRGB values, float32 in 0..255, of linear light; values outside 0..1 are clipped."""
    # From a table, fine where the curve is steep: powers of all pixels would take longer than the rest of the blending.
    place = np.sqrt(np.clip(linear, 0, 1)) * np.float32(len(_SRGB) - 1)
    return _SRGB[np.rint(place).astype(np.int16)]


def window_about(points: np.ndarray, margin: float, shape: tuple[int, int]) -> Window:
    """The smallest window that holds points `[N, 2]` with a margin (both in pixels) of an image of `shape` (height, width).

    Raises:
      UserError: none of it lies in the image.
    """
    window = Window.clipped(np.floor(points.min(axis=0) - margin), np.ceil(points.max(axis=0) + margin) + 1, shape)
    if not all(window.shape):
        raise UserError("the mask falls outside the image; check that the landmarks are in pixels of this image")
    return window


def warp(layer: np.ndarray, to_layer: Callable[[np.ndarray], np.ndarray], window: Window) -> np.ndarray:
    """Warps a layer into a window of an image, averaging over the area of each pixel.

    Args:
      layer: with about `SUPERSAMPLING` pixels per pixel of the image, in each direction.
      to_layer: a smooth map of points `[N, 2]` from pixels of the image to pixels of the layer.
      window: the target.

    Returns:
      `[h, w, 4]` float32, the pixels of the window.
    """
    # Nodes at the centres of cells of STRIDE pixels, with one more on every side, so that resizing only interpolates.
    columns, rows = (-(-side // STRIDE) + 2 for side in (window.width, window.height))
    x = window.x + (np.arange(columns) - 0.5) * STRIDE - 0.5
    y = window.y + (np.arange(rows) - 0.5) * STRIDE - 0.5
    nodes = to_layer(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)).astype(np.float32).reshape(rows, columns, 2)
    places = cv2.resize(nodes, None, fx=STRIDE, fy=STRIDE, interpolation=cv2.INTER_LINEAR)
    # The mean of SUPERSAMPLING x SUPERSAMPLING pixels, laid on the first of them, stands for their middle.
    layer = cv2.blur(layer, (SUPERSAMPLING, SUPERSAMPLING), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    places = places[STRIDE : STRIDE + window.height, STRIDE : STRIDE + window.width] - np.float32((SUPERSAMPLING - 1) / 2)
    return cv2.remap(layer, places, None, cv2.INTER_LINEAR)


_LINEAR = to_linear(np.arange(256, dtype=np.float32))
_STEPS = (np.arange(8192, dtype=np.float64) / 8191) ** 2
_SRGB = (255 * np.where(_STEPS <= 0.0031308, _STEPS * 12.92, 1.055 * _STEPS ** (1 / 2.4) - 0.055)).astype(np.float32)
