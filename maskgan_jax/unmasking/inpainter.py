"""What is under a face mask, drawn by the generator."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from maskgan_jax.data.align import FaceSquare
from maskgan_jax.data.points import eyes
from maskgan_jax.metrics.baselines import telea
from maskgan_jax.networks.face_network import FaceNetwork
from maskgan_jax.unmasking.compositing import RIM
from maskgan_jax.unmasking.face import Face

# A photo has one colour, such as grey or sepia, if in 95 of 100 pixels of medium lightness each channel is, on average, closer
# than so many levels to what follows from their lightness. Compression leaves a little; white and black tell nothing, and less
# of the square than this fraction cannot tell.
MOST_CHROMA = 4.8
MEDIUM = 30, 225
LEAST_VISIBLE = 0.1
# Of the lightness, in that colour: sepia is cut off where it would be brighter than white.
POWERS = 7


class Inpainter:
    """Draws the hidden part of aligned faces."""

    def __init__(self, generator: FaceNetwork):
        """Of a generator."""
        self.generator = generator

    def square(self, landmarks: np.ndarray) -> FaceSquare:
        """The generator's square around a face."""
        return FaceSquare.around(landmarks, self.generator.size, self.generator.zoom)

    def redraw(self, face: Face) -> Face:
        """A face without its mask, which is grown by the rim."""
        mask = grown(face.mask, face.square.to_aligned(face.landmarks))
        return dataclasses.replace(face, mask=mask, after=self.draw(face.before, mask))

    def fill(self, face: Face) -> Face:
        """The same by Telea's method, in a fortieth of the time: for straps, which are too thin to show the difference."""
        mask = grown(face.mask, face.square.to_aligned(face.landmarks))
        return dataclasses.replace(face, mask=mask, after=telea(face.before, mask))

    def draw(self, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """An aligned face `[S, S, 3]` uint8, redrawn by a mask `[S, S]` uint8, 255 = hidden; in one colour if the rest is."""
        drawn = self.generator(image[None], mask[None, ..., None])[0]
        visible = image[mask == 0]
        shades = one_coloured(visible) if len(visible) > LEAST_VISIBLE * mask.size else None
        return drawn if shades is None else shades[cv2.cvtColor(drawn, cv2.COLOR_RGB2GRAY)]


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


def grown(mask: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """A mask `[S, S]` with a rim, but not towards the eyes; `landmarks` `[68, 2]` in its pixels."""
    side = 2 * round(RIM * mask.shape[0]) + 1
    rim = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
    return cv2.bitwise_or(mask, cv2.bitwise_and(rim, cv2.bitwise_not(eyes(landmarks, mask.shape))))
