"""The user's own mask templates: a folder in MaskTheFace's format, `masks.cfg` with RGBA images.

`masks.cfg` is an INI file with one section per template: `template`, the path of the image, and `mask_a` to `mask_f`,
the six points of `geometry.six_points` as `x, y` in its pixels. Sections NAME_left and NAME_right are the views for turned
faces. Empty sections, which MaskTheFace uses for other purposes, are ignored.
"""

from __future__ import annotations

import configparser
import dataclasses
import functools
import os
from pathlib import Path

import cv2
import numpy as np

from maskgan_jax.data.masks.compositing import to_linear
from maskgan_jax.data.masks.geometry import SIX_MEAN, Homography
from maskgan_jax.errors import UserError
from maskgan_jax.files import open_image, read_file

# Of masks.cfg, and of a template, which is drawn in float32.
MOST_MEGABYTES, MOST_MEGAPIXELS = 10, 25


@dataclasses.dataclass(frozen=True)
class Template:
    """A mask cut out of an image.

    Attributes:
      name: its section in `masks.cfg`.
      image: `[h, w, 4]` uint8, sRGB and alpha, not premultiplied.
      points: `[6, 2]`, a-f in pixels of the image; they may lie outside it.
    """

    name: str
    image: np.ndarray
    points: np.ndarray


@functools.lru_cache(maxsize=4)
def load_templates(folder: str) -> dict[str, dict[str, Template]]:
    """Reads a template folder.

    Args:
      folder: the one that holds `masks.cfg`.

    Returns:
      {name: {'front': ..., 'left': ..., 'right': ...}}; the side views only where there are some.

    Raises:
      UserError: a file is missing or is not an RGBA image, or a point is missing or malformed.
    """
    path = Path(folder) / "masks.cfg"
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(read_file(path, MOST_MEGABYTES).decode("utf-8-sig"))
    except UserError as error:
        raise UserError(f"{error}; give a folder with a masks.cfg") from error
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read {path} ({error}); give a folder with a masks.cfg") from error
    except configparser.Error as error:
        raise UserError(f"{path} is not a valid masks.cfg: {str(error).splitlines()[0]}") from error
    templates: dict[str, dict[str, Template]] = {}
    for section in parser.sections():
        if not parser.items(section):
            continue
        name, _, side = section.rpartition("_")
        if side.lower() not in ("left", "right"):
            name, side = section, "front"
        templates.setdefault(name, {})[side.lower()] = _read(path, section, parser[section])
    templates = {name: views for name, views in templates.items() if "front" in views}
    if not templates:
        raise UserError(f"{path} has no section with a front view (template and mask_a to mask_f)")
    return templates


def lit(template: Template, face: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, float]:
    """The template as a layer (see `compositing`), as bright as the face.

    The brightness is matched as MaskTheFace does it: V of HSV times 1 + the difference of the mean V of the face and of the
    mask (as fractions of 255). The face is the polygon of landmarks 0-16, 26-17; transparent pixels of the mask do not count.

    Args:
      template: what to draw.
      face: `[S, S, 3]` uint8.
      landmarks: `[68, 2]`, (x, y) in pixels of `face`.

    Returns:
      `[h, w, 4]` float32 and the factor of V.
    """
    alpha = template.image[..., 3:].astype(np.float32) / 255
    value = template.image[..., :3].max(axis=-1)
    outline = np.zeros(face.shape[:2], np.uint8)
    cv2.fillPoly(outline, [np.rint(landmarks[[*range(17), *range(26, 16, -1)]]).astype(np.int32)], 1)
    face_value = face.max(axis=-1)[outline > 0]
    face_mean = float(face_value.mean()) if face_value.size else 255.0
    mask_mean = float(np.average(value, weights=alpha[..., 0]))
    factor = 1 + (face_mean - mask_mean) / 255
    linear = to_linear(np.clip(template.image[..., :3] * np.float32(factor), 0, 255))
    return np.concatenate([linear * alpha, alpha], axis=-1), factor


def _read(path: Path, name: str, section: configparser.SectionProxy) -> Template:
    """The template of one section of the file `path`."""
    points = []
    for key in (f"mask_{letter}" for letter in "abcdef"):
        numbers = section.get(key, "").split(",")
        try:
            x, y = map(float, numbers)
            if not np.isfinite((x, y)).all():
                raise ValueError
        except ValueError as error:
            reason = f"{section[key]!r} is not 'x, y'" if key in section else "it is missing"
            raise UserError(f"{path}, section [{name}], {key}: {reason}") from error
        points.append((x, y))
    try:
        Homography(np.array(points), SIX_MEAN)
    except UserError as error:
        raise UserError(f"{path}, section [{name}]: the points mask_a to mask_f lie on a line") from error
    a, b, c, d, e, f = points
    if not (a[0] < b[0] < c[0] and d[0] < e[0] < f[0] and a[1] + b[1] + c[1] < d[1] + e[1] + f[1]):
        raise UserError(f"{path}, section [{name}]: mask_a, b, c must go from left to right along the top, d, e, f below them")
    if "template" not in section:
        raise UserError(f"{path}, section [{name}], template: it is missing; give the path of an RGBA image")
    # MaskTheFace writes paths from the folder above ('masks/templates/...').
    choices = [path.parent / section["template"], path.parent.parent / section["template"]]
    file = next(filter(os.path.isfile, choices), None)
    if file is None:
        raise UserError(f"{path}, section [{name}], template: there is no file {section['template']!r}")
    data = read_file(file)
    try:
        with open_image(data, MOST_MEGAPIXELS) as opened:
            image = np.array(opened.convert("RGBA")) if opened.has_transparency_data else None
    except UserError as error:
        raise UserError(f"{file} (section [{name}] of {path}) is {error}") from error
    if image is None:
        raise UserError(f"{file} (section [{name}] of {path}) is not an RGBA image; a template needs an alpha channel")
    if not image[..., 3].any():
        raise UserError(f"{file} (section [{name}] of {path}) is completely transparent")
    return Template(name, image, np.array(points))
