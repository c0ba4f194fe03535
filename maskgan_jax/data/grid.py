"""Pictures beside pictures, with headings."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

HEADING = 22
GAP = 8


def labelled_grid(rows: Sequence[Sequence[np.ndarray]], headings: Sequence[str], columns: int = 1) -> np.ndarray:
    """Rows of pictures of one size, `columns` rows beside each other, under headings.

    Args:
      rows: each with one picture `[S, S, 3]` uint8 for each heading.
      headings: words above the pictures.
      columns: how many rows stand side by side.

    Returns:
      `[H, W, 3]` uint8.
    """
    side = rows[0][0].shape[0]
    width = side * len(headings) + GAP
    sheet = np.full((HEADING + -(-len(rows) // columns) * side, columns * width - GAP, 3), 255, np.uint8)
    for number, row in enumerate(rows):
        top, left = HEADING + number // columns * side, number % columns * width
        sheet[top : top + side, left : left + width - GAP] = np.concatenate(row, axis=1)
    for column in range(min(columns, len(rows))):
        for number, words in enumerate(headings):
            place = (column * width + number * side + 4, HEADING - 7)
            cv2.putText(sheet, words, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return sheet
