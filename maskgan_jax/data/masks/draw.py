"""Draws a mask on a face: chooses one, fits it, lights it, blends it."""

from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import numpy as np
from ml_collections import ConfigDict

from maskgan_jax.data.masks import drawings
from maskgan_jax.data.masks.compositing import SUPERSAMPLING, blend, warp, window_of
from maskgan_jax.data.masks.geometry import homography, moved, side_of_face, six_points
from maskgan_jax.data.masks.light import light_of
from maskgan_jax.data.masks.templates import Template, lit, load_templates
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


@dataclasses.dataclass(frozen=True)
class Fit:
    """Which mask is drawn, and where: all that depends on the landmarks and not on the picture.

    Attributes:
      mask_type: as in `DrawnMask`.
      template: the one to draw, if `mask_type` is 'template'.
      size: height and width of the layer (see `compositing`) to draw.
      matrix: 3x3 homography from pixels of the layer to pixels of the face.
      parameters: what was drawn by lot for it.
    """

    mask_type: str
    template: Template | None
    size: tuple[int, int]
    matrix: np.ndarray
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
    fit = fit_mask(landmarks, rng, config, face.shape[:2])
    if fit.template:
        layer, factor = lit(fit.template, face, landmarks)
        if layer.shape[:2] != fit.size:
            layer = cv2.resize(layer, fit.size[::-1], interpolation=cv2.INTER_AREA)
        details = {"template": fit.template.name, "brightness": factor}
    else:
        light = light_of(face, landmarks)
        layer, details = drawings.draw(fit.mask_type, rng, light, fit.size[1])
        details = {**details, "light_colour": light.colour.tolist(), "light_direction": light.direction.tolist()}
    window, top, left = warp(layer, fit.matrix, face.shape[:2])
    picture, alpha = blend(face, window, top, left)
    return DrawnMask(picture, alpha, fit.mask_type, {"type": fit.mask_type, **fit.parameters, **details})


def fit_mask(landmarks: np.ndarray, rng: np.random.Generator, config: ConfigDict, size: tuple[int, int]) -> Fit:
    """Chooses a mask and fits it to a face: the first part of `draw_mask`, which tells cheaply whether the rest will succeed.

    Args:
      landmarks: `[68, 2]`, (x, y) in pixels of the face.
      rng: as for `draw_mask`; the same state gives the same fit.
      config: as for `draw_mask`.
      size: height and width of the face.

    Raises:
      UserError: as `draw_mask`.
    """
    landmarks = np.asarray(landmarks, np.float64)
    target = six_points(landmarks)
    mask_type = _choose(rng, config)
    moves = {
        "shift": rng.uniform(-config.mask_shift, config.mask_shift, 2).tolist(),
        "rotation": float(rng.uniform(-config.mask_rotation, config.mask_rotation)),
        "scale": float(1 + rng.uniform(-config.mask_scale, config.mask_scale)),
    }
    target = moved(target, **moves)
    width = SUPERSAMPLING * float(np.linalg.norm(target[2] - target[0]))
    template = None
    if mask_type == "template":
        templates = load_templates(config.mask_templates)
        views = templates[sorted(templates)[rng.integers(len(templates))]]
        template = views.get(side_of_face(landmarks), views["front"])
        layer_size, points = _reduced(template, width)
    else:
        # Rounded up to few sizes, so that the sheets of the drawings are made only once.
        layer_size, points = drawings.size_and_points(mask_type, int(np.clip(np.ceil(width / 32) * 32, 64, 4096)))
    matrix = homography(points, target)
    window_of(layer_size, matrix, size)  # Fails if the mask cannot be put there.
    return Fit(mask_type, template, layer_size, matrix, moves)


def check_masks(config: ConfigDict) -> None:
    """Checks `masks` and `mask_templates` of the `data` section of a config.

    Raises:
      UserError: an unknown type of mask, a weight that is none, or a faulty template folder.
    """
    weights = config.masks
    known = (*drawings.DRAWINGS, "template")
    for name, weight in weights.items():
        if name not in known:
            raise UserError(f"data.masks: there is no mask type {name!r}; the types are {', '.join(known)}")
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise UserError(f"data.masks.{name}: the weight must be a number, not a {type(weight).__name__}")
        if not 0 <= weight < np.inf:
            raise UserError(f"data.masks.{name}: the weight must be at least 0, not {weight}")
    if not any(weights.values()):
        raise UserError("data.masks: no mask type has a weight above 0; give one to those that are to be drawn")
    if not weights.get("template"):
        return
    if not config.mask_templates:
        raise UserError("data.masks gives 'template' a weight: set data.mask_templates to a folder with a masks.cfg")
    try:
        load_templates(config.mask_templates)
    except UserError as error:
        raise UserError(f"data.mask_templates: {error}") from error


def _choose(rng: np.random.Generator, config: ConfigDict) -> str:
    """A type of mask by the weights of `config.masks`."""
    check_masks(config)
    # Sorted: the order of the keys in a config file must not change what is drawn.
    weights = dict(sorted(config.masks.items()))
    shares = np.array(list(weights.values()), np.float64)
    return list(weights)[rng.choice(len(shares), p=shares / shares.sum())]


def _reduced(template: Template, width: float) -> tuple[tuple[int, int], np.ndarray]:
    """Height, width and points of a template shrunk until its points a and c are `width` pixels apart; never enlarged."""
    size, points = template.picture.shape[:2], template.points
    share = width / np.linalg.norm(points[2] - points[0])
    if share >= 1:
        return size, points
    shrunk = np.maximum(np.rint(np.multiply(size, share)).astype(int), 1)
    return tuple(shrunk.tolist()), (points + 0.5) * shrunk[::-1] / size[::-1] - 0.5
