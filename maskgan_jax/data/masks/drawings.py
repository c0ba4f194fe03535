"""Our own masks: surgical, N95, KN95 and cloth, drawn flat as a relief with colours and lit once.

A mask is drawn in coordinates (u, v): u runs from 0 to 1 across the mask, v from 0 to `DEPTH` down, on a grid of any
resolution. Heights are in the same unit, towards the camera.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from maskgan_jax.data.masks.compositing import to_linear
from maskgan_jax.data.masks.light import Light, shade

DEPTH = 0.92

# Right halves of the outlines from the top of the nose to the chin; the left halves are their mirror images.
OUTLINES = {
    "surgical": ((0.5, 0.06), (0.58, 0.075), (0.7, 0.135), (0.83, 0.18), (0.945, 0.2), (0.968, 0.22), (0.972, 0.3))
    + ((0.97, 0.42), (0.96, 0.53), (0.93, 0.61), (0.84, 0.735), (0.73, 0.83), (0.61, 0.882), (0.5, 0.895)),
    "n95": ((0.5, 0.03), (0.58, 0.05), (0.665, 0.12), (0.8, 0.195), (0.905, 0.305), (0.945, 0.44), (0.925, 0.585))
    + ((0.85, 0.735), (0.71, 0.85), (0.5, 0.9)),
    "kn95": ((0.5, 0.02), (0.55, 0.04), (0.66, 0.13), (0.8, 0.185), (0.93, 0.23), (0.972, 0.27), (0.975, 0.35))
    + ((0.94, 0.5), (0.87, 0.645), (0.75, 0.785), (0.6, 0.885), (0.5, 0.905)),
    "cloth": ((0.5, 0.04), (0.575, 0.06), (0.69, 0.13), (0.83, 0.175), (0.95, 0.2), (0.972, 0.225), (0.968, 0.33))
    + ((0.955, 0.45), (0.925, 0.565), (0.84, 0.7), (0.71, 0.82), (0.58, 0.885), (0.5, 0.9)),
}
# The points a-f of `geometry.six_points` in (u, v). The chin lies well inside, because masks reach under it; the cup of an
# N95 leaves the sides of the face free.
POINTS = {
    "surgical": ((0.03, 0.215), (0.5, 0.075), (0.97, 0.215), (0.03, 0.55), (0.5, 0.77), (0.97, 0.55)),
    "n95": ((0.03, 0.23), (0.5, 0.055), (0.97, 0.23), (0.03, 0.56), (0.5, 0.77), (0.97, 0.56)),
    "kn95": ((0.03, 0.25), (0.5, 0.05), (0.97, 0.25), (0.05, 0.55), (0.5, 0.77), (0.95, 0.55)),
    "cloth": ((0.03, 0.215), (0.5, 0.06), (0.97, 0.215), (0.05, 0.55), (0.5, 0.77), (0.95, 0.55)),
}
# Colours (sRGB) as they are worn, with how often.
COLOURS = {
    "surgical": {
        "light blue": ((160, 200, 222), 0.38),
        "teal": ((122, 190, 190), 0.14),
        "white": ((232, 234, 234), 0.18),
        "grey": ((150, 154, 158), 0.05),
        "pink": ((232, 184, 198), 0.06),
        "black": ((50, 50, 54), 0.13),
        "lilac": ((186, 170, 214), 0.06),
    },
    "n95": {"white": ((232, 231, 226), 0.84), "grey": ((150, 152, 152), 0.08), "black": ((52, 52, 55), 0.08)},
    "kn95": {"white": ((234, 234, 233), 0.76), "grey": ((140, 143, 147), 0.09), "black": ((50, 50, 54), 0.15)},
    "cloth": {
        "black": ((46, 45, 48), 0.24),
        "navy": ((42, 50, 82), 0.12),
        "grey": ((128, 128, 130), 0.12),
        "white": ((226, 224, 218), 0.1),
        "beige": ((204, 184, 156), 0.08),
        "red": ((158, 40, 48), 0.08),
        "pink": ((222, 158, 172), 0.07),
        "green": ((74, 102, 76), 0.07),
        "blue": ((72, 116, 168), 0.07),
        "yellow": ((216, 178, 72), 0.05),
    },
}


@dataclasses.dataclass(frozen=True)
class Sheet:
    """The flat sheet of one type of mask at one resolution; shared between drawings, so read-only.

    Attributes:
      u, v: `[h, w]` float32.
      alpha: `[h, w]` float32 in 0..1, anti-aliased.
      inside: `[h, w]` float32, distance from the outline.
      nose: `[h, w]` float32 in 0..1, the bump over the nose.
      face: `[h, w]` float32, height of what lies under every soft mask: round cheeks, a nose, a chin that falls back.
      pixels: pixels to one unit.
    """

    u: np.ndarray
    v: np.ndarray
    alpha: np.ndarray
    inside: np.ndarray
    nose: np.ndarray
    face: np.ndarray
    pixels: int


def size_and_points(mask_type: str, pixels: int) -> tuple[tuple[int, int], np.ndarray]:
    """Height and width of a drawing that is `pixels` wide, and its six points a-f in its pixels, `[6, 2]`."""
    return (round(DEPTH * pixels), pixels), np.array(POINTS[mask_type]) * pixels - 0.5


def draw(mask_type: str, rng: np.random.Generator, light: Light, pixels: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Draws a mask in the given light.

    Args:
      mask_type: one of `DRAWINGS`.
      rng: source of everything random.
      light: what it is lit with.
      pixels: width of the drawing.

    Returns:
      A layer (see `compositing`) `[h, w, 4]`, of the size that `size_and_points` tells, and what was drawn.
    """
    sheet = _sheet(mask_type, pixels)
    colours = COLOURS[mask_type]
    shares = np.array([share for _, share in colours.values()])
    colour = list(colours)[rng.choice(len(colours), p=shares / shares.sum())]
    # No two batches of a mask are dyed or faded alike.
    srgb = np.clip(colours[colour][0] + rng.normal(0, 5, 3) + rng.normal(0, 7), 12, 245).astype(np.float32)
    height, albedo, details = DRAWINGS[mask_type](sheet, rng, to_linear(srgb))
    layer = np.empty((*height.shape, 4), np.float32)
    layer[..., :3] = shade(height, albedo, light, pixels) * sheet.alpha[..., None]
    layer[..., 3] = sheet.alpha
    return layer, {"colour": colour, "srgb": [round(float(value), 1) for value in srgb], **details}


