import numpy as np
import pytest

from maskgan_jax.data.masks.light import Light, compress_highlights, light_of, shade, shadow, skin_patches


def lambert(light, normal):
    """Ambient light and Lambert's law with the wrap of 0.15 that stands for light scattered in the cloth."""
    wrap = 0.15
    direct = np.maximum(normal @ light.direction + wrap, 0) / (light.direction[2] + wrap)
    return light.ambient + (1 - light.ambient) * direct


@pytest.mark.parametrize("shift", [(0, 0), (-400, 0), (400, 0), (0, -400), (0, 400)])
@pytest.mark.parametrize("shape", [(256, 256, 3), (256, 256), (64, 64, 3), (3, 5)])
def test_patches_stay_inside(head, shape, shift):
    face = np.arange(np.prod(shape)).reshape(shape)
    patches = skin_patches(face, head + shift)
    assert len(patches) == 5
    for patch in patches:
        assert patch.shape[0] == patch.shape[1] > 0 and patch.shape[2:] == shape[2:]
        assert np.shares_memory(patch, face)


def test_patches_are_skin(paint, head):
    for patch in skin_patches(paint(), head):
        np.testing.assert_array_equal(patch, np.broadcast_to((190, 145, 120), patch.shape))


def test_even_light_is_from_the_front(paint, head):
    light = light_of(paint(), head)
    assert abs(light.direction[0]) < 1e-3 and light.direction[2] > 0.7
    assert np.linalg.norm(light.direction) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(light.skin, (0.5149, 0.2831, 0.1878), atol=1e-3)


@pytest.mark.parametrize("sign", [1, -1])
def test_light_is_on_the_bright_side(paint, head, sign):
    ramp = np.linspace(1 - 0.4 * sign, 1 + 0.4 * sign, 256)
    side = light_of(np.clip(paint() * ramp[None, :, None], 0, 255).astype(np.uint8), head)
    assert sign * side.direction[0] > 0.2
    even = light_of(paint(), head)
    below = light_of(np.clip(paint() * ramp[:, None, None], 0, 255).astype(np.uint8), head)
    assert sign * (below.direction[1] - even.direction[1]) > 0.02
    assert side.ambient < even.ambient


def test_light_follows_brightness_and_tint(paint, head):
    dim, bright = (light_of((paint() * share).astype(np.uint8), head) for share in (0.3, 1.0))
    assert (dim.colour < 0.8 * bright.colour).all()
    warm = light_of((paint() * (1.0, 0.85, 0.6)).astype(np.uint8), head)
    assert warm.colour[0] / warm.colour[2] > 1.1 * bright.colour[0] / bright.colour[2]


def test_black_and_white_faces_give_finite_light(head):
    for level in (0, 255):
        light = light_of(np.full((256, 256, 3), level, np.uint8), head)
        values = np.r_[light.colour, light.direction, light.ambient, light.saturation, light.skin]
        assert np.isfinite(values).all() and (light.colour > 0).all()


def test_a_grey_picture_has_grey_light(paint, head):
    light = light_of(paint(skin=(140, 140, 140)), head)
    assert light.saturation < 0.01
    np.testing.assert_allclose(light.colour / light.colour.mean(), 1, atol=0.01)


def test_exposure_keeps_the_shadows_and_compresses_the_highlights():
    linear = np.linspace(0, 30, 30001).astype(np.float32)
    seen = compress_highlights(linear)
    np.testing.assert_allclose(seen[linear < 0.5], linear[linear < 0.5])
    # Never darker for more light, never white, and without a kink.
    assert (np.diff(seen) >= -1e-5).all() and seen.max() <= 1
    assert np.abs(np.diff(seen, 2)).max() < 1e-4


