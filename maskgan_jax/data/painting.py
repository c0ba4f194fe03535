"""Light and soft brushes for painting surfaces that are given by points in 3D."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from maskgan_jax.data.rendered.head_model import Projection
from maskgan_jax.data.window import Window


@dataclass(frozen=True)
class Lamp:
    """Direction `[3]` towards the lamp, its colour and that of the ambient light `[3]`."""

    direction: np.ndarray
    colour: np.ndarray
    ambient: np.ndarray


def draw_lamp(rng: np.random.Generator) -> Lamp:
    """A lamp in front of the head and above it, more or less warm, more or less harsh."""
    azimuth, elevation = np.radians(rng.uniform(-55, 55)), np.radians(rng.uniform(5, 50))
    level = np.cos(elevation)
    direction = np.float32([np.sin(azimuth) * level, -np.sin(elevation), np.cos(azimuth) * level])
    warmth = rng.normal(0, 0.05) * np.array([1, 0.1, -1])
    ambient = rng.uniform(0.22, 0.45)
    colour = (rng.uniform(0.9, 1.06) - ambient) * (1 + warmth)
    return Lamp(direction, colour.astype(np.float32), (ambient * (1 - 0.5 * warmth)).astype(np.float32))


def spline(points: np.ndarray, closed: bool = True, steps: int = 8) -> np.ndarray:
    """A smooth (Catmull-Rom) curve through `points` `[N, D]`, with `steps` vertices per segment."""
    points = np.asarray(points, np.float64)
    if closed:
        before, start, end, after = (np.roll(points, shift, axis=0) for shift in (1, 0, -1, -2))
    else:
        ends = np.concatenate([points[:1], points, points[-1:]])
        before, start, end, after = ends[:-3], ends[1:-2], ends[2:-1], ends[3:]
    before, start, end, after = (p[:, None] for p in (before, start, end, after))
    t = np.linspace(0, 1, steps, endpoint=not closed)[None, :, None]
    bend, twist = 2 * before - 5 * start + 4 * end - after, 3 * (start - end) + after - before
    curve = start + 0.5 * t * (end - before + t * (bend + t * twist))
    return curve.reshape(-1, points.shape[1])


def coverage_in_window(outline: np.ndarray, size: int, softness: float = 0.0) -> tuple[Window, np.ndarray]:
    """The fraction of each pixel that a polygon covers, grown by about 0.3 pixels, as OpenCV fills its outline, too.

    Args:
      outline: `[N, 2]`, (x, y) in pixels.
      size: side of the image.
      softness: standard deviation of the blur of the edge, in pixels.

    Returns:
      The window of the image that is affected, and the coverage of its pixels, `[h, w]` in 0..1.
    """
    margin = 3 * softness + 2
    low, high = np.floor(outline.min(0) - margin), np.ceil(outline.max(0) + margin)
    window = Window.clipped(low, high, (size, size), least=1)
    # Twice as fine, then averaged: pixel i is the mean of 2i and 2i + 1.
    fine = np.zeros((2 * window.height, 2 * window.width), np.uint8)
    cv2.fillPoly(fine, [np.round((2 * (outline - window[:2]) + 0.5) * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    alpha = cv2.resize(fine, window[2:], interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    if softness > 0.3:
        alpha = cv2.GaussianBlur(alpha, (0, 0), softness, borderType=cv2.BORDER_REPLICATE)
    return window, alpha


@dataclass(frozen=True)
class Brush:
    """Paints smooth shapes on `canvas` `[size, size, 3]`, in place, in face coordinates; widths and softness are in mm."""

    canvas: np.ndarray
    projection: Projection

    def shape(self, points: np.ndarray, colour: np.ndarray, softness: float, opacity: float = 1.0) -> None:
        """Fills the closed curve through `points` `[N, 3]`."""
        self._fill(spline(self.projection.project(points)), colour, softness, opacity)

    def line(self, points: np.ndarray, width: float | list, colour: np.ndarray, softness: float, opacity: float = 1.0) -> None:
        """Draws an open curve through `points` `[N, 3]`; several widths are spread evenly along it."""
        curve = spline(self.projection.project(points), closed=False)
        width = np.atleast_1d(width) * self.projection.scale
        width = np.interp(np.linspace(0, 1, len(curve)), np.linspace(0, 1, len(width)), width)
        along = np.gradient(curve, axis=0)
        across = np.stack([-along[:, 1], along[:, 0]], 1) / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
        across *= width[:, None] / 2
        self._fill(np.concatenate([curve + across, (curve - across)[::-1]]), colour, softness, opacity)

    def spot(self, point: np.ndarray, radius: float | tuple, colour: np.ndarray, softness: float, opacity: float = 1.0) -> None:
        """Fills a disc, or an ellipse of radii (x, y), about `point` `[3]`."""
        angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        ring = np.stack([np.cos(angle), np.sin(angle)], 1) * radius * self.projection.scale
        self._fill(self.projection.project(point) + ring, colour, softness, opacity)

    def _fill(self, outline: np.ndarray, colour: np.ndarray, softness: float, opacity: float) -> None:
        window, alpha = coverage_in_window(outline, len(self.canvas), softness * self.projection.scale)
        part = self.canvas[window.slices]
        part += opacity * alpha[..., None] * (np.asarray(colour, np.float32) - part)


def coverage(outline: np.ndarray, size: int, softness: float = 0.0) -> np.ndarray:
    """Coverage of the whole image, `[size, size]`."""
    alpha = np.zeros((size, size), np.float32)
    window, part = coverage_in_window(outline, size, softness)
    alpha[window.slices] = part
    return alpha


def inflate(alpha: np.ndarray, radius: float) -> np.ndarray:
    """The height, in pixels, of a cushion over a shape: rounded within about `radius` pixels of the edge, flat inside."""
    small = cv2.resize(alpha, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), radius / 8, borderType=cv2.BORDER_REPLICATE)
    inside = cv2.resize(small, alpha.shape[::-1], interpolation=cv2.INTER_CUBIC)
    # The blurred shape is about a half at its edge, less at corners; the slope must extend beyond both.
    inside = np.clip((cv2.GaussianBlur(inside, (0, 0), 3) - 0.3) / 0.7, 0, 1)
    return radius * np.sqrt(inside * (2 - inside) + 0.01)


def compose(
    image: np.ndarray, alpha: np.ndarray, albedo: np.ndarray, height: np.ndarray, lamp: Lamp, gloss: float, shadow: float
) -> None:
    """Lights a surface and composites it onto the image, in place, with its soft shadow on what is below.

    Args:
      image: `[size, size, 3]`.
      alpha: where the surface is, `[size, size]` in 0..1.
      albedo: its colour, `[size, size, 3]` or `[3]`.
      height: its relief in pixels, `[size, size]`.
      lamp: the light.
      gloss: strength of the highlights.
      shadow: distance of the shadow in pixels.
    """
    # Only the part of the image that changes.
    window = Window.holding(np.uint8(alpha > 0), margin=int(4 * shadow) + 2).slices
    image, alpha, height = image[window], alpha[window], height[window]
    albedo = albedo[window] if albedo.ndim == 3 else albedo

    away = np.float32([[1, 0, -0.6 * shadow * lamp.direction[0]], [0, 1, shadow * max(0.5, -lamp.direction[1])]])
    cast = cv2.warpAffine(alpha, away, alpha.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
    image *= 1 - 0.5 * cv2.GaussianBlur(cast, (0, 0), shadow)[..., None]

    dx, dy = (cv2.Sobel(height, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
    upright = 1 / np.sqrt(dx * dx + dy * dy + 1)
    x, y, z = lamp.direction
    facing = (z - x * dx - y * dy) * upright
    x, y, z = (lamp.direction + (0, 0, 1)) / np.linalg.norm(lamp.direction + (0, 0, 1))
    shine = gloss * cv2.pow(np.clip((z - x * dx - y * dy) * upright, 0, 1), 24)
    # The ambient light comes more from above than from below; red light goes further round corners, as in skin.
    fill = 0.85 + 0.25 * dy * upright
    planes = []
    for channel, wrap in enumerate((0.45, 0.3, 0.25)):
        diffuse = np.maximum((facing + wrap) / (1 + wrap), 0)
        # Colours are square roots of light, close to sRGB, so they are multiplied by the root of the light.
        planes.append(np.sqrt(lamp.ambient[channel] * fill + lamp.colour[channel] * diffuse))
    lit = cv2.merge(planes) * albedo + cv2.merge([shine] * 3)
    image += cv2.merge([alpha] * 3) * (lit - image)