def _surgical(sheet: Sheet, rng: np.random.Generator, colour: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    u, v = sheet.u, sheet.v
    depth = float(rng.uniform(0.01, 0.022))
    # Folds lie close together at the side hems and spread, and flatten, over the mouth.
    spread = np.sin(np.pi * u)
    height = sheet.face + _creases(rng, sheet, rows=13, columns=6, amount=float(rng.uniform(0.003, 0.007)))
    pleats = []
    for at_hem, at_centre in ((0.3, 0.31), (0.41, 0.5), (0.5, 0.67)):
        at_centre += float(rng.uniform(-0.02, 0.02))
        slope = float(rng.normal(0, 0.008))
        fold = at_hem + (at_centre - at_hem) * spread + slope * (u - 0.5)
        height += depth * (1 - 0.45 * spread**4) * _saw_tooth(v - fold, length=0.085, edge=0.008)
        pleats.append(round(at_centre, 4))
    hem = 0.035
    stitches = _groove(sheet.inside - hem, 0.003) * (0.6 + 0.4 * np.cos(2 * np.pi * 55 * (u + v)))
    height += 0.004 * _step(hem - sheet.inside, 0.006) - 0.003 * stitches
    wire = float(rng.uniform(0.1, 0.17))
    height += 0.006 * _bar(np.abs(u - 0.5) - wire, 0.02) * _bar(np.abs(sheet.inside - 0.026) - 0.008, 0.006) * (v < 0.3)
    return height, colour * _weave(rng, sheet, 0.012), {"pleat_depth": depth, "pleats": pleats, "nose_wire": wire}


def _n95(sheet: Sheet, rng: np.random.Generator, colour: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    u, v = sheet.u, sheet.v
    bulge = float(rng.uniform(0.2, 0.3))
    rim = float(rng.uniform(0.022, 0.035))
    cup = np.sqrt(np.maximum(1 - ((u - 0.5) / 0.47) ** 2 - ((v - 0.46) / 0.45) ** 2, 0))
    # Flatter at the rim than a hemisphere.
    height = bulge * cup * np.sqrt(cup) + 0.06 * sheet.nose
    # The rim is a flat, pressed edge; moulded ribs run round the cup.
    height += 0.006 * _step(rim - sheet.inside, 0.008) - 0.004 * _groove(sheet.inside - rim - 0.006, 0.006)
    ribs = int(rng.integers(0, 3))
    for k in range(ribs):
        height += 0.006 * _groove(v - 0.36 - 0.16 * k - 0.25 * (u - 0.5) ** 2, 0.018) * _step(0.3 - np.abs(u - 0.5), 0.03)
    height += _creases(rng, sheet, rows=9, columns=9, amount=0.002)
    albedo = colour * _weave(rng, sheet, 0.02)
    clip_width = float(rng.uniform(0.11, 0.15))
    clip = _bar(np.abs(u - 0.5) - clip_width, 0.01) * _bar(np.abs(v - 0.1 - 1.4 * (u - 0.5) ** 2) - 0.013, 0.004)
    clip *= float(rng.random() < 0.7)
    height += 0.006 * clip
    albedo += clip[..., None] * (np.float32((0.5, 0.51, 0.53)) - albedo)
    return height, albedo, {"bulge": bulge, "rim": rim, "ribs": ribs, "clip": bool(clip.any())}


def _kn95(sheet: Sheet, rng: np.random.Generator, colour: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    u, v = sheet.u, sheet.v
    fold = float(rng.uniform(0.25, 0.45))
    side = np.abs(u - 0.5)
    # Two flat halves meet in a crease, which shades them oppositely.
    height = 0.5 * sheet.face - fold * np.sqrt(side**2 + 0.012**2) - 0.3 * np.maximum(v - 0.5, 0) ** 2
    height += 0.006 * _groove(side, 0.008) + _creases(rng, sheet, rows=6, columns=7, amount=float(rng.uniform(0.003, 0.008)))
    dots = 0.5 + 0.5 * np.cos(2 * np.pi * 62 * np.where(side < 0.42, u, v))
    height -= 0.004 * _groove(sheet.inside - 0.028, 0.006) * dots
    height -= 0.004 * _groove(side - 0.014, 0.004) * (0.5 + 0.5 * np.cos(2 * np.pi * 62 * v))
    # A weld runs slanting from the nose to each ear loop.
    slant = float(rng.uniform(0.2, 0.45))
    weld = _groove(v - 0.2 - slant * side, 0.005) * _step(side - 0.12, 0.01)
    height -= 0.003 * weld * (0.5 + 0.5 * np.cos(2 * np.pi * 62 * u))
    return height, colour * _weave(rng, sheet, 0.012), {"fold": fold, "weld_slant": slant}


def _cloth(sheet: Sheet, rng: np.random.Generator, colour: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    u, v = sheet.u, sheet.v
    side = np.abs(u - 0.5)
    seam = bool(rng.random() < 0.6)
    height = sheet.face + _creases(rng, sheet, rows=6, columns=6, amount=float(rng.uniform(0.005, 0.013)))
    if seam:
        height -= 0.16 * np.sqrt(side**2 + 0.03**2) + 0.004 * _groove(side, 0.005)
    # Pulled by the ear loops, the cloth wrinkles outwards from the cheeks.
    pull = float(rng.uniform(0, 0.012))
    phases = rng.uniform(0, 2 * np.pi, 2).tolist()
    out, down = 0.47 - side, v - 0.36
    wrinkles = np.sin(9 * np.arctan2(down, out) + np.where(u < 0.5, *np.float32(phases)))
    height += pull * wrinkles * _groove(np.sqrt(out**2 + down**2) - 0.16, 0.14)
    hem = float(rng.uniform(0.02, 0.04))
    stitches = _groove(sheet.inside - hem, 0.003) * (0.6 + 0.4 * np.cos(2 * np.pi * 48 * (u + v)))
    height += 0.005 * _step(hem - sheet.inside, 0.006) - 0.003 * stitches
    return height, colour * _weave(rng, sheet, 0.04), {"seam": seam, "pull": pull, "hem": hem}


DRAWINGS: dict[str, Callable[[Sheet, np.random.Generator, np.ndarray], tuple[np.ndarray, np.ndarray, dict[str, Any]]]] = {
    "surgical": _surgical,
    "n95": _n95,
    "kn95": _kn95,
    "cloth": _cloth,
}


@functools.lru_cache(maxsize=32)
def _sheet(mask_type: str, pixels: int) -> Sheet:
    rows = round(DEPTH * pixels)
    v, u = np.mgrid[:rows, :pixels].astype(np.float32)
    u, v = (u + 0.5) / pixels, (v + 0.5) / pixels
    right = np.array(OUTLINES[mask_type])
    outline = _smooth(np.concatenate([right, (right * (-1, 1) + (1, 0))[-2:0:-1]]))
    # Drawn four times as large and averaged: exact enough for the distance and for the edge.
    fine = np.zeros((rows * 4, pixels * 4), np.uint8)
    cv2.fillPoly(fine, [np.rint(outline * pixels * 4 - 0.5).astype(np.int32)], 255)
    alpha = cv2.resize(fine, (pixels, rows), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    inside = cv2.distanceTransform((alpha > 0.5).astype(np.uint8), cv2.DIST_L2, 5) / np.float32(pixels)
    nose = np.exp(-(((u - 0.5) / (0.07 + 0.18 * v)) ** 2) - np.maximum(v - 0.24, 0) ** 2 / 0.025)
    face = 0.12 * nose - 1.1 * (u - 0.5) ** 2 - 1.8 * np.maximum(v - 0.5, 0) ** 2
    for array in (u, v, alpha, inside, nose, face):
        array.flags.writeable = False
    return Sheet(u, v, alpha, inside, nose, face, pixels)


def _smooth(points: np.ndarray, steps: int = 12) -> np.ndarray:
    """A closed Catmull-Rom curve through `points` `[N, 2]`."""
    p0, p1, p2, p3 = (np.roll(points, k, axis=0)[:, None] for k in (1, 0, -1, -2))
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    curve = 2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3
    return (curve / 2).reshape(-1, 2)


def _step(x: np.ndarray, width: float) -> np.ndarray:
    """Rises smoothly from 0 to 1 within `width` about x = 0."""
    t = np.clip(x / width + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def _bar(x: np.ndarray, width: float) -> np.ndarray:
    """1 where x < 0, falling to 0."""
    return _step(-x, width)


def _groove(x: np.ndarray, width: float) -> np.ndarray:
    """A smooth ridge of height 1 at x = 0, gone at twice `width` from it; subtract it for a groove."""
    t = np.maximum(1 - (x * (0.5 / width)) ** 2, 0)
    return t * t


def _saw_tooth(x: np.ndarray, length: float, edge: float) -> np.ndarray:
    """A fold seen from the side: rises over `length` up to x = 0 and drops within `edge` after it."""
    rise = np.clip(1 + x / length, 0, 1)
    return rise * rise * _step(-x, edge)


def _creases(rng: np.random.Generator, sheet: Sheet, rows: int, columns: int, amount: float) -> np.ndarray:
    """Soft folds: the valleys between random heights on a coarse grid, which are lines, and the heights themselves."""
    soft, lines = (
        cv2.resize(rng.standard_normal((rows, columns), np.float32), sheet.u.shape[::-1], interpolation=cv2.INTER_CUBIC)
        for _ in range(2)
    )
    return amount * (0.6 * soft + np.sqrt(lines**2 + 0.01))


def _weave(rng: np.random.Generator, sheet: Sheet, amount: float) -> np.ndarray:
    """Fine grain of the fabric as a factor of its colour, `[h, w, 1]`."""
    return (1 + amount * rng.standard_normal(sheet.u.shape, np.float32))[..., None]
