"""Which face mask is drawn on a face, and where: all that depends on the landmarks and not on the image."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from maskgan_jax.data.masks import compositing, geometry
from maskgan_jax.data.masks.catalogue import MASKS, Strap
from maskgan_jax.data.masks.geometry import Mesh, Worn
from maskgan_jax.data.masks.patterns import PATTERNS
from maskgan_jax.data.masks.sheet import whole_outline
from maskgan_jax.data.masks.templates import Template, load_templates
from maskgan_jax.data.points import CONTOUR
from maskgan_jax.data.window import Window
from maskgan_jax.errors import UserError

# The top of a mask that is worn below the nose lies this much lower, in widths of the face; its bottom stays under the chin.
BELOW_NOSE = 0.27
# What a template may cover, in the frame of the face.
TEMPLATE_OUTLINE = np.array([(-0.62, -0.05), (0.62, -0.05), (0.62, 1.0), (-0.62, 1.0)])


@dataclasses.dataclass(frozen=True)
class Fit:
    """A face mask, fitted to a face.

    Attributes:
      mask_type: one of `catalogue.MASKS`, or 'template'.
      template: the one to draw, if `mask_type` is 'template'.
      outline: number of its outline among those of its type, if it is not a template.
      worn: how it sits.
      width: of the face, in pixels.
      window: part of the image that is drawn.
      looseness: of the mask, 0..1.
      parameters: the random choices made.
    """

    mask_type: str
    template: Template | None
    outline: int | None
    worn: Worn
    width: float
    window: Window
    looseness: float
    parameters: dict[str, Any]


def fit_mask(landmarks: np.ndarray, rng: np.random.Generator, config: ConfigDict, shape: tuple[int, int]) -> Fit:
    """Chooses a face mask and fits it to a face: the cheap first part of `draw_mask`, which fails if the whole would fail.

    Args:
      landmarks: `[68, 2]`, (x, y) in pixels of the face.
      rng: as for `draw_mask`; the same state gives the same fit.
      config: as for `draw_mask`.
      shape: height and width of the face.

    Raises:
      UserError: as `draw_mask`.
    """
    landmarks = np.asarray(landmarks, np.float64)
    six = geometry.six_points(landmarks)
    check_masks(config)
    mask_type = choose(rng, config.masks)
    parameters = _draw_parameters(rng, config)
    template, number, straps = None, None, ()
    if mask_type == "template":
        template = _choose_template(landmarks, rng, config.mask_templates)
        outline = TEMPLATE_OUTLINE
    else:
        mask = MASKS[mask_type]
        parameters["outline"] = number = int(rng.integers(len(mask.outlines)))
        outline, straps = whole_outline(mask.outlines[number]), mask.straps
    placement = geometry.Homography(geometry.SIX_MEAN, six)
    if config.mask_fit == "mesh":
        placement = _mesh(landmarks, rng, parameters["looseness"])
    top = float(outline[:, 1].min())
    squeeze = 1 - BELOW_NOSE * parameters["below_nose"] / (geometry.CHIN[1] - top)
    worn = Worn(placement, parameters["shift"], parameters["rotation"], parameters["scale"], squeeze)
    # Not `face_width`, whose last bit may differ: the same records are to come again.
    width = float(np.linalg.norm(landmarks[16] - landmarks[0]))
    window = _window(worn, outline, straps, width, shape)
    return Fit(mask_type, template, number, worn, width, window, parameters["looseness"], parameters)


def _draw_parameters(rng: np.random.Generator, config: ConfigDict) -> dict[str, Any]:
    """How a face mask is worn."""
    low = bool(rng.random() < config.mask_below_nose)
    shift = rng.uniform(-config.mask_shift, config.mask_shift, 2)
    shift[1] += rng.uniform(-config.mask_height, config.mask_height)
    looseness = float(rng.uniform(0, config.mask_looseness))
    return {
        "shift": shift.tolist(),
        "below_nose": low,
        "rotation": float(rng.uniform(-config.mask_rotation, config.mask_rotation)),
        "scale": float(1 + rng.uniform(-config.mask_scale, config.mask_scale)),
        "looseness": looseness,
        "fit": config.mask_fit,
    }


def _choose_template(landmarks: np.ndarray, rng: np.random.Generator, folder: str) -> Template:
    """One of the templates in a folder, in the view that a face needs."""
    templates = load_templates(folder)
    views = templates[sorted(templates)[rng.integers(len(templates))]]
    return views.get(geometry.side_of_face(landmarks), views["front"])


def _window(worn: Worn, outline: np.ndarray, straps: Sequence[Strap], width: float, shape: tuple[int, int]) -> Window:
    """The part of an image of `shape` (height, width) that a face mask and its straps reach, with room for shadow and blur.

    Raises:
      UserError: the mask would be folded or turned over, or lies outside the image.
    """
    reached = worn.to_image(outline)
    if not np.isfinite(reached).all() or not geometry.keeps_orientation(worn.to_image, outline):
        raise UserError(geometry.UNFIT)
    if straps:
        ends = np.array([strap.end for strap in straps])
        reached = np.concatenate([reached, worn.placement.to_image(ends), worn.placement.to_image(ends * (-1, 1))])
    window = compositing.window_about(reached, 0.1 * width + 2, shape)
    # The inverse must not fold either: a mesh does on profiles, and a homography has a horizon.
    corners = np.add(window[:2], [(0, 0), window[2:]])
    if not geometry.keeps_orientation(worn.to_frame, corners):
        raise UserError(geometry.UNFIT)
    return window


def _mesh(landmarks: np.ndarray, rng: np.random.Generator, looseness: float) -> Mesh:
    """The mesh from the frame of the face to this face, along its contour and nose, for a face mask of some looseness."""
    # A loose mask stands off the cheeks, and no two hang the same way.
    contour = geometry.CONTOUR_MEAN * (1 - 0.04 * looseness, 1) + rng.normal(0, 0.008, geometry.CONTOUR_MEAN.shape)
    frame = np.concatenate([contour, geometry.NOSE_MEAN])
    return Mesh(frame, np.concatenate([landmarks[CONTOUR], landmarks[geometry.NOSE]]))


def check_masks(config: ConfigDict) -> None:
    """Checks `masks`, `mask_patterns` and `mask_templates` of the `data` section of a config.

    Raises:
      UserError: an unknown type or pattern, an invalid weight, or a template folder that is faulty or not used.
    """
    _check_weights("masks", config.masks, "mask type", (*MASKS, "template"))
    _check_weights("mask_patterns", config.mask_patterns, "pattern", tuple(PATTERNS))
    if not config.masks.get("template"):
        if config.mask_templates:
            raise UserError("no mask is drawn from the folder in data.mask_templates: give 'template' a weight in data.masks")
        return
    if not config.mask_templates:
        raise UserError("data.masks gives 'template' a weight: set data.mask_templates to a folder with a masks.cfg")
    try:
        load_templates(config.mask_templates)
    except UserError as error:
        raise UserError(f"data.mask_templates: {error}") from error


def _check_weights(setting: str, weights: Mapping[str, float], what: str, known: tuple[str, ...]) -> None:
    for name, weight in weights.items():
        if name not in known:
            raise UserError(f"data.{setting}: there is no {what} {name!r}; the {what}s are {', '.join(known)}")
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise UserError(f"data.{setting}.{name}: the weight must be a number, not a {type(weight).__name__}")
        if not 0 <= weight < np.inf:
            raise UserError(f"data.{setting}.{name}: the weight must be a finite number of at least 0, not {weight}")
    if not any(weights.values()):
        raise UserError(f"data.{setting}: no {what} has a weight above 0; give one to those that are to be drawn")


def choose(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    """Draws a name with probability proportional to its weight."""
    # Sorted: the order of the keys in a config file must not change what is drawn.
    names = sorted(weights)
    values = np.array([weights[name] for name in names], np.float64)
    return names[rng.choice(len(names), p=values / values.sum())]
