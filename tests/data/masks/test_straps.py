import cv2
import numpy as np
import pytest

from maskgan_jax.data.masks.catalogue import MASKS, Strap
from maskgan_jax.data.masks.compositing import to_linear
from maskgan_jax.data.masks.draw import draw_mask
from maskgan_jax.data.masks.fit import Fit
from maskgan_jax.data.masks.geometry import SIX_MEAN, Homography, Worn
from maskgan_jax.data.masks.light import light_of
from maskgan_jax.data.masks.straps import draw_straps, skin_map
from maskgan_jax.data.window import Window

# The width of the face, in pixels; the origin of its frame is at (100, 100).
WIDTH = 200
PLAIN = Worn(Homography(SIX_MEAN, SIX_MEAN * WIDTH + 100), (0, 0), 0.0, 1.0)
STRAPPED = [name for name, mask in MASKS.items() if mask.straps]


def fitted(worn, window):
    return Fit("n95", None, 0, worn, WIDTH, window, 0.0, {})


@pytest.mark.parametrize("tone", [(224, 180, 155), (190, 145, 120), (120, 82, 62), (70, 48, 40)])
def test_what_is_skin_and_what_is_not(paint, head, tone):
    picture = paint(skin=tone)
    light = light_of(picture, head)
    whole = np.empty((40, 48, 3), np.uint8)
    for colour in (tone, np.multiply(tone, 0.85).astype(int), np.minimum(np.multiply(tone, 1.08), 255).astype(int)):
        whole[:] = colour
        assert skin_map(to_linear(whole), light).min() > 0.9
    for colour in ((40, 90, 200), (30, 120, 40), (8, 8, 8)):
        whole[:] = colour
        assert skin_map(to_linear(whole), light).max() == 0


def test_skin_of_a_face(paint, head):
    picture = paint()
    similarity = skin_map(to_linear(picture), light_of(picture, head))
    assert similarity.shape == (256, 256) and similarity.min() >= 0 and similarity.max() <= 1
    assert similarity[120:160, 100:156].min() > 0.9
    assert similarity[:, :36].max() == 0 and similarity[:, 220:].max() == 0


@pytest.mark.parametrize("shape", [(3, 4), (7, 90), (64, 65)])
def test_skin_of_small_windows(paint, head, shape):
    light = light_of(paint(), head)
    similarity = skin_map(to_linear(np.full((*shape, 3), (190, 145, 120), np.uint8)), light)
    assert similarity.shape == shape and similarity.min() > 0.9


def test_straps_lie_between_their_ends(light):
    strap = Strap((0.2, 0.3), (0.4, 0.0), width=0.04)
    window = Window(10, 20, 180, 160)
    colour = np.float32([0.2, 0.5, 0.8])
    seen = np.ones(window.shape, np.float32)
    layer, details = draw_straps((strap,), np.random.default_rng(0), fitted(PLAIN, window), colour, light, seen)
    assert layer.shape == (160, 180, 4)
    assert 0.6 <= details["strap_thickness"] <= 1.3 and len(details["strap_sag"]) == 1
    alpha = layer[..., 3]
    assert alpha.min() == 0 and alpha.max() == 1
    for mirror in (1, -1):
        for end in (strap.start, strap.end):
            x, y = np.rint(np.array(end) * (mirror, 1) * 200 + 100 - window[:2]).astype(int)
            assert alpha[y, x] > 0.5
    # Near the two straight lines, and about as large as two bands of 0.6 to 1.3 times 8 pixels.
    lines = np.zeros(window.shape, np.uint8)
    for mirror in (1, -1):
        ends = np.array([strap.start, strap.end]) * (mirror, 1) * 200 + 100 - window[:2]
        cv2.line(lines, *np.rint(ends).astype(int).tolist(), 255, 27)
    assert not alpha[lines == 0].any()
    length = 2 * 200 * np.hypot(0.2, 0.3)
    assert 0.55 * 8 * length < alpha.sum() < 1.4 * 9 * length
    # Premultiplied: of the lit colour, darker at the edges.
    assert (layer[..., :3] <= alpha[..., None] * colour + 1e-6).all()
    share = layer[alpha == 1][:, :3] / colour
    np.testing.assert_allclose(share, np.repeat(share[:, :1], 3, axis=1), atol=1e-5)
    assert share.max() == pytest.approx(1, abs=0.01) and share.min() > 0.6


