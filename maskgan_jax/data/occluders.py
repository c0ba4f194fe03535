"""Things in front of a face: hands, cups, microphones, phones, strands of hair, glasses. In a photo that is unmasked they stay.

They are drawn on both images of a record alike, and are not part of its mask. Lengths are fractions of the face's width, from
ear to ear.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from maskgan_jax.data.augmentation import Record
from maskgan_jax.data.painting import compose, draw_lamp, spline
from maskgan_jax.data.points import eye_centres, face_width

# Shapes are drawn so many times larger, then averaged.
SUPERSAMPLING = 4

# Fingers, from the index to the little one: where they begin across the palm, and their lengths.
FINGERS = ((-0.15, 0.4), (-0.05, 0.45), (0.05, 0.42), (0.15, 0.33))


class Layer(NamedTuple):
    """A surface in front of a face.

    Attributes:
      alpha: where it is, `[S, S]` float32 in 0..1.
      albedo: its colour, `[S, S, 3]` or `[3]` in 0..1.
      relief: its height in pixels, `[S, S]`.
      gloss: strength of its highlights.
    """

    alpha: np.ndarray
    albedo: np.ndarray
    relief: np.ndarray
    gloss: float = 0.03


class FaceView(NamedTuple):
    """The face that things are put in front of: its image `[S, S, 3]` in 0..1, landmarks, width and side in pixels."""

    image: np.ndarray
    landmarks: np.ndarray
    width: float
    side: int

    def place(self, across: float, down: float) -> np.ndarray:
        """The point so many widths to the right of the base of the nose, and below it."""
        return self.landmarks[33] + np.array([across, down]) * self.width

    def skin(self) -> np.ndarray:
        """The colour of its skin, `[3]`: the median about the bridge of the nose."""
        x, y = np.clip(np.rint(self.landmarks[28]).astype(int), 0, self.side - 1)
        reach = max(1, self.side // 32)
        about = np.s_[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        return np.median(self.image[about].reshape(-1, 3), axis=0)


def occlude(record: Record, rng: np.random.Generator) -> Record:
    """The record with one or two things in front of the face, in both images alike; they are taken out of the mask.

    Args:
      record: of one face, as `training_batches` gives it. A mask of which nothing is left stays as it was.
      rng: draws everything.
    """
    landmarks, side = record["landmarks"], len(record["real"])
    view = FaceView(record["real"] / np.float32(255), landmarks, face_width(landmarks), side)
    kinds = rng.choice(len(OCCLUDERS), size=rng.choice([1, 2], p=[0.75, 0.25]), replace=False, p=[p for _, p in OCCLUDERS])
    layers = [layer for kind in kinds for layer in OCCLUDERS[kind][0](view, rng)]
    lamp, shadow = draw_lamp(rng), view.width * rng.uniform(0.01, 0.04)
    images = {}
    for name in ("real", "masked"):
        if name == "masked" and record["masked"] is record["real"]:
            images[name] = images["real"]
            continue
        image = record[name] / np.float32(255)
        for layer in layers:
            if layer.alpha.any():
                compose(image, layer.alpha, layer.albedo, layer.relief, lamp, layer.gloss, shadow)
        images[name] = np.clip(np.rint(255 * image), 0, 255).astype(np.uint8)
    # A pixel that is mixed of both is still the mask's.
    in_front = np.max([layer.alpha for layer in layers], axis=0) > 0.75
    mask = np.where(in_front[..., None], np.uint8(0), record["mask"])
    return record if record["mask"].any() and not mask.any() else {**record, **images, "mask": mask}


def hand(view: FaceView, rng: np.random.Generator) -> list[Layer]:
    """A hand from below or from a side, with its fingers about the mouth; with a forearm or a sleeve."""
    size = view.width * rng.uniform(0.8, 1.15)
    # The hand's own frame: fingers point along its second axis.
    angle = np.radians(rng.uniform(-110, 110))
    along = np.array([np.sin(angle), -np.cos(angle)])
    across = np.array([-along[1], along[0]]) * rng.choice([-1, 1])
    palm = view.place(*rng.normal([0, 0.2], [0.2, 0.15])) - along * size * rng.uniform(0.15, 0.55)

    def at(x: float, y: float) -> np.ndarray:
        return palm + size * (x * across + y * along)

    skin = np.clip(view.skin() * rng.uniform(0.9, 1.1) * rng.uniform(0.97, 1.03, 3) / 0.86, 0, 1)
    sleeve = rng.uniform(0.05, 0.95, 3) if rng.random() < 0.5 else skin
    parts = [
        (sleeve, [at(0, -0.35), at(0, -2)], [0.17, 0.22]),
        (skin, [at(0, -0.35), at(0, -0.12), at(0, 0.1)], [0.15, 0.2, 0.19]),
    ]
    bend, spread = rng.uniform(0, 0.06), rng.uniform(0, 0.6)
    # A fist shows short fingers, and a pointing hand one long one.
    lengths = np.where(rng.random(4) < rng.choice([0.0, 0.0, 0.3, 0.7]), rng.uniform(0.35, 0.6), rng.uniform(0.85, 1.05, 4))
    for (x, length), fraction in zip(FINGERS, lengths, strict=True):
        tip = x + spread * x + bend
        parts.append(
            (
                skin,
                [at(x, 0.15), at((x + tip) / 2, 0.15 + fraction * length / 2), at(tip, 0.15 + fraction * length)],
                [0.062, 0.058, 0.045],
            )
        )
    if rng.random() < 0.7:
        parts.append((skin, [at(-0.14, -0.1), at(-0.27, 0.07), at(-0.3, rng.uniform(0.15, 0.3))], [0.08, 0.065, 0.05]))
    return [_tube(view, points, size * np.array(radii), colour, gloss=0.04) for colour, points, radii in parts]


def strands(view: FaceView, rng: np.random.Generator) -> list[Layer]:
    """Strands of hair that fall over a side of the face."""
    way, edge = rng.choice([-1, 1]), rng.uniform(0.2, 0.5)
    root = np.array([rng.uniform(-0.1, 0.3), -1.1])
    # From black over brown to blond, and grey.
    colour = rng.uniform(0.03, 0.75) ** 2 + rng.uniform(0, 1) * np.array([0.12, 0.05, -0.05])
    layers = []
    for shade in (0.6, 0.8, 1.0, 1.3):
        paths = []
        for _ in range(rng.integers(1, 10)):
            below = [edge * rng.uniform(0.7, 1.1), rng.uniform(0.2, 0.9)]
            path = np.array([root, [edge * 0.8, -0.6], [edge, 0], below]) + rng.normal(0, 0.04, (4, 2))
            paths.append(view.landmarks[33] + path * [way * view.width, view.width])
        alpha = _line(view, paths, view.width * rng.uniform(0.006, 0.025))
        layers.append(Layer(alpha, np.clip(colour * shade, 0, 1).astype(np.float32), np.zeros_like(alpha)))
    return layers


def thing(view: FaceView, rng: np.random.Generator) -> list[Layer]:
    """A microphone, a cup, or a box such as a phone, plain or with a part of the photo on it."""
    middle, size = view.place(*rng.normal([0, 0.3], [0.25, 0.15])), view.width * rng.uniform(0.12, 0.4)
    angle = np.radians(rng.normal(0, 25))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    colour = rng.uniform(0.03, 0.98, 3) if rng.random() < 0.6 else np.full(3, rng.uniform(0.03, 0.95))
    if rng.random() < 0.35:
        stick = _tube(view, [middle, middle + turn @ [0, 4 * size]], size * np.array([0.35, 0.3]), colour, gloss=0.1)
        ball = _tube(view, [middle, middle], size * np.array([0.6, 0.6]), np.full(3, rng.uniform(0.05, 0.6)), gloss=0.05)
        return [stick, ball]
    # A box or, narrower at its foot, a cup.
    height, foot = rng.uniform(0.7, 2), rng.uniform(0.6, 1)
    corners = np.array([[-1, -height], [1, -height], [foot, height], [-foot, height]]) @ turn.T * size + middle
    alpha = _filled(view, [corners])
    surface = np.broadcast_to(colour.astype(np.float32), view.image.shape)
    if rng.random() < 0.4:
        print_ = np.roll(view.image[:: rng.choice([-1, 1])], tuple(rng.integers(0, view.side, 2)), axis=(0, 1))
        surface = surface + rng.uniform(0.3, 1) * (print_ - surface)
    return [
        Layer(alpha, np.ascontiguousarray(surface), _rounded(alpha, size * rng.uniform(0.1, 0.8)), gloss=rng.uniform(0, 0.2))
    ]


def glasses(view: FaceView, rng: np.random.Generator) -> list[Layer]:
    """The frame of a pair of glasses; what is behind them stays as it is."""
    width, height, squareness = rng.uniform(0.13, 0.18), rng.uniform(0.1, 0.17), rng.uniform(0.5, 1)
    angles = np.linspace(0, 2 * np.pi, 33)
    # A superellipse, from a diamond with round corners to an ellipse and on to a rectangle.
    ring = np.column_stack([np.sign(f(angles)) * np.abs(f(angles)) ** squareness for f in (np.cos, np.sin)])
    left, right = eye_centres(view.landmarks) + [0, 0.03 * view.width]
    rings = [middle + ring * np.array([width, height]) * view.width for middle in (left, right)]
    reach = np.array([width * view.width, 0])
    bars = [[left + reach, right - reach], [left - reach, view.landmarks[0]], [right + reach, view.landmarks[16]]]
    alpha = _line(view, [*rings, *map(np.array, bars)], view.width * rng.uniform(0.012, 0.045))
    colour = rng.choice([0.05, 0.3, 0.8]) * rng.uniform(0.7, 1.1, 3)
    return [Layer(alpha, np.clip(colour, 0, 1).astype(np.float32), np.zeros_like(alpha), gloss=0.1)]


# What is drawn, and how often.
OCCLUDERS = ((hand, 0.5), (thing, 0.22), (strands, 0.18), (glasses, 0.1))


def _averaged(fine: np.ndarray) -> np.ndarray:
    small = cv2.resize(fine, None, fx=1 / SUPERSAMPLING, fy=1 / SUPERSAMPLING, interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / 255


def _fine(view: FaceView) -> np.ndarray:
    return np.zeros((SUPERSAMPLING * view.side,) * 2, np.uint8)


def _pixels(points: np.ndarray) -> np.ndarray:
    """Points `[N, 2]` in pixels of the fine image, as OpenCV takes them."""
    return np.rint((np.asarray(points) + 0.5) * SUPERSAMPLING - 0.5).astype(np.int32)


def _line(view: FaceView, curves: Sequence[np.ndarray], width: float) -> np.ndarray:
    """Coverage of open curves, each through points `[N, 2]`, `width` pixels wide."""
    paths = [_pixels(spline(curve, closed=False)) for curve in curves]
    return _averaged(cv2.polylines(_fine(view), paths, False, 255, max(1, round(width * SUPERSAMPLING))))


def _filled(view: FaceView, polygons: Sequence[np.ndarray]) -> np.ndarray:
    """Coverage of polygons `[N, 2]`."""
    return _averaged(cv2.fillPoly(_fine(view), [_pixels(polygon) for polygon in polygons], 255))


def _tube(view: FaceView, points: Sequence[np.ndarray], radii: np.ndarray, colour: np.ndarray, gloss: float) -> Layer:
    """A round body about a curve through points, with a radius in pixels at each of them."""
    fine = _fine(view)
    curve = spline(points, closed=False)
    thickness = np.interp(np.linspace(0, 1, len(curve)), np.linspace(0, 1, len(radii)), radii)
    for start, end, radius in zip(_pixels(curve[:-1]), _pixels(curve[1:]), thickness, strict=False):
        cv2.line(fine, tuple(map(int, start)), tuple(map(int, end)), 255, max(1, round(2 * radius * SUPERSAMPLING)))
    alpha = _averaged(fine)
    return Layer(alpha, np.asarray(colour, np.float32), _rounded(alpha, float(np.max(radii))), gloss)


def _rounded(alpha: np.ndarray, radius: float) -> np.ndarray:
    """The height in pixels of a body with this outline, round within `radius` pixels of it and flat inside."""
    depth = cv2.distanceTransform((alpha > 0.5).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    depth = np.clip(depth / max(radius, 1), 0, 1)
    return cv2.GaussianBlur(radius * np.sqrt(depth * (2 - depth)), (0, 0), 1)
