"""Masks of cloth: sewn ones, the gaiter (a tube pulled up from the neck) and the bandana (a triangle tied behind)."""

from __future__ import annotations

import numpy as np

from maskgan_jax.data.masks.respirators import put_valve
from maskgan_jax.data.masks.sheet import Relief, Sheet, creases, fold, folds, noise, pulled, ridge, smoothstep, stitches, weave

CLOTH_OUTLINE = ((0.0, 0.07), (0.055, 0.085), (0.14, 0.15), (0.25, 0.192), (0.38, 0.205), (0.465, 0.215), (0.484, 0.245)) + (
    (0.48, 0.335), (0.466, 0.43), (0.436, 0.515), (0.365, 0.645), (0.26, 0.765), (0.13, 0.845), (0.0, 0.868))  # fmt: skip
GAITER_OUTLINE = ((0.0, 0.085), (0.07, 0.1), (0.19, 0.152), (0.35, 0.165), (0.475, 0.14), (0.515, 0.16), (0.508, 0.33)) + (
    (0.487, 0.5), (0.44, 0.64), (0.4, 0.75), (0.385, 0.92), (0.4, 1.12), (0.43, 1.33), (0.3, 1.41), (0.0, 1.45))  # fmt: skip
BANDANA_OUTLINE = ((0.0, 0.075), (0.07, 0.09), (0.19, 0.145), (0.35, 0.16), (0.475, 0.135), (0.512, 0.16), (0.5, 0.32)) + (
    (0.455, 0.5), (0.385, 0.68), (0.28, 0.87), (0.17, 1.05), (0.07, 1.17), (0.0, 1.2))  # fmt: skip


def cloth(sheet: Sheet, rng: np.random.Generator, looseness: float) -> Relief:
    """Two panels with a curved seam, one smooth piece, or pleats; with a hem or a binding."""
    y, side, coarse = sheet.y, sheet.side, sheet.coarse
    cut = str(rng.choice(("panels", "smooth", "pleats"), p=(0.5, 0.3, 0.2)))
    height = sheet.face * 0.9
    if cut == "panels":
        height -= 0.12 * np.sqrt(side**2 + 0.04**2)
        height += 0.003 * ridge(side - 0.008, 0.006) - 0.005 * ridge(side, 0.004)
    if cut == "pleats":
        spread = np.cos(np.minimum(coarse.side / 0.48, 1) * np.float32(np.pi / 2))
        for at_hem, at_centre in ((0.3, 0.33), (0.37, 0.47), (0.44, 0.61)):
            line = at_hem + (at_centre + float(rng.uniform(-0.02, 0.02)) - at_hem) * spread + 0.005 * noise(rng, coarse, 0.25)
            height += sheet.enlarged(0.016 * (1 - 0.4 * spread**3)) * fold(y - sheet.enlarged(line), 0.09, 0.012)
    stiffness = 0.5 if cut == "smooth" else 1.0
    pull = float(rng.uniform(0.006, 0.018)) * stiffness * (0.6 + looseness)
    dents = stiffness * ((0.007 + 0.011 * looseness) * creases(rng, coarse, 0.2) + 0.002 * creases(rng, coarse, 0.07))
    # Pulled by the ear loops, the cloth wrinkles outwards from the cheeks.
    gathers = pull * (pulled(rng, coarse, (0.48, 0.26), 0.22, 9) + pulled(rng, coarse, (0.45, 0.48), 0.24, 9))
    height += sheet.enlarged(dents + gathers)
    hem = float(rng.uniform(0.015, 0.04))
    sewn = bool(rng.random() < 0.7)
    height += 0.005 * smoothstep(hem - sheet.inside, 0.006)
    if sewn:
        height -= 0.003 * stitches(sheet, hem, 48)
    parts = []
    binding = bool(rng.random() < 0.15)
    if binding:
        parts.append((smoothstep(hem - sheet.inside, 0.006), np.full(3, rng.choice((0.02, 0.02, 0.7)), np.float32)))
    details = {"cut": cut, "pull": pull, "hem": hem, "sewn": sewn, "binding": binding}
    if cut != "pleats" and rng.random() < 0.15:
        details["valve"] = put_valve(sheet, rng, height, parts, at=(float(rng.choice((-0.18, 0.18))), 0.5))
    fabric = weave(rng, sheet, float(rng.uniform(0.02, 0.06))) + sheet.enlarged(0.02 * noise(rng, coarse, 0.12))
    return Relief(height, fabric, parts, details)


def gaiter(sheet: Sheet, rng: np.random.Generator, looseness: float) -> Relief:
    """A stretched tube: smooth over the face, with loose rings on the neck."""
    coarse = sheet.coarse
    y = coarse.y
    rings = float(rng.uniform(4, 8))
    slack = float(rng.uniform(0.01, 0.024)) * (0.6 + looseness)
    # Below the chin the tube falls back to the neck, a cylinder.
    neck = smoothstep(y - 0.88, 0.4)
    drape = coarse.face * (1 - neck) + neck * (0.5 * np.sqrt(np.maximum(1 - (coarse.x / 0.5) ** 2, 0.05)) - 0.36)
    drape += slack * smoothstep(y - 0.72, 0.4) * folds(rng, coarse, y - 0.25 * coarse.side**2, rings)
    drape += (0.01 + 0.012 * looseness) * creases(rng, coarse, 0.2) + 0.014 * pulled(rng, coarse, (0.53, 0.2), 0.4, 9)
    height = sheet.enlarged(drape)
    hem = float(rng.uniform(0.012, 0.03))
    height += 0.004 * smoothstep(hem - sheet.inside, 0.006) * smoothstep(0.4 - sheet.y, 0.1)
    fabric = weave(rng, sheet, 0.02) + sheet.enlarged(0.015 * noise(rng, sheet.coarse, 0.15))
    return Relief(height, fabric, [], {"rings": rings, "slack": slack, "hem": hem})


def bandana(sheet: Sheet, rng: np.random.Generator, looseness: float) -> Relief:
    """A folded kerchief: its folds hang in arcs from ear to ear and run down to its tip."""
    coarse = sheet.coarse
    y = coarse.y
    hang = float(rng.uniform(0.5, 1.1))
    per_unit = float(rng.uniform(3, 7))
    drape = coarse.face - 0.35 * np.maximum(y - 0.8, 0)
    drape += (0.012 + 0.012 * looseness) * smoothstep(y - 0.15, 0.3) * folds(rng, coarse, y + hang * coarse.side**2, per_unit)
    drape += 0.016 * pulled(rng, coarse, (0.52, 0.18), 0.45, 9) + (0.005 + 0.008 * looseness) * creases(rng, coarse, 0.22)
    height = sheet.enlarged(drape)
    height += 0.004 * smoothstep(0.014 - sheet.inside, 0.006)
    fabric = weave(rng, sheet, 0.03) + sheet.enlarged(0.02 * noise(rng, sheet.coarse, 0.12))
    return Relief(height, fabric, [], {"hang": hang, "folds": per_unit})
