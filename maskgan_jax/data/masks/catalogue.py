"""All types of face masks: how each is cut, made, coloured and held."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from maskgan_jax.data.masks import cloth, respirators, surgical
from maskgan_jax.data.masks.sheet import Relief, Sheet

Outline = tuple[tuple[float, float], ...]
Colours = dict[str, tuple[tuple[int, int, int], float]]

EAR_TOP, EAR_BOTTOM = (0.56, -0.01), (0.545, 0.22)


@dataclasses.dataclass(frozen=True)
class Strap:
    """A band on the right side of the face, in its frame (see `sheet`).

    Attributes:
      start, end: (x, y); it starts under the mask.
      width: across.
    """

    start: tuple[float, float]
    end: tuple[float, float]
    width: float = 0.019


@dataclasses.dataclass(frozen=True)
class Mask:
    """A type of face mask.

    Attributes:
      outlines: right halves of its outline, from the nose down to the chin, in the frame of the face (see `sheet`); one of
        them is chosen.
      make: draws its relief; the last argument is its looseness in 0..1.
      colours: sRGB colours with their weights, by how often they are worn.
      straps: those of the right side; the left ones are their mirror images.
      strap_colours: as `colours`; 'own' stands for the colour of the mask.
      sheen: fraction of the light that white fibres reflect like a mirror where it falls straight on them; dark ones reflect
        less.
      has_patterns: whether it comes in patterns.
    """

    outlines: tuple[Outline, ...]
    make: Callable[[Sheet, np.random.Generator, float], Relief]
    colours: Colours
    straps: tuple[Strap, ...]
    strap_colours: Colours
    sheen: float
    has_patterns: bool = False


DARK = {"black": ((24, 24, 26), 0.3), "navy": ((24, 32, 62), 0.12)}
CLOTH_COLOURS = DARK | {
    "grey": ((110, 110, 112), 0.1),
    "white": ((226, 224, 218), 0.1),
    "beige": ((204, 184, 156), 0.08),
    "red": ((160, 22, 36), 0.09),
    "pink": ((222, 158, 172), 0.07),
    "green": ((74, 102, 76), 0.07),
    "blue": ((72, 116, 168), 0.07),
    "yellow": ((216, 178, 72), 0.05),
}
# The two ends of a loop, from the corners of the mask to behind the ear.
LOOP = (Strap((0.462, 0.245), EAR_TOP), Strap((0.415, 0.575), EAR_BOTTOM))
OWN = {"own": ((0, 0, 0), 1.0)}

MASKS = {
    "surgical": Mask(
        surgical.OUTLINES,
        surgical.surgical,
        {
            "light blue": ((140, 196, 226), 0.27),
            "blue": ((84, 160, 214), 0.1),
            "aqua": ((128, 204, 208), 0.1),
            "green": ((96, 196, 164), 0.1),
            "white": ((236, 238, 238), 0.2),
            "grey": ((150, 154, 158), 0.04),
            "pink": ((232, 184, 198), 0.06),
            "black": ((28, 28, 31), 0.1),
            "lilac": ((186, 170, 214), 0.05),
            "yellow": ((232, 226, 176), 0.03),
        },
        LOOP,
        {"white": ((236, 236, 236), 0.85), "own": ((0, 0, 0), 0.15)},
        sheen=0.2,
    ),
    "n95": Mask(
        (respirators.N95_OUTLINE,),
        respirators.n95,
        {
            "white": ((232, 231, 226), 0.8),
            "grey": ((150, 152, 152), 0.07),
            "black": ((30, 30, 33), 0.07),
            "blue": ((150, 190, 214), 0.06),
        },
        (Strap((0.345, 0.33), (0.6, -0.12)), Strap((0.345, 0.6), (0.57, 0.4))),
        {"white": ((226, 224, 216), 0.4), "yellow": ((206, 170, 84), 0.35), "grey": ((120, 120, 122), 0.15)}
        | {"black": ((40, 40, 42), 0.1)},
        sheen=0.08,
    ),
    "kn95": Mask(
        (respirators.KN95_OUTLINE,),
        respirators.kn95,
        {"white": ((234, 234, 233), 0.72), "grey": ((140, 143, 147), 0.1), "black": ((28, 28, 31), 0.18)},
        (Strap((0.462, 0.27), EAR_TOP), Strap((0.4, 0.57), EAR_BOTTOM)),
        {"white": ((236, 236, 236), 0.6), "own": ((0, 0, 0), 0.4)},
        sheen=0.1,
    ),
    "cloth": Mask(
        (cloth.CLOTH_OUTLINE,),
        cloth.cloth,
        CLOTH_COLOURS,
        (Strap((0.47, 0.23), EAR_TOP, 0.03), Strap((0.44, 0.49), EAR_BOTTOM, 0.03)),
        {"own": ((0, 0, 0), 0.6), "white": ((230, 230, 228), 0.2), "black": ((40, 40, 42), 0.2)},
        sheen=0.012,
        has_patterns=True,
    ),
    "gaiter": Mask((cloth.GAITER_OUTLINE,), cloth.gaiter, CLOTH_COLOURS, (), OWN, sheen=0.015, has_patterns=True),
    "bandana": Mask(
        (cloth.BANDANA_OUTLINE,),
        cloth.bandana,
        CLOTH_COLOURS,
        (Strap((0.5, 0.16), (0.6, 0.08), 0.06),),
        OWN,
        sheen=0.012,
        has_patterns=True,
    ),
}
