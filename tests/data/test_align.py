import cv2
import numpy as np
import pytest

from maskgan_jax.data.align import FaceSquare, align
from maskgan_jax.data.window import Window
from maskgan_jax.errors import UserError

SIZE = 64


def make_landmarks(centre: complex, scale: float, degrees: float) -> np.ndarray:
    """A face of 68 points, 4 units wide, moved in the complex plane."""
    rng = np.random.default_rng(5)
    points = rng.uniform(-1.5, 1.5, 68) + 1j * rng.uniform(-1, 2, 68)
    points[36:42] = -1 - 0.5j + 0.2 * np.exp(2j * np.pi * np.arange(6) / 6)
    points[42:48] = 1 - 0.5j + 0.2 * np.exp(2j * np.pi * np.arange(6) / 6)
    points[48], points[54] = -0.7 + 1.2j, 0.7 + 1.2j
    points = centre + points * scale * np.exp(1j * np.radians(degrees))
    return np.stack([points.real, points.imag], axis=1)


def corners_around(landmarks: np.ndarray) -> np.ndarray:
    return FaceSquare.around(landmarks, SIZE).corners


def make_photo(landmarks: np.ndarray, height: int, width: int, radius: float) -> np.ndarray:
    """A black photo with a soft white dot on every landmark."""
    y, x = np.mgrid[:height, :width]
    dots = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * radius**2)) for px, py in landmarks)
    return np.repeat(np.clip(255 * dots, 0, 255).round().astype(np.uint8)[..., None], 3, axis=2)


def test_square_of_an_upright_face():
    landmarks = np.zeros((68, 2))
    landmarks[36:42], landmarks[42:48] = (100, 100), (140, 100)
    landmarks[48], landmarks[54] = (105, 140), (135, 140)
    # Eyes 40 apart, mouth 40 below: half the side is max(2.0 * 40, 1.8 * 40) = 80, the centre 0.1 * 40 below the eyes.
    np.testing.assert_allclose(corners_around(landmarks), [(40, 24), (40, 184), (200, 184), (200, 24)])


@pytest.mark.parametrize("degrees", [-40, 0, 25, 90])
def test_square_turns_moves_and_grows_with_the_face(degrees):
    upright = corners_around(make_landmarks(0, 1, 0)) @ [1, 1j]
    square = corners_around(make_landmarks(120 + 80j, 30, degrees)) @ [1, 1j]
    np.testing.assert_allclose(square, 120 + 80j + 30 * np.exp(1j * np.radians(degrees)) * upright, atol=1e-9)


def test_points_go_to_the_aligned_face_and_back():
    landmarks = make_landmarks(150 + 140j, 25, 17)
    square = FaceSquare.around(landmarks, SIZE)
    np.testing.assert_allclose(square.to_photo(square.to_aligned(landmarks)), landmarks, atol=1e-9)
    # The corners are outer edges of the corner pixels.
    edges = [(-0.5, -0.5), (-0.5, SIZE - 0.5), (SIZE - 0.5, SIZE - 0.5), (SIZE - 0.5, -0.5)]
    np.testing.assert_allclose(square.to_photo(edges), square.corners, atol=1e-9)
    face = align(np.zeros((300, 300, 3), np.uint8), landmarks, SIZE)
    np.testing.assert_allclose(face.square.to_photo(face.landmarks), landmarks, atol=1e-4)
    assert face.landmarks.dtype == np.float32
    assert face.square.corners.dtype == np.float64


@pytest.mark.parametrize(("scale", "degrees"), [(9, 0), (9, 20), (20, -15), (70, 0), (70, 33)])
def test_landmarks_are_where_their_dots_are(scale, degrees):
    centre = 0.5 + 5 * scale * (1 + 1j)
    landmarks = make_landmarks(centre, scale, degrees)
    alone = [36, 45, 48, 54]
    dots = make_photo(landmarks[alone], 10 * scale, 10 * scale + 3, radius=scale * 0.12)
    face = align(dots, landmarks, 256)
    for x, y in face.landmarks[alone]:
        left, top = round(float(x)) - 16, round(float(y)) - 16
        window = face.image[top : top + 33, left : left + 33, 0].astype(float)
        row, column = np.mgrid[:33, :33]
        found = np.array([(window * column).sum(), (window * row).sum()]) / window.sum() + (left, top)
        np.testing.assert_allclose(found, (x, y), atol=0.15)


