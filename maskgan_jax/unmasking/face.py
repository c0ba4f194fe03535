"""A face in a photo, as all parts of the unmasking pass it on."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from maskgan_jax.data.align import FaceSquare

if TYPE_CHECKING:
    from maskgan_jax.unmasking.mask_finder import Segmentation

# A face wears a mask if it covers this fraction of what lies between the bridge of the nose, the jaw and the chin.
LEAST_COVER = 0.3
# Where bare faces are more easily taken for masked ones.
LEAST_COVER_IN_DOUBT = 0.5
# A face narrower than this, in pixels, shows too little to go by.
LEAST_WIDTH = 24
# Why a face is left alone, even if it wears a mask.
TOO_SMALL, NOT_AMONG_LARGEST = "too small", "smaller than those asked for"


@dataclasses.dataclass(frozen=True)
class Face:
    """A face in a photo, and what was done to it.

    Attributes:
      box: `[4]`: left, top, right and bottom edge in pixels of the photo, by the detector.
      score: the detector's confidence, 0 to 1.
      landmarks: `[68, 2]`, (x, y) in pixels of the photo.
      square: the generator's square around it in the photo, of S pixels.
      cover: fraction of the lower face that is hidden, 0 to 1; in photos whose masks are found, the least that is found in four
        views of the face; of a face that was redrawn by a given mask, what that hides.
      mask: `[S, S]` uint8, 255 = hidden, in that square; what was redrawn, if the face was, but for what a larger face hides.
      before: `[S, S, 3]` uint8, the aligned face.
      after: the same without the face mask, or None if it was left alone.
      segmentation: what the segmentation network says of it.
      rest: what the face mask hides outside the square, drawn in other squares.
      left_out: why the face is left alone although it may wear a mask; '' if it is not left out.
      needed_cover: the `cover` from which on it wears a mask.
    """

    box: np.ndarray
    score: float
    landmarks: np.ndarray
    square: FaceSquare
    cover: float
    mask: np.ndarray
    before: np.ndarray
    after: np.ndarray | None = None
    segmentation: Segmentation | None = None
    rest: tuple[Face, ...] = ()
    left_out: str = ""
    needed_cover: float = LEAST_COVER

    @property
    def masked(self) -> bool:
        """Whether it wears a mask, or was redrawn by a given one, however small."""
        return self.redrawn or self.cover >= self.needed_cover

    @property
    def redrawn(self) -> bool:
        """Whether it was redrawn."""
        return self.after is not None
