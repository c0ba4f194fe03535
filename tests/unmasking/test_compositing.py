import dataclasses
import tracemalloc

import cv2
import numpy as np
import pytest
from scipy.spatial import Delaunay

from maskgan_jax.data.align import FaceSquare, align
from maskgan_jax.data.points import eyes, hull_mask
from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.data.window import Window
from maskgan_jax.unmasking.compositing import RIM, SOFT_EDGE, Part, composite, nearest_faces, paste, redrawn_mask
from maskgan_jax.unmasking.face import Face


def drawn_face(square, after=None, mask=None, landmarks=None):
    """A face of which only what compositing needs is there; its eyes are those of a rendered one in the square."""
    if landmarks is None:
        rendered = render_face(0, seed=0, size=256)
        landmarks = square.to_photo(align(rendered.image, rendered.landmarks, square.size).landmarks)
    return Face(np.zeros(4), 1.0, landmarks, square, 1.0, mask, after, after)


def test_paste_has_a_soft_edge_inside_the_mask():
    photo = np.zeros((600, 600, 3), np.uint8)
    mask = np.zeros((600, 600), np.uint8)
    cv2.circle(mask, (300, 400), 100, 255, -1)
    # The edge is two pixels wide, and 8 with a rim.
    face = drawn_face(FaceSquare.within_aligned(512, 64, 1.0), np.full((64, 64, 3), 200, np.uint8))
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    for given, width in ((mask, 2), (None, 8)):
        result = photo.copy()
        paste(result, Part(face, Window(0, 0, 600, 600), mask, np.zeros_like(mask)), given=given)
        assert not result[mask == 0].any()
        assert (result[depth >= width] == 200).all()
        assert (result[(depth > 0) & (depth < width)] < 200).all()
        assert (np.diff(result[400, 199 : 200 + width, 0].astype(int)) > 0).all()


def test_a_given_mask_does_not_show_between_two_faces():
    square = FaceSquare.within_aligned(1024, 64, 1.0)
    faces = [drawn_face(square, np.full((64, 64, 3), 200, np.uint8), landmarks=np.full((68, 2), x)) for x in (300, 700)]
    mask = np.zeros((1024, 1024), np.uint8)
    mask[200:800, 100:900] = 255
    result = composite(np.zeros((1024, 1024, 3), np.uint8), faces, nearest_faces(mask, faces))
    assert (result[210:790, 110:890] == 200).all() and not result[mask == 0].any()


def test_a_large_mask_is_divided_in_little_memory():
    square = FaceSquare.within_aligned(1024, 64, 1.0)
    noses = np.array([(300, 500), (800, 1000), (100, 1500)])
    faces = [drawn_face(square, landmarks=np.full((68, 2), nose)) for nose in noses]
    mask = np.full((2000, 1000), 255, np.uint8)
    mask[600:700, 100:900] = 127
    tracemalloc.start()
    nearest = nearest_faces(mask, faces)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    y, x = np.indices(mask.shape)
    expected = np.argmin([np.hypot(x - nose[0], y - nose[1]) for nose in noses], axis=0)
    np.testing.assert_array_equal(nearest, np.where(mask > 127, expected, -1))
    assert peak < 20 * mask.size


def test_the_face_mask_does_not_show_through_beside_the_eyes():
    """It reaches to them, and the rim ends there."""
    square = FaceSquare.within_aligned(256, 256, 1.0)
    face = drawn_face(square, np.full((256, 256, 3), 200, np.uint8))
    visible = eyes(face.landmarks, (256, 256))
    mask = cv2.rectangle(np.zeros((256, 256), np.uint8), (20, 90), (230, 250), 255, -1)
    mask = cv2.bitwise_and(mask, cv2.bitwise_not(visible))
    result = composite(np.zeros((256, 256, 3), np.uint8), [dataclasses.replace(face, mask=mask)])
    assert not result[visible > 0].any()
    beside = (cv2.dilate(visible, np.ones((9, 9))) > 0) & (cv2.erode(mask, np.ones((3, 3))) > 0)
    beside[:101] = False  # There, the rim's own outline is near.
    assert beside.any() and (result[beside] == 200).all()


