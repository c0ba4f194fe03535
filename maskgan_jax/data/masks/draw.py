"""Draws a mask on a face: chooses one, fits it, lights it, blends it."""

from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import numpy as np
from ml_collections import ConfigDict

from maskgan_jax.data.masks import drawings
from maskgan_jax.data.masks.compositing import SUPERSAMPLING, blend, warp
from maskgan_jax.data.masks.geometry import homography, moved, side_of_face, six_points
from maskgan_jax.data.masks.light import light_of
from maskgan_jax.data.masks.templates import lit, load_templates
from maskgan_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class DrawnMask:
    """A face with a mask drawn on it.

    Attributes:
      picture: `[S, S, 3]` uint8; equal to the face wherever `alpha` is 0.
      alpha: `[S, S]` float32 in 0..1, share of each pixel that the mask covers. The region to restore is `alpha > 0`.
      mask_type: 'surgical', 'n95', 'kn95', 'cloth' or 'template'.
      parameters: everything that was drawn by lot or measured, fit for JSON.
    """

    picture: np.ndarray
    alpha: np.ndarray
    mask_type: str
    parameters: dict[str, Any]


def draw_mask(face: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator, config: ConfigDict) -> DrawnMask:
    """Draws a mask on an aligned face.

    Args:
      face: `[S, S, 3]` uint8 RGB.
      landmarks: `[68, 2]`, (x, y) in pixels of `face`.
      rng: source of everything random; the same state gives the same bytes.
      config: the `data` section of a config: `masks`, `mask_templates`, `mask_shift`, `mask_rotation`, `mask_scale`.

    Raises:
      UserError: the landmarks do not form a face, or a setting or a template is wrong.
    """
    landmarks = np.asarray(landmarks, np.float64)
    target = six_points(landmarks)
    mask_type = _choose(rng, config)
    fit = {
        "shift": rng.uniform(-config.mask_shift, config.mask_shift, 2).tolist(),
        "rotation": float(rng.uniform(-config.mask_rotation, config.mask_rotation)),
        "scale": float(1 + rng.uniform(-config.mask_scale, config.mask_scale)),
    }
    target = moved(target, **fit)
    width = SUPERSAMPLING * float(np.linalg.norm(target[2] - target[0]))
    if mask_type == "template":
        layer, points, details = _template(face, landmarks, rng, config.mask_templates)
        layer, points = _reduced(layer, points, width)
    else:
        # Rounded up to few sizes, so that the sheets of the drawings are made only once.
        pixels = int(np.clip(np.ceil(width / 32) * 32, 64, 4096))
        light = light_of(face, landmarks)
        layer, points, details = drawings.draw(mask_type, rng, light, pixels)
        details = {**details, "light_colour": light.colour.tolist(), "light_direction": light.direction.tolist()}
    window, top, left = warp(layer, homography(points, target), face.shape[:2])
    picture, alpha = blend(face, window, top, left)
    return DrawnMask(picture, alpha, mask_type, {"type": mask_type, **fit, **details})


def _choose(rng: np.random.Generator, config: ConfigDict) -> str:
    """A type of mask by the weights of `config.masks`."""
    # Sorted: the order of the keys in a config file must not change what is drawn.
    weights = dict(sorted(config.masks.items()))
    known = (*drawings.DRAWINGS, "template")
    unknown = [name for name in weights if name not in known]
    if unknown:
        raise UserError(f"data.masks: there is no mask type {unknown[0]!r}; the types are {', '.join(known)}")
    shares = np.array(list(weights.values()), np.float64)
    if not shares.size or not np.isfinite(shares).all() or shares.min() < 0 or shares.sum() == 0:
        raise UserError(f"data.masks: the weights must be at least 0 and not all 0, but are {weights}")
    if weights.get("template") and not config.mask_templates:
        raise UserError("data.masks gives 'template' a weight: set data.mask_templates to a folder with a masks.cfg")
    return list(weights)[rng.choice(len(shares), p=shares / shares.sum())]


def _template(
    face: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator, folder: str
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """One of the user's templates, in the view that suits the face, with its points and what was chosen."""
    templates = load_templates(folder)
    views = templates[sorted(templates)[rng.integers(len(templates))]]
    template = views.get(side_of_face(landmarks), views["front"])
    layer, factor = lit(template, face, landmarks)
    return layer, template.points, {"template": template.name, "brightness": factor}


def _reduced(layer: np.ndarray, points: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """A layer shrunk until its points a and c are `width` pixels apart, averaging over areas; never enlarged."""
    share = width / np.linalg.norm(points[2] - points[0])
    if share >= 1:
        return layer, points
    size = np.maximum(np.rint(np.multiply(layer.shape[1::-1], share)).astype(int), 1)
    shrunk = cv2.resize(layer, size.tolist(), interpolation=cv2.INTER_AREA)
    return shrunk, (points + 0.5) * size / layer.shape[1::-1] - 0.5
