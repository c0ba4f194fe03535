"""Layers of linear light: warped onto a face with anti-aliased edges and blended with it.

A layer is `[h, w, 4]` float32, premultiplied: red, green, blue in linear light times alpha, and alpha in 0..1.
"""

from __future__ import annotations

import cv2
import numpy as np

from maskgan_jax.data.masks.geometry import transformed
from maskgan_jax.errors import UserError

# Subpixels per pixel and direction.
SUPERSAMPLING = 2


def to_linear(srgb: np.ndarray) -> np.ndarray:
    """Linear light in 0..1 of sRGB values in 0..255 (IEC 61966-2-1), float32."""
    srgb = np.asarray(srgb)
    if srgb.dtype == np.uint8:
        return _LINEAR[srgb]
    value = srgb.astype(np.float32) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def to_srgb(linear: np.ndarray) -> np.ndarray:
    """sRGB values, uint8 in 0..255, of linear light; what is beyond 0..1 is clipped."""
    linear = np.clip(linear, 0, 1)
    value = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(value * 255).astype(np.uint8)


def window_of(layer_size: tuple[int, int], matrix: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The smallest window of a picture that holds a layer.

    Args:
      layer_size: height and width of the layer.
      matrix: 3x3 homography from pixels of the layer to pixels of the picture.
      size: height and width of the picture.

    Returns:
      Left, top, right and bottom in the picture; the last two are just beyond the window.

    Raises:
      UserError: the layer does not fall into the picture.
    """
    height, width = layer_size
    corners = np.array([(-0.5, -0.5), (width - 0.5, -0.5), (width - 0.5, height - 0.5), (-0.5, height - 0.5)])
    depth = corners @ matrix[2, :2] + matrix[2, 2]
    if depth.min() * depth.max() <= 0:
        raise UserError("the mask cannot be fitted to this face (its landmarks are far from a face's); leave this photo out")
    corners = transformed(corners, matrix)
    left, top = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, (size[1], size[0]))
    right, bottom = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1, 0, (size[1], size[0]))
    if left >= right or top >= bottom:
        raise UserError("the mask falls outside the picture; check that the landmarks are in pixels of this picture")
    return int(left), int(top), int(right), int(bottom)


def warp(layer: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, int, int]:
    """Carries a layer into a picture of `size` (height, width) and averages over the area of each pixel.

    Args:
      layer: premultiplied linear RGBA; about `SUPERSAMPLING` of its pixels should fall on one of the picture's.
      matrix: 3x3 homography from pixels of the layer to pixels of the picture.
      size: height and width of the picture.

    Returns:
      The smallest window of the picture that holds the layer, `[h, w, 4]` float32, with its top and left in the picture.

    Raises:
      UserError: the layer does not fall into the picture.
    """
    left, top, right, bottom = window_of(layer.shape[:2], matrix, size)
    # Pixel centres are at integers, so the first subpixel of pixel x has its centre half a subpixel's step inside x - 1/2.
    n = SUPERSAMPLING
    to_subpixels = np.array([[n, 0, (n - 1) / 2 - n * left], [0, n, (n - 1) / 2 - n * top], [0, 0, 1]])
    window = cv2.warpPerspective(layer, to_subpixels @ matrix, ((right - left) * n, (bottom - top) * n))
    return cv2.resize(window, (right - left, bottom - top), interpolation=cv2.INTER_AREA), top, left


def blend(face: np.ndarray, window: np.ndarray, top: int, left: int) -> tuple[np.ndarray, np.ndarray]:
    """Puts a warped layer over a picture, in linear light.

    Args:
      face: `[H, W, 3]` uint8.
      window: `[h, w, 4]`, as `warp` gives it, for the pixels from `top` and `left` on.

    Returns:
      The picture `[H, W, 3]` uint8 and the alpha `[H, W]` float32 in 0..1. Where alpha is 0 no byte differs from `face`.
    """
    rows, columns = slice(top, top + window.shape[0]), slice(left, left + window.shape[1])
    alpha = window[..., 3:].clip(0, 1)
    # Less than half a step of an 8-bit picture: not drawn at all, so that the region does not grow by invisible pixels.
    seen = alpha > 0.5 / 255
    alpha = np.where(seen, alpha, 0)
    picture = face.copy()
    blended = to_srgb(window[..., :3] + (1 - alpha) * to_linear(face[rows, columns]))
    picture[rows, columns] = np.where(seen, blended, face[rows, columns])
    whole = np.zeros(face.shape[:2], np.float32)
    whole[rows, columns] = alpha[..., 0]
    return picture, whole


_LINEAR = to_linear(np.arange(256, dtype=np.float32))
