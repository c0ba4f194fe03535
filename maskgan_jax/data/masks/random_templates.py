"""Flat templates of face masks, drawn at random in another style than `catalogue`: unlike those that networks train on."""

from __future__ import annotations

import configparser
import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from maskgan_jax.data.masks.geometry import SIX_MEAN
from maskgan_jax.data.masks.templates import Template
from maskgan_jax.files import replacing, write_text

# In the frame of the face (`geometry`): right halves of outlines from the top of the nose to the chin.
SHAPES = {
    "rectangle": ((0, 0.16), (0.44, 0.2), (0.46, 0.66), (0, 0.72)),
    "trapezoid": ((0, 0.06), (0.28, 0.1), (0.5, 0.36), (0.33, 0.78), (0, 0.88)),
    "beak": ((0, -0.02), (0.16, 0.16), (0.5, 0.2), (0.48, 0.52), (0.2, 0.84), (0, 0.98)),
    "bib": ((0, 0.2), (0.5, 0.14), (0.49, 0.6), (0.42, 1.0), (0, 1.0)),
    "round": tuple((0.44 * np.sin(a), 0.5 - 0.38 * np.cos(a)) for a in np.linspace(0, np.pi, 12)),
}
PRINTS = ("plain", "stripes", "checks", "dots", "letters")
# Of the images: pixels to a width of the face, and where the top of the nose lies.
SCALE, ORIGIN = 320, (240, 60)


def draw_template(rng: np.random.Generator) -> Template:
    """A flat face mask as an RGBA image: of one of `SHAPES` and `PRINTS`, with a smooth or jagged outline."""
    name = str(rng.choice(list(SHAPES)))
    right = np.array(SHAPES[name])
    outline = np.vstack([right, (right * (-1, 1))[-2:0:-1]])
    outline = outline + rng.normal(0, 0.015, outline.shape)
    if rng.random() < 0.5:
        # Points along the outline, every other one moved in.
        ends = np.roll(outline, -1, axis=0)
        steps = np.linspace(0, 1, int(rng.integers(4, 10)), endpoint=False)
        outline = (outline[:, None] + steps[:, None] * (ends - outline)[:, None]).reshape(-1, 2)
        outline[::2] += (outline.mean(axis=0) - outline[::2]) * rng.uniform(0.03, 0.12)
    height, width = 420, 480
    colours = rng.uniform(10, 250, (2, 3))
    # From grey to vivid.
    colour, other = colours.mean(axis=1, keepdims=True) + rng.random() * (colours - colours.mean(axis=1, keepdims=True))
    printed = _print(str(rng.choice(PRINTS)), rng, height, width)
    image = np.zeros((height, width, 4), np.uint8)
    image[..., :3] = np.where(printed[..., None], other, colour)
    alpha = np.zeros((height, width), np.uint8)
    cv2.fillPoly(alpha, [np.rint(outline * SCALE + ORIGIN).astype(np.int32)], 255)
    image[..., 3] = alpha
    return Template(name, image, SIX_MEAN * SCALE + ORIGIN)


def write_templates(folder: str | Path, count: int, seed: int = 0) -> None:
    """Writes `count` of them as a folder of `load_templates`: `masks.cfg` and PNG files.

    Raises:
      UserError: they cannot be written.
    """
    folder = Path(folder)
    parser = configparser.ConfigParser(interpolation=None)
    for number in range(count):
        template = draw_template(np.random.default_rng((seed, number)))
        name = f"{template.name}_{number:03}"
        with replacing(folder / f"{name}.png") as temporary:
            Image.fromarray(template.image).save(temporary, "PNG")
        points = {f"mask_{letter}": f"{x:.2f}, {y:.2f}" for letter, (x, y) in zip("abcdef", template.points, strict=True)}
        parser[name] = {"template": f"{name}.png", **points}
    text = io.StringIO()
    parser.write(text)
    write_text(folder / "masks.cfg", text.getvalue())


def _print(name: str, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Where a print of `PRINTS` has its second colour, `[height, width]` bool."""
    y, x = np.mgrid[:height, :width]
    period = int(rng.integers(16, 60))
    if name == "stripes":
        direction = rng.uniform(0, np.pi)
        return (x * np.cos(direction) + y * np.sin(direction)) % period < period / 2
    if name == "checks":
        return (x // period + y // period) % 2 == 0
    if name == "dots":
        return np.hypot(x % period - period / 2, y % period - period / 2) < period / 4
    printed = np.zeros((height, width), np.uint8)
    if name == "letters":
        text = "".join(chr(letter) for letter in rng.integers(65, 91, 5))
        cv2.putText(printed, text, (70, 250), cv2.FONT_HERSHEY_DUPLEX, rng.uniform(2, 3.5), 255, int(rng.integers(4, 12)))
    return printed > 0
