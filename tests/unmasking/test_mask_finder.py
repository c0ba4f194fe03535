import numpy as np
import pytest

from maskgan_jax.data.align import FaceSquare, Window
from maskgan_jax.data.points import EYE_RIM, eyes
from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.unmasking.mask_finder import MaskFinder, clean_mask, found_mask, lower_face, lower_face_cover

from .conftest import SIDE, Green, masked_face


@pytest.mark.parametrize(("size", "zoom"), [(SIDE, 1.0), (128, 1.0), (96, 4 / 3)])
def test_a_mask_in_the_square_of_another_network(size, zoom):
    photo, landmarks = masked_face(3, 320), render_face(3, seed=0, size=320).landmarks
    square = FaceSquare.around(landmarks, size, zoom)
    finder, image = MaskFinder(Green()), square.cut_out(photo)
    probability = finder.probability(photo, landmarks, square, image)
    assert probability.shape == (SIDE, SIDE)
    mask, cover = finder.mask(probability, landmarks, square)
    assert mask.shape == (size, size) and set(np.unique(mask)) == {0, 255} and cover > 0.9
    expected = Green()(image[None])[0] > 0.5
    assert ((mask > 0) & expected).sum() > 0.93 * ((mask > 0) | expected).sum()


def test_cover_is_the_hidden_fraction_of_the_lower_face():
    landmarks = render_face(3, seed=0, size=200).landmarks
    lower = lower_face(landmarks, (200, 200))
    assert lower_face_cover(np.zeros((200, 200), np.uint8), landmarks) == 0
    assert lower_face_cover(lower, landmarks) == 1
    half = lower.copy()
    half[:, ::2] = 0
    assert lower_face_cover(half, landmarks) == pytest.approx(0.5, abs=0.02)


def test_what_is_unlikely_but_possible_is_redrawn_and_does_not_make_a_mask():
    photo, landmarks = masked_face(3, 320), render_face(3, seed=0, size=320).landmarks
    square = FaceSquare.around(landmarks, SIDE)
    finder, image = MaskFinder(Green()), square.cut_out(photo)
    certain = finder.probability(photo, landmarks, square, image)
    mask, cover = finder.mask(0.3 * certain, landmarks, square)
    assert cover == 0 and ((mask > 0) & (certain > 0)).sum() > 0.95 * (certain > 0).sum()
    assert not finder.mask(0.2 * certain, landmarks, square)[0].any()


def test_a_face_mask_may_reach_into_the_rim_of_an_eye_where_it_is_certain():
    landmarks = render_face(3, seed=0, size=256).landmarks
    rim = (eyes(landmarks, (256, 256)) > 0) & (eyes(landmarks, (256, 256), EYE_RIM / 2) == 0)
    eye = eyes(landmarks, (256, 256), 0) > 0
    likely = np.full((256, 256), 0.8, np.float32)
    assert not found_mask(likely, landmarks)[rim | eye].any()
    mask = found_mask(likely + np.float32(0.15), landmarks)
    assert mask[rim].all() and not mask[eye].any()


def test_specks_and_holes_are_cleaned_away():
    mask = np.zeros((128, 128), bool)
    mask[40:90, 30:100] = True
    expected = mask * np.uint8(255)
    mask[50:53, 50:53] = False
    mask[5:8, 5:8] = True
    np.testing.assert_array_equal(clean_mask(mask), expected)
    mask[60:80, 60:80] = False  # A valve.
    np.testing.assert_array_equal(clean_mask(mask), expected)
    mask[50:80, 40:60] = False  # As in a ski mask.
    assert not clean_mask(mask)[50:80, 40:60].any()


def test_lower_face():
    landmarks = render_face(4, seed=0, size=320).landmarks
    mask = lower_face(landmarks, (320, 320)) > 0
    x, y = np.rint(landmarks).astype(int).T
    assert mask[y, x][[*range(3, 14), *range(29, 36), *range(48, 68)]].all()  # Jaw, nose, mouth
    assert not mask[y, x][17:27].any() and not mask[y, x][36:48].any()  # Brows, eyes
    assert FaceSquare.around(landmarks, 320).inside(Window(0, 0, 320, 320))[mask].all()