def test_a_face_stays_in_its_square():
    """A tilted one, that leaves the photo; the mask is all of the photo."""
    photo = np.zeros((100, 100, 3), np.uint8)
    square = FaceSquare(np.array([[50, 10], [20, 60], [70, 90], [100, 40]], np.float64) + [20, 0], 64)
    face = drawn_face(square, np.full((64, 64, 3), 200, np.uint8))
    result = composite(photo, [face], nearest_faces(np.full((100, 100), 255, np.uint8), [face]))
    inside = cv2.fillConvexPoly(np.zeros((100, 100), np.uint8), square.corners.astype(np.int32), 1) > 0
    assert not result[~inside].any() and not photo.any()
    assert result[50, 97].any()  # No soft edge where the photo ends.
    assert (result[cv2.erode(inside.astype(np.uint8), np.ones((5, 5))) > 0] == 200).all()
    elsewhere = np.zeros((100, 100), np.uint8)
    elsewhere[:5, :5] = 255
    assert not composite(photo, [face], nearest_faces(elsewhere, [face])).any()


def test_each_pixel_of_a_given_mask_belongs_to_the_nearest_face():
    rng = np.random.default_rng(0)
    mask = np.where(rng.random((60, 80)) < 0.3, 255, 0).astype(np.uint8)
    square = FaceSquare.within_aligned(64, 64, 1.0)
    faces = [drawn_face(square, landmarks=rng.uniform(0, 80, (68, 2)).astype(np.float32)) for _ in range(4)]
    y, x = np.mgrid[:60, :80]
    nearest = np.argmin([np.hypot(x - face.landmarks[33, 0], y - face.landmarks[33, 1]) for face in faces], axis=0)
    np.testing.assert_array_equal(nearest_faces(mask, faces), np.where(mask > 0, nearest, -1))


def test_a_given_mask_belongs_to_the_face_whose_square_holds_it():
    """Noses count in sides of the squares, or a small face would get what the face mask of a large one hides beside it."""
    large, small = (drawn_face(turned_square((x, 150), radius, 0, 64)) for x, radius in ((150, 100), (270, 40)))
    mask = np.full((300, 400), 255, np.uint8)
    nearest = nearest_faces(mask, [large, small])
    inside = [face.square.inside(Window(0, 0, 400, 300)) > 0 for face in (large, small)]
    assert (nearest[inside[0] & ~inside[1]] == 0).all() and (nearest[inside[1] & ~inside[0]] == 1).all()
    x = np.arange(230, 251)  # Between the noses, in both squares.
    y = round(large.landmarks[33, 1])
    distances = [np.hypot(*(np.stack([x, np.full_like(x, y)]) - face.landmarks[33][:, None])) for face in (large, small)]
    expected = (distances[0] / large.square.side > distances[1] / small.square.side).astype(int)
    np.testing.assert_array_equal(nearest[y, x], expected)
    assert 0 < expected.sum() < (distances[0] > distances[1]).sum()
    # One that is left out keeps what lies within its landmarks.
    left_out = dataclasses.replace(small, left_out="too small")
    without = nearest_faces(mask, [large, left_out])
    face = hull_mask(small.landmarks, mask.shape) > 0
    np.testing.assert_array_equal(without[inside[0]] > 0, (nearest > 0)[inside[0]] & face[inside[0]])
    # And all if there is no other.
    assert (nearest_faces(mask, [left_out]) == 0).all()


def turned_square(centre, radius, degrees, size):
    right = radius * np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
    down = right[::-1] * [-1, 1]
    return FaceSquare(np.stack([-right - down, -right + down, right + down, right - down]) + centre, size)


def whole_photo_composite(photo, face, mask, rim):
    """Works on all pixels of the photo; the mask is in the photo."""
    height, width = mask.shape
    whole = Window(0, 0, width, height)
    mask = cv2.bitwise_and(mask, face.square.inside(whole))

    # Beyond the photo's edges, it is as if the mask went on.
    def soft(mask, edge):
        padded = cv2.copyMakeBorder(mask, 400, 400, 400, 400, cv2.BORDER_REPLICATE)
        distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[400:-400, 400:-400]
        return np.minimum(distance / max(face.square.side * edge, 1), 1)[..., None]

    weight = soft(mask, SOFT_EDGE)
    if rim:
        visible = face.square.put_mask_back(eyes(face.square.to_aligned(face.landmarks), face.mask.shape), whole)
        weight = np.minimum(weight, soft(mask | visible, rim))
    drawn = face.square.put_back(face.after, whole)
    return np.rint(photo + weight * (drawn - photo.astype(np.float32))).astype(np.uint8), mask


