import numpy as np
import pytest
from skimage.color import rgb2lab

from maskgan_jax.data.masks.catalogue import CLOTH_COLOURS, MASKS
from maskgan_jax.data.masks.compositing import to_linear, to_srgb
from maskgan_jax.data.masks.patterns import PATTERNS
from maskgan_jax.data.masks.sheet import make_sheet

PRINTS = [name for name in PATTERNS if name != "plain"]
GROUNDS = [np.array(srgb, np.float32) for srgb, _ in CLOTH_COLOURS.values()]


@pytest.fixture(scope="module")
def sheet():
    return make_sheet(MASKS["cloth"].outlines[0], 320)


def test_plain_is_the_colour_itself(sheet):
    colour, details = PATTERNS["plain"](sheet, np.random.default_rng(0), np.float32([255, 128, 0]))
    np.testing.assert_allclose(colour, (1, 0.2159, 0), atol=1e-4)
    assert details == {}


@pytest.mark.parametrize("pattern", PRINTS)
def test_two_colours_clearly_apart(sheet, pattern):
    for seed in range(5):
        for ground in GROUNDS:
            colours, details = PATTERNS[pattern](sheet, np.random.default_rng(seed), ground)
            assert colours.shape == (*sheet.x.shape, 3)
            assert np.isfinite(colours).all() and colours.min() >= 0 and colours.max() <= 1
            assert details
            lab = rgb2lab(to_srgb(colours[sheet.alpha > 0.5])[None] / 255)[0]
            # The commonest colour, and the twentieth of the cloth that is farthest from it.
            edges = [np.arange(low, high, 8.0) for low, high in ((-4, 108), (-100, 108), (-110, 108))]
            counts, _ = np.histogramdd(lab, edges)
            cell = [edge[i] for edge, i in zip(edges, np.unravel_index(counts.argmax(), counts.shape), strict=True)]
            commonest = np.median(lab[((lab >= cell) & (lab < np.add(cell, 8))).all(axis=1)], axis=0)
            assert np.percentile(np.linalg.norm(lab - commonest, axis=1), 95) > 8, (seed, ground)


@pytest.mark.parametrize("pattern", PRINTS)
def test_seeds(sheet, pattern):
    one, same, other = (PATTERNS[pattern](sheet, np.random.default_rng(seed), GROUNDS[4]) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one[0], same[0])
    assert one[1] == same[1] != other[1]
    assert not np.array_equal(one[0], other[0])


@pytest.mark.parametrize("pattern", ["stripes", "checks", "dots"])
def test_anti_aliased(sheet, pattern):
    for seed in range(6):
        colours, _ = PATTERNS[pattern](sheet, np.random.default_rng(seed), GROUNDS[3])
        share = (colours[..., 0] - colours[..., 0].min()) / np.ptp(colours[..., 0])
        # No pixel has one colour and its neighbour the other, though most have one or the other.
        for axis in (0, 1):
            assert np.percentile(np.abs(np.diff(share, axis=axis)), 99.9) < 0.92
        between = ((share > 0.1) & (share < 0.9)).mean()
        assert 0.03 < between < (0.9 if pattern == "checks" else 0.7)


def test_flowers_and_camouflage_have_many_shades(sheet):
    for pattern in ("flowers", "camouflage"):
        colours, _ = PATTERNS[pattern](sheet, np.random.default_rng(0), GROUNDS[4])
        assert len(np.unique(np.rint(to_srgb(colours)).reshape(-1, 3), axis=0)) > 20


def test_stripes_are_stripes(sheet):
    """By their spectrum: one peak, at their number to a unit."""
    for seed in range(8):
        colours, details = PATTERNS["stripes"](sheet, np.random.default_rng(seed), GROUNDS[3])
        grey = colours.mean(axis=-1) - colours.mean()
        power = np.abs(np.fft.fft2(grey * np.outer(*(np.hanning(side) for side in grey.shape)))) ** 2
        row, column = np.unravel_index(power.argmax(), power.shape)
        frequency = np.hypot(np.fft.fftfreq(grey.shape[0])[row], np.fft.fftfreq(grey.shape[1])[column]) * sheet.pixels
        assert frequency == pytest.approx(details["stripes"], rel=0.1, abs=1.2)


def test_share_of_the_stripes_is_as_recorded(sheet):
    ground = GROUNDS[0]
    for seed in range(6):
        colours, details = PATTERNS["stripes"](sheet, np.random.default_rng(seed), ground)
        start = to_linear(ground)
        far = np.abs(colours - start).sum(axis=-1)
        assert (far / far.max()).mean() == pytest.approx(details["share"], abs=0.05)
