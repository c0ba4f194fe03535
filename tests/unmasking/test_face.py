import dataclasses

import numpy as np
import pytest

from maskgan_jax.data.align import FaceSquare
from maskgan_jax.unmasking.face import LEAST_COVER, LEAST_COVER_IN_DOUBT, Face

SIDE = 8
SQUARE = FaceSquare(np.array([[0.0, 0.0], [SIDE, 0.0], [SIDE, SIDE], [0.0, SIDE]]), SIDE)
IMAGE = np.zeros((SIDE, SIDE, 3), np.uint8)


def face(cover, **settings):
    box, landmarks, mask = np.array([0, 0, SIDE, SIDE]), np.zeros((68, 2)), np.zeros((SIDE, SIDE), np.uint8)
    return Face(box, 0.9, landmarks, SQUARE, cover, mask, IMAGE, **settings)


@pytest.mark.parametrize(
    ("cover", "needed", "masked"),
    [
        (LEAST_COVER, LEAST_COVER, True),
        (LEAST_COVER - 0.01, LEAST_COVER, False),
        (LEAST_COVER, LEAST_COVER_IN_DOUBT, False),
        (LEAST_COVER_IN_DOUBT, LEAST_COVER_IN_DOUBT, True),
        (0.0, LEAST_COVER, False),
    ],
)
def test_a_face_is_masked_if_enough_of_it_is_hidden(cover, needed, masked):
    assert face(cover, needed_cover=needed).masked == masked
    assert not face(cover, needed_cover=needed).redrawn


def test_what_was_redrawn_was_masked_however_little_was_hidden():
    """As by a given mask."""
    redrawn = dataclasses.replace(face(0.01), after=IMAGE)
    assert redrawn.redrawn and redrawn.masked
