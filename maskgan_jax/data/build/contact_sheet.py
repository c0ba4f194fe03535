"""A sheet of records to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from maskgan_jax.data.points import CONTOUR

TILE = 192
CAPTION = 22
HEADINGS = ("real", "masked", "region", "landmarks")
CONTOUR_COLOUR = (255, 64, 64)
INNER_COLOUR = (64, 255, 64)


def draw_landmarks(picture: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """A copy of `picture` `[H, W, 3]` uint8 with its 68 landmarks `[68, 2]` as dots, the contour (0-16) in red."""
    picture = picture.copy()
    for number, (x, y) in enumerate(np.asarray(landmarks, np.float64)):
        # The last three bits of the coordinates are fractions of a pixel.
        centre = (round(x * 8), round(y * 8))
        cv2.circle(picture, centre, 10, CONTOUR_COLOUR if number < CONTOUR.stop else INNER_COLOUR, -1, cv2.LINE_AA, shift=3)
    return picture


def contact_sheet(records: Sequence[Mapping[str, Any]], columns: int = 2) -> np.ndarray:
    """Real face, masked face, region and landmarks of each record, side by side under its name, with headings above all.

    Args:
      records: as `load_split` gives them.
      columns: records side by side.

    Returns:
      `[H, W, 3]` RGB, uint8.
    """
    rows = -(-len(records) // columns)
    sheet = np.full((CAPTION + rows * (TILE + CAPTION), columns * (len(HEADINGS) * TILE + 8) - 8, 3), 255, np.uint8)
    for number, record in enumerate(records):
        row, column = divmod(number, columns)
        top, left = CAPTION + row * (TILE + CAPTION), column * (len(HEADINGS) * TILE + 8)
        if row == 0:
            for place, heading in enumerate(HEADINGS):
                _write(sheet, heading, left + place * TILE, 0)
        factor = TILE / len(record["real"])
        real, masked, region = (
            cv2.resize(record[name], (TILE, TILE), interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
            for name in ("real", "masked", "mask")
        )
        marked = draw_landmarks(real, (record["landmarks"] + 0.5) * factor - 0.5)
        tiles = np.concatenate([real, masked, np.repeat(region[..., None], 3, axis=2), marked], axis=1)
        sheet[top + CAPTION : top + CAPTION + TILE, left : left + tiles.shape[1]] = tiles
        words = [record["source"], record["mask_type"], record["expression"], record["id"].rpartition("/")[2]]
        _write(sheet, "  ".join(filter(None, words)), left, top)
    return sheet


def _write(sheet: np.ndarray, words: str, left: int, top: int) -> None:
    """Writes one line, `CAPTION` pixels high, onto the sheet."""
    cv2.putText(sheet, words, (left + 4, top + CAPTION - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
