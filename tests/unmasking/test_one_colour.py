import numpy as np

from maskgan_jax.unmasking.one_colour import one_coloured


def test_a_white_background_makes_no_skin_grey():
    """Most of the pixels are white; of the others, the reddish ones are as light as the yellowish ones."""
    rng = np.random.default_rng(0)
    skin = np.array([[190, 140, 120], [160, 155, 110]])[rng.integers(0, 2, 1000)] + rng.integers(-40, 40, (1000, 1))
    white = np.full((20000, 3), 255)
    assert one_coloured(np.concatenate([white, skin]).astype(np.uint8)) is None
    assert one_coloured(np.concatenate([white, np.repeat(skin[:, :1], 3, axis=1)]).astype(np.uint8)) is not None


def test_shades_of_one_colour():
    lightness = np.repeat(np.arange(50, 200), 5)[:, None]
    green = np.rint(lightness + [-8, 5, -5] * np.sin(lightness / 255 * np.pi)).astype(np.uint8)
    shades = one_coloured(green).astype(int)
    np.testing.assert_allclose(shades[50:200], green[::5], atol=1.5)
    # Beyond those that are there, the tint of the last one.
    np.testing.assert_allclose(shades[:50] - np.arange(50)[:, None], [shades[50] - 50] * 50, atol=8)  # No channel below 0.
    assert one_coloured(np.array([[200, 50, 50], [50, 126, 52]], np.uint8)) is None  # As light as each other.