@pytest.mark.parametrize(("scale", "degrees"), [(8, 12), (19, 0), (19, -30), (60, 50)])
def test_pixels_are_those_of_the_photo(scale, degrees):
    """Against a photo that is a formula, evaluated at places found by complex arithmetic."""
    centre = (5.2 + 4.9j) * scale
    landmarks = make_landmarks(centre, scale, degrees)
    side = 10 * scale

    def formula(x, y):
        return 127.5 + 100 * np.sin(6 * x / side + 0.3) * np.cos(5 * y / side)

    y, x = np.mgrid[:side, :side]
    photo = np.repeat(formula(x, y)[..., None], 3, axis=2).round().astype(np.uint8)
    face = align(photo, landmarks, SIZE)
    upright = corners_around(make_landmarks(0, 1, 0)) @ [1, 1j]
    steps = (np.arange(SIZE) + 0.5) / SIZE
    places = upright[0] + steps * (upright[3] - upright[0]) + steps[:, None] * (upright[1] - upright[0])
    places = centre + scale * np.exp(1j * np.radians(degrees)) * places
    # The frame's fade into the padding reaches a little into the photo.
    inside = (np.minimum(places.real, places.imag) > 0.1 * side) & (np.maximum(places.real, places.imag) < 0.9 * side)
    assert inside.mean() > 0.8
    np.testing.assert_allclose(face.image[..., 0][inside], formula(places.real, places.imag)[inside], atol=1.5)


@pytest.mark.parametrize("scale", [25, 40, 55, 90])
def test_shrinking_does_not_alias(scale):
    landmarks = make_landmarks(5 * scale * (1 + 1j), scale, 0)
    stripes = np.zeros((10 * scale, 10 * scale, 3), np.uint8)
    stripes[:, ::2] = 255
    face = align(stripes, landmarks, SIZE)
    assert np.abs(face.image.astype(float) - 127.5).max() < 40
    assert face.image.std() < 12


@pytest.mark.parametrize("shape", [(300, 420), (301, 419)])
@pytest.mark.parametrize("place", [(150, 140), (40, 280)])
def test_only_what_is_needed_of_a_large_photo_is_shrunk(shape, place):
    """To the same pixels as if all of it were shrunk first, whether or not it can be divided into blocks."""
    photo = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    corners = np.array([(-50, -80), (-80, 50), (50, 80), (80, -50)]) + place
    square = FaceSquare(corners.astype(float), 30)
    assert int(square.side / 30 * 0.5) == 2
    small = cv2.resize(photo, (round(shape[1] / 2), round(shape[0] / 2)), interpolation=cv2.INTER_AREA)
    scale = np.array(small.shape[1::-1]) / shape[::-1]
    expected = FaceSquare((corners + 0.5) * scale - 0.5, 30).cut_out(small)
    np.testing.assert_array_equal(square.cut_out(photo), expected)


def test_beyond_the_photo_it_goes_on_by_reflection():
    photo = np.full((90, 70, 3), (10, 120, 240), np.uint8)
    landmarks = make_landmarks(30 + 40j, 20, 10)
    assert (align(photo, landmarks, SIZE).image == (10, 120, 240)).all()
    photo[:, ::2] = 0
    face = align(photo, landmarks, SIZE)
    assert face.image.shape == (SIZE, SIZE, 3)
    assert face.image.dtype == np.uint8


def test_the_photo_is_left_alone():
    photo = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    before = photo.copy()
    align(photo, make_landmarks(20 + 30j, 30, 5), SIZE)
    np.testing.assert_array_equal(photo, before)


@pytest.mark.parametrize("size", [64, 256])
def test_put_back_is_the_reverse_of_cut_out(size):
    """On a smooth photo; the square has 176 pixels a side."""
    noise = cv2.GaussianBlur(np.random.default_rng(0).normal(size=(240, 240, 3)), (0, 0), 8)
    photo = cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    face = align(photo, make_landmarks(120 + 115j, 22, -20), size)
    back = face.square.put_back(face.image, Window(0, 0, 240, 240))
    corners = face.square.corners
    corners = np.rint(corners + 0.1 * (corners.mean(axis=0) - corners)).astype(np.int32)
    inside = cv2.fillConvexPoly(np.zeros((240, 240), np.uint8), corners, 1) > 0
    errors = np.abs(back.astype(float) - photo)[inside]
    assert errors.mean() < 0.6 and errors.max() < 6
    part = face.square.put_back(face.image, Window(70, 90, 60, 50))
    np.testing.assert_allclose(part, back[90:140, 70:130], atol=1)


def test_landmarks_that_span_no_square():
    with pytest.raises(UserError, match="do not form an upright face"):
        FaceSquare.around(np.full((68, 2), 5.0), SIZE)


def test_against_scikit_image():
    transform = pytest.importorskip("skimage.transform")
    photo = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (240, 240, 3), dtype=np.uint8), (0, 0), 4)
    landmarks = make_landmarks(120 + 115j, 12, -20)
    face = align(photo, landmarks, 128)
    corners = [(-0.5, -0.5), (-0.5, 127.5), (127.5, 127.5), (127.5, -0.5)]
    to_square = transform.SimilarityTransform.from_estimate(np.array(corners), face.square.corners)
    theirs = transform.warp(photo, to_square, output_shape=(128, 128), order=3, preserve_range=True)
    assert np.abs(theirs - face.image).max() < 3


