"""Patterns printed on cloth, in colours that go with its own. No text, no logos."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from maskgan_jax.data.masks.compositing import to_linear, to_srgb
from maskgan_jax.data.masks.light import LUMINANCE
from maskgan_jax.data.masks.sheet import Sheet, noise, smoothstep


def _plain(sheet: Sheet, rng: np.random.Generator, srgb: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    return to_linear(srgb), {}


def _stripes(sheet: Sheet, rng: np.random.Generator, srgb: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    per_unit, width, angle = float(rng.uniform(4, 13)), float(rng.uniform(0.25, 0.6)), float(rng.choice((0, 90, 90, 45)))
    x, y = _draped(sheet, rng)
    along = x * np.float32(np.cos(np.radians(angle))) + y * np.float32(np.sin(np.radians(angle)))
    stripes = _bars(along * per_unit, width, per_unit / sheet.pixels)
    return _mixed(srgb, _partner(rng, srgb), stripes), {"stripes": per_unit, "share": width, "angle": angle}


def _checks(sheet: Sheet, rng: np.random.Generator, srgb: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """Gingham: where two woven stripes cross, both colours add."""
    per_unit = float(rng.uniform(3, 9))
    across, down = (_bars(axis * per_unit, 0.5, per_unit / sheet.pixels) for axis in _draped(sheet, rng))
    return _mixed(srgb, _partner(rng, srgb), (across + down) / 2), {"checks": per_unit}


def _dots(sheet: Sheet, rng: np.random.Generator, srgb: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    per_unit, radius = float(rng.uniform(4, 13)), float(rng.uniform(0.15, 0.36))
    u, v = (axis * per_unit for axis in _draped(sheet, rng))
    # Two square lattices, one in the gaps of the other.
    first = (u - np.rint(u)) ** 2 + (v - np.rint(v)) ** 2
    second = (u - np.floor(u) - 0.5) ** 2 + (v - np.floor(v) - 0.5) ** 2
    dots = smoothstep(radius - np.sqrt(np.minimum(first, second)), 2 * per_unit / sheet.pixels)
    return _mixed(srgb, _partner(rng, srgb), dots), {"dots": per_unit, "radius": radius}


def _flowers(sheet: Sheet, rng: np.random.Generator, srgb: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    size = float(rng.uniform(0.02, 0.08))
    height, width = sheet.x.shape
    count = int(float(rng.uniform(0.4, 1.6)) * height * width / (size * sheet.pixels) ** 2 / np.pi)
    colours = [_partner(rng, srgb) for _ in range(3)]
    leaf = np.array((60, 95, 55)) + rng.normal(0, 15, 3)
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = srgb
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    for _ in range(count):
        centre = rng.uniform((0, 0), (width, height))
        radius = size * sheet.pixels * rng.uniform(0.5, 1.2)
        if rng.random() < 0.35:
            axes = (max(1, round(radius)), max(1, round(0.4 * radius)))
            cv2.ellipse(
                canvas, np.rint(centre).astype(int).tolist(), axes, rng.uniform(0, 180), 0, 360, leaf.tolist(), -1, cv2.LINE_AA
            )
            continue
        petals = radius * (0.7 + 0.3 * np.cos(5 * turn + rng.uniform(0, 6)))
        ring = centre + np.stack([np.cos(turn), np.sin(turn)], axis=1) * petals[:, None]
        cv2.fillPoly(canvas, [np.rint(ring * 16).astype(np.int32)], colours[rng.integers(3)].tolist(), cv2.LINE_AA, shift=4)
        eye = max(1, round(0.22 * radius))
        cv2.circle(canvas, np.rint(centre).astype(int).tolist(), eye, (225, 190, 80), -1, cv2.LINE_AA)
    return to_linear(canvas), {"flower_size": size, "flowers": count}


def _camouflage(sheet: Sheet, rng: np.random.Generator, srgb: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """Blots in three shades of the ground, on top of each other."""
    size = float(rng.uniform(0.06, 0.14))
    layer = to_linear(srgb)
    for shade in (0.6, 1.5, 0.3):
        tone = to_linear(np.clip(srgb * shade + rng.normal(0, 8, 3), 8, 235).astype(np.float32))
        blots = smoothstep(noise(rng, sheet, size) + 0.4 * noise(rng, sheet, size / 3) - 0.35, 0.15)
        layer = layer + blots[..., None] * (tone - layer)
    return layer, {"blots": size}


# Functions that print a pattern, with random colours and sizes, on a sheet whose ground has a colour `[3]` in 0..255. They
# return the colours of the cloth, `[h, w, 3]` or `[3]` float32, linear, and the random choices.
PATTERNS: dict[str, Callable[[Sheet, np.random.Generator, np.ndarray], tuple[np.ndarray, dict[str, Any]]]] = {
    "plain": _plain,
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "flowers": _flowers,
    "camouflage": _camouflage,
}


def _draped(sheet: Sheet, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """x and y on the cloth, which is folded and not cut quite straight."""
    turn = float(rng.normal(0, 0.1))
    x, y = sheet.x + np.float32(turn) * sheet.y, sheet.y - np.float32(turn) * sheet.x
    wave = [sheet.enlarged(size * noise(rng, sheet.coarse, 0.2)) for size in (0.008, 0.012)]
    return x + wave[0], y + wave[1]


def _bars(x: np.ndarray, width: float, pixel: float) -> np.ndarray:
    """1 on a fraction `width` of each period of length 1, anti-aliased over a `pixel`."""
    offset = np.abs(x - np.rint(x))
    return smoothstep(np.float32(width / 2) - offset, 2 * pixel)


def _partner(rng: np.random.Generator, srgb: np.ndarray) -> np.ndarray:
    """A colour to print on another: white, near-black, or another hue, always well apart in lightness."""
    light = float(to_linear(srgb) @ LUMINANCE) > 0.18  # Middle grey.
    if rng.random() < 0.5:
        return np.array((40, 40, 44) if light else (232, 230, 226), np.float64) + rng.normal(0, 6, 3)
    hue, saturation = rng.random(), rng.uniform(0.15, 0.65)
    colour = np.array(colorsys.hsv_to_rgb(hue, saturation, 1.0), np.float32)
    # HSV's value is not lightness: a yellow of the same value is far lighter than a blue.
    wanted = float(rng.uniform(0.02, 0.06) if light else rng.uniform(0.45, 0.7))
    linear = to_linear(255 * colour)
    return to_srgb(np.clip(linear * wanted / float(linear @ LUMINANCE), 0, 1)).astype(np.float64)


def _mixed(srgb: np.ndarray, other: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """`[h, w, 3]`, linear: the first colour where `weight` is 0, the other where it is 1."""
    ground = to_linear(np.float32(srgb))
    return ground + weight[..., None] * (to_linear(np.float32(np.clip(other, 0, 255))) - ground)
