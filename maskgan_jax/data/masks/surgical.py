"""The surgical mask: a pleated sheet with a nose wire, hems and ear loops."""

from __future__ import annotations

import numpy as np

from maskgan_jax.data.masks.sheet import Relief, Sheet, band, creases, fold, noise, pulled, ridge, smoothstep, stitches, weave

# One pressed onto the nose and drawn tight under the chin; one that stands off, straight above and square below.
OUTLINES = (
    ((0.0, 0.085), (0.045, 0.09), (0.11, 0.135), (0.2, 0.185), (0.32, 0.222), (0.445, 0.232), (0.468, 0.238), (0.475, 0.25))
    + ((0.47, 0.34), (0.458, 0.44), (0.437, 0.56), (0.425, 0.585), (0.4, 0.61), (0.31, 0.725), (0.2, 0.835), (0.12, 0.868))
    + ((0.0, 0.872),),
    ((0.0, 0.105), (0.06, 0.112), (0.14, 0.142), (0.25, 0.178), (0.36, 0.205), (0.448, 0.222), (0.47, 0.23), (0.476, 0.245))
    + ((0.472, 0.34), (0.462, 0.45), (0.446, 0.57), (0.437, 0.61), (0.415, 0.645), (0.345, 0.745), (0.265, 0.842), (0.17, 0.88))
    + ((0.0, 0.886),),
)


def surgical(sheet: Sheet, rng: np.random.Generator, looseness: float) -> Relief:
    """Three or four pleats that open over the mouth and lie close together at the side hems."""
    y, side = sheet.y, sheet.side
    coarse = sheet.coarse
    # 1 at the centre, 0 at the side hems.
    spread = np.cos(np.minimum(coarse.side / 0.47, 1) * np.float32(np.pi / 2))
    drape = coarse.face * 0.85 + float(rng.uniform(0.01, 0.05)) * spread * ridge(coarse.y - 0.55, 0.2)
    drape += (0.008 + 0.01 * looseness) * creases(rng, coarse, 0.18) + 0.0018 * creases(rng, coarse, 0.05)
    # Gathered at the ends of the loops, and puckered along the side hems.
    gathers = pulled(rng, coarse, (0.47, 0.25), 0.16, 11) + pulled(rng, coarse, (0.415, 0.585), 0.18, 11)
    height = sheet.enlarged(drape + (0.007 + 0.009 * looseness) * gathers)
    depth = float(rng.uniform(0.014, 0.034))
    count = int(rng.integers(3, 5))
    pleats = []
    tilt = float(rng.normal(0, 0.02))
    for at_hem, at_centre in zip(np.linspace(0.29, 0.5, count), np.linspace(0.3, 0.66, count), strict=True):
        at_centre += float(rng.uniform(-0.04, 0.04))
        at_hem += float(rng.uniform(-0.012, 0.012))
        line = at_hem + (at_centre - at_hem) * spread + tilt * coarse.x + 0.009 * noise(rng, coarse, 0.22)
        opened = float(rng.uniform(0.2, 0.8))
        drop = depth * float(rng.uniform(0.5, 1.5)) * (1 - opened * spread**3)
        height += sheet.enlarged(drop) * fold(y - sheet.enlarged(line), 0.11, 0.005 + 0.012 * opened)
        pleats.append(round(at_centre, 4))
    hem = float(rng.uniform(0.022, 0.032))
    height += 0.004 * smoothstep(hem - sheet.inside, 0.006) - 0.003 * stitches(sheet, hem, 55)
    wire = float(rng.uniform(0.11, 0.17))
    # Along the middle of the top hem, pressed onto the nose.
    height += 0.005 * smoothstep(wire - side, 0.02) * band(sheet.inside, 0.008, hem - 0.002, 0.006) * smoothstep(0.25 - y, 0.01)
    # The hems are of more layers than the sheet between them.
    fabric = weave(rng, sheet, 0.012) - 0.05 * smoothstep(hem - sheet.inside, 0.004)
    fabric += sheet.enlarged(0.012 * noise(rng, coarse, 0.1))
    return Relief(height, fabric, [], {"pleat_depth": depth, "pleats": pleats, "nose_wire": wire, "hem": hem})
