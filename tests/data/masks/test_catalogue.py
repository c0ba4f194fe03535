import json

import numpy as np
import pytest

from maskgan_jax.data.masks.catalogue import MASKS
from maskgan_jax.data.masks.geometry import CONTOUR_MEAN, NOSE_MEAN
from maskgan_jax.data.masks.sheet import make_sheet, whole_outline

TYPES = list(MASKS)


@pytest.mark.parametrize("mask_type", TYPES)
def test_relief(mask_type):
    mask = MASKS[mask_type]
    sheet = make_sheet(mask.outlines[0], 128)
    heights = set()
    for seed in range(12):
        relief = mask.make(sheet, np.random.default_rng(seed), seed / 11)
        for array in (relief.height, relief.fabric):
            assert array.shape == sheet.x.shape and array.dtype == np.float32 and np.isfinite(array).all()
        assert relief.fabric.mean() == pytest.approx(1, abs=0.08) and relief.fabric.min() > 0.5
        for coverage, colour in relief.parts:
            assert coverage.shape == sheet.x.shape and coverage.min() >= 0 and 0.5 < coverage.max() <= 1
            assert colour.shape == (3,) and 0 <= colour.min() and colour.max() <= 1
        assert relief.details == json.loads(json.dumps(relief.details)) != {}
        # Flatter than a face is wide.
        assert np.ptp(relief.height[sheet.alpha > 0.5]) < 1.2
        heights.add(relief.height.tobytes())
        again = mask.make(sheet, np.random.default_rng(seed), seed / 11)
        np.testing.assert_array_equal(relief.height, again.height)
        assert relief.details == again.details
    assert len(heights) == 12


@pytest.mark.parametrize("mask_type", TYPES)
def test_colours(mask_type):
    mask = MASKS[mask_type]
    for colours in (mask.colours, mask.strap_colours):
        for srgb, share in colours.values():
            assert len(srgb) == 3 and all(0 <= value <= 255 for value in srgb) and share > 0
    assert 0 <= mask.sheen < 0.5


@pytest.mark.parametrize("mask_type", TYPES)
def test_outline_on_the_mean_face(mask_type):
    outline = whole_outline(MASKS[mask_type].outlines[-1])
    assert outline[:, 1].min() < NOSE_MEAN[-1, 1] - 0.1 and outline[:, 1].min() > 0
    assert outline[:, 1].max() > CONTOUR_MEAN[8, 1]
    for strap in MASKS[mask_type].straps:
        # It starts on the mask and ends beside the face.
        x, y = whole_outline(MASKS[mask_type].outlines[-1]).T
        start = strap.start
        crossing = (y > start[1]) != (np.roll(y, -1) > start[1])
        where = (np.roll(x, -1) - x) * (start[1] - y) / (np.roll(y, -1) - y + 1e-12) + x
        assert (crossing & (start[0] < where)).sum() % 2 == 1, strap
        assert strap.end[0] > 0.5
