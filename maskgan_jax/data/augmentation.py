"""Variation of training records that goes beyond alignment: other masks, other light, worse cameras.

The generator of an inpainting network never sees what is hidden, so any part of a real face can be used in training. With the
drawn masks alone it learns that the chin ends where the mask does, which is not so for masks from elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from maskgan_jax.data.jpeg import through_jpeg
from maskgan_jax.data.points import eyes, face_width

Record = dict[str, np.ndarray]

# How far a drawn mask is moved: degrees, stretch along each axis, and shift as a fraction of the side.
MASK_ROTATION = 12.0
MASK_STRETCH = (0.75, 1.3)
MASK_SHIFT = 0.06


def vary_mask(record: Record, rng: np.random.Generator) -> Record:
    """The record with another mask and, in place of the masked image, the real one, of which that mask hides a part.

    About six of ten masks are the drawn one moved, turned and stretched; the others are jagged blobs, ellipses, free strokes
    (as in LaMa, Suvorov et al. 2022) and half planes below the nose. A third of those are joined with the drawn one.

    Args:
      record: of one face, as `training_batches` gives it.
      rng: draws all of it.
    """
    drawn, landmarks = record["mask"][..., 0], record["landmarks"]
    kind = rng.choice(["moved", "blob", "ellipses", "strokes", "half plane"], p=[0.6, 0.14, 0.08, 0.12, 0.06])
    if kind == "moved":
        mask = _moved(drawn, rng)
    else:
        draw = {"blob": _blob, "ellipses": _ellipses, "strokes": _strokes, "half plane": _half_plane}[kind]
        mask = draw(landmarks, len(drawn), rng)
        if rng.random() < 1 / 3:
            mask = cv2.bitwise_or(mask, drawn)
    mask = np.where(eyes(landmarks, mask.shape) > 0, np.uint8(0), mask)
    if not mask.any():  # Moved out of the image.
        mask = drawn
    return {**record, "masked": record["real"], "mask": mask[..., None]}


def _moved(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask turned, stretched and shifted about its middle."""
    side = len(mask)
    x, y, width, height = cv2.boundingRect(mask)
    middle = np.array([x + width / 2, y + height / 2])
    angle = np.radians(rng.uniform(-MASK_ROTATION, MASK_ROTATION))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn * rng.uniform(*MASK_STRETCH, 2)
    shift = middle - linear @ middle + rng.uniform(-MASK_SHIFT, MASK_SHIFT, 2) * side
    moved = cv2.warpAffine(mask, np.column_stack([linear, shift]), (side, side), flags=cv2.INTER_LINEAR)
    return cv2.threshold(moved, 127, 255, cv2.THRESH_BINARY)[1]


def _nose_and_width(landmarks: np.ndarray) -> tuple[np.ndarray, float]:
    """The tip of the nose's base, below which masks lie, and the width of the face; in pixels."""
    return landmarks[33], face_width(landmarks)


def _blob(landmarks: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """A polygon about the mouth with a jagged outline."""
    nose, width = _nose_and_width(landmarks)
    corners = int(rng.integers(5, 24))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radii = width * rng.uniform(0.3, 0.6) * rng.uniform(0.75, 1.2, corners)
    middle = nose + width * rng.uniform([-0.12, 0.0], [0.12, 0.3])
    points = middle + np.column_stack([np.cos(angles), rng.uniform(0.7, 1.1) * np.sin(angles)]) * radii[:, None]
    return cv2.fillPoly(np.zeros((side, side), np.uint8), [np.rint(points).astype(np.int32)], 255)


def _ellipses(landmarks: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """One to three ellipses on the lower face."""
    nose, width = _nose_and_width(landmarks)
    mask = np.zeros((side, side), np.uint8)
    for _ in range(rng.integers(1, 4)):
        middle = nose + width * rng.uniform([-0.35, -0.15], [0.35, 0.45])
        axes = width * rng.uniform(0.12, 0.45, 2)
        cv2.ellipse(mask, tuple(map(int, middle)), tuple(map(int, axes)), rng.uniform(0, 180), 0, 360, 255, -1)
    return mask


def _strokes(landmarks: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """One to four broken lines, drawn with a thick pen."""
    nose, width = _nose_and_width(landmarks)
    mask = np.zeros((side, side), np.uint8)
    for _ in range(rng.integers(1, 5)):
        steps = rng.normal(0, 0.22 * width, (rng.integers(2, 7), 2))
        points = nose + width * rng.uniform([-0.4, -0.1], [0.4, 0.4]) + np.cumsum(steps, axis=0)
        thickness = max(1, int(width * rng.uniform(0.08, 0.3)))
        cv2.polylines(mask, [np.rint(points).astype(np.int32)], False, 255, thickness)
    return mask


def _half_plane(landmarks: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """All that lies below a line near the nose."""
    nose, width = _nose_and_width(landmarks)
    x, y = np.arange(side), np.arange(side)[:, None]
    slope = np.tan(np.radians(rng.uniform(-15, 15)))
    return np.where(y > nose[1] + width * rng.uniform(-0.25, 0.25) + slope * (x - nose[0]), np.uint8(255), np.uint8(0))


def vary_light(record: Record, most: float, rng: np.random.Generator) -> Record:
    """The record in another light: gamma, contrast and the gain of each channel change, in both images alike.

    Args:
      record: of one face.
      most: the largest change, as a fraction.
      rng: draws the changes.
    """
    gamma, contrast = rng.uniform(1 - most, 1 + most, 2)
    gains = rng.uniform(1 - most, 1 + most) * rng.uniform(1 - most / 3, 1 + most / 3, 3)
    levels = np.linspace(0, 1, 256)[:, None] ** gamma * gains
    table = np.clip(np.rint(255 * (0.5 + contrast * (levels - 0.5))), 0, 255).astype(np.uint8)
    return change_both(record, lambda image: cv2.LUT(image, table[None]))


def degrade(record: Record, rng: np.random.Generator) -> Record:
    """The record as a worse camera gives it: both images blurred, noisy or compressed, by a little."""
    kind = rng.choice(["blur", "noise", "JPEG"])
    if kind == "blur":
        sigma = rng.uniform(0.4, 1.6)
        return change_both(record, lambda image: cv2.GaussianBlur(image, (0, 0), sigma))
    if kind == "noise":
        side = record["real"].shape[0]
        noise = rng.standard_normal((side, side, 3), np.float32) * np.float32(rng.uniform(1, 8))
        return change_both(record, lambda image: np.clip(np.rint(image + noise), 0, 255).astype(np.uint8))
    quality = int(rng.integers(35, 90))
    return change_both(record, lambda image: through_jpeg(image, quality))


def change_both(record: Record, change: Callable[[np.ndarray], np.ndarray]) -> Record:
    """The record with `real` and `masked` changed alike; where they are one image, it is changed once."""
    real = change(record["real"])
    return {**record, "real": real, "masked": real if record["masked"] is record["real"] else change(record["masked"])}
