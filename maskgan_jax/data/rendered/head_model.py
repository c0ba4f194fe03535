"""The people that are rendered: 68 landmarks in 3D, shaped by a person's traits and an expression, and posed.

Coordinates are in mm: x to the right of the image, y down, z towards the viewer; the eyes are at y = 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from maskgan_jax.data.points import CONTOUR, LEFT_EYE, MIRRORED, MOUTH, RIGHT_EYE

# fmt: off
# The left half of an average face (right halves mirror it), by dlib's numbers: x, y, z in mm. The proportions are those
# on which dlib's shape predictor agrees with the drawn faces.
LEFT_HALF = {
    0: (-71.5, -3, -50), 1: (-70.5, 17, -48), 2: (-68.5, 36.5, -46), 3: (-64.5, 55.5, -43), 4: (-57, 73.5, -38),
    5: (-46, 88.5, -30), 6: (-32, 100.5, -18), 7: (-16.5, 109.5, -5), 8: (0, 112, 0),
    17: (-55, -16, -8), 18: (-46, -24, 2), 19: (-34, -26.5, 9), 20: (-22, -24, 14), 21: (-10.5, -18, 16),
    27: (0, -1.5, 18), 28: (0, 11.5, 24), 29: (0, 25, 31), 30: (0, 38, 37),
    31: (-13, 47.5, 20), 32: (-7, 49.5, 25), 33: (0, 51.5, 28),
    36: (-41.5, 0, 0), 37: (-35, -5.5, 6), 38: (-26, -5.5, 8), 39: (-18, 1.5, 5), 40: (-26.5, 4.5, 7), 41: (-35, 4.5, 5),
    48: (-24.5, 71.3, 8), 49: (-15.5, 66, 17), 50: (-6.5, 63, 22), 51: (0, 64.5, 23), 57: (0, 82.3, 21), 58: (-7, 81.8, 20),
    59: (-15.5, 78.5, 15), 60: (-20.5, 71.5, 9), 61: (-7, 70.9, 18), 62: (0, 71.2, 19), 66: (0, 72.5, 19), 67: (-7, 72.2, 18),
}
# fmt: on
_BROWS, _NOSE, _EYES = slice(17, 27), slice(27, 36), slice(36, 48)

# At full strength: corners of the mouth up and out, opening of the mouth and rise of the brows' inner and outer ends in mm,
# how far the eyes open beyond the usual, and how thin the lips are pressed.
EXPRESSIONS = {
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


@dataclass(frozen=True)
class Person:
    """What is the same in all images of a person. Colours are RGB in 0..1."""

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


class _Traits(NamedTuple):
    masculinity: float  # as for `Person`
    age: float  # as for `Person`
    tone: float  # of the skin, by its place in _SKIN_TONES


def draw_person(rng: np.random.Generator) -> Person:
    """A random person. Traits are correlated, so that what a mask leaves visible says something about what it hides."""
    masculinity, age = rng.beta(0.6, 0.6), rng.beta(1.2, 1.8)
    traits = _Traits(masculinity, age, rng.uniform(0, len(_SKIN_TONES) - 1))
    # The same numbers give the same person as long as they are drawn in this order.
    skin, lips, hair, eyes = _draw_colours(rng, traits)
    landmarks = _draw_landmarks(rng, traits)
    manly = ["short", "short", "receding", "cropped curls", "short"]
    womanly = ["bob", "fringe", "long", "curls", "tied back", "long"]
    return Person(
        landmarks=landmarks,
        age=age,
        masculinity=masculinity,
        skin=skin,
        lips=lips,
        hair=hair,
        eyes=eyes,
        hair_style=str(rng.choice(manly if masculinity > 0.5 else womanly)),
        beard=rng.uniform(0.1, 1) if masculinity > 0.6 and rng.random() < 0.45 else 0.0,
        nose=rng.normal(1, 0.12),
        texture=int(rng.integers(2**31)),
    )


def _draw_colours(rng: np.random.Generator, traits: _Traits) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The colours of skin, lips, hair and eyes."""
    masculinity, age, tone = traits
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
    return skin, np.clip(lips, 0, 1), hair, eyes


def _average_landmarks() -> np.ndarray:
    """`LEFT_HALF` and its mirror image, `[68, 3]`."""
    points = np.zeros((68, 3))
    for i, point in LEFT_HALF.items():
        points[i] = point
        points[MIRRORED[i]] = np.multiply(point, (-1, 1, 1))
    return points