def test_a_strap_ends_under_hair_and_does_not_come_out_again(light):
    strap, window = Strap((0.1, 0.3), (0.45, 0.0), width=0.04), Window(10, 20, 200, 160)
    seen = np.ones(window.shape, np.float32)
    # A lock of hair at x = 0.3, with skin behind it; and a mole.
    seen[:, 145:160] = 0
    seen[60:63, 112:114] = 0
    layer, _ = draw_straps((strap,), np.random.default_rng(0), fitted(PLAIN, window), np.ones(3, np.float32), light, seen)
    right = layer[:, 100:, 3].max(axis=0)
    assert (right[14:40] > 0.5).all() and not right[56:].any()


def test_a_strap_hangs_on_the_ear_however_the_mask_is_worn(light):
    strap, window = Strap((0.1, 0.3), (0.45, 0.0), width=0.04), Window(0, 0, 220, 220)
    seen = np.ones(window.shape, np.float32)
    for worn in (PLAIN, Worn(PLAIN.placement, (0.05, 0.1), 4.0, 1.0), Worn(PLAIN.placement, (0, 0), 0.0, 1.0, 0.7)):
        layer, _ = draw_straps((strap,), np.random.default_rng(0), fitted(worn, window), np.ones(3, np.float32), light, seen)
        assert layer[100, 190, 3] > 0.5


@pytest.mark.parametrize("mask_type", STRAPPED)
def test_straps_vanish_where_there_is_no_skin(data_config, head, paint, mask_type):
    data_config.masks = {mask_type: 1.0}
    data_config.mask_shift = data_config.mask_rotation = data_config.mask_scale = data_config.mask_height = 0.0
    data_config.mask_below_nose = 0.0
    shown = paint()
    shown[(shown == (40, 90, 200)).all(axis=-1)] = 190, 145, 120
    # Beyond the temples, where the straps go to: ears, or else a blue wall.
    hidden = shown.copy()
    hidden[:, :64] = hidden[:, 192:] = 40, 90, 200
    with_ears, without = (draw_mask(face, head, np.random.default_rng(2), data_config) for face in (shown, hidden))
    beyond = np.zeros((256, 256), bool)
    # The bandana itself reaches as far as the ears.
    edge = 44 if mask_type == "bandana" else 53
    beyond[:130, :edge] = beyond[:130, 256 - edge :] = True
    assert with_ears.alpha[beyond].max() > 0.5
    assert not without.mask[beyond].any()
    # The mask itself is no less there.
    assert (without.alpha > 0.5).sum() > 0.85 * (with_ears.alpha > 0.5).sum()


@pytest.mark.parametrize("mask_type", STRAPPED)
def test_straps_end_at_the_ears(data_config, head, mask_type):
    """On a picture that is skin all over: each strap is drawn to its end and not cut off before."""
    data_config.masks = {mask_type: 1.0}
    data_config.mask_shift = data_config.mask_rotation = data_config.mask_scale = data_config.mask_height = 0.0
    data_config.mask_below_nose = data_config.mask_looseness = 0.0
    data_config.mask_fit = "homography"
    noise = np.random.default_rng(0).normal(0, 3, (256, 256, 1))
    face = np.clip(np.array((190, 145, 120)) + noise, 0, 255).astype(np.uint8)
    alpha = draw_mask(face, head, np.random.default_rng(2), data_config).alpha
    columns = np.nonzero((alpha > 0.3).any(axis=0))[0]
    # The face is 156 pixels wide about x = 128; its sides slope, so a share of that is allowed for.
    reach = 156 * max(max(strap.start[0], strap.end[0]) for strap in MASKS[mask_type].straps)
    assert columns[0] < 128 - 0.93 * reach and columns[-1] > 128 + 0.93 * reach