SQUARES = {
    "inside": turned_square((210, 150), 70, 12, 128),
    "small": turned_square((300.3, 90.7), 21, -35, 128),
    "fills the photo": turned_square((200, 140), 400, 5, 64),
    "across the left edge": turned_square((10, 150), 80, -20, 64),
    "across a corner": turned_square((395, 290), 60, 40, 128),
    "across the top": turned_square((200, -20), 50, 0, 64),
    "outside": turned_square((-200, 150), 60, 10, 64),
    "far outside": turned_square((900, 900), 60, 10, 64),
}


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("name", SQUARES)
def test_the_window_gives_what_the_whole_photo_gives(name, given):
    square = SQUARES[name]
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)
    mask = np.zeros((square.size, square.size), np.uint8)
    cv2.ellipse(mask, (square.size // 2, 2 * square.size // 3), (square.size // 3, square.size // 2), 15, 0, 360, 255, -1)
    face = drawn_face(square, rng.integers(0, 256, (square.size, square.size, 3), dtype=np.uint8), mask)
    nearest = None
    in_photo = square.put_mask_back(mask, Window(0, 0, 400, 300))
    if given:
        in_photo = cv2.circle(np.zeros((300, 400), np.uint8), (220, 160), 90, 255, -1)
        in_photo[:, :40] = 255
        nearest = nearest_faces(in_photo, [face])
    expected, expected_mask = whole_photo_composite(photo, face, in_photo, 0 if given else RIM)
    result = composite(photo, [face], nearest)
    found = redrawn_mask((300, 400), [face], nearest)
    assert expected_mask.any() or "outside" in name or given
    # Positions are rounded differently in the window, so that a pixel of the outline may fall on the other side of it.
    assert (found != expected_mask).sum() <= 1
    np.testing.assert_array_equal(result[found == 0], photo[found == 0])
    far = cv2.dilate((found != expected_mask).astype(np.uint8), np.ones((41, 41))) == 0
    assert np.abs(result.astype(int) - expected)[far].max(initial=0) <= 1


def test_the_largest_face_is_in_front():
    square = turned_square((60, 60), 40, 0, 64)
    mask = np.full((64, 64), 255, np.uint8)
    large, small = (drawn_face(square, np.full((64, 64, 3), level, np.uint8), mask) for level in (200, 90))
    left_alone = drawn_face(square, None, mask)
    result = composite(np.zeros((120, 120, 3), np.uint8), [large, small, left_alone])
    assert (result[60, 60] == 200).all()


def test_what_a_larger_face_hides_stays():
    """Cheek to cheek, a mask that was found reaches into the face in front, which may be bare."""
    shape = (720, 1200)
    front = drawn_face(turned_square((450, 360), 240, 10, 64))
    squares = [turned_square((210, 390), 180, -5, 64), turned_square((900, 390), 150, 0, 64)]
    everywhere = np.full((64, 64), 255, np.uint8)
    faces = [front, *(drawn_face(square, np.full((64, 64, 3), 200, np.uint8), everywhere) for square in squares)]
    y, x = np.mgrid[: shape[0], : shape[1]]
    pixels = np.stack([x, y], axis=-1)
    to_nose = [np.hypot(*np.moveaxis(pixels - face.landmarks[33], -1, 0)) for face in faces[:2]]
    hidden = (Delaunay(front.landmarks).find_simplex(pixels) >= 0) & (to_nose[0] < to_nose[1])
    inside = redrawn_mask(shape, faces[1:]) > 0
    assert (hidden & inside).sum() > 4000
    found = redrawn_mask(shape, faces) > 0
    distance = cv2.distanceTransform((~hidden).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    outline = (distance < 2) & (cv2.erode(hidden.astype(np.uint8), np.ones((5, 5))) == 0)
    np.testing.assert_array_equal(found[~outline], (inside & ~hidden)[~outline])
    result = composite(np.zeros((*shape, 3), np.uint8), faces)
    assert not result[hidden & ~outline].any()
    # The mask was cut off there, not grown: the photo shows it, so that a wide edge would show it, too.
    beside = (distance > 4) & (distance < 5) & (cv2.erode(inside.astype(np.uint8), np.ones((21, 21))) > 0)
    assert beside.sum() > 50 and (result[beside] == 200).all()
    # The mask of the face in front stays whole.
    np.testing.assert_array_equal(redrawn_mask(shape, [*faces[1:], front]) > 0, inside)
