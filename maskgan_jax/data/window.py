"""Rectangular parts of images."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike


class Window(NamedTuple):
    """A rectangle of an image, in pixels: its first column and row, and its size."""

    x: int
    y: int
    width: int
    height: int

    @classmethod
    def clipped(cls, low: ArrayLike, high: ArrayLike, shape: tuple[int, int], least: int = 0) -> Window:
        """The part of the rectangle between two corners that lies in an image.

        Args:
          low: the first column and row, whole numbers.
          high: the column and row after the last, no less.
          shape: height and width of the image.
          least: width and height that it has at least, at the image's edge, if the rectangle lies outside.
        """
        low = np.clip(low, 0, np.array(shape[::-1]) - least)
        high = np.clip(high, low + least, shape[::-1])
        return cls(*map(int, low), *map(int, high - low))

    @classmethod
    def holding(cls, mask: np.ndarray, margin: int = 0) -> Window:
        """The part of a mask `[height, width]` uint8 that holds all that is marked, and so many pixels around it."""
        x, y, width, height = cv2.boundingRect(mask)
        return cls.clipped((x - margin, y - margin), (x + width + margin, y + height + margin), mask.shape)

    @property
    def slices(self) -> tuple[slice, slice]:
        """What indexes an image `[H, W, ...]` with it."""
        return np.s_[self.y : self.y + self.height, self.x : self.x + self.width]

    @property
    def shape(self) -> tuple[int, int]:
        """Its height and width."""
        return self.height, self.width
