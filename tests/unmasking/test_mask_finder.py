import dataclasses

import cv2
import numpy as np
import pytest
from skimage import exposure

from maskgan_jax.data.align import FaceSquare
from maskgan_jax.data.points import EYE_RIM, eyes
from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.data.window import Window
from maskgan_jax.unmasking.mask_finder import (
    LARGER,
    MaskFinder,
    clean_mask,
    darkened,
    found_mask,
    leveled,
    lower_face,
    lower_face_cover,
    mirrored,
    needed_cover,
)

from .conftest import MASK_COLOUR, SIDE, Green, masked_face


@pytest.mark.parametrize(("size", "zoom"), [(SIDE, 1.0), (128, 1.0), (96, 4 / 3)])
def test_a_mask_in_the_square_of_another_network(size, zoom):
    photo, landmarks = masked_face(3, 320), render_face(3, seed=0, size=320).landmarks
    square = FaceSquare.around(landmarks, size, zoom)
    seen, image = MaskFinder(Green()).look(photo, landmarks), square.cut_out(photo)
    assert seen.probability.shape == (SIDE, SIDE)
    mask = seen.mask(square)
    assert mask.shape == (size, size) and set(np.unique(mask)) == {0, 255} and seen.cover() > 0.9
    expected = Green()(image[None])[0] > 0.5
    assert ((mask > 0) & expected).sum() > 0.93 * ((mask > 0) | expected).sum()


def test_a_mask_goes_on_below_the_square():
    """As far as it is connected. Where it ends with the lower face, well above, the network does not look again."""
    photo, landmarks = masked_face(3, 320), render_face(3, seed=0, size=320).landmarks
    photo = cv2.copyMakeBorder(photo, 0, 100, 0, 0, cv2.BORDER_REPLICATE)
    seen_images = []

    class Watched(Green):
        size = 128

        def __call__(self, images):
            seen_images.extend(images)
            found = super().__call__(images)
            found[:, -1] = 0  # The package's network, too, seldom finds a mask in the last row.
            return found

    finder = MaskFinder(Watched())
    seen = finder.look(photo, landmarks)
    lower = seen.square.moved(0, 0.3)
    assert not finder.mask_below(photo, seen, lower).any() and len(seen_images) == 1
    (x, chin), edge = landmarks[8].astype(int), round(seen.square.corners[:, 1].max())
    photo[chin - 20 : edge + 20, x - 20 : x + 20] = MASK_COLOUR
    expected = lower.cut_out(photo) == MASK_COLOUR
    photo[edge + 30 : edge + 40, x - 20 : x + 20] = MASK_COLOUR
    mask = finder.mask_below(photo, finder.look(photo, landmarks), lower) > 0
    assert len(seen_images) == 3
    ended = photo[: int(seen.square.corners[1:3, 1].min())]  # There is nothing to be seen below.
    assert not finder.mask_below(ended, finder.look(ended, landmarks), lower).any() and len(seen_images) == 4
    rows = lower.to_aligned(np.array([[x, edge]]))[0, 1] + np.array([2, SIDE])
    below = np.s_[round(rows[0]) : round(rows[1])]
    assert (mask[below] == expected.all(axis=-1)[below]).mean() > 0.97 and mask[below].mean() > 0.02
    photo[chin - 20 :, x - 40 : x + 40] = MASK_COLOUR  # A scarf, which goes on below the larger square.
    assert not finder.mask_below(photo, finder.look(photo, landmarks), lower).any()


def test_what_is_seen_below_the_square():
    """By how sure the network is, where the mask ends, and where the photo does."""
    landmarks = render_face(3, seed=0, size=320).landmarks + 100
    photo = np.zeros((600, 600, 3), np.uint8)

    def below(at_edge, looked, photo=photo):
        looks = [np.zeros((SIDE, SIDE), np.float32), looked]
        looks[0][40:, 24:40] = at_edge

        class Scripted(Green):
            def __call__(self, images):
                return looks.pop(0)[None]

        finder = MaskFinder(Scripted())
        seen = finder.look(photo, landmarks)
        return finder.mask_below(photo, seen, seen.square.enlarged(LARGER)) > 0

    looked = np.zeros((SIDE, SIDE), np.float32)
    looked[40:54, 24:40] = 0.6
    looked[54:, 24:40] = 0.2
    mask = below(0.35, looked)
    assert not below(0.25, looked).any()
    # What is less sure is drawn if it is close: no farther away than 4 pixels.
    assert mask[40:58, 26:38].all() and not mask[58:].any()
    shirt = looked.copy()
    shirt[60:] = 0.9
    shirt[56:60] = 0
    assert below(0.35, shirt)[40:56, 26:38].all() and not below(0.35, shirt)[60:].any()
    scarf = looked.copy()
    scarf[54:, 24:40] = 0.6
    assert not below(0.35, scarf).any()
    # Where the photo ends sooner, the network sees the scarf only in what the photo is continued with.
    square = MaskFinder(Green()).square(landmarks)
    ends = [round(each.corners[1:3, 1].mean()) for each in (square, square.enlarged(LARGER))]
    assert below(0.35, scarf, photo[: (ends[0] + ends[1]) // 2])[40:, 26:38].all()
    assert not below(0.35, scarf, photo[: ends[0] - 1]).any()


@pytest.mark.parametrize("tint", [(1, 1, 1), (1, 0.85, 0.6), (0.7, 0.85, 1)])
def test_the_network_sees_photos_of_one_colour_in_grey(tint):
    photo, landmarks = masked_face(3, 320), render_face(3, seed=0, size=320).landmarks
    finder = MaskFinder(Green())
    square = finder.square(landmarks)
    np.testing.assert_array_equal(finder.image(photo, square), square.cut_out(photo))
    grey = np.dot(photo, [0.299, 0.587, 0.114])[..., None]
    tinted = np.rint(grey * tint).astype(np.uint8)
    seen = finder.image(tinted, square)
    assert np.ptp(seen, axis=-1).max() == 0
    lightness = np.dot(square.cut_out(tinted), [0.299, 0.587, 0.114])
    np.testing.assert_allclose(seen[..., 0], lightness, atol=1)
    assert needed_cover(seen, landmarks) == 0.5 and needed_cover(finder.image(photo, square), landmarks) == 0.3


def test_in_squeezed_photos_a_mask_must_hide_more():
    photo, landmarks = masked_face(3, 320), render_face(3, seed=0, size=320).landmarks
    eyes_at = landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0)
    height = np.linalg.norm((landmarks[48] + landmarks[54]) / 2 - np.mean(eyes_at, axis=0)) / np.linalg.norm(
        np.subtract(*eyes_at)
    )
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])  # Also in a photo that is turned.
    for factor, expected in ((0.91, 0.5), (0.93, 0.3), (1.2, 0.3)):
        squeezed = landmarks * [1, factor / height]
        assert needed_cover(photo, squeezed) == needed_cover(photo, squeezed @ turn.T) == expected


