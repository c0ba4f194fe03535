import numpy as np
import pytest

from maskgan_jax.data.build.contact_sheet import HEADINGS, TILE, contact_sheet
from maskgan_jax.data.grid import GAP, HEADING


@pytest.mark.parametrize("count", [1, 3])
def test_headings_captions_and_tiles(count):
    record = {
        "real": np.full((64, 64, 3), 40, np.uint8),
        "masked": np.full((64, 64, 3), 80, np.uint8),
        "mask": np.full((64, 64, 1), 120, np.uint8),
        "landmarks": np.full((68, 2), 20, np.float32),
        **{name: name for name in ("source", "mask_type", "expression", "id")},
    }
    sheet = contact_sheet([record] * count)
    assert sheet.dtype == np.uint8
    for number in range(count):
        row, left = number // 2, number % 2 * (len(HEADINGS) * TILE + GAP)
        top = 2 * HEADING + row * (TILE + HEADING)
        assert sheet[top - HEADING : top, left : left + TILE].min() < 128
        for place, grey in enumerate((40, 80, 120, 40)):
            assert sheet[:HEADING, left + place * TILE : left + (place + 1) * TILE].min() < 128
            # The last pixels of each tile, far from the landmarks.
            assert (sheet[top + TILE - 9 : top + TILE, left + (place + 1) * TILE - 9 : left + (place + 1) * TILE] == grey).all()
    assert sheet.shape[0] == top + TILE
