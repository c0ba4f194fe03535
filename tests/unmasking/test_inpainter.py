import cv2
import numpy as np

from maskgan_jax.data.points import eyes
from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.unmasking.inpainter import grown
from maskgan_jax.unmasking.unmasker import Unmasker

from .conftest import DRAWN, MASK_COLOUR, Green, MeanFace, Painter, is_drawn, is_green


def grey_photo(portrait):
    """The portrait in grey, but for compression's traces, and where its mask is."""
    grey = np.repeat(portrait.mean(axis=-1, keepdims=True).astype(np.uint8), 3, axis=2)
    grey[::2, ::2, 0] = np.minimum(grey[::2, ::2, 0], 250) + 4
    return grey, is_green(portrait)


def test_in_a_photo_without_colour_faces_are_drawn_grey(unmasker, portrait):
    grey, mask = grey_photo(portrait)
    result, (face,) = unmasker.unmask(grey, mask)
    luma = np.rint(np.dot(DRAWN, [0.299, 0.587, 0.114]))
    inner = cv2.erode(mask.astype(np.uint8), np.ones((25, 25))) > 0
    assert inner.any() and is_grey(result[inner], luma)
    assert np.ptp(face.after.astype(int), axis=-1).max() <= 3
    # What is visible tells, not the mask.
    grey[mask] = MASK_COLOUR
    result, _ = unmasker.unmask(grey)
    assert is_grey(result[inner], luma)


def is_grey(pixels, luma):
    """Whether pixels are of a lightness, but for grain, and of no colour that can be seen."""
    return np.ptp(pixels.astype(int), axis=-1).max() <= 3 and np.abs(pixels.mean(axis=-1) - luma).max() < 25


SEPIA = np.array([1.0, 0.85, 0.6])


def test_in_a_sepia_photo_faces_are_drawn_in_sepia(unmasker, portrait):
    grey, mask = grey_photo(portrait)
    sepia = np.rint(grey * SEPIA).astype(np.uint8)
    result, _ = unmasker.unmask(sepia, mask)
    inner = cv2.erode(mask.astype(np.uint8), np.ones((25, 25))) > 0
    red, green, blue = result[inner].T.astype(float)
    # Grain adds the same to each colour, at most a few levels.
    assert np.abs(green - 0.85 * red).max() < 6 and np.abs(blue - 0.6 * red).max() < 12
    luma = np.dot(DRAWN, [0.299, 0.587, 0.114])
    assert abs(np.dot(result[inner], [0.299, 0.587, 0.114]).mean() - luma) < 2


def test_faces_are_drawn_in_colour_where_there_are_two(unmasker, portrait):
    """A grey photo whose left half is a little red."""
    grey, mask = grey_photo(portrait)
    grey[:, :160, 0] = np.minimum(grey[:, :160, 0], 235) + 20
    result, _ = unmasker.unmask(grey, mask)
    inner = cv2.erode(mask.astype(np.uint8), np.ones((25, 25))) > 0
    assert is_drawn(result[inner]).all()


def test_eyes_are_never_redrawn(portrait):
    class Everything(Green):
        def __call__(self, pictures):
            return np.ones(pictures.shape[:3], np.float32)

    result, (face,) = Unmasker(Painter(), MeanFace(), Everything()).unmask(portrait)
    eyes = face.landmarks[36:48].reshape(2, 6, 2)
    x, y = np.rint(0.6 * eyes + 0.4 * eyes.mean(axis=1, keepdims=True)).astype(int).reshape(-1, 2).T
    np.testing.assert_array_equal(result[y, x], portrait[y, x])
    nose = np.rint(face.landmarks[30]).astype(int)
    assert is_drawn(result[nose[1], nose[0]])


def test_a_mask_is_grown_by_a_64th_of_the_side():
    mask = np.zeros((128, 128), np.uint8)
    mask[60:70, 50:80] = 255
    y, x = np.nonzero(grown(mask, np.zeros((68, 2))))
    assert (y.min(), y.max(), x.min(), x.max()) == (58, 71, 48, 81)


def test_the_rim_keeps_off_the_eyes():
    landmarks = render_face(3, seed=0, size=128).landmarks
    visible = eyes(landmarks, (128, 128)) > 0
    mask = np.where(visible, 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(grown(mask, landmarks), mask)
    mask[visible] = 255  # A face mask that was found on an eye's rim stays.
    np.testing.assert_array_equal(grown(mask, landmarks), mask)
