"""Faces rendered from nothing but random numbers: the data source that needs no photos and no licence.

A face is 68 landmarks with depth, in millimetres, shaped by a person's traits and bent by an expression. Everything else hangs
on them: they are posed and projected, features are painted as smooth polygons through the projected points, and a relief of
soft bumps on an inflated head is lit by one lamp and ambient light. So the landmarks returned are those that were drawn.

Face coordinates: x to the right of the picture, y down, z towards the viewer; the eyes are at y = 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from maskgan_jax.errors import UserError

PICTURES_PER_IDENTITY = 2

# fmt: off
# The left half of an average face (right halves mirror it), by dlib's numbers: x, y, z in mm. The proportions are those
# on which dlib's shape predictor agrees with the drawn faces.
_LEFT_HALF = {
    0: (-71.5, -3, -50), 1: (-70.5, 17, -48), 2: (-68.5, 36.5, -46), 3: (-64.5, 55.5, -43), 4: (-57, 73.5, -38),
    5: (-46, 88.5, -30), 6: (-32, 100.5, -18), 7: (-16.5, 109.5, -5), 8: (0, 112, 0),
    17: (-55, -16, -8), 18: (-46, -24, 2), 19: (-34, -26.5, 9), 20: (-22, -24, 14), 21: (-10.5, -18, 16),
    27: (0, -1.5, 18), 28: (0, 11.5, 24), 29: (0, 25, 31), 30: (0, 38, 37),
    31: (-13, 47.5, 20), 32: (-7, 49.5, 25), 33: (0, 51.5, 28),
    36: (-41.5, 0, 0), 37: (-35, -5.5, 6), 38: (-26, -5.5, 8), 39: (-18, 1.5, 5), 40: (-26.5, 4.5, 7), 41: (-35, 4.5, 5),
    48: (-24.5, 71.3, 8), 49: (-15.5, 66, 17), 50: (-6.5, 63, 22), 51: (0, 64.5, 23), 57: (0, 82.3, 21), 58: (-7, 81.8, 20),
    59: (-15.5, 78.5, 15), 60: (-20.5, 71.5, 9), 61: (-7, 70.9, 18), 62: (0, 71.2, 19), 66: (0, 72.5, 19), 67: (-7, 72.2, 18),
}
# MIRROR[i] is the point on the other side of the face.
MIRROR = np.array([
    *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
])
# fmt: on
_JAW, _BROWS, _NOSE, _EYES, _MOUTH = (slice(0, 17), slice(17, 27), slice(27, 36), slice(36, 48), slice(48, 68))

# At full strength: corners of the mouth up and out, opening of the mouth and rise of the brows' inner and outer ends in mm,
# how far the eyes open beyond the usual, and how thin the lips are pressed.
_EXPRESSIONS = {
    "neutral": {"smile": 0.12, "open": 0.0, "inner": 0.0, "outer": 0.0, "lids": 0.0, "press": 0.0},
    "happy": {"smile": 1.0, "open": 9.0, "inner": 0.5, "outer": 1.5, "lids": -0.2, "press": 0.15},
    "sad": {"smile": -0.8, "open": 0.0, "inner": 6.0, "outer": -3.0, "lids": -0.25, "press": 0.1},
    "surprised": {"smile": -0.1, "open": 17.0, "inner": 7.0, "outer": 6.0, "lids": 0.4, "press": 0.0},
    "angry": {"smile": -0.4, "open": 5.0, "inner": -6.0, "outer": 1.5, "lids": -0.1, "press": 0.35},
}

# From pale to dark; a person lies somewhere between two neighbours.
_SKIN_TONES = np.array(
    [(242, 206, 188), (235, 192, 166), (224, 178, 146), (198, 148, 114), (158, 110, 82), (116, 79, 60)], np.float32
)
_HAIR_TONES = np.array([(30, 25, 24), (58, 40, 30), (98, 64, 40), (150, 104, 62), (206, 168, 112), (140, 66, 36)], np.float32)
_EYE_TONES = np.array([(58, 36, 24), (92, 60, 34), (100, 108, 62), (82, 118, 140), (112, 138, 158)], np.float32)


class _HairStyle(NamedTuple):
    thickness: float  # on the skull, mm
    falls_to: float  # how far down beside the face, y in mm
    hairline: float  # y in mm
    over_ears: bool = False
    curls: bool = False


_HAIR_STYLES = {
    "short": _HairStyle(7, 2, -66),
    "receding": _HairStyle(4, 6, -88),
    "cropped curls": _HairStyle(10, 4, -64, curls=True),
    "tied back": _HairStyle(5, 6, -70),
    "bob": _HairStyle(14, 95, -62, over_ears=True),
    "fringe": _HairStyle(13, 80, -42, over_ears=True),
    "long": _HairStyle(13, 210, -68, over_ears=True),
    "curls": _HairStyle(26, 70, -60, over_ears=True, curls=True),
}


@dataclass(frozen=True)
class RenderedFace:
    """A picture of an invented face.

    Attributes:
      picture: `[size, size, 3]` uint8 RGB.
      landmarks: `[68, 2]` float32, (x, y) in pixels of the picture, in dlib's order.
      identity: name of the person, the same for the same seed and identity number.
      expression: neutral, happy, sad, surprised or angry.
    """

    picture: np.ndarray
    landmarks: np.ndarray
    identity: str
    expression: str


def render_face(index: int, seed: int, size: int = 320) -> RenderedFace:
    """Renders picture number `index` of an endless collection.

    Two pictures in a row (0 and 1, 2 and 3, ...) show one person, with different pose, expression, light, clothes and
    background. The same arguments give the same picture.

    Args:
      index: number of the picture, at least 0.
      seed: which collection, at least 0.
      size: side of the picture in pixels, at least 64. The eyes are about a fifth of it apart.

    Raises:
      UserError: `index` or `seed` is negative, or `size` is below 64.
    """
    if index < 0 or seed < 0:
        raise UserError(f"a rendered face needs an index and a seed of at least 0, not {index} and {seed}")
    if size < 64:
        raise UserError(f"faces cannot be rendered at {size} pixels; ask for at least 64")
    number = index // PICTURES_PER_IDENTITY
    person = _draw_person(np.random.default_rng([seed, 0, number]))
    rng = np.random.default_rng([seed, 1, index])
    expression = str(rng.choice(list(_EXPRESSIONS)))
    points = _express(person.landmarks, expression, rng)

    scale = size / 320 * rng.uniform(0.96, 1.06)
    yaw, pitch, roll = np.radians(rng.triangular((-20, -14, -9), 0, (20, 14, 9)))
    centre = size * np.array([0.5, 0.47]) + size * rng.uniform(-0.02, 0.02, 2)
    head = _Camera(_rotation(yaw, pitch, roll), scale, centre)
    body = _Camera(_rotation(0.3 * yaw, 0, 0.2 * roll), scale, centre)
    lamp = _draw_lamp(rng)

    picture = _paint_background(size, rng)
    _paint_body(picture, body, person, lamp, rng)
    _paint_head(picture, head, person, points, lamp, rng)
    _paint_hair(picture, head, person, lamp)
    picture = cv2.GaussianBlur(picture, (0, 0), size / 320 * rng.uniform(0.3, 0.7))
    picture += np.float32(rng.uniform(0.004, 0.014)) * rng.standard_normal(picture.shape, dtype=np.float32)
    return RenderedFace(
        picture=np.clip(picture * 255, 0, 255).round().astype(np.uint8),
        landmarks=head.project(points).astype(np.float32),
        identity=f"rendered_{seed}_{number:06d}",
        expression=expression,
    )


@dataclass(frozen=True)
class _Person:
    """What stays the same from picture to picture. Colours are RGB in 0..1."""

    landmarks: np.ndarray  # [68, 3], mm, neutral
    age: float  # 0 (young) .. 1 (old)
    masculinity: float  # 0 .. 1
    skin: np.ndarray
    lips: np.ndarray
    hair: np.ndarray
    eyes: np.ndarray
    hair_style: str
    beard: float  # 0 (none) .. 1 (full)
    nose: float  # how far it sticks out; 1 is average
    texture: int  # seed of hair and skin texture


def _draw_person(rng: np.random.Generator) -> _Person:
    """Draws a person. Traits go together, so that what a mask leaves visible tells something about what it hides."""
    masculinity, age = rng.beta(0.6, 0.6), rng.beta(1.2, 1.8)
    tone = rng.uniform(0, len(_SKIN_TONES) - 1)
    skin = np.array([np.interp(tone, range(len(_SKIN_TONES)), channel) for channel in _SKIN_TONES.T]) / 255
    skin = np.clip(skin * (1 + rng.normal(0, 0.02, 3)), 0, 0.98)
    # The darker the skin, the darker hair and eyes; the old are grey.
    lightest = int(np.interp(tone, [0, 2.5, 3.5], [5, 3, 1]))
    hair = _HAIR_TONES[rng.integers(0, lightest + 1)] / 255
    grey = np.clip((age - 0.55) * rng.uniform(0.5, 4), 0, 0.9)
    hair = hair * (1 - grey) + 0.72 * grey
    eyes = _EYE_TONES[rng.integers(0, max(1, lightest))] / 255
    lips = skin * (0.88, 0.62, 0.62) * (1 - 0.06 * age)
    if masculinity < 0.5:
        lipstick = np.array([0.72, 0.2, 0.26]) + rng.normal(0, 0.05, 3)
        lips += rng.uniform(0, 0.6) * (lipstick - lips)
    manly = ["short", "short", "receding", "cropped curls", "short"]
    womanly = ["bob", "fringe", "long", "curls", "tied back", "long"]

    points = np.zeros((68, 3))
    for i, point in _LEFT_HALF.items():
        points[i] = point
        points[MIRROR[i]] = np.multiply(point, (-1, 1, 1))
    x, y = points[:, 0], points[:, 1]
    side = np.sign(x)
    # Jaw and chin: the whole width, the corners of the jaw, and the length below the nose.
    along = np.linspace(-1, 1, 17)
    corner = np.exp(-(((np.abs(along) - 0.55) / 0.22) ** 2))
    x[_JAW] *= rng.normal(1, 0.03) * (1 + corner * (0.1 * (masculinity - 0.5) + rng.normal(0, 0.03)))
    below = y > 52
    y[below] = 52 + (y[below] - 52) * (1 + 0.08 * (masculinity - 0.5) + rng.normal(0, 0.03))
    y[6:11] += np.array([0.3, 0.8, 1, 0.8, 0.3]) * rng.normal(0, 2)
    # Nose, with darker skin a little wider.
    x[_NOSE] *= rng.normal(1, 0.07) + 0.035 * (tone - 2)
    y[28:36] *= rng.normal(1, 0.035)
    # Eyes and brows.
    gap, raised, size = rng.normal(0, 1.2), rng.normal(0, 1.2) + 2 * (masculinity - 0.5), rng.normal(1, 0.05)
    x[_EYES] += side[_EYES] * gap
    x[_BROWS] += side[_BROWS] * gap
    y[_BROWS] += raised
    for eye in (slice(36, 42), slice(42, 48)):
        middle = points[eye].mean(0)
        points[eye] = middle + (points[eye] - middle) * (size, size * rng.normal(1 - 0.12 * age, 0.03), 1)
    y[[36, 45]] += rng.normal(-0.5, 1) + age
    # Mouth: width, and fullness of the lips about the line where they meet.
    x[_MOUTH] *= rng.normal(1, 0.05)
    meeting = y[48]
    fullness = rng.normal(1.0, 0.1) + 0.05 * (tone - 2) + 0.2 * (0.5 - masculinity) - 0.15 * age
    y[48:60] = meeting + (y[48:60] - meeting) * fullness
    points += rng.normal(0, 0.35, points.shape)
    return _Person(
        landmarks=points,
        age=age,
        masculinity=masculinity,
        skin=skin,
        lips=np.clip(lips, 0, 1),
        hair=hair,
        eyes=eyes,
        hair_style=str(rng.choice(manly if masculinity > 0.5 else womanly)),
        beard=rng.uniform(0.1, 1) if masculinity > 0.6 and rng.random() < 0.45 else 0.0,
        nose=rng.normal(1, 0.12),
        texture=int(rng.integers(2**31)),
    )


def _express(landmarks: np.ndarray, expression: str, rng: np.random.Generator) -> np.ndarray:
    """The landmarks `[68, 3]` with an expression, of random strength."""
    points = landmarks.copy()
    strength = rng.uniform(0.65, 1.0)
    pull = {name: strength * value for name, value in _EXPRESSIONS[expression].items()}
    opening = pull["open"] * (1 if expression == "surprised" else rng.choice([0, 0.4, 1]))
    x, y = points[:, 0], points[:, 1]
    corner = np.clip(np.abs(x[_MOUTH]) / 25, 0, 1) ** 1.5
    x[_MOUTH] *= 1 + (0.2 if pull["smile"] > 0 else 0.05) * pull["smile"] - 0.008 * opening * (expression == "surprised")
    y[_MOUTH] -= corner * 7 * pull["smile"] - 1.5 * max(pull["smile"], 0)
    middle = (y[62] + y[66]) / 2
    y[48:60] = middle + (y[48:60] - middle) * (1 - pull["press"])
    # The jaw turns about the ears: lower lip and chin go down with the mouth's opening, the sides less.
    lower, upper = np.array([55, 56, 57, 58, 59, 65, 66, 67]), np.array([49, 50, 51, 52, 53, 61, 62, 63])
    y[lower] += 0.75 * opening * (1 - 0.35 * np.abs(x[lower]) / 25)
    y[upper] -= 0.25 * opening * (1 - 0.35 * np.abs(x[upper]) / 25)
    y[[48, 54, 60, 64]] += 0.25 * opening
    x[[61, 67, 63, 65]] *= 1 + 0.03 * opening
    x[[49, 53, 55, 59]] *= 1 + 0.012 * opening
    y[_JAW] += 0.7 * opening * np.cos(np.linspace(-np.pi / 2, np.pi / 2, 17)) ** 2
    # Brows and lids.
    inner = np.array([0, 0.15, 0.4, 0.75, 1])
    for brow in (np.arange(17, 22), np.arange(26, 21, -1)):
        y[brow] -= inner * pull["inner"] + (1 - inner) * pull["outer"]
        x[brow] += np.sign(-x[brow]) * inner * max(-pull["inner"], 0) * 0.4
    for eye in (slice(36, 42), slice(42, 48)):
        middle = y[eye].mean()
        y[eye] = middle + (y[eye] - middle) * (1 + pull["lids"])
    return points


@dataclass(frozen=True)
class _Camera:
    """Pose of the head and projection to the picture: rotation `[3, 3]`, pixels per mm, and where the eyes' middle falls."""

    rotation: np.ndarray
    scale: float
    centre: np.ndarray

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels `[..., 2]` of points `[..., 3]` in mm. The head turns about the top of the neck; the lens is 0.9 m away."""
        pivot = np.array([0, 40, -75])
        turned = (np.asarray(points, np.float64) - pivot) @ self.rotation.T + pivot
        return self.centre + self.scale * turned[..., :2] * 900 / (900 - turned[..., 2:])


def _rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    turn, _ = cv2.Rodrigues(np.array([0.0, yaw, 0.0]))
    nod, _ = cv2.Rodrigues(np.array([pitch, 0.0, 0.0]))
    tilt, _ = cv2.Rodrigues(np.array([0.0, 0.0, roll]))
    return tilt @ nod @ turn


@dataclass(frozen=True)
class _Lamp:
    """Direction `[3]` towards the lamp, its colour and that of the ambient light `[3]`."""

    direction: np.ndarray
    colour: np.ndarray
    ambient: np.ndarray


def _draw_lamp(rng: np.random.Generator) -> _Lamp:
    azimuth, elevation = np.radians(rng.uniform(-55, 55)), np.radians(rng.uniform(5, 50))
    level = np.cos(elevation)
    direction = np.float32([np.sin(azimuth) * level, -np.sin(elevation), np.cos(azimuth) * level])
    warmth = rng.normal(0, 0.05) * np.array([1, 0.1, -1])
    ambient = rng.uniform(0.22, 0.45)
    colour = (rng.uniform(0.9, 1.06) - ambient) * (1 + warmth)
    return _Lamp(direction, colour.astype(np.float32), (ambient * (1 - 0.5 * warmth)).astype(np.float32))


def _spline(points: np.ndarray, closed: bool = True, steps: int = 8) -> np.ndarray:
    """A smooth (Catmull-Rom) curve through `points` `[N, D]`, `steps` vertices to a segment."""
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


def _coverage(outline: np.ndarray, size: int, softness: float = 0.0) -> tuple[tuple[slice, slice], np.ndarray]:
    """How much of each pixel a polygon covers.

    Args:
      outline: `[N, 2]`, (x, y) in pixels.
      size: side of the picture.
      softness: standard deviation of the blur of the edge, in pixels.

    Returns:
      The window of the picture that is touched, and the coverage of its pixels, `[h, w]` in 0..1.
    """
    margin = 3 * softness + 2
    low = np.clip(np.floor(outline.min(0) - margin), 0, size - 1).astype(int)
    high = np.clip(np.ceil(outline.max(0) + margin), low + 1, size).astype(int)
    width, height = high - low
    # Twice as fine, then averaged: pixel i is the mean of 2i and 2i + 1.
    fine = np.zeros((2 * height, 2 * width), np.uint8)
    cv2.fillPoly(fine, [np.round((2 * (outline - low) + 0.5) * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    alpha = cv2.resize(fine, (int(width), int(height)), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    if softness > 0.3:
        alpha = cv2.GaussianBlur(alpha, (0, 0), softness, borderType=cv2.BORDER_REPLICATE)
    return (slice(low[1], high[1]), slice(low[0], high[0])), alpha


@dataclass(frozen=True)
class _Brush:
    """Paints smooth shapes on `canvas` `[size, size, 3]`, in place, in face coordinates; widths and softness are in mm."""

    canvas: np.ndarray
    camera: _Camera

    def shape(self, points: np.ndarray, colour: np.ndarray, softness: float, opacity: float = 1.0) -> None:
        """Fills the closed curve through `points` `[N, 3]`."""
        self._fill(_spline(self.camera.project(points)), colour, softness, opacity)

    def line(self, points: np.ndarray, width: float | list, colour: np.ndarray, softness: float, opacity: float = 1.0) -> None:
        """Draws an open curve through `points` `[N, 3]`; several widths are spread evenly along it."""
        curve = _spline(self.camera.project(points), closed=False)
        width = np.atleast_1d(width) * self.camera.scale
        width = np.interp(np.linspace(0, 1, len(curve)), np.linspace(0, 1, len(width)), width)
        along = np.gradient(curve, axis=0)
        across = np.stack([-along[:, 1], along[:, 0]], 1) / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
        across *= width[:, None] / 2
        self._fill(np.concatenate([curve + across, (curve - across)[::-1]]), colour, softness, opacity)

    def spot(self, point: np.ndarray, radius: float | tuple, colour: np.ndarray, softness: float, opacity: float = 1.0) -> None:
        """Fills a disc, or an ellipse of radii (x, y), about `point` `[3]`."""
        angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        ring = np.stack([np.cos(angle), np.sin(angle)], 1) * radius * self.camera.scale
        self._fill(self.camera.project(point) + ring, colour, softness, opacity)

    def _fill(self, outline: np.ndarray, colour: np.ndarray, softness: float, opacity: float) -> None:
        window, alpha = _coverage(outline, len(self.canvas), softness * self.camera.scale)
        self.canvas[window] += opacity * alpha[..., None] * (np.asarray(colour, np.float32) - self.canvas[window])


def _whole(outline: np.ndarray, size: int, softness: float = 0.0) -> np.ndarray:
    """Coverage of the whole picture, `[size, size]`."""
    alpha = np.zeros((size, size), np.float32)
    window, part = _coverage(outline, size, softness)
    alpha[window] = part
    return alpha


def _inflate(alpha: np.ndarray, radius: float) -> np.ndarray:
    """A pillow over a shape: height in pixels, round at the edge, flat further than about `radius` pixels inside."""
    small = cv2.resize(alpha, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), radius / 8, borderType=cv2.BORDER_REPLICATE)
    inside = cv2.resize(small, alpha.shape[::-1], interpolation=cv2.INTER_CUBIC)
    # The blurred shape is about a half at its edge, less at corners; the slope has to go on beyond both.
    inside = np.clip((cv2.GaussianBlur(inside, (0, 0), 3) - 0.3) / 0.7, 0, 1)
    return radius * np.sqrt(inside * (2 - inside) + 0.01)


def _compose(
    picture: np.ndarray, alpha: np.ndarray, albedo: np.ndarray, height: np.ndarray, lamp: _Lamp, gloss: float, shadow: float
) -> None:
    """Lights a surface and lays it over the picture, in place, with the soft shadow it throws on what lies below.

    Args:
      picture: `[size, size, 3]`.
      alpha: where the surface is, `[size, size]` in 0..1.
      albedo: its colour, `[size, size, 3]` or `[3]`.
      height: its relief in pixels, `[size, size]`.
      lamp: the light.
      gloss: strength of the highlights.
      shadow: distance of the shadow in pixels.
    """
    # Only the part of the picture that is touched.
    left, top, width, length = cv2.boundingRect(np.uint8(alpha > 0))
    margin = int(4 * shadow) + 2
    window = slice(max(top - margin, 0), top + length + margin), slice(max(left - margin, 0), left + width + margin)
    picture, alpha, height = picture[window], alpha[window], height[window]
    albedo = albedo[window] if albedo.ndim == 3 else albedo

    away = np.float32([[1, 0, -0.6 * shadow * lamp.direction[0]], [0, 1, shadow * max(0.5, -lamp.direction[1])]])
    thrown = cv2.warpAffine(alpha, away, alpha.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
    picture *= 1 - 0.5 * cv2.GaussianBlur(thrown, (0, 0), shadow)[..., None]

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
        # Colours are square roots of light, near enough to sRGB: so the root of the light multiplies them.
        planes.append(np.sqrt(lamp.ambient[channel] * fill + lamp.colour[channel] * diffuse))
    lit = cv2.merge(planes) * albedo + cv2.merge([shine] * 3)
    picture += cv2.merge([alpha] * 3) * (lit - picture)


def _paint_background(size: int, rng: np.random.Generator) -> np.ndarray:
    """A blurred wall or room: `[size, size, 3]` float32 in 0..1."""
    colour = np.float32(rng.uniform(0.25, 0.8) * (1 + rng.normal(0, 0.07, 3)))
    cells = int(rng.integers(3, 9))
    blobs = rng.normal(0, rng.uniform(0.02, 0.12), (cells, cells, 1)) + rng.normal(0, 0.012, (cells, cells, 3))
    blobs = cv2.resize(blobs.astype(np.float32), (64, 64), interpolation=cv2.INTER_CUBIC)
    blobs = cv2.GaussianBlur(blobs, (0, 0), rng.uniform(1, 6))
    return np.clip(colour + cv2.resize(blobs, (size, size), interpolation=cv2.INTER_CUBIC), 0.04, 0.98)


def _paint_body(picture: np.ndarray, camera: _Camera, person: _Person, lamp: _Lamp, rng: np.random.Generator) -> None:
    """Neck, shoulders and clothes."""
    size, mm = len(picture), camera.scale
    neck = 44 + 10 * person.masculinity
    # Right sides, from the top down; the left sides mirror them.
    column = np.array([(neck - 2, 50, -60), (neck, 120, -55), (neck + 4, 150, -55), (neck + 25, 240, -50)])
    wide = 165 + 30 * person.masculinity
    shoulders = np.array(
        [(neck + 2, 138, -60), (neck + 30, 152, -60), (wide - 40, 168, -60), (wide, 200, -60), (wide + 8, 300, -60)]
    )
    depth = rng.uniform(8, 45)
    collar = np.array([(-0.6 * neck, 150 + 0.7 * depth, -35), (0, 150 + depth, -30), (0.6 * neck, 150 + 0.7 * depth, -35)])
    mirrored = np.array([-1, 1, 1])
    outline = _spline(camera.project(np.concatenate([column, column[::-1] * mirrored])))
    alpha = _whole(outline, size)
    relief = _inflate(alpha, 45 * mm)
    _compose(picture, alpha, np.float32(person.skin * 0.86), relief, lamp, gloss=0.04, shadow=2 * mm)
    cloth = np.concatenate([shoulders, shoulders[::-1] * mirrored, collar])
    alpha = _whole(_spline(camera.project(cloth)), size)
    folds = cv2.resize(rng.normal(0, 3 * mm, (5, 9)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    colour = np.float32(np.clip(rng.uniform(0.1, 0.8) + rng.normal(0, 0.1, 3), 0.03, 0.95))
    _compose(picture, alpha, colour, _inflate(alpha, 40 * mm) + folds, lamp, gloss=0.0, shadow=3 * mm)


def _skull(thickness: float) -> np.ndarray:
    """Points `[N, 3]` around the upper head, `thickness` mm off the skin: their hull is its outline."""
    angle = np.radians(np.arange(180, 361, 15))[:, None]
    arc = np.concatenate([np.cos(angle), np.sin(angle), np.zeros_like(angle)], 1)
    back, front = arc * (75 + thickness, 92 + thickness, 0), arc * (69 + thickness, 82 + thickness, 0)
    return np.concatenate([back + (0, -22, -90), front + (0, -22, -38)])


def _paint_head(
    picture: np.ndarray, camera: _Camera, person: _Person, points: np.ndarray, lamp: _Lamp, rng: np.random.Generator
) -> None:
    """Ears, skin and everything on it."""
    size, mm = len(picture), camera.scale
    skin = np.float32(person.skin)
    for side in (-1, 1):
        ear = np.array([(68, -4, -75), (79, -10, -84), (85, 0, -90), (82, 20, -86), (76, 38, -80), (68, 38, -75)])
        ear = ear * (side, 1, 1)
        alpha = _whole(_spline(camera.project(ear)), size)
        albedo = np.tile(np.float32(skin * (1, 0.93, 0.92)), (size, size, 1))
        hollow = ear.mean(0) + (ear - ear.mean(0)) * (0.45, 0.55, 1)
        _Brush(albedo, camera).shape(hollow, skin * 0.72, 1.5)
        _compose(picture, alpha, albedo, _inflate(alpha, 8 * mm), lamp, gloss=0.03, shadow=2 * mm)

    outline = cv2.convexHull(np.float32(camera.project(np.concatenate([points[_JAW], _skull(0)]))))[:, 0]
    alpha = _whole(_spline(outline, steps=4), size)
    brush = _Brush(np.tile(skin, (size, size, 1)), camera)
    _paint_skin(brush, person, points)
    for eye in (points[36:42], points[42:48]):
        _paint_eye(brush, person, eye)
    _paint_mouth(brush, person, points)
    _paint_brows(brush, person, points)
    relief = _inflate(alpha, 62 * mm) + _relief(camera, person, points, size)
    _compose(picture, alpha, brush.canvas, relief, lamp, gloss=rng.uniform(0.04, 0.14), shadow=10 * mm)


def _relief(camera: _Camera, person: _Person, points: np.ndarray, size: int) -> np.ndarray:
    """Nose, eye sockets, cheeks, lips and chin as bumps, in pixels, `[size, size]`."""
    upper, lower = points[[50, 51, 52, 61, 62, 63]].mean(0), points[[56, 57, 58, 65, 66, 67]].mean(0)
    smile = max(0.0, points[51, 1] - points[[48, 54], 1].mean() + 6.5) / 6
    # Centre; radius across and along the face in mm; height in mm.
    bumps = [
        (points[27], 6, 8, 4 * person.nose),  # bridge of the nose, down to the tip
        (points[28], 6, 8, 5 * person.nose),
        (points[29], 7, 8, 6 * person.nose),
        (points[30], 9.5, 8, 10 * person.nose),
        (points[33] + (0, -7, 0), 14, 8, 6 * person.nose),  # base of the nose
        ((points[33] + points[51]) / 2 + (0, 1, 0), 3.5, 6, -1.6),  # groove above the lip
        ((upper + lower) / 2, 24, 17, 5),  # the jaws behind the lips
        (upper, 13, 4.5, 3),
        (lower, 12, 4.5, 4),
        (lower + (0, 10, 0), 14, 4.5, -3.5),  # hollow above the chin
        (points[8] + (0, -13, 0), 15, 11, 6.5 + 2 * person.masculinity),  # chin
        (np.array([0, -55, 5]), 40, 24, 5),  # forehead
    ]
    for side, eye, wing in ((-1, points[36:42].mean(0), points[31]), (1, points[42:48].mean(0), points[35])):
        outwards = np.array([side, 1, 1])
        bumps += [
            (wing + (-1, -4, 0) * outwards, 5, 5.5, 5),
            (wing + (7, 0, 0) * outwards, 5, 8, -2),  # beside the nose
            (eye + (-2, -2, 0) * outwards, 17, 10, -6.5),  # socket
            (eye, 11, 7, 4.5),  # eyeball
            (eye + (-12, -2, 0) * outwards, 6, 8, -3),  # inner corner
            (eye + (2, -21, 0) * outwards, 22, 7, 2.5 + 2.5 * person.masculinity),  # brow ridge
            (eye + (9, 32 - 3 * smile, 0) * outwards, 19, 15, 5 + 3 * smile),  # cheekbone
            (eye + (10, 62, 0) * outwards, 12, 16, -3 - 2 * person.age),  # hollow of the cheek
        ]
    relief = np.zeros((size, size), np.float32)
    for centre, across, along, height in bumps:
        middle = camera.project(centre)
        axes = np.stack([camera.project(centre + (across, 0, 0)) - middle, camera.project(centre + (0, along, 0)) - middle], 1)
        reach = 3.2 * np.abs(axes).sum(1)
        low = np.clip(np.floor(middle - reach), 0, size - 1).astype(int)
        high = np.clip(np.ceil(middle + reach), low + 1, size).astype(int)
        (a, b), (c, d) = np.linalg.inv(axes)
        x, y = (np.arange(low[0], high[0]) - middle[0])[None], (np.arange(low[1], high[1]) - middle[1])[:, None]
        bell = np.exp(-0.5 * ((a * x + b * y) ** 2 + (c * x + d * y) ** 2))
        relief[low[1] : high[1], low[0] : high[0]] += height * camera.scale * bell
    return relief


def _paint_skin(brush: _Brush, person: _Person, points: np.ndarray) -> None:
    """Mottling, blush, folds, nostrils and beard."""
    size, skin, age = len(brush.canvas), person.skin, person.age
    rng = np.random.default_rng(person.texture)
    mottled = cv2.resize(rng.normal(0, 0.02, (24, 24)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    brush.canvas[...] *= 1 + mottled[..., None]
    red, dark = skin * (1, 0.8, 0.78), skin * (0.62, 0.5, 0.46)
    brush.spot(points[30], 9, red, 5, 0.4)
    brush.line(points[31:36] + (0, 1, 0), 3, dark, 1.6, 0.6)
    sides = ((-1, points[36:42], 31, 32, 48), (1, points[42:48], 35, 34, 54))
    for side, eye, wing, base, corner in sides:
        outwards = np.array([side, 1, 1])
        eye, wing, base, corner = eye.mean(0), points[wing], points[base], points[corner]
        brush.spot(eye + (10, 34, 0) * outwards, 15, red, 9, 0.5)
        # The socket, and the ring under the eye.
        brush.spot(eye + (0, -1, 0), 14, dark, 6, 0.34 - 0.12 * person.masculinity)
        brush.line(eye + [(-13, 9, 0), (0, 13, 0), (13, 9, 0)], 3, dark, 2, 0.3 * age)
        # The fold from the nose past the mouth is deeper with age and in a smile.
        smile = max(0, points[62, 1] - corner[1] - 0.5) / 8
        fold = [wing + (5, -5, -6) * outwards, wing + (12, 6, -10) * outwards, corner + (8, 0, -4) * outwards]
        brush.line(np.array(fold), [2, 3.5, 2, 0.5], dark, 1.5, min(0.65, 0.1 + 0.4 * age + 0.5 * smile))
        brush.line(wing + [(1, -9, -4), (4, -4, -6), (1.5, 1.5, -3)] * outwards, 2, dark, 0.9, 0.6)
        brush.spot(0.4 * wing + 0.6 * base + (0, -1.2, 0), (3.6, 1.9), skin * 0.22, 0.7, 0.9)
    for row in range(3):
        wrinkle = np.array([(-32, -44, 0), (-12, -47, 8), (12, -47, 8), (32, -44, 0)]) + (0, -9 * age * row, 0)
        brush.line(wrinkle, 1.6, dark, 0.8, max(0, age - 0.35) * 0.6)
    if person.beard:
        # Along the jaw from ear to ear, and back over the upper lip.
        below, above = points[1:16] + (0, 3, 0), points[[14, 54, 35, 33, 31, 48, 2]]
        above *= [(0.9, 1, 1), *[(1, 1, 1)] * 5, (0.9, 1, 1)]
        above += [(0, 0, 0), (12, -3, 0), (0, 5, 0), (0, 5, 0), (0, 5, 0), (-12, -3, 0), (0, 0, 0)]
        outline = _spline(brush.camera.project(np.concatenate([below, above])))
        grain = np.clip(rng.normal(0.85, 0.3, (size, size)), 0, 1).astype(np.float32)
        alpha = person.beard * grain * _whole(outline, size, 3 * brush.camera.scale)
        brush.canvas[...] += alpha[..., None] * (np.float32(person.hair * 0.85) - brush.canvas)


def _paint_eye(brush: _Brush, person: _Person, points: np.ndarray) -> None:
    """One eye, from its six landmarks `[6, 3]`: ball, iris, pupil, highlight, lids and lashes."""
    skin, upper = person.skin, points[:4]
    ball = _Brush(brush.canvas.copy(), brush.camera)
    middle = points.mean(0) + (0, -0.6, 0)
    ball.shape(points, (0.93, 0.9, 0.88), 3)
    ball.spot(middle, 6.3, person.eyes * 0.55, 0.4)
    ball.spot(middle, 5.3, person.eyes, 0.6)
    ball.spot(middle, 2.7, (0.03, 0.03, 0.03), 0.4)
    ball.line(upper, 4, skin * 0.2, 1.4, 0.55)
    ball.spot(middle + (1.8, -1.8, 0), 1.3, (1, 1, 1), 0.3, 0.9)
    _uncover(brush, ball, points)
    brush.line(upper, np.array([1.6, 2.2]) * (1.25 - 0.4 * person.masculinity), skin * 0.16, 0.4, 0.9)
    brush.line(points[[3, 4, 5, 0]], 1.2, skin * (0.6, 0.42, 0.4), 0.6, 0.7)
    brush.line(upper + (0, -4.2, 0), 1.3, skin * 0.45, 0.7, 0.5)


def _uncover(brush: _Brush, below: _Brush, points: np.ndarray) -> None:
    """Opens a hole in the skin, the closed curve through `points` `[N, 3]`, that shows what is painted below."""
    outline = _spline(brush.camera.project(points))
    window, hole = _coverage(outline, len(brush.canvas), 0.4 * brush.camera.scale)
    brush.canvas[window] += hole[..., None] * (below.canvas[window] - brush.canvas[window])


def _paint_mouth(brush: _Brush, person: _Person, points: np.ndarray) -> None:
    """Lips; teeth, tongue and the dark behind them if the mouth is open."""
    lips, seam = person.lips, points[60:68]
    brush.line(points[[59, 58, 57, 56, 55]] + (0, 3.5, 0), 4, person.skin * 0.6, 2, 0.4)
    brush.shape(points[[48, 60, 67, 66, 65, 64, 54, 55, 56, 57, 58, 59]], lips, 0.7)
    brush.shape(points[[48, 49, 50, 51, 52, 53, 54, 64, 63, 62, 61, 60]], lips * 0.86, 0.6)
    gap = points[66, 1] - points[62, 1]
    if gap < 2.5:
        middle = (seam[1:4] + seam[[7, 6, 5]]) / 2
        brush.line(np.concatenate([points[[48]], middle, points[[54]]]), 1.7, lips * 0.3, 0.6, 0.9)
        return
    inside = _Brush(np.tile(np.float32([0.2, 0.06, 0.06]), (*brush.canvas.shape[:2], 1)), brush.camera)
    if gap > 10:
        inside.spot(points[66] + (0, 0, -8), (11, 6), (0.62, 0.28, 0.28), 1.5, 0.8)
    # The upper row of teeth is nearly straight, and bends up with the corners in a smile.
    x, y, z = points[62]
    across = np.linspace(points[60, 0], points[64, 0], 9)
    bend = np.clip(points[[60, 64], 1].mean() - y, -6, 1) * (across / across[-1]) ** 2
    edge = np.stack([across, y + bend + np.interp(gap, [2, 8, 13], [2, 6, 3]), np.full(9, z - 3)], 1)
    inside.shape(np.concatenate([edge, edge[::-1] + (0, -16, 0)]), (0.9, 0.87, 0.8), 0.5, 0.95)
    for tooth in (-9, -4.5, 0, 4.5, 9):
        inside.line(np.array([(x + tooth, y - 6, z - 1), (x + tooth, y + 7, z - 1)]), 0.5, (0.5, 0.42, 0.38), 0.3, 0.25)
    _uncover(brush, inside, seam)


def _paint_brows(brush: _Brush, person: _Person, points: np.ndarray) -> None:
    colour = np.minimum(person.hair * 0.7, person.skin * 0.6)
    for brow in (points[17:22], points[26:21:-1]):
        brush.line(brow + (0, 1, 0), np.array([0.25, 0.8, 0.9, 1, 0.7]) * (4.5 + 3 * person.masculinity), colour, 0.8, 0.85)


def _paint_hair(picture: np.ndarray, camera: _Camera, person: _Person, lamp: _Lamp) -> None:
    """Hair: a shell around the skull and down the sides, with an opening for the face."""
    style, size, mm = _HAIR_STYLES[person.hair_style], len(picture), camera.scale
    rng = np.random.default_rng(person.texture)
    project, thick, fall = camera.project, style.thickness, style.falls_to
    shell = _skull(thick)
    spread = 75 + thick + (0.06 * fall if style.over_ears else -2)
    ends = np.array([(spread, 0.5 * fall, -75), (spread - 4, fall, -70)])
    outline = cv2.convexHull(np.float32(project(np.concatenate([shell, ends, ends * (-1, 1, 1)]))))[:, 0]
    outline = _spline(outline, steps=4)
    if style.curls:
        centre = outline.mean(0)
        outline = centre + (outline - centre) * (1 + 0.025 * rng.standard_normal((len(outline), 1)))
    line, parting = style.hairline - 6 * rng.random(), rng.uniform(-30, 30)
    temple = 65
    if style.over_ears:
        beside = [(temple, 20, -45), (temple + 2, 80, -50), (50, 150, -40), (50, 260, -40)]
    else:
        beside = [(68, 2, -50), (71, 10, -60), (78, -4, -80), (100, -14, -90), (130, 60, -90), (130, 200, -90)]
    right = np.array([(0.45 * temple, line + 3, -6), (0.85 * temple, line + 16, -24), (temple, -22, -38), *beside])
    hairline = np.concatenate([[(0.4 * parting, line, 0)], right, right[::-1] * (-1, 1, 1)])
    opening = _whole(_spline(project(hairline)), size, (2.0 if style.curls else 1.2) * mm)
    alpha = _whole(outline, size, 0.8 * mm) * (1 - opening)

    # Strands run from the parting outwards: noise that is long in radius and short in angle.
    if style.curls:
        strands = cv2.resize(rng.standard_normal((60, 60)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    else:
        rays = cv2.resize(rng.standard_normal((360, 5)).astype(np.float32), (size, 720), interpolation=cv2.INTER_CUBIC)
        rays *= np.clip(np.linspace(0, 8, size, dtype=np.float32), 0, 1)
        root = project(np.array([parting, line - 25, -30]))
        strands = cv2.warpPolar(rays, (size, size), tuple(root), 1.2 * size, cv2.WARP_INVERSE_MAP)
    strands = cv2.GaussianBlur(strands, (0, 0), 0.6 * mm)
    albedo = np.float32(person.hair) * (1 + 0.22 * strands[..., None])
    relief = _inflate(alpha, 26 * mm) + strands * (1.0 if style.curls else 0.5) * mm
    _compose(picture, alpha, albedo, relief, lamp, gloss=0.12, shadow=3 * mm)
