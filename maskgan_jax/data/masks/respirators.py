"""Respirators: the stiff cup of an N95 and the folded boat of a KN95."""

from __future__ import annotations

import numpy as np

from maskgan_jax.data.masks.sheet import Relief, Sheet, band, creases, noise, pulled, ridge, smoothstep, weave

N95_OUTLINE = ((0.0, 0.055), (0.055, 0.07), (0.125, 0.145), (0.215, 0.215), (0.31, 0.28), (0.365, 0.375), (0.38, 0.48)) + (
    (0.362, 0.59), (0.312, 0.695), (0.22, 0.785), (0.11, 0.845), (0.0, 0.862))  # fmt: skip
KN95_OUTLINE = ((0.0, 0.04), (0.045, 0.06), (0.1, 0.13), (0.2, 0.185), (0.33, 0.22), (0.44, 0.242), (0.474, 0.262)) + (
    (0.476, 0.305), (0.458, 0.42), (0.41, 0.555), (0.33, 0.685), (0.22, 0.795), (0.1, 0.868), (0.0, 0.884))  # fmt: skip

METAL = np.array((0.42, 0.43, 0.44), np.float32)


def n95(sheet: Sheet, rng: np.random.Generator, looseness: float) -> Relief:
    """A moulded cup with ribs or a fold of three panels, a pressed rim, a nose clip and sometimes a valve."""
    x, y, side = sheet.x, sheet.y, sheet.side
    bulge = float(rng.uniform(0.22, 0.34))
    rim = float(rng.uniform(0.02, 0.032))
    cup = np.sqrt(np.maximum(1 - (x / 0.4) ** 2 - ((y - 0.46) / 0.42) ** 2, 0))
    # Flatter at the rim than a hemisphere.
    height = bulge * cup * np.sqrt(cup) + 0.05 * ridge(side, 0.05 + 0.1 * float(rng.random())) * smoothstep(0.3 - y, 0.3)
    height += 0.005 * smoothstep(rim - sheet.inside, 0.008) - 0.004 * ridge(sheet.inside - rim - 0.006, 0.006)
    panels = bool(rng.random() < 0.3)
    ribs = 0 if panels else int(rng.integers(0, 4))
    if panels:
        # Folded flat when new: two seams run from side to side.
        for seam in (0.31 + 0.6 * side**2, 0.63 - 0.9 * side**2):
            height += 0.012 * ridge(y - seam, 0.03) - 0.006 * ridge(y - seam, 0.005)
    for k in range(ribs):
        line = y - 0.36 - 0.12 * k - 0.5 * (0.1 * k - 0.1) * side
        height += 0.005 * ridge(line, 0.016) * smoothstep(0.29 - side, 0.04)
    height += sheet.enlarged((0.003 + 0.003 * looseness) * creases(rng, sheet.coarse, 0.13))
    clipped = bool(rng.random() < 0.7)
    parts = []
    if clipped:
        width = float(rng.uniform(0.1, 0.14))
        clip = smoothstep(width - side, 0.01) * smoothstep(0.012 - np.abs(y - 0.115 - 1.3 * x**2), 0.005)
        height += 0.006 * clip
        parts.append((clip, METAL))
    details = {"bulge": bulge, "rim": rim, "ribs": ribs, "panels": panels, "clip": clipped}
    if rng.random() < 0.25:
        details["valve"] = put_valve(sheet, rng, height, parts, at=(float(rng.choice((0.0, 0.12, -0.12))), 0.5))
    return Relief(height, weave(rng, sheet, 0.02) + sheet.enlarged(0.015 * noise(rng, sheet.coarse, 0.05)), parts, details)


def kn95(sheet: Sheet, rng: np.random.Generator, looseness: float) -> Relief:
    """Two flat halves that meet in a crease from nose to chin, with welded dots."""
    x, y, side = sheet.x, sheet.y, sheet.side
    crease = float(rng.uniform(0.22, 0.48))
    # Two flat halves meet in a crease, which shades them oppositely.
    height = 0.45 * sheet.face - crease * np.sqrt(side**2 + 0.03**2) - 0.5 * np.maximum(y - 0.5, 0) ** 2
    height += 0.005 * ridge(side, 0.006)
    dents = (0.007 + 0.008 * looseness) * creases(rng, sheet.coarse, 0.19) + 0.0015 * creases(rng, sheet.coarse, 0.06)
    gathers = (0.008 + 0.008 * looseness) * pulled(rng, sheet.coarse, (0.475, 0.28), 0.24, 9)
    height += sheet.enlarged(dents + gathers)
    dots = 0.5 + 0.5 * np.cos(np.float32(2 * np.pi * 62) * np.where(side < 0.42, x, y))
    height -= 0.003 * ridge(sheet.inside - 0.026, 0.005) * dots
    height -= 0.003 * ridge(side - 0.014, 0.004) * (0.5 + 0.5 * np.cos(np.float32(2 * np.pi * 62) * y))
    # A weld runs slanting from the nose to each ear loop.
    slant = float(rng.uniform(0.25, 0.5))
    weld = ridge(y - 0.17 - slant * side, 0.005) * smoothstep(side - 0.12, 0.01)
    height -= 0.003 * weld * (0.5 + 0.5 * np.cos(np.float32(2 * np.pi * 62) * x))
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    clipped = bool(rng.random() < 0.25)
    if clipped:
        clip = smoothstep(0.11 - side, 0.01) * smoothstep(0.011 - np.abs(y - 0.1 - 1.1 * side), 0.005)
        height += 0.005 * clip
        parts.append((clip, METAL))
    details = {"crease": crease, "weld_slant": slant, "clip": clipped}
    if rng.random() < 0.2:
        details["valve"] = put_valve(sheet, rng, height, parts, at=(float(rng.choice((-0.17, 0.17))), 0.5))
    return Relief(height, weave(rng, sheet, 0.012) + sheet.enlarged(0.01 * noise(rng, sheet.coarse, 0.1)), parts, details)


def put_valve(
    sheet: Sheet,
    rng: np.random.Generator,
    height: np.ndarray,
    parts: list[tuple[np.ndarray, np.ndarray]],
    at: tuple[float, float],
) -> dict[str, float]:
    """Puts a round valve on a mask: a flat disc with a ring of slots; it changes `height` and `parts`."""
    radius = float(rng.uniform(0.06, 0.085))
    dx, dy = sheet.x - at[0], sheet.y - at[1]
    distance = np.sqrt(dx**2 + dy**2)
    disc = smoothstep(radius - distance, 0.008)
    # Hard plastic hides the fabric's relief.
    column, row = np.rint(sheet.to_pixels(np.array(at))).astype(int)
    height += disc * (0.02 + height[row, column] - height)
    slots = smoothstep(np.cos(np.arctan2(dy, dx) * 10), 0.6) * band(distance, 0.45 * radius, 0.75 * radius, 0.01)
    height -= 0.006 * slots + 0.004 * ridge(distance - 0.85 * radius, 0.006)
    grey = float(rng.choice((0.8, 0.8, 0.4, 0.04)))
    parts.append((disc, np.full(3, grey, np.float32)))
    parts.append((0.6 * slots, np.full(3, 0.3 * grey, np.float32)))
    return {"x": at[0], "y": at[1], "radius": radius, "grey": grey}
