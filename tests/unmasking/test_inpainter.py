import cv2
import numpy as np

from maskgan_jax.unmasking.inpainter import grown
from maskgan_jax.unmasking.unmasker import Unmasker

from .conftest import DRAWN, MASK_COLOUR, Green, MeanFace, Painter, is_green


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
    assert inner.any() and (result[inner] == luma).all()
    assert (face.after == face.after[..., :1]).all()
    # What is visible tells, not the mask.
    grey[mask] = MASK_COLOUR
    result, _ = unmasker.unmask(grey)
    assert (result[inner] == luma).all()


def test_faces_are_drawn_in_colour_where_there_is_a_little(unmasker, portrait):
    grey, mask = grey_photo(portrait)
    result, _ = unmasker.unmask(
        np.where(mask[..., None], grey, np.clip(grey.astype(int) + [4, 0, 0], 0, 255)).astype(np.uint8), mask
    )
    inner = cv2.erode(mask.astype(np.uint8), np.ones((25, 25))) > 0
    assert (result[inner] == DRAWN).all()


def test_eyes_are_never_redrawn(portrait):
    class Everything(Green):
        def __call__(self, pictures):
            return np.ones(pictures.shape[:3], np.float32)

    result, (face,) = Unmasker(Painter(), MeanFace(), Everything()).unmask(portrait)
    x, y = np.rint(face.landmarks[36:48]).astype(int).T
    np.testing.assert_array_equal(result[y, x], portrait[y, x])
    nose = np.rint(face.landmarks[30]).astype(int)
    assert (result[nose[1], nose[0]] == DRAWN).all()


def test_a_mask_is_grown_by_a_32nd_of_the_side():
    mask = np.zeros((128, 128), np.uint8)
    mask[60:70, 50:80] = 255
    y, x = np.nonzero(grown(mask))
    assert (y.min(), y.max(), x.min(), x.max()) == (56, 73, 46, 83)