def test_reflected_light_without_colour_is_grey():
    light = Light(np.ones(3, np.float32), np.array((0, 0, 1.0)), 0.4, 0.0, np.ones(3, np.float32))
    albedo = np.random.default_rng(0).random((5, 6, 3)).astype(np.float32)
    luminance = albedo @ (0.2126, 0.7152, 0.0722)
    np.testing.assert_allclose(light.reflected(albedo), np.repeat(luminance[..., None], 3, axis=-1), atol=1e-6)


def test_reflected_light_is_the_product_in_full_colour():
    light = Light(np.float32([0.9, 0.8, 0.7]), np.array((0, 0, 1.0)), 0.4, 1.0, np.ones(3, np.float32))
    np.testing.assert_allclose(light.reflected(np.float32([0.5, 0.5, 0.1])), (0.45, 0.4, 0.07), rtol=1e-6)


@pytest.mark.parametrize("slope", [(0.0, 0.0), (0.7, 0.0), (-0.7, 0.0), (0.0, 0.7), (-1.5, -0.5), (-4.0, 3.0)])
def test_shade_of_a_plane(light, slope):
    pixels = 100
    y, x = np.mgrid[:80, :88].astype(np.float32) / pixels
    diffuse, sheen = shade(slope[0] * x + slope[1] * y, light, pixels, 0.05)
    normal = np.array((-slope[0], -slope[1], 1)) / np.sqrt(1 + slope[0] ** 2 + slope[1] ** 2)
    # Away from the edges of the relief.
    np.testing.assert_allclose(diffuse[16:-16, 16:-16], lambert(light, normal), rtol=0.02)
    assert diffuse.dtype == sheen.dtype == np.float32 and (sheen >= 0).all() and sheen.max() < 0.05 * 4


def test_shade_of_a_sphere(light):
    pixels, radius = 200, 1.0
    y, x = (np.mgrid[:240, :240].astype(np.float32) - 119.5) / pixels
    height = np.sqrt(radius**2 - x**2 - y**2)
    diffuse, sheen = shade(height, light, pixels, 0.05)
    normal = np.stack([x, y, height], axis=-1) / radius
    inner = (slice(20, -20), slice(20, -20))
    # What bulges catches a little more light.
    np.testing.assert_allclose(diffuse[inner], lambert(light, normal)[inner], rtol=0.05)
    # Brightest where it faces the light.
    top = np.unravel_index(sheen[inner].argmax(), sheen[inner].shape)
    np.testing.assert_allclose(normal[inner][top], light.direction, atol=0.08)


def test_grooves_are_darker(light):
    x = np.mgrid[:64, :64][1].astype(np.float32)
    groove = -0.02 * np.exp(-(((x - 32) / 2) ** 2))
    diffuse, _ = shade(groove, Light(light.colour, np.array((0, 0, 1.0)), 0.4, 1.0, light.skin), 200, 0.05)
    assert diffuse[32, 32] < 0.9 * diffuse[32, 8]


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_shadow_falls_away_from_the_light(turn):
    across, down = 0.6 * np.cos(np.radians(turn)), 0.6 * np.sin(np.radians(turn))
    light = Light(np.ones(3, np.float32), np.array((across, down, 0.8), np.float32), 0.4, 1.0, np.ones(3, np.float32))
    alpha = np.zeros((101, 101), np.float32)
    alpha[40:61, 40:61] = 1
    share = shadow(alpha, light, 8.0, 0.5)
    assert share.shape == alpha.shape and share.dtype == np.float32
    assert 0 <= share.min() and 0.3 < share.max() <= 0.5 + 1e-6
    beside = share * (1 - alpha)
    y, x = np.mgrid[:101, :101] - 50
    middle = np.array([(beside * x).sum(), (beside * y).sum()]) / beside.sum()
    assert middle @ (across, down) < -1
    assert abs(middle @ (-down, across)) < 0.05
    # It ends near the mask.
    assert share[:5].max() < 0.01 and share[:, :5].max() < 0.01


def test_nothing_throws_no_shadow(light):
    assert not shadow(np.zeros((20, 30), np.float32), light, 5.0, 0.6).any()
