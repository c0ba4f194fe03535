import dataclasses

import cv2
import numpy as np
import pytest

import maskgan_jax.unmasking.grain as grain_module
from maskgan_jax.data.align import FaceSquare, align
from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.data.window import Window
from maskgan_jax.unmasking.compositing import composite, redrawn_mask
from maskgan_jax.unmasking.face import Face
from maskgan_jax.unmasking.grain import face_grain, grain
from maskgan_jax.unmasking.mask_finder import lower_face

SIZE = 256


def texture(deviation, blur=0.0, seed=0):
    """A grey image with noise of a standard deviation, in levels, before it is blurred."""
    noise = np.random.default_rng(seed).normal(0, deviation, (SIZE, SIZE)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), blur) if blur else noise
    return np.repeat(np.clip(np.rint(128 + noise), 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def half(*, upper):
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[: SIZE // 2] = 255
    return mask if upper else ~mask


def fine(image):
    """The RMS of fine detail."""
    image = image.astype(np.float32)
    return (image - cv2.GaussianBlur(image, (0, 0), 1)).std()


def added(photo, drawn, visible=None, scale=1.0):
    visible = half(upper=True) if visible is None else visible
    noise = np.random.default_rng(0).standard_normal(visible.shape, np.float32)
    return grain(photo, visible, drawn, half(upper=False), noise, scale)


def test_the_noise_is_white_and_normal():
    tile = grain_module._tile()
    # The first number, from the finalizer of MurmurHash3: of 1 it makes 0x514E28B7.
    other = np.uint32(tile.size + 1)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        other = np.uint32((int(other) ^ int(other) >> shift) * factor % 2**32)
    radius, angle = np.sqrt(-2 * np.log((0x514E28B7 + 0.5) / 2**32)), 2 * np.pi * (int(other) + 0.5) / 2**32
    assert tile[0, 0] == pytest.approx(radius * np.cos(angle), abs=1e-6)
    assert abs(tile.mean()) < 0.01 and abs(tile.std() - 1) < 0.01
    for sigmas, expected in ((1, 0.3173), (2, 0.0455), (3, 0.0027)):  # Of a normal distribution.
        assert (np.abs(tile) > sigmas).mean() == pytest.approx(expected, rel=0.1)
    power = np.abs(np.fft.fft2(tile))[1:, 1:] ** 2 / tile.size
    assert power.max() < 20  # Of white noise, one in e**20 is above.


@pytest.mark.parametrize("deviation", [3, 12])
def test_noise_is_as_strong_as_in_the_photo(deviation):
    photo = texture(deviation)
    result = added(photo, texture(0), scale=2.0)
    assert result.std() == pytest.approx(photo[..., 0].std(), rel=0.1)
    assert fine(result) == pytest.approx(fine(photo[..., 0]), rel=0.1)
    np.testing.assert_array_equal(result, added(photo, texture(0), scale=2.0))


def test_it_is_as_coarse_as_in_the_photo():
    photo = texture(30, blur=2)
    result = added(photo, texture(0), scale=4.0)
    assert result.std() == pytest.approx(photo[..., 0].std(), rel=0.3)
    white = added(texture(4), texture(0), scale=4.0)
    assert fine(result) / result.std() < 0.5 * fine(white) / white.std()


def test_only_what_is_missing_is_added():
    assert np.abs(added(texture(5), texture(5.5, seed=1))).max() == 0
    result = added(texture(5), texture(3, seed=1))
    assert np.hypot(fine(result), fine(texture(3)[..., 0])) == pytest.approx(fine(texture(5)[..., 0]), rel=0.1)


def test_edges_and_hair_do_not_count():
    photo = texture(4)
    rough = photo.copy()
    rough[:40] = texture(60)[:40]
    rough[:, 100:104] = 0
    assert added(rough, texture(0)).std() == pytest.approx(added(photo, texture(0)).std(), rel=0.2)


def test_without_visible_skin_nothing_is_added():
    assert not added(texture(9), texture(0), visible=np.zeros((SIZE, SIZE), np.uint8)).any()
    empty = np.zeros((3, 2), np.uint8)
    assert not grain(texture(9)[:3, :2], empty, texture(0)[:3, :2], empty, empty.astype(np.float32), 1.0).any()


@pytest.mark.parametrize("grey", [False, True])
def test_a_redrawn_face_gets_the_grain_of_its_photo(grey):
    rendered = render_face(2, seed=0, size=600)
    landmarks, photo = rendered.landmarks, cv2.GaussianBlur(rendered.image, (0, 0), 1)
    photo = np.clip(photo + np.random.default_rng(0).normal(0, 6, (600, 600, 1)), 0, 255).astype(np.uint8)
    if grey:
        photo = np.repeat(photo[..., :1], 3, axis=2)
    square = FaceSquare.around(landmarks, 64, 4 / 3)
    image = align(photo, landmarks, 64, 4 / 3).image
    mask = lower_face(square.to_aligned(landmarks), (64, 64))
    face = Face(np.zeros(4), 1.0, landmarks, square, 1.0, mask, image, image)
    smooth, result = composite(photo, [face]), composite(photo, [face], grain=True)
    mask = mask.copy()
    mask[:, : np.nonzero(mask.any(axis=0))[0][0] + 2] = 0  # Without its first columns.
    without = composite(photo, [dataclasses.replace(face, mask=mask)], grain=True)
    assert np.abs(without.astype(int) - result)[redrawn_mask((600, 600), [face]) > 0].mean() < 1  # The same noise.
    window = square.window(photo.shape[:2])
    larger = Window(window.x - 1, window.y - 1, window.width + 2, window.height + 1)
    nothing = np.zeros(photo.shape[:2], np.uint8)
    ours, of_larger = (face_grain(photo, face, part, square.put_mask_back(mask, part), nothing) for part in (window, larger))
    np.testing.assert_allclose(of_larger[1:, 1:-1], ours, atol=0.5)
    assert ours.std() > 1
    changed = (result != smooth).any(axis=-1)
    assert changed.any() and not (result != photo)[redrawn_mask((600, 600), [face]) == 0].any()
    changed &= (smooth.max(axis=-1) < 220) & (smooth.min(axis=-1) > 35)
    assert np.ptp(result[changed].astype(int) - smooth[changed], axis=-1).max() <= 1  # The same in all colours.
    chin = np.rint(landmarks[57] + 0.4 * (landmarks[8] - landmarks[57])).astype(int)
    inner = np.s_[chin[1] - 12 : chin[1] + 12, chin[0] - 20 : chin[0] + 20, 1]
    assert fine(smooth[inner]) < 0.4 * fine(photo[inner])
    assert 0.7 * fine(photo[inner]) < fine(result[inner]) < 1.3 * fine(photo[inner])
