"""The light on a face, estimated from its visible skin, and how a face mask looks in it."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from maskgan_jax.data.masks.compositing import to_linear

# Linear reflectance of skin in the middle of its range.
SKIN = np.array((0.42, 0.26, 0.19), np.float32)
# Linear light from which a camera compresses highlights.
SHOULDER = 0.55
LUMINANCE = np.array((0.2126, 0.7152, 0.0722), np.float32)


@dataclasses.dataclass(frozen=True)
class Light:
    """Light from one soft direction.

    Attributes:
      colour: `[3]`, linear light that a white surface facing the camera reflects.
      direction: `[3]` of length 1, towards the light: right, down, towards the camera.
      ambient: fraction of the light that comes from all directions, in 0..1.
      saturation: how much colour the photo shows, 0 (none, it is grey) to 1.
      skin: `[3]`, linear colour of the visible skin.
    """

    colour: np.ndarray
    direction: np.ndarray
    ambient: float
    saturation: float
    skin: np.ndarray

    def reflected(self, albedo: np.ndarray) -> np.ndarray:
        """Linear light that a surface of this linear reflectance `[..., 3]`, facing the camera, reflects."""
        if self.saturation < 1:
            grey = (albedo @ LUMINANCE)[..., None]
            albedo = grey + self.saturation * (albedo - grey)
        return albedo * self.colour


def compress_highlights(linear: np.ndarray) -> np.ndarray:
    """Linear light as a camera renders it: highlights are compressed, and lose colour, instead of being clipped."""
    over = np.maximum(linear - SHOULDER, 0)
    return linear - over**2 / (1 - SHOULDER + over)


def light_of(face: np.ndarray, landmarks: np.ndarray) -> Light:
    """Estimates the light from patches of skin that no face mask covers: under the eyes, above the brows, between them.

    Skin may be dark or red in itself, so only part of its difference from average skin is attributed to the light.

    Args:
      face: `[S, S, 3]` uint8.
      landmarks: `[68, 2]`, (x, y) in pixels of `face`.
    """
    patches = np.array([np.median(to_linear(patch).reshape(-1, 3), axis=0) for patch in skin_patches(face, landmarks)])
    grey = np.maximum(patches @ LUMINANCE, 1e-3)
    skin = np.median(patches, axis=0)
    level = float(np.maximum(skin @ LUMINANCE, 1e-3))
    tint = np.clip(skin / level / (SKIN / (SKIN @ LUMINANCE)), 0.5, 2.0)
    gain = 1.02 * np.clip((level / float(SKIN @ LUMINANCE)) ** 0.6, 0.3, 1.25)
    # The light comes from the bright side; if both are equal, from a little above.
    sideways = np.clip(np.log(grey[[1, 3]].mean() / grey[[0, 2]].mean()), -1.5, 1.5)
    upwards = np.clip(np.log(grey[[2, 3]].mean() / grey[[0, 1]].mean()), -0.6, 0.6)
    direction = np.array((0.8 * sideways, -0.55 - 0.4 * upwards, 1.0))
    # Hard light leaves the far side dark; even light comes from all directions.
    ambient = float(np.clip(0.36 - 0.15 * abs(sideways), 0.18, 0.36))
    chroma = float(np.ptp(skin) / max(skin.max(), 1e-3))
    saturation = float(np.clip(chroma / 0.35, 0, 1))
    direction = (direction / np.linalg.norm(direction)).astype(np.float32)
    return Light(
        (gain * tint ** (0.2 * saturation)).astype(np.float32), direction, ambient, saturation, skin.astype(np.float32)
    )


def skin_patches(face: np.ndarray, landmarks: np.ndarray) -> list[np.ndarray]:
    """Squares of skin: under the left and right eye, above the left and right brow, between the brows.

    Args:
      face: `[S, S, ...]`.
      landmarks: `[68, 2]`, (x, y) in pixels of `face`.

    Returns:
      Five windows `[n, n, ...]` of `face`, moved inside where they would extend beyond it.
    """
    drop = 0.35 * (landmarks[30] - landmarks[27])
    spots = (
        landmarks[[36, 41]].mean(axis=0) + drop,
        landmarks[[45, 46]].mean(axis=0) + drop,
        landmarks[[18, 19]].mean(axis=0) - drop,
        landmarks[[24, 25]].mean(axis=0) - drop,
        landmarks[[21, 22]].mean(axis=0) - 0.5 * drop,
    )
    reach = min(max(1, round(0.06 * float(np.linalg.norm(landmarks[45] - landmarks[36])))), (min(face.shape[:2]) - 1) // 2)
    patches = []
    for spot in spots:
        x, y = (int(np.clip(np.rint(v), reach, side - 1 - reach)) for v, side in zip(spot, face.shape[1::-1], strict=True))
        patches.append(face[y - reach : y + reach + 1, x - reach : x + reach + 1])
    return patches


def shade(height: np.ndarray, light: Light, pixels: float, sheen: float) -> tuple[np.ndarray, np.ndarray]:
    """Lights a relief once.

    Args:
      height: `[h, w]` float32, towards the camera, in widths of the face; h and w are multiples of 4.
      light: where it comes from.
      pixels: pixels to one width of the face.
      sheen: see `catalogue.Mask`.

    Returns:
      Two arrays `[h, w]` float32: diffuse light, a factor of the surface's own colour, 1 where it faces the camera; and the
      sheen of the fibres, which has the colour of the light.
    """
    slope_u = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=pixels / 8)
    slope_v = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=pixels / 8)
    facing = light.direction[2] - light.direction[0] * slope_u - light.direction[1] * slope_v
    facing /= np.sqrt(1 + slope_u**2 + slope_v**2)
    # Cloth scatters light: it darkens more slowly than a hard surface as it turns away.
    direct = np.maximum((facing + 0.15) / (light.direction[2] + 0.15), 0)
    # Less of both kinds of light gets into folds.
    around = cv2.resize(height, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    around = cv2.resize(cv2.GaussianBlur(around, (0, 0), 0.006 * pixels), height.shape[::-1], interpolation=cv2.INTER_LINEAR)
    openness = np.clip(1 + 26 * (height - around), 0.4, 1.15)
    return openness * (light.ambient + (1 - light.ambient) * direct), np.float32(sheen) * openness * direct**6


def shadow(alpha: np.ndarray, light: Light, reach: float, strength: float) -> np.ndarray:
    """The contact shadow of what covers `alpha`: the fraction of the light that it takes from what is beside it.

    Args:
      alpha: `[h, w]` float32 in 0..1.
      light: the shadow falls away from it.
      reach: how far, in pixels.
      strength: the largest fraction, in 0..1.

    Returns:
      `[h, w]` float32 in 0..1.
    """
    away = -light.direction[:2] / light.direction[2] * reach
    moved = cv2.warpAffine(alpha, np.float32([[1, 0, away[0]], [0, 1, away[1]]]), alpha.shape[::-1])
    close = cv2.GaussianBlur(alpha, (0, 0), max(0.35 * reach, 0.3))
    far = cv2.GaussianBlur(moved, (0, 0), max(0.8 * reach, 0.3))
    return np.float32(strength) * np.maximum(0.7 * close, far)
