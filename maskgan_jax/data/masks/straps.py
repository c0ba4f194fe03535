"""Ear loops and straps: thin bands from the face mask towards the ears, which disappear under hair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from maskgan_jax.data.masks.catalogue import Strap
from maskgan_jax.data.masks.fit import Fit
from maskgan_jax.data.masks.light import LUMINANCE, Light


def draw_straps(
    straps: Sequence[Strap],
    rng: np.random.Generator,
    fit: Fit,
    colour: np.ndarray,
    light: Light,
    skin: np.ndarray,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Draws the straps of both sides, from the mask towards the ears, as far as there is skin under them.

    Args:
      straps: those of the right side; at least one.
      fit: of the mask. A strap starts where the mask is, and ends where the ear is.
      colour: `[3]`, linear.
      light: what they are lit with.
      skin: `[h, w]` in 0..1, where the window of the fit shows skin, from `skin_map`.

    Returns:
      A layer (see `compositing`) of the pixels of the window, and the random choices.
    """
    band, core = np.zeros((2, *fit.window.shape), np.uint8)
    thickness = float(rng.uniform(0.6, 1.3))
    sag = rng.normal(0, 0.02, (len(straps), 2))
    t = np.linspace(0, 1, 25)[:, None]
    sides = np.array([(1, 1), (-1, 1)])
    starts = fit.worn.to_image(np.concatenate([strap.start * sides for strap in straps])).reshape(-1, 2, 2)
    ends = fit.worn.placement.to_image(np.concatenate([strap.end * sides for strap in straps])).reshape(-1, 2, 2)
    for strap, *of_sides in zip(straps, starts, ends, sag, strict=True):
        for start, end, bend in zip(*of_sides, strict=True):
            # A quadratic Bezier curve, nearly straight, as the elastic is stretched.
            middle = (start + end) / 2 + (0, bend * fit.width)
            curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end - fit.window[:2]
            curve = curve[: _visible(curve, skin)]
            if not len(curve):
                continue
            points = np.rint(curve * 16).astype(np.int32)
            wide = fit.width * strap.width * thickness
            cv2.polylines(band, [points], False, 255, max(1, round(wide)), cv2.LINE_AA, shift=4)
            cv2.polylines(core, [points], False, 255, max(1, round(wide * 0.45)), cv2.LINE_AA, shift=4)
    alpha = band.astype(np.float32) / 255
    # A rounded band: its middle faces the light, its edges turn away.
    lit = light.reflected(colour)
    tone = alpha * np.float32(0.72) + cv2.min(core, band) * np.float32(0.28 / 255)
    layer = cv2.merge([*(tone * part for part in lit), alpha])
    return layer, {"strap_thickness": thickness, "strap_sag": sag.tolist()}


def _visible(curve: np.ndarray, skin: np.ndarray) -> int:
    """The number of points `[N, 2]` of a strap before it disappears under hair; 0 if there are too few to draw."""
    x, y = np.rint(curve).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < skin.shape[1]) & (y < skin.shape[0])
    seen = np.zeros(len(curve))
    seen[inside] = skin[y[inside], x[inside]]
    # Three points in a row end it; a lock of hair, a mole or a shadow does not.
    gone = np.convolve(seen < 0.3, np.ones(3), "valid") == 3
    count = int(np.argmax(gone)) if gone.any() else len(curve)
    return count if count > len(curve) // 4 else 0


def skin_map(face: np.ndarray, light: Light) -> np.ndarray:
    """Where an image looks like the skin of the face: `[H, W]` float32 in 0..1, smooth.

    Args:
      face: `[H, W, 3]`, linear.
      light: of this face; its `skin` is the reference.
    """
    small = cv2.resize(face, [-(-side // 4) for side in face.shape[1::-1]], interpolation=cv2.INTER_AREA)
    level = np.log(np.maximum(small @ LUMINANCE, 1e-3) / max(float(light.skin @ LUMINANCE), 1e-3))
    chromaticity = small / np.maximum(small.sum(axis=-1, keepdims=True), 1e-3)
    tint = np.abs(chromaticity - light.skin / max(float(light.skin.sum()), 1e-3)).sum(axis=-1)
    # A third as bright as the cheek is a shadow; a tenth is hair.
    match = np.exp(-((np.minimum(level + 0.5, 0) / 0.7) ** 2) - (np.maximum(level - 0.3, 0) / 0.5) ** 2 - (tint / 0.14) ** 2)
    match = cv2.resize(cv2.GaussianBlur(match, (3, 3), 0), face.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return np.clip(2.5 * match - 0.6, 0, 1)
