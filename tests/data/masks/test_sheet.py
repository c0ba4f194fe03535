import numpy as np
import pytest

from maskgan_jax.data.masks import sheet as sheets
from maskgan_jax.data.masks.catalogue import MASKS
from maskgan_jax.data.masks.sheet import make_sheet, whole_outline

OUTLINES = {f"{name}{k}": outline for name, mask in MASKS.items() for k, outline in enumerate(mask.outlines)}


@pytest.fixture(scope="module")
def sheet():
    return make_sheet(OUTLINES["surgical0"], 256)


def distances(points, outline):
    """From points `[N, 2]` to a closed polygon `[M, 2]`, segment by segment."""
    start, along = outline, np.roll(outline, -1, axis=0) - outline
    share = np.einsum("nmk,mk->nm", points[:, None] - start, along) / np.maximum((along**2).sum(axis=1), 1e-18)
    nearest = start + np.clip(share, 0, 1)[..., None] * along
    return np.linalg.norm(points[:, None] - nearest, axis=-1).min(axis=1)


@pytest.mark.parametrize("name", OUTLINES)
def test_outline(name):
    outline = whole_outline(OUTLINES[name])
    for point in OUTLINES[name]:
        for mirror in (1, -1):
            assert np.linalg.norm(outline - np.multiply(point, (mirror, 1)), axis=1).min() < 1e-6
    # Its own mirror image, and of no long steps.
    mirrored = outline * (-1, 1)
    assert max(np.linalg.norm(outline - point, axis=1).min() for point in mirrored) < 1e-6
    assert np.linalg.norm(np.roll(outline, -1, axis=0) - outline, axis=1).max() < 0.06


@pytest.mark.parametrize("name", OUTLINES)
@pytest.mark.parametrize("pixels", [64, 256])
def test_alpha_has_the_area_of_the_outline(name, pixels):
    x, y = whole_outline(OUTLINES[name]).T
    area = abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    sheet = make_sheet(OUTLINES[name], pixels)
    # Half a pixel of the four-fold picture all around is what the polygon's own edge takes.
    assert sheet.alpha.sum() / pixels**2 == pytest.approx(area, rel=0.9 / pixels)
    assert 0 == sheet.alpha.min() and sheet.alpha.max() == 1
    assert not sheet.alpha[[0, -1]].any() and not sheet.alpha[:, [0, -1]].any()
    edge = (sheet.alpha > 0) & (sheet.alpha < 1)
    assert 0.5 < edge.sum() / (np.linalg.norm(np.diff([x, y], axis=1), axis=0).sum() * pixels) < 2.5


@pytest.mark.parametrize("name", OUTLINES)
def test_inside_is_the_distance_from_the_outline(name):
    sheet = make_sheet(OUTLINES[name], 256)
    assert not sheet.inside[sheet.alpha <= 0.5].any()
    rows, columns = np.nonzero(sheet.alpha > 0.5)
    some = np.random.default_rng(0).choice(len(rows), 300, replace=False)
    points = np.stack([sheet.x[rows[some], columns[some]], sheet.y[rows[some], columns[some]]], axis=1)
    expected = distances(points, whole_outline(OUTLINES[name]))
    # One and a half pixels, and 3 % for the way OpenCV adds up steps.
    np.testing.assert_allclose(sheet.inside[rows[some], columns[some]], expected, rtol=0.03, atol=1.5 / 256)


def test_coordinates(sheet):
    rows, columns = sheet.x.shape
    np.testing.assert_allclose(np.diff(sheet.x, axis=1), 1 / 256, atol=1e-6)
    np.testing.assert_allclose(np.diff(sheet.y, axis=0), 1 / 256, atol=1e-6)
    np.testing.assert_array_equal(sheet.side, np.abs(sheet.x))
    places = sheet.to_pixels(np.stack([sheet.x, sheet.y], axis=-1))
    np.testing.assert_allclose(places[..., 0], np.broadcast_to(np.arange(columns), sheet.x.shape), atol=1e-2)
    np.testing.assert_allclose(places[..., 1], np.broadcast_to(np.arange(rows)[:, None], sheet.x.shape), atol=1e-2)


def test_sheets_are_shared_and_cannot_be_changed(sheet):
    assert make_sheet(OUTLINES["surgical0"], 256) is sheet
    for name in ("x", "y", "side", "alpha", "inside", "face"):
        array = getattr(sheet, name)
        assert array.dtype == np.float32 and np.isfinite(array).all()
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1


def test_the_coarse_grid_lies_on_the_fine_one(sheet):
    coarse = sheet.coarse
    size = sheets.COARSENESS
    rows, columns = coarse.x.shape
    assert sheet.x.shape == (rows * size, columns * size) and coarse.pixels == 256 / size
    for name in ("x", "y", "face"):
        fine, values = getattr(sheet, name), getattr(coarse, name)
        # The mean of the points that one of the coarse grid stands for.
        np.testing.assert_allclose(values, fine.reshape(rows, size, columns, size).mean(axis=(1, 3)), atol=2e-3)
        error = np.abs(sheet.enlarged(values) - fine)
        assert error[size:-size, size:-size].max() < 5e-3


