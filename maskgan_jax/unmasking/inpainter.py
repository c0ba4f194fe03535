"""What is under a face mask, drawn by the generator."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np

from maskgan_jax.data.align import FaceSquare
from maskgan_jax.data.points import dilated, eyes
from maskgan_jax.metrics.baselines import telea
from maskgan_jax.networks.face_network import FaceNetwork
from maskgan_jax.unmasking.compositing import RIM
from maskgan_jax.unmasking.face import Face
from maskgan_jax.unmasking.one_colour import one_coloured

# Less of the square than this fraction cannot tell whether a photo has one colour.
LEAST_VISIBLE = 0.1


class Inpainter:
    """Draws the hidden part of aligned faces."""

    def __init__(self, generator: FaceNetwork):
        """Takes the generator that draws."""
        self.generator = generator

    def square(self, landmarks: np.ndarray) -> FaceSquare:
        """The generator's square around a face."""
        return FaceSquare.around(landmarks, self.generator.size, self.generator.zoom)

    def redraw(self, face: Face) -> Face:
        """A face without its mask, which is grown by the rim."""
        return _redrawn(face, self.draw)

    def fill(self, face: Face) -> Face:
        """The same by Telea's method, in a fortieth of the time: for straps, which are too thin to show the difference."""
        return _redrawn(face, telea)

    def draw(self, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """An aligned face `[S, S, 3]` uint8, redrawn by a mask `[S, S]` uint8, 255 = hidden; in one colour if the rest is."""
        drawn = self.generator(image[None], mask[None, ..., None])[0]
        visible = image[mask == 0]
        shades = one_coloured(visible) if len(visible) > LEAST_VISIBLE * mask.size else None
        return drawn if shades is None else shades[cv2.cvtColor(drawn, cv2.COLOR_RGB2GRAY)]


def _redrawn(face: Face, draw: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Face:
    """A face without its mask, by what draws an image `[S, S, 3]` under a mask `[S, S]`."""
    mask = grown(face.mask, face.square.to_aligned(face.landmarks))
    return dataclasses.replace(face, mask=mask, after=draw(face.before, mask))


def grown(mask: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """A mask `[S, S]` with a rim, but not towards the eyes; `landmarks` `[68, 2]` in its pixels."""
    rim = dilated(mask, round(RIM * mask.shape[0]))
    return cv2.bitwise_or(mask, cv2.bitwise_and(rim, cv2.bitwise_not(eyes(landmarks, mask.shape))))
