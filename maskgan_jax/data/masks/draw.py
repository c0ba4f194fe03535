"""Draws a face mask on a face: chooses one, fits it, lights it, and composites it as the camera would have seen it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from ml_collections import ConfigDict

from maskgan_jax.data.masks import camera, compositing, geometry
from maskgan_jax.data.masks.catalogue import MASKS, Colours, Mask
from maskgan_jax.data.masks.compositing import SUPERSAMPLING, to_linear
from maskgan_jax.data.masks.fit import Fit, choose, fit_mask
from maskgan_jax.data.masks.light import Light, compress_highlights, light_of, shade, shadow
from maskgan_jax.data.masks.patterns import PATTERNS
from maskgan_jax.data.masks.sheet import make_sheet
from maskgan_jax.data.masks.straps import draw_straps, skin_map
from maskgan_jax.data.masks.templates import Template, lit

# What is fainter than this is not drawn, so that the mask does not grow by pixels that look unchanged.
LEAST_ALPHA, LEAST_SHADOW = 0.5 / 255, 0.012


@dataclasses.dataclass(frozen=True)
class DrawnMask:
    """A face with a mask drawn on it.

    Attributes:
      image: `[S, S, 3]` uint8; equal to the face outside `mask`.
      alpha: `[S, S]` float32 in 0..1, fraction of each pixel that the face mask and its straps cover.
      shadow: `[S, S]` float32 in 0..1, fraction of the light that the face mask takes from the skin beside it.
      mask_type: one of `catalogue.MASKS`, or 'template'.
      parameters: random choices and measured values, as JSON can hold them; fine detail (wrinkles, weave) is not among them.
    """

    image: np.ndarray
    alpha: np.ndarray
    shadow: np.ndarray
    mask_type: str
    parameters: dict[str, Any]

    @property
    def mask(self) -> np.ndarray:
        """`[S, S]` bool: the pixels to restore, which the face mask covers or shades."""
        return (self.alpha > 0) | (self.shadow > 0)


def draw_mask(
    face: np.ndarray,
    landmarks: np.ndarray,
    rng: np.random.Generator,
    config: ConfigDict,
    compression: camera.Compression | None = None,
) -> DrawnMask:
    """Draws a mask on an aligned face.

    The face mask is blurred, gets noise and is compressed as the photo was, so that the two images of a pair differ by the
    face mask alone.

    Args:
      face: `[S, S, 3]` uint8 RGB.
      landmarks: `[68, 2]`, (x, y) in pixels of `face`.
      rng: the same state gives the same bytes.
      config: the `data` section of a config; the settings that begin with `mask` are used.
      compression: of the photo that the face was cropped from.

    Raises:
      UserError: the landmarks do not form a face, or a setting or a template is wrong.
    """
    landmarks = np.asarray(landmarks, np.float64)
    fit = fit_mask(landmarks, rng, config, face.shape[:2])
    light = light_of(face, landmarks)
    seen = camera.camera_of(face, landmarks)
    rows, columns = fit.window.slices
    under = to_linear(face[rows, columns])
    skin = skin_map(under, light)
    if fit.template:
        layer, details = _template_layer(fit.template, face, landmarks, fit)
    else:
        layer, details = _worn_layer(MASKS[fit.mask_type], fit, rng, config.mask_patterns, light, skin)
    reach, strength = float(rng.uniform(0.012, 0.03)) * (1 + fit.looseness), float(rng.uniform(0.3, 0.65))
    details |= {"shadow_reach": reach, "shadow_strength": strength}
    shade_of_mask = shadow(layer[..., 3], light, reach * fit.width, strength) * skin
    layer = camera.blurred(layer, seen.blur)
    alpha = layer[..., 3].clip(0, 1)
    alpha = np.where(alpha > LEAST_ALPHA, alpha, 0)
    shade_of_mask *= 1 - alpha
    shade_of_mask = np.where(shade_of_mask > LEAST_SHADOW, shade_of_mask, 0)
    # Merged, not broadcast: NumPy is slow along an axis of three.
    light_seen = layer[..., :3] + under * cv2.merge([(1 - alpha) * (1 - shade_of_mask)] * 3)
    grain = camera.grain(rng, alpha.shape, seen, light.saturation)
    drawn = compositing.to_srgb(light_seen) + cv2.merge([alpha] * 3) * grain
    drawn = camera.compressed(np.clip(np.rint(drawn), 0, 255).astype(np.uint8), compression)
    image = face.copy()
    changed = (alpha > 0) | (shade_of_mask > 0)
    np.copyto(image[rows, columns], drawn, where=changed[..., None])
    covered, shaded = np.zeros((2, *face.shape[:2]), np.float32)
    covered[rows, columns], shaded[rows, columns] = alpha, shade_of_mask
    parameters = {"type": fit.mask_type, **fit.parameters, **details, **_described(light, seen, compression)}
    return DrawnMask(image, covered, shaded, fit.mask_type, parameters)


def _worn_layer(
    mask: Mask, fit: Fit, rng: np.random.Generator, patterns: Mapping[str, float], light: Light, skin: np.ndarray
) -> tuple[np.ndarray, dict[str, Any]]:
    """Draws a face mask of `MASKS` with its straps: a layer of the window's pixels, and the details."""
    # Rounded up to one of few sizes, so that cached sheets can be used.
    pixels = int(np.clip(np.ceil(SUPERSAMPLING * fit.width / 32) * 32, 64, 4096))
    sheet = make_sheet(mask.outlines[fit.outline], pixels)
    colour, srgb = _draw_colour(rng, mask.colours)
    pattern = choose(rng, patterns) if mask.has_patterns else "plain"
    relief = mask.make(sheet, rng, fit.looseness)
    albedo, print_details = PATTERNS[pattern](sheet, rng, srgb)
    albedo = light.reflected(albedo)
    for coverage, paint in relief.parts:
        albedo = albedo + coverage[..., None] * (light.reflected(paint) - albedo)
    diffuse, sheen = shade(relief.height, light, pixels, mask.sheen * (0.1 + float(np.mean(albedo))))
    diffuse *= relief.fabric
    channels = [compress_highlights(diffuse * albedo[..., k] + sheen * light.colour[k]) * sheet.alpha for k in range(3)]
    layer = cv2.merge([*channels, sheet.alpha])
    layer = compositing.warp(layer, lambda points: sheet.to_pixels(fit.worn.to_frame(points)), fit.window)
    details = {"colour": colour, "srgb": [round(float(value), 1) for value in srgb], "pattern": pattern}
    if mask.straps:
        details["straps"], strap_srgb = _draw_colour(rng, mask.strap_colours)
        strap_colour = to_linear(srgb if details["straps"] == "own" else strap_srgb)
        straps, strap_details = draw_straps(mask.straps, rng, fit, strap_colour, light, skin)
        details |= strap_details
        # Under the mask.
        layer += straps * (1 - layer[..., 3:])
    return layer, {**details, **print_details, **relief.details}