def test_the_square_has_the_jaw_in_its_middle():
    for number in range(8):
        landmarks = render_face(number, seed=0, size=320).landmarks
        square, plain = MaskFinder(Green()).square(landmarks), FaceSquare.around(landmarks, SIDE)
        assert square.side == pytest.approx(plain.side)
        jaw = square.to_aligned(landmarks[:17])[:, 0]
        # Pixel centres are at integers: the left edge of the image is at -0.5.
        assert jaw.min() + 0.5 == pytest.approx(SIDE - (jaw.max() + 0.5))


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
    seen = MaskFinder(Green()).look(photo, landmarks)
    certain = seen.probability
    doubtful = dataclasses.replace(seen, probability=0.3 * certain)
    mask = doubtful.mask(seen.square)
    assert doubtful.cover() == 0 and ((mask > 0) & (certain > 0)).sum() > 0.95 * (certain > 0).sum()
    assert not dataclasses.replace(seen, probability=0.03 * certain).mask(seen.square).any()


def test_beyond_the_face_more_must_be_certain():
    landmarks = render_face(3, seed=0, size=200).landmarks
    face = lower_face(landmarks, (200, 200)) > 0
    near = cv2.dilate(face.astype(np.uint8), np.ones((25, 25), np.uint8)) > 0
    doubtful = found_mask(np.full((200, 200), 0.08, np.float32), landmarks) > 0
    assert doubtful[face].mean() > 0.97 and not doubtful[~near].any() and doubtful.sum() > 1.1 * face.sum()
    beyond = found_mask(np.full((200, 200), 0.15, np.float32), landmarks) > 0
    assert beyond[~near].mean() > 0.9  # Not the eyes.
    # Where a number is given, it holds everywhere.
    assert not found_mask(np.full((200, 200), 0.15, np.float32), landmarks, 0.5).any()


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


class Stub:
    """A segmentation network that takes what `rule` says of an image for a mask."""

    size, zoom = SIDE, 1.0

    def __init__(self, rule):
        self.rule = rule

    def __call__(self, images):
        return np.stack([self.rule(image) for image in images]).astype(np.float32)


def everywhere(image):
    return np.ones(image.shape[:2])


def test_the_least_cover_of_several_views():
    photo, landmarks = masked_face(3, 320), render_face(3, seed=0, size=320).landmarks
    seen = MaskFinder(Stub(everywhere)).look(photo, landmarks)
    assert seen.least_cover() > 0.95
    for view in (mirrored, leveled, darkened):

        def nothing_there(image, view=view):
            return everywhere(image) * (not np.array_equal(image, view(seen.image)))

        assert dataclasses.replace(seen, network=Stub(nothing_there)).least_cover() == 0


def test_what_is_found_in_the_mirror_is_mirrored_back():
    """Seen the wrong way round, the mask would be on the other half of the face."""
    photo, landmarks = masked_face(3, 320), render_face(3, seed=0, size=320).landmarks
    half = np.where(np.arange(320)[:, None] < landmarks[33, 0], photo, np.uint8(0))  # It is not symmetrical.
    square = MaskFinder(Green()).square(landmarks)
    left = np.arange(SIDE) < square.to_aligned(landmarks)[33, 0]

    def left_of_the_face(image):
        flipped = np.array_equal(image, mirrored(square.cut_out(half)))
        return np.broadcast_to(left[::-1] if flipped else left, (SIDE, SIDE))

    cover = lower_face_cover(np.uint8(255) * left_of_the_face(half[:SIDE, :SIDE]), square.to_aligned(landmarks))
    assert 0.3 < cover < 0.7
    seen = MaskFinder(Stub(left_of_the_face)).look(half, landmarks)
    assert seen.least_cover() == pytest.approx(cover, abs=0.03)  # But for the eyes' rims.


def test_views_are_as_in_scikit_image():
    image = render_face(3, seed=0, size=64).image
    low, high = np.percentile(image, (2, 98), axis=(0, 1))
    for channel in range(3):
        expected = exposure.rescale_intensity(image[..., channel].astype(float), (low[channel], high[channel]), (0, 255))
        assert np.abs(leveled(image)[..., channel] - expected).max() <= 1
    assert np.abs(darkened(image).astype(int) - exposure.adjust_gamma(image, 1.5)).max() <= 1
    assert leveled(np.full((8, 8, 3), 77, np.uint8)).shape == (8, 8, 3)