@pytest.mark.parametrize("zoom", [1.0, 1.25, 4 / 3])
def test_zoom_keeps_the_lower_edge_and_its_middle(zoom):
    landmarks = make_landmarks(150 + 140j, 25, 17)
    whole, part = FaceSquare.around(landmarks, SIZE), FaceSquare.around(landmarks, SIZE, zoom)
    assert part.side == pytest.approx(whole.side / zoom)
    np.testing.assert_allclose(part.corners[1:3].mean(axis=0), whole.corners[1:3].mean(axis=0))
    np.testing.assert_allclose(part.corners[3] - part.corners[0], (whole.corners[3] - whole.corners[0]) / zoom)
    within = FaceSquare.within_aligned(SIZE, SIZE, zoom)
    np.testing.assert_allclose(whole.to_photo(within.corners), part.corners)
    face = align(np.zeros((300, 300, 3), np.uint8), landmarks, SIZE, zoom)
    assert face.square == part and part != FaceSquare.around(landmarks, SIZE + 1, zoom)
    np.testing.assert_allclose(part.to_photo(face.landmarks), landmarks, atol=1e-4)


def test_a_square_that_is_moved():
    """By fractions of its side along its own axes; the first points to the right and down in the photo, the other across."""
    square = FaceSquare.around(make_landmarks(150 + 140j, 25, 17), SIZE)
    moved = square.moved(-0.3, 0.25)
    np.testing.assert_allclose(square.to_aligned(moved.corners), square.to_aligned(square.corners) + [-0.3 * SIZE, 0.25 * SIZE])
    assert moved.side == pytest.approx(square.side) and square.moved(0) == square


def test_a_square_that_is_enlarged():
    square = FaceSquare(np.array([[50, 10], [20, 60], [70, 90], [100, 40]], np.float64), SIZE)
    larger = square.enlarged(0.25)
    expected = np.array([(-SIZE / 8, 0), (-SIZE / 8, 1.25 * SIZE), (1.125 * SIZE, 1.25 * SIZE), (1.125 * SIZE, 0)]) - 0.5
    np.testing.assert_allclose(square.to_aligned(larger.corners), expected, atol=1e-9)
    assert larger.side == pytest.approx(1.25 * square.side) and larger.size == SIZE


def test_a_mask_goes_back_to_where_it_was():
    square = FaceSquare.around(make_landmarks(120 + 115j, 22, -20), 64)
    mask = np.zeros((64, 64), np.uint8)
    mask[20:50, 10:40] = 255
    moved = square.put_mask_back(mask, Window(0, 0, 260, 240))
    assert moved.shape == (240, 260) and set(np.unique(moved)) == {0, 255}
    y, x = np.nonzero(moved)
    inside = square.to_aligned(np.stack([x, y], axis=-1))
    # But for a pixel at the rim, and rounded corners.
    assert (inside > [8.5, 18.5]).all() and (inside < [40.5, 50.5]).all()
    assert len(x) == pytest.approx(30 * 30 * (square.side / 64) ** 2, rel=0.02)


@pytest.mark.parametrize("centre", [(120, 110), (5, 120), (255, 235), (-300, 100), (130, 600)])
def test_the_window_holds_all_of_the_square_that_is_in_the_photo(centre):
    square = FaceSquare.around(make_landmarks(complex(*centre), 15, 25), SIZE)
    whole, window = square.inside(Window(0, 0, 260, 240)), square.window((240, 260))
    y, x = np.nonzero(whole)
    assert (window.width * window.height > 0) == (len(x) > 0)
    if len(x):
        np.testing.assert_array_equal(square.inside(window), whole[window.slices])
        # All of it, and one pixel more on each side where the photo goes on.
        assert window.x <= max(x.min() - 1, 0) and window.x + window.width >= min(x.max() + 2, 260)
        assert window.y <= max(y.min() - 1, 0) and window.y + window.height >= min(y.max() + 2, 240)


def test_a_mask_is_cut_out_as_a_photo_is():
    mask = np.where(np.random.default_rng(0).random((90, 120)) < 0.5, 255, 0).astype(np.uint8)
    for scale in (6, 14, 90):
        square = FaceSquare.around(make_landmarks(60 + 45j, scale, 15), SIZE)
        photo = np.repeat(mask[..., None], 3, axis=2)
        np.testing.assert_array_equal(square.cut_out(mask), square.cut_out(photo)[..., 0])


@pytest.mark.parametrize(("scale", "x"), [(40, 1e6), (40, -1e6), (1e7, 60), (np.nan, 60), (1e300, 60)])
def test_a_face_that_is_not_in_its_photo(scale, x):
    """Of landmarks that somebody gives: the photo would be continued to all of the memory."""
    landmarks = make_landmarks(x + 45j, scale, 15)
    with pytest.raises(UserError, match="are not in the photo|do not form an upright face"):
        align(np.zeros((90, 120, 3), np.uint8), landmarks, SIZE)
