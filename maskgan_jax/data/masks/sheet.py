"""The flat sheet that a face mask is drawn on, and the shapes that its relief is made of.

A sheet lies in the frame of the face (`geometry.CONTOUR_MEAN`): x to the right and y down from the top of the nose, in widths
of the face (about 14 cm). Heights are in the same unit, towards the camera.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import cv2
import numpy as np

from maskgan_jax.data.painting import spline

MARGIN = 0.02
COARSENESS = 4


@dataclasses.dataclass(frozen=True)
class Grid:
    """Points of a sheet; shared between face masks, so read-only.

    Attributes:
      x, y: `[h, w]` float32, in the frame of the face.
      side: `[h, w]` float32, |x|.
      face: `[h, w]` float32, height of a soft mask stretched over a head with a nose.
      pixels: grid points to one width of the face.
    """

    x: np.ndarray
    y: np.ndarray
    side: np.ndarray
    face: np.ndarray
    pixels: float


@dataclasses.dataclass(frozen=True)
class Sheet(Grid):
    """A sheet of one outline at one resolution.

    Attributes:
      alpha: `[h, w]` float32 in 0..1, anti-aliased.
      inside: `[h, w]` float32, distance from the outline.
      coarse: every `COARSENESS`th point: what varies slowly is computed here, in a sixteenth of the time, and `enlarged`.
    """

    alpha: np.ndarray
    inside: np.ndarray
    coarse: Grid

    def enlarged(self, coarse: np.ndarray) -> np.ndarray:
        """Values on the coarse grid, interpolated for this one: `[h, w]`."""
        return cv2.resize(coarse, self.x.shape[::-1], interpolation=cv2.INTER_CUBIC)

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """Maps points `[..., 2]` from the frame of the face to pixels of the sheet."""
        return (points - (self.x[0, 0], self.y[0, 0])) * self.pixels


@dataclasses.dataclass(frozen=True)
class Relief:
    """A face mask before it is coloured and lit.

    Attributes:
      height: `[h, w]` float32.
      fabric: `[h, w]` float32, a factor of the colour.
      parts: what lies on the fabric, in order: coverage `[h, w]` in 0..1, and its colour `[3]`, linear.
      details: the random choices, as JSON can hold them.
    """

    height: np.ndarray
    fabric: np.ndarray
    parts: list[tuple[np.ndarray, np.ndarray]]
    details: dict[str, Any]


@functools.cache
def whole_outline(right: tuple[tuple[float, float], ...]) -> np.ndarray:
    """The closed curve `[N, 2]` through the points of a right half (from the nose down to the chin) and their mirror images."""
    half = np.array(right)
    outline = spline(np.concatenate([half, (half * (-1, 1))[-2:0:-1]]), steps=10)
    outline.flags.writeable = False
    return outline


@functools.lru_cache(maxsize=16)
def make_sheet(right: tuple[tuple[float, float], ...], pixels: int) -> Sheet:
    """The sheet of an outline, `pixels` to a width of the face; the latest are kept (each 7 MB for faces of 256 px)."""
    outline = whole_outline(right)
    left, top = outline.min(axis=0) - MARGIN
    size = (outline.max(axis=0) + MARGIN - (left, top)) * pixels
    columns, rows = (np.ceil(size / COARSENESS) * COARSENESS).astype(int)
    # Drawn four times as large and averaged: exact enough for distance and edge.
    fine = np.zeros((rows * 4, columns * 4), np.uint8)
    cv2.fillPoly(fine, [np.rint(((outline - (left, top)) * pixels + 0.5) * 4 - 0.5).astype(np.int32)], 255)
    alpha = cv2.resize(fine, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    inside = cv2.distanceTransform((alpha > 0.5).astype(np.uint8), cv2.DIST_L2, 5) / np.float32(pixels)
    for array in (alpha, inside):
        array.flags.writeable = False
    grid = _grid(left, top, rows, columns, pixels)
    # The middle of the first COARSENESS x COARSENESS points.
    offset = (COARSENESS - 1) / 2 / pixels
    coarse = _grid(left + offset, top + offset, rows // COARSENESS, columns // COARSENESS, pixels / COARSENESS)
    return Sheet(grid.x, grid.y, grid.side, grid.face, pixels, alpha, inside, coarse)


def _grid(left: float, top: float, rows: int, columns: int, pixels: float) -> Grid:
    """The grid whose first point is at (left, top)."""
    y, x = np.mgrid[:rows, :columns]
    x, y = x / pixels + left, y / pixels + top
    side = np.abs(x)
    nose = (x / (0.06 + 0.3 * np.clip(y, 0.0, 0.6))) ** 2 + ((y - 0.28) / np.where(y < 0.28, 0.22, 0.3)) ** 2
    head = 0.6 * np.sqrt(np.maximum(1 - (x / 0.64) ** 2, 0.08))
    face = head + 0.13 * np.exp(-nose) - 1.5 * np.maximum(y - 0.56, 0) ** 2
    arrays = [array.astype(np.float32) for array in (x, y, side, face)]
    for array in arrays:
        array.flags.writeable = False
    return Grid(*arrays, pixels)


def smoothstep(x: np.ndarray, width: float) -> np.ndarray:
    """Rises smoothly from 0 to 1 within `width` about x = 0."""
    t = np.clip(x / width + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def ridge(x: np.ndarray, width: float) -> np.ndarray:
    """A smooth ridge of height 1 at x = 0, down to 0 at twice `width` from it; subtract it for a groove."""
    t = np.maximum(1 - (x * (0.5 / width)) ** 2, 0)
    return t * t


def band(x: np.ndarray, low: float, high: float, edge: float) -> np.ndarray:
    """1 between `low` and `high`, 0 beyond, with soft edges."""
    return smoothstep(x - low, edge) * smoothstep(high - x, edge)


def fold(x: np.ndarray, length: float, edge: np.ndarray | float) -> np.ndarray:
    """A pleat seen from the side: rises over `length` up to x = 0 and drops within `edge` after it."""
    rise = np.clip(1 + x / length, 0, 1)
    return rise * rise * smoothstep(-x, edge)


def noise(rng: np.random.Generator, grid: Grid, size: float) -> np.ndarray:
    """Smooth random heights of standard deviation about 1 whose bumps are `size` across, `[h, w]`."""
    rows, columns = (max(3, round(side / (size * grid.pixels))) for side in grid.x.shape)
    return cv2.resize(rng.standard_normal((rows, columns), np.float32), grid.x.shape[::-1], interpolation=cv2.INTER_CUBIC)


def creases(rng: np.random.Generator, grid: Grid, size: float) -> np.ndarray:
    """Soft dents with sharp lines between them, as in crumpled paper and cloth."""
    return 0.6 * noise(rng, grid, size) + np.sqrt(noise(rng, grid, 0.8 * size) ** 2 + 0.01)


def folds(rng: np.random.Generator, grid: Grid, across: np.ndarray, per_unit: float) -> np.ndarray:
    """Irregular folds along the lines of constant `across` `[h, w]`, about `per_unit` of them per unit of it."""
    low, high = float(across.min()), float(across.max())
    heights = rng.standard_normal((max(4, round((high - low) * per_unit * 2)), 5), np.float32)
    down = (across - np.float32(low)) * np.float32((len(heights) - 1) / (high - low))
    sideways = (grid.x - grid.x[0, 0]) * np.float32(4 / float(np.ptp(grid.x[0])))
    return np.sqrt(cv2.remap(heights, sideways, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101) ** 2 + 0.05)


def pulled(rng: np.random.Generator, grid: Grid, point: tuple[float, float], reach: float, count: int) -> np.ndarray:
    """Wrinkles that run away from a point where the fabric is pulled, and from its mirror image."""
    out, down = point[0] - grid.side, grid.y - point[1]
    distance = np.sqrt(out**2 + down**2)
    # A random profile over the angle, another for each side.
    profile = rng.standard_normal((2, count), np.float32)
    turn = (np.arctan2(down, np.maximum(out, 1e-3)) / np.float32(np.pi) + 0.5) * (count - 1)
    row = (grid.x > 0).astype(np.float32)
    wrinkles = cv2.remap(profile, turn, row, cv2.INTER_LINEAR)
    return wrinkles * np.exp(-((distance / reach) ** 2)) * np.minimum(distance / 0.06, 1)


def white_noise(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Gaussian noise of standard deviation 1, `[h, w]` float32: a random part of a cached tile."""
    tile = _tile(max(1024, 2 ** int(np.ceil(np.log2(2 * max(shape))))))
    top, left = (int(rng.integers(len(tile) - side)) for side in shape)
    flips = rng.integers(2, size=2) * 2 - 1
    return tile[top : top + shape[0], left : left + shape[1]][:: flips[0], :: flips[1]]


@functools.lru_cache(maxsize=2)
def _tile(side: int) -> np.ndarray:
    # Drawing new noise for each face mask would take a tenth of the time.
    tile = np.random.default_rng(0).standard_normal((side, side), np.float32)
    tile.flags.writeable = False
    return tile


def weave(rng: np.random.Generator, sheet: Sheet, amount: float) -> np.ndarray:
    """Fine grain of a fabric, as a factor of its colour, `[h, w]`."""
    return 1 + np.float32(amount) * white_noise(rng, sheet.x.shape)


def stitches(sheet: Sheet, inside: float, per_unit: float) -> np.ndarray:
    """A row of stitches along the outline, `inside` from it: 1 in the thread."""
    dashes = 0.55 + 0.45 * np.cos(np.float32(2 * np.pi * per_unit) * (sheet.x + sheet.y))
    return ridge(sheet.inside - inside, 0.003) * dashes
