"""Photos that have one colour only, such as grey and sepia."""

from __future__ import annotations

import cv2
import numpy as np

# A photo has one colour if in 95 of 100 pixels of medium lightness each channel is, on average, closer than so many levels to
# what follows from their lightness. Compression leaves a little; white and black tell nothing.
MOST_CHROMA = 4.8
MEDIUM = 30, 225
# Of the lightness, in that colour: sepia is cut off where it would be brighter than white.
POWERS = 7


def one_coloured(pixels: np.ndarray) -> np.ndarray | None:
    """The shades of what has only one colour: `[256, 3]` uint8, by their lightness; None if there are more colours.

    Args:
      pixels: `[N, 3]` RGB, uint8; at least one.
    """
    lightness = cv2.cvtColor(pixels[None], cv2.COLOR_RGB2GRAY)[0]
    # How far each channel is from grey, as a smooth function of the lightness. Fitted to the means of the 256 levels, by the
    # number of their pixels: the same as to all pixels, and in a video's time.
    weights = np.sqrt(np.bincount(lightness, minlength=256))[:, None]
    sums = np.stack([np.bincount(lightness, weights=channel, minlength=256) for channel in pixels.T], axis=-1)
    levels = np.arange(256.0)[:, None]
    powers = np.vander(levels[:, 0] / 255, POWERS)
    distances = np.divide(sums, weights, out=np.zeros_like(sums), where=weights > 0) - weights * levels
    fit, *_ = np.linalg.lstsq(weights * powers, distances, rcond=None)
    shades = levels + (powers @ fit)[np.clip(np.arange(256), lightness.min(), lightness.max())]
    medium = (lightness > MEDIUM[0]) & (lightness < MEDIUM[1])
    chroma = np.abs(pixels[medium] - shades[lightness[medium]]).mean(axis=-1)
    if not len(chroma) or np.percentile(chroma, 95) > MOST_CHROMA:
        return None
    return np.rint(np.clip(shades, 0, 255)).astype(np.uint8)
