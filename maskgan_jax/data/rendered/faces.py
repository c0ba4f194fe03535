"""Faces rendered from random numbers: a data source that needs no photos and no licence.

Features are painted as smooth polygons through the projected landmarks of `head_model`, and a relief of soft bumps on an
inflated head is lit by one lamp and ambient light. So the landmarks are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from maskgan_jax.data.painting import Brush, Lamp, compose, coverage, coverage_in_window, draw_lamp, inflate, spline
from maskgan_jax.data.points import CONTOUR, LEFT_EYE, MOUTH_CORNERS, RIGHT_EYE
from maskgan_jax.data.rendered.head_model import EXPRESSIONS, Person, Projection, draw_person, express, rotation
from maskgan_jax.data.window import Window
from maskgan_jax.errors import UserError

IMAGES_PER_IDENTITY = 2


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
    """An image of an invented face.

    Attributes:
      image: `[size, size, 3]` uint8 RGB.
      landmarks: `[68, 2]` float32, (x, y) in pixels of the image, in dlib's order.
      identity: name of the person, the same for the same seed and identity number.
      expression: neutral, happy, sad, surprised or angry.
    """

    image: np.ndarray
    landmarks: np.ndarray
    identity: str
    expression: str


class PosedFace(NamedTuple):
    """All that is decided about an image before it is painted.

    `points` `[68, 3]` are the landmarks on the head in mm; `landmarks`, `identity`, `expression` are those of `RenderedFace`;
    `rng` gives the random numbers for the rest of the image.
    """

    person: Person
    points: np.ndarray
    head: Projection
    body: Projection
    landmarks: np.ndarray
    identity: str
    expression: str
    rng: np.random.Generator


def pose_face(index: int, seed: int, size: int = 320, expression: str | None = None) -> PosedFace:
    """The person, expression and pose of an image: the fast part of `render_face`, with the same arguments and errors."""
    if expression not in (None, *EXPRESSIONS):
        raise UserError(f"faces are rendered {', '.join(EXPRESSIONS)}; there is no expression {expression!r}")
    if index < 0 or seed < 0:
        raise UserError(f"a rendered face needs an index and a seed of at least 0, not {index} and {seed}")
    if size < 64:
        raise UserError(f"faces cannot be rendered at {size} pixels; ask for at least 64")
    number = index // IMAGES_PER_IDENTITY
    person = draw_person(np.random.default_rng([seed, 0, number]))
    rng = np.random.default_rng([seed, 1, index])
    drawn = str(rng.choice(list(EXPRESSIONS)))
    expression = expression or drawn
    points = express(person.landmarks, expression, rng)

    scale = size / 320 * rng.uniform(0.96, 1.06)
    yaw, pitch, roll = np.radians(rng.triangular((-20, -14, -9), 0, (20, 14, 9)))
    centre = size * np.array([0.5, 0.47]) + size * rng.uniform(-0.02, 0.02, 2)
    head = Projection(rotation(yaw, pitch, roll), scale, centre)
    body = Projection(rotation(0.3 * yaw, 0, 0.2 * roll), scale, centre)
    landmarks = head.project(points).astype(np.float32)
    return PosedFace(person, points, head, body, landmarks, f"rendered_{seed}_{number:06d}", expression, rng)


def render_face(index: int, seed: int, size: int = 320, expression: str | None = None) -> RenderedFace:
    """Renders image number `index` of an unlimited collection.

    Each pair of images (0 and 1, 2 and 3, ...) shows one person, with different pose, expression, light, clothes and
    background. The same arguments give the same image.

    Args:
      index: number of the image, at least 0.
      seed: which collection, at least 0.
      size: side of the image in pixels, at least 64. The distance of the eyes is about a fifth of it.
      expression: neutral, happy, sad, surprised or angry; by default one is drawn.

    Raises:
      UserError: `index` or `seed` is negative, `size` is below 64, or there is no such expression.
    """
    person, points, head, body, landmarks, identity, expression, rng = pose_face(index, seed, size, expression)
    lamp = draw_lamp(rng)

    image = _paint_background(size, rng)
    _paint_body(image, body, person, lamp, rng)
    _paint_head(image, head, person, points, lamp, rng)
    _paint_hair(image, head, person, lamp)
    image = cv2.GaussianBlur(image, (0, 0), size / 320 * rng.uniform(0.3, 0.7))
    image += np.float32(rng.uniform(0.004, 0.014)) * rng.standard_normal(image.shape, dtype=np.float32)
    return RenderedFace(np.clip(image * 255, 0, 255).round().astype(np.uint8), landmarks, identity, expression)


def _paint_background(size: int, rng: np.random.Generator) -> np.ndarray:
    """A blurred wall or room: `[size, size, 3]` float32 in 0..1."""
    colour = np.float32(rng.uniform(0.25, 0.8) * (1 + rng.normal(0, 0.07, 3)))
    cells = int(rng.integers(3, 9))
    blobs = rng.normal(0, rng.uniform(0.02, 0.12), (cells, cells, 1)) + rng.normal(0, 0.012, (cells, cells, 3))
    blobs = cv2.resize(blobs.astype(np.float32), (64, 64), interpolation=cv2.INTER_CUBIC)
    blobs = cv2.GaussianBlur(blobs, (0, 0), rng.uniform(1, 6))
    return np.clip(colour + cv2.resize(blobs, (size, size), interpolation=cv2.INTER_CUBIC), 0.04, 0.98)


def _paint_body(image: np.ndarray, projection: Projection, person: Person, lamp: Lamp, rng: np.random.Generator) -> None:
    """Neck, shoulders and clothes."""
    size, mm = len(image), projection.scale
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
    outline = spline(projection.project(np.concatenate([column, column[::-1] * mirrored])))
    alpha = coverage(outline, size)
    relief = inflate(alpha, 45 * mm)
    compose(image, alpha, np.float32(person.skin * 0.86), relief, lamp, gloss=0.04, shadow=2 * mm)
    cloth = np.concatenate([shoulders, shoulders[::-1] * mirrored, collar])
    alpha = coverage(spline(projection.project(cloth)), size)
    folds = cv2.resize(rng.normal(0, 3 * mm, (5, 9)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    colour = np.float32(np.clip(rng.uniform(0.1, 0.8) + rng.normal(0, 0.1, 3), 0.03, 0.95))
    compose(image, alpha, colour, inflate(alpha, 40 * mm) + folds, lamp, gloss=0.0, shadow=3 * mm)


def _skull(thickness: float) -> np.ndarray:
    """Points `[N, 3]` around the upper head, `thickness` mm off the skin: their hull is its outline."""
    angle = np.radians(np.arange(180, 361, 15))[:, None]
    arc = np.concatenate([np.cos(angle), np.sin(angle), np.zeros_like(angle)], 1)
    back, front = arc * (75 + thickness, 92 + thickness, 0), arc * (69 + thickness, 82 + thickness, 0)
    return np.concatenate([back + (0, -22, -90), front + (0, -22, -38)])


def _paint_head(
    image: np.ndarray, projection: Projection, person: Person, points: np.ndarray, lamp: Lamp, rng: np.random.Generator
) -> None:
    """Ears, skin and everything on it."""
    size, mm = len(image), projection.scale
    skin = np.float32(person.skin)
    for side in (-1, 1):
        ear = np.array([(68, -4, -75), (79, -10, -84), (85, 0, -90), (82, 20, -86), (76, 38, -80), (68, 38, -75)])
        ear = ear * (side, 1, 1)
        alpha = coverage(spline(projection.project(ear)), size)
        albedo = np.tile(np.float32(skin * (1, 0.93, 0.92)), (size, size, 1))
        hollow = ear.mean(0) + (ear - ear.mean(0)) * (0.45, 0.55, 1)
        Brush(albedo, projection).shape(hollow, skin * 0.72, 1.5)
        compose(image, alpha, albedo, inflate(alpha, 8 * mm), lamp, gloss=0.03, shadow=2 * mm)

    outline = cv2.convexHull(np.float32(projection.project(np.concatenate([points[CONTOUR], _skull(0)]))))[:, 0]
    alpha = coverage(spline(outline, steps=4), size)
    brush = Brush(np.tile(skin, (size, size, 1)), projection)
    _paint_skin(brush, person, points)
    for eye in (points[LEFT_EYE], points[RIGHT_EYE]):
        _paint_eye(brush, person, eye)
    _paint_mouth(brush, person, points)
    _paint_brows(brush, person, points)
    relief = inflate(alpha, 62 * mm) + _relief(projection, person, points, size)
    compose(image, alpha, brush.canvas, relief, lamp, gloss=rng.uniform(0.04, 0.14), shadow=10 * mm)


def _relief(projection: Projection, person: Person, points: np.ndarray, size: int) -> np.ndarray:
    """Nose, eye sockets, cheeks, lips and chin as bumps, in pixels, `[size, size]`."""
    upper, lower = points[[50, 51, 52, 61, 62, 63]].mean(0), points[[56, 57, 58, 65, 66, 67]].mean(0)
    smile = max(0.0, points[51, 1] - points[MOUTH_CORNERS, 1].mean() + 6.5) / 6
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
    for side, eye, wing in ((-1, points[LEFT_EYE].mean(0), points[31]), (1, points[RIGHT_EYE].mean(0), points[35])):
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
        middle = projection.project(centre)
        axes = np.stack(
            [projection.project(centre + (across, 0, 0)) - middle, projection.project(centre + (0, along, 0)) - middle], 1
        )
        reach = 3.2 * np.abs(axes).sum(1)
        window = Window.clipped(np.floor(middle - reach), np.ceil(middle + reach), (size, size), least=1)
        (a, b), (c, d) = np.linalg.inv(axes)
        x = (window.x + np.arange(window.width) - middle[0])[None]
        y = (window.y + np.arange(window.height) - middle[1])[:, None]
        bell = np.exp(-0.5 * ((a * x + b * y) ** 2 + (c * x + d * y) ** 2))
        relief[window.slices] += height * projection.scale * bell
    return relief


def _paint_skin(brush: Brush, person: Person, points: np.ndarray) -> None:
    """Mottling, blush, folds, nostrils and beard."""
    size, skin, age = len(brush.canvas), person.skin, person.age
    rng = np.random.default_rng(person.texture)
    mottled = cv2.resize(rng.normal(0, 0.02, (24, 24)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    brush.canvas[...] *= 1 + mottled[..., None]
    red, dark = skin * (1, 0.8, 0.78), skin * (0.62, 0.5, 0.46)
    brush.spot(points[30], 9, red, 5, 0.4)
    brush.line(points[31:36] + (0, 1, 0), 3, dark, 1.6, 0.6)
    sides = ((-1, points[LEFT_EYE], 31, 32, 48), (1, points[RIGHT_EYE], 35, 34, 54))
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
        outline = spline(brush.projection.project(np.concatenate([below, above])))
        grain = np.clip(rng.normal(0.85, 0.3, (size, size)), 0, 1).astype(np.float32)
        alpha = person.beard * grain * coverage(outline, size, 3 * brush.projection.scale)
        brush.canvas[...] += alpha[..., None] * (np.float32(person.hair * 0.85) - brush.canvas)


def _paint_eye(brush: Brush, person: Person, points: np.ndarray) -> None:
    """One eye, from its six landmarks `[6, 3]`: ball, iris, pupil, highlight, lids and lashes."""
    skin, upper = person.skin, points[:4]
    ball = Brush(brush.canvas.copy(), brush.projection)
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


def _uncover(brush: Brush, below: Brush, points: np.ndarray) -> None:
    """Opens a hole in the skin, the closed curve through `points` `[N, 3]`, that shows what is painted below."""
    outline = spline(brush.projection.project(points))
    window, hole = coverage_in_window(outline, len(brush.canvas), 0.4 * brush.projection.scale)
    skin = brush.canvas[window.slices]
    skin += hole[..., None] * (below.canvas[window.slices] - skin)


def _paint_mouth(brush: Brush, person: Person, points: np.ndarray) -> None:
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
    inside = Brush(np.tile(np.float32([0.2, 0.06, 0.06]), (*brush.canvas.shape[:2], 1)), brush.projection)
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


def _paint_brows(brush: Brush, person: Person, points: np.ndarray) -> None:
    colour = np.minimum(person.hair * 0.7, person.skin * 0.6)
    for brow in (points[17:22], points[26:21:-1]):
        brush.line(brow + (0, 1, 0), np.array([0.25, 0.8, 0.9, 1, 0.7]) * (4.5 + 3 * person.masculinity), colour, 0.8, 0.85)


def _paint_hair(image: np.ndarray, projection: Projection, person: Person, lamp: Lamp) -> None:
    """Hair: a shell around the skull and down the sides, with an opening for the face."""
    style, size, mm = _HAIR_STYLES[person.hair_style], len(image), projection.scale
    rng = np.random.default_rng(person.texture)
    project, thick, fall = projection.project, style.thickness, style.falls_to
    shell = _skull(thick)
    spread = 75 + thick + (0.06 * fall if style.over_ears else -2)
    ends = np.array([(spread, 0.5 * fall, -75), (spread - 4, fall, -70)])
    outline = cv2.convexHull(np.float32(project(np.concatenate([shell, ends, ends * (-1, 1, 1)]))))[:, 0]
    outline = spline(outline, steps=4)
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
    opening = coverage(spline(project(hairline)), size, (2.0 if style.curls else 1.2) * mm)
    alpha = coverage(outline, size, 0.8 * mm) * (1 - opening)

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
    relief = inflate(alpha, 26 * mm) + strands * (1.0 if style.curls else 0.5) * mm
    compose(image, alpha, albedo, relief, lamp, gloss=0.12, shadow=3 * mm)