def _draw_landmarks(rng: np.random.Generator, traits: _Traits) -> np.ndarray:
    """The landmarks `[68, 3]` of a neutral face, in mm."""
    masculinity, age, tone = traits
    points = _average_landmarks()
    x, y = points[:, 0], points[:, 1]
    side = np.sign(x)
    # Jaw and chin: the whole width, the corners of the jaw, and the length below the nose.
    along = np.linspace(-1, 1, 17)
    corner = np.exp(-(((np.abs(along) - 0.55) / 0.22) ** 2))
    x[CONTOUR] *= rng.normal(1, 0.03) * (1 + corner * (0.1 * (masculinity - 0.5) + rng.normal(0, 0.03)))
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
    for eye in (LEFT_EYE, RIGHT_EYE):
        middle = points[eye].mean(0)
        points[eye] = middle + (points[eye] - middle) * (size, size * rng.normal(1 - 0.12 * age, 0.03), 1)
    y[[36, 45]] += rng.normal(-0.5, 1) + age
    # Mouth: width, and fullness of the lips about the line where they meet.
    x[MOUTH] *= rng.normal(1, 0.05)
    meeting = y[48]
    fullness = rng.normal(1.0, 0.1) + 0.05 * (tone - 2) + 0.2 * (0.5 - masculinity) - 0.15 * age
    y[48:60] = meeting + (y[48:60] - meeting) * fullness
    return points + rng.normal(0, 0.35, points.shape)


def express(landmarks: np.ndarray, expression: str, rng: np.random.Generator) -> np.ndarray:
    """The landmarks `[68, 3]` with an expression, of random strength."""
    points = landmarks.copy()
    strength = rng.uniform(0.65, 1.0)
    pull = {name: strength * value for name, value in EXPRESSIONS[expression].items()}
    opening = pull["open"] * (1 if expression == "surprised" else rng.choice([0, 0.4, 1]))
    x, y = points[:, 0], points[:, 1]
    corner = np.clip(np.abs(x[MOUTH]) / 25, 0, 1) ** 1.5
    x[MOUTH] *= 1 + (0.2 if pull["smile"] > 0 else 0.05) * pull["smile"] - 0.008 * opening * (expression == "surprised")
    y[MOUTH] -= corner * 7 * pull["smile"] - 1.5 * max(pull["smile"], 0)
    middle = (y[62] + y[66]) / 2
    y[48:60] = middle + (y[48:60] - middle) * (1 - pull["press"])
    # The jaw turns about the ears: lower lip and chin go down with the mouth's opening, the sides less.
    lower, upper = np.array([55, 56, 57, 58, 59, 65, 66, 67]), np.array([49, 50, 51, 52, 53, 61, 62, 63])
    y[lower] += 0.75 * opening * (1 - 0.35 * np.abs(x[lower]) / 25)
    y[upper] -= 0.25 * opening * (1 - 0.35 * np.abs(x[upper]) / 25)
    y[[48, 54, 60, 64]] += 0.25 * opening
    x[[61, 67, 63, 65]] *= 1 + 0.03 * opening
    x[[49, 53, 55, 59]] *= 1 + 0.012 * opening
    y[CONTOUR] += 0.7 * opening * np.cos(np.linspace(-np.pi / 2, np.pi / 2, 17)) ** 2
    # Brows and lids.
    inner = np.array([0, 0.15, 0.4, 0.75, 1])
    for brow in (np.arange(17, 22), np.arange(26, 21, -1)):
        y[brow] -= inner * pull["inner"] + (1 - inner) * pull["outer"]
        x[brow] += np.sign(-x[brow]) * inner * max(-pull["inner"], 0) * 0.4
    for eye in (LEFT_EYE, RIGHT_EYE):
        middle = y[eye].mean()
        y[eye] = middle + (y[eye] - middle) * (1 + pull["lids"])
    return points


@dataclass(frozen=True)
class Projection:
    """From points on the head to pixels: its rotation `[3, 3]`, pixels per mm, and where the middle of the eyes falls."""

    rotation: np.ndarray
    scale: float
    centre: np.ndarray

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels `[..., 2]` of points `[..., 3]` in mm. The head turns about the top of the neck; the lens is 0.9 m away."""
        pivot = np.array([0, 40, -75])
        turned = (np.asarray(points, np.float64) - pivot) @ self.rotation.T + pivot
        return self.centre + self.scale * turned[..., :2] * 900 / (900 - turned[..., 2:])


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """The rotation matrix `[3, 3]` of a head that turns, nods and tilts, in radians."""
    turn, _ = cv2.Rodrigues(np.array([0.0, yaw, 0.0]))
    nod, _ = cv2.Rodrigues(np.array([pitch, 0.0, 0.0]))
    tilt, _ = cv2.Rodrigues(np.array([0.0, 0.0, roll]))
    return tilt @ nod @ turn