def test_a_nose_and_cheeks(sheet):
    """The head falls away to the sides, and the nose stands out of it."""

    def height(x, y):
        column, row = np.rint(sheet.to_pixels(np.array((x, y)))).astype(int)
        return sheet.face[row, column]

    assert height(0, 0.28) > height(0.15, 0.28) > height(0.4, 0.28)
    assert height(0, 0.28) - height(0.15, 0.28) > height(0, 0.6) - height(0.15, 0.6)


def test_smoothstep():
    np.testing.assert_allclose(sheets.smoothstep(np.array([-9, -0.1, 0, 0.1, 9]), 0.2), [0, 0, 0.5, 1, 1], atol=1e-12)
    rise = sheets.smoothstep(np.linspace(-0.2, 0.2, 101), 0.2)
    assert (np.diff(rise) >= 0).all()


def test_ridge():
    np.testing.assert_allclose(sheets.ridge(np.array([-9, -0.2, 0, 0.2, 9]), 0.1), [0, 0, 1, 0, 0], atol=1e-12)
    x = np.linspace(0, 0.2, 50)
    assert (np.diff(sheets.ridge(x, 0.1)) < 0).all()
    np.testing.assert_allclose(sheets.ridge(x, 0.1), sheets.ridge(-x, 0.1))


def test_band():
    np.testing.assert_allclose(
        sheets.band(np.array([0, 0.9, 1, 1.5, 2, 2.1, 3]), 1, 2, 0.2), [0, 0, 0.5, 1, 0.5, 0, 0], atol=1e-12
    )


def test_fold():
    x = np.array([-2, -1, -0.5, -0.05, 0, 0.05, 1])
    np.testing.assert_allclose(sheets.fold(x, 1.0, 0.1), [0, 0, 0.25, 0.95**2, 0.5, 0, 0], atol=1e-12)


@pytest.mark.parametrize("size", [0.05, 0.1, 0.2])
def test_noise(sheet, size):
    rng = np.random.default_rng(0)
    fields = np.stack([sheets.noise(rng, sheet, size) for _ in range(20)])
    assert fields.shape[1:] == sheet.x.shape and fields.dtype == np.float32
    assert abs(fields.mean()) < 0.15 and fields.std() == pytest.approx(1, abs=0.2)
    # Alike at an eighth of a bump, independent two bumps away.
    near, far = round(size * 256 / 8), round(size * 256 * 2)
    assert np.corrcoef(fields[..., :-near].ravel(), fields[..., near:].ravel())[0, 1] > 0.85
    assert abs(np.corrcoef(fields[..., :-far].ravel(), fields[..., far:].ravel())[0, 1]) < 0.15


def test_white_noise():
    noise = sheets.white_noise(np.random.default_rng(0), (400, 300))
    assert noise.shape == (400, 300)
    assert abs(noise.mean()) < 0.02 and noise.std() == pytest.approx(1, abs=0.02)
    for axis in (0, 1):
        a, b = np.delete(noise, 0, axis), np.delete(noise, -1, axis)
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.02
    assert not np.array_equal(noise, sheets.white_noise(np.random.default_rng(1), (400, 300)))
    # Larger than the tile that is kept.
    assert sheets.white_noise(np.random.default_rng(0), (30, 1500)).shape == (30, 1500)


def test_weave(sheet):
    fabric = sheets.weave(np.random.default_rng(0), sheet, 0.05)
    assert fabric.mean() == pytest.approx(1, abs=0.002) and fabric.std() == pytest.approx(0.05, rel=0.05)


def test_stitches_lie_along_the_outline(sheet):
    thread = sheets.stitches(sheet, 0.05, 50)
    assert thread.min() >= 0 and 0.9 < thread.max() <= 1
    assert not thread[np.abs(sheet.inside - 0.05) > 0.0065].any()
    on = thread[(np.abs(sheet.inside - 0.05) < 0.002) & (sheet.alpha == 1)]
    assert on.min() < 0.3 < 0.8 < on.max()


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, sheet: sheets.creases(rng, sheet, 0.15),
        lambda rng, sheet: sheets.folds(rng, sheet, sheet.y + 0.5 * sheet.side**2, 5.0),
        lambda rng, sheet: sheets.pulled(rng, sheet, (0.47, 0.25), 0.2, 9),
    ],
    ids=["creases", "folds", "pulled"],
)
def test_wrinkles(sheet, draw):
    one, same, other = (draw(np.random.default_rng(seed), sheet) for seed in (0, 0, 1))
    assert one.shape == sheet.x.shape and one.dtype == np.float32 and np.isfinite(one).all()
    np.testing.assert_array_equal(one, same)
    assert one.std() > 0.05 and not np.array_equal(one, other)


def test_wrinkles_are_where_the_cloth_is_pulled(sheet):
    point, reach = (0.47, 0.25), 0.15
    wrinkles = np.abs(sheets.pulled(np.random.default_rng(0), sheet, point, reach, 11))
    distance = np.minimum(*(np.hypot(sheet.x - sign * point[0], sheet.y - point[1]) for sign in (1, -1)))
    assert wrinkles[distance > 2.5 * reach].max() < 0.02 < 0.2 < wrinkles[distance < reach].max()


def test_folds_run_along_lines_of_the_coordinate(sheet):
    folds = sheets.folds(np.random.default_rng(0), sheet, sheet.y, 6.0)
    assert np.abs(np.diff(folds, axis=1)).mean() < 0.5 * np.abs(np.diff(folds, axis=0)).mean()