def _draw_colour(rng: np.random.Generator, colours: Colours) -> tuple[str, np.ndarray]:
    """One of the colours, by name and as `[3]` in 0..255, a little varied, as dyes are."""
    name = choose(rng, {name: weight for name, (_, weight) in colours.items()})
    return name, np.clip(colours[name][0] + rng.normal(0, 3.5, 3) + rng.normal(0, 6), 6, 245).astype(np.float32)


def _template_layer(template: Template, face: np.ndarray, landmarks: np.ndarray, fit: Fit) -> tuple[np.ndarray, dict[str, Any]]:
    """The template as a layer of the window's pixels, and the details."""
    layer, factor = lit(template, face, landmarks)
    points = template.points
    # Reduced to the resolution that is needed; never enlarged.
    scale = SUPERSAMPLING * fit.width / float(np.linalg.norm(points[2] - points[0]))
    if scale < 1:
        size = np.maximum(np.rint(np.multiply(layer.shape[1::-1], scale)).astype(int), 1)
        points = (points + 0.5) * size / layer.shape[1::-1] - 0.5
        layer = cv2.resize(layer, size.tolist(), interpolation=cv2.INTER_AREA)
    flat = geometry.Homography(geometry.SIX_MEAN, points)
    layer = compositing.warp(layer, lambda places: flat.to_image(fit.worn.to_frame(places)), fit.window)
    return layer, {"template": template.name, "brightness": factor}


def _described(light: Light, seen: camera.Camera, compression: camera.Compression | None) -> dict[str, Any]:
    """Light, camera and compression, as JSON can hold them."""
    return {
        "light_colour": light.colour.tolist(),
        "light_direction": light.direction.tolist(),
        "ambient": light.ambient,
        "saturation": light.saturation,
        **dataclasses.asdict(seen),
        "compression": None if compression is None else dataclasses.asdict(compression),
    }
