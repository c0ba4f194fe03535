"""A contact sheet: some records of a data set in one image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from maskgan_jax.data.grid import labelled_grid
from maskgan_jax.data.points import CONTOUR

TILE = 192
# Records side by side.
COLUMNS = 2
HEADINGS = ("real", "masked", "mask", "landmarks")
CONTOUR_COLOUR = (255, 64, 64)
INNER_COLOUR = (64, 255, 64)


def contact_sheet(records: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Real face, masked face, mask and landmarks of each record, side by side under a caption.

    Args:
      records: at least one, as `load_split` gives them.

    Returns:
      `[H, W, 3]` RGB, uint8.
    """
    captions = []
    for record in records:
        words = (record["source"], record["mask_type"], record["expression"], record["id"].rpartition("/")[2])
        captions.append("  ".join(filter(None, words)))
    return labelled_grid([_tiles(record) for record in records], HEADINGS, COLUMNS, captions)


def _tiles(record: Mapping[str, Any]) -> list[np.ndarray]:
    factor = TILE / len(record["real"])
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    tiles = [cv2.resize(record[name], (TILE, TILE), interpolation=interpolation) for name in ("real", "masked", "mask")]
    tiles[2] = cv2.cvtColor(tiles[2], cv2.COLOR_GRAY2RGB)
    return [*tiles, draw_landmarks(tiles[0], (record["landmarks"] + 0.5) * factor - 0.5)]


def draw_landmarks(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """A copy of `image` `[H, W, 3]` uint8 with its 68 landmarks `[68, 2]` as dots, the contour (0-16) in red."""
    image = image.copy()
    for number, (x, y) in enumerate(np.asarray(landmarks, np.float64)):
        # The last three bits of the coordinates are fractions of a pixel.
        centre = (round(x * 8), round(y * 8))
        cv2.circle(image, centre, 10, CONTOUR_COLOUR if number < CONTOUR.stop else INNER_COLOUR, -1, cv2.LINE_AA, shift=3)
    return image
