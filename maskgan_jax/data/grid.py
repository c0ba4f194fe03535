"""Grids of images with headings and captions."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

# Height of a line of text, and distance between columns, in pixels.
HEADING = 22
GAP = 8


def labelled_grid(
    rows: Sequence[Sequence[np.ndarray]], headings: Sequence[str], columns: int = 1, captions: Sequence[str] = ()
) -> np.ndarray:
    """Rows of images of one size under headings, `columns` rows side by side.

    Args:
      rows: at least one, each with an image `[S, S, 3]` uint8 for every heading.
      headings: text above the images.
      columns: number of rows side by side.
      captions: text above each row, or none.

    Returns:
      `[H, W, 3]` uint8.
    """
    side = len(rows[0][0])
    line = HEADING if captions else 0
    width, height = side * len(headings) + GAP, line + side
    grid = np.full((HEADING + -(-len(rows) // columns) * height, columns * width - GAP, 3), 255, np.uint8)
    for number, row in enumerate(rows):
        top, left = HEADING + number // columns * height, number % columns * width
        grid[top + line : top + height, left : left + width - GAP] = np.concatenate(row, axis=1)
        if captions:
            _write(grid, captions[number], left, top)
        if number < columns:
            for column, text in enumerate(headings):
                _write(grid, text, left + column * side, 0)
    return grid


def _write(grid: np.ndarray, text: str, left: int, top: int) -> None:
    cv2.putText(grid, text, (left + 4, top + HEADING - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
