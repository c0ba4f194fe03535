"""The light on a face, read off its visible skin, and how a mask looks in it."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from maskgan_jax.data.masks.compositing import to_linear

# Linear reflectance of skin in the middle of its range.
SKIN = np.array((0.42, 0.26, 0.19), np.float32)
LUMINANCE = np.array((0.2126, 0.7152, 0.0722), np.float32)


@dataclasses.dataclass(frozen=True)
class Light:
    """Light from one soft direction.

    Attributes:
      colour: `[3]`, what a white surface facing the camera sends back in linear light.
      direction: `[3]` of length 1, towards the light: right, down, towards the camera.
    """

    colour: np.ndarray
    direction: np.ndarray


def light_of(face: np.ndarray, landmarks: np.ndarray) -> Light:
    """Estimates the light from four patches of skin that a mask leaves free: under the eyes, above the brows.

    Skin is darker or redder by itself, not only by the light; so only part of what differs from middling skin is put down
    to the light.

    Args:
      face: `[S, S, 3]` uint8.
      landmarks: `[68, 2]`, (x, y) in pixels of `face`.
    """
    drop = 0.35 * (landmarks[30] - landmarks[27])
    spots = [
        landmarks[[36, 41]].mean(axis=0) + drop,
        landmarks[[45, 46]].mean(axis=0) + drop,
        landmarks[[18, 19]].mean(axis=0) - drop,
        landmarks[[24, 25]].mean(axis=0) - drop,
    ]
    eyes = float(np.linalg.norm(landmarks[45] - landmarks[36]))
    reach = min(max(1, round(0.06 * eyes)), (min(face.shape[:2]) - 1) // 2)
    patches = np.array([_median(face, spot, reach) for spot in spots])
    grey = np.maximum(patches @ LUMINANCE, 1e-3)
    skin = np.median(patches, axis=0)
    level = float(np.maximum(skin @ LUMINANCE, 1e-3))
    tint = np.clip(skin / level / (SKIN / (SKIN @ LUMINANCE)), 0.5, 2.0)
    gain = 0.92 * np.clip((level / float(SKIN @ LUMINANCE)) ** 0.6, 0.3, 1.1)
    # The bright side is the one the light comes from; a face lit evenly still has the light a little above it.
    sideways = np.clip(np.log(grey[[1, 3]].mean() / grey[[0, 2]].mean()), -1.2, 1.2)
    upwards = np.clip(np.log(grey[2:].mean() / grey[:2].mean()), -0.6, 0.6)
    direction = np.array((0.6 * sideways, -0.45 - 0.3 * upwards, 1.0))
    return Light((gain * tint**0.2).astype(np.float32), (direction / np.linalg.norm(direction)).astype(np.float32))


def shade(height: np.ndarray, albedo: np.ndarray, light: Light, pixels: float) -> np.ndarray:
    """Lights a relief once.

    Args:
      height: `[h, w]` float32, towards the camera, in widths of the mask.
      albedo: `[h, w, 3]` or `[3]`, linear reflectance.
      light: colour and direction.
      pixels: pixels to one width of the mask.

    Returns:
      `[h, w, 3]` float32, linear light.
    """
    slope_u = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=pixels / 8)
    slope_v = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=pixels / 8)
    facing = light.direction[2] - light.direction[0] * slope_u - light.direction[1] * slope_v
    facing /= np.sqrt(1 + slope_u**2 + slope_v**2)
    # A quarter of the light comes from all around. Less light of either kind gets into folds.
    around = cv2.resize(height, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    around = cv2.resize(cv2.GaussianBlur(around, (0, 0), 0.006 * pixels), height.shape[::-1], interpolation=cv2.INTER_LINEAR)
    openness = np.clip(1 + 18 * (height - around), 0.5, 1.12)
    seen = openness * (0.25 + 0.75 * np.maximum(facing, 0) / light.direction[2])
    return (seen[..., None] * (albedo * light.colour)).astype(np.float32)


def _median(face: np.ndarray, spot: np.ndarray, reach: int) -> np.ndarray:
    """Median of the linear colours in a square about `spot`, kept inside the picture."""
    x, y = (int(np.clip(np.rint(value), reach, side - 1 - reach)) for value, side in zip(spot, face.shape[1::-1], strict=True))
    return np.median(to_linear(face[y - reach : y + reach + 1, x - reach : x + reach + 1]).reshape(-1, 3), axis=0)
