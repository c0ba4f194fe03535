"""What the networks of the package take for faces and masks: by the portrait of the demo and by rendered faces."""

import cv2
import numpy as np
import pytest

from maskgan_jax.data.occluders import FaceView, hand, thing
from maskgan_jax.data.painting import compose, draw_lamp
from maskgan_jax.data.points import face_width, landmark_errors
from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.demo.run import masked_portrait
from maskgan_jax.files import read_image
from maskgan_jax.unmasking.detection import box_width, detect_close_up, detect_faces
from maskgan_jax.unmasking.tracking import Tracker
from maskgan_jax.unmasking.unmasker import Unmasker


@pytest.fixture(scope="module")
def unmasker():
    return Unmasker.from_pretrained(fast=True)


@pytest.fixture(scope="module")
def bare(unmasker, astronaut):
    """The only face of the portrait."""
    (face,) = unmasker.find(astronaut)
    assert not face.masked
    return face


@pytest.fixture(scope="module")
def masked():
    """The portrait with each of four masks, `[512, 512, 3]`."""
    return [masked_portrait(seed).image for seed in range(4)]


def scaled(image, scale):
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def test_drawings_animals_and_things_are_no_people(unmasker, things):
    assert [path.name for path in things if unmasker.find(read_image(path))] == []
    # Of the two pictures that show people, the masks are known: none.
    for name in ("astronaut", "camera"):
        assert [face.masked for face in unmasker.find(read_image(things[0].with_name(f"{name}.png")))] == [False]


def test_in_films_of_drawings_animals_and_things_nothing_is_redrawn(unmasker, things):
    """Two frames each: in the second, nothing is left that the detector was not certain of in the first."""
    for path in things:
        frame, tracker = read_image(path), Tracker(unmasker, 2)
        assert not any(face.redrawn for face in tracker(frame)) and tracker(frame) == [], path.name


@pytest.mark.parametrize(
    ("place", "part"), [("left eye", 0.6), ("left eye", 0.3), ("right eye", 0.5), ("left ear", 0.5), ("right ear", 0.3)]
)
def test_an_eye_or_an_ear_is_no_face(place, part, unmasker, bare, astronaut):
    """So much of the face's width about it. The first of these crops the detector takes for a face."""
    points, width = bare.landmarks, np.ptp(bare.landmarks[:17, 0])
    middle = {
        "left eye": points[36:42].mean(axis=0),
        "right eye": points[42:48].mean(axis=0),
        "left ear": points[1] - (0.08 * width, 0),
        "right ear": points[15] + (0.08 * width, 0),
    }[place]
    (left, top), side = np.rint(middle - part * width / 2).astype(int), round(part * width)
    crop = cv2.resize(astronaut[top : top + side, left : left + side], (400, 400), interpolation=cv2.INTER_CUBIC)
    assert part < 0.6 or len(detect_faces(crop) + detect_close_up(crop)) == 1
    assert unmasker.find(crop) == []


@pytest.mark.parametrize(("width", "left_out"), [(20, "too small"), (30, "")])
def test_heads_in_the_background_are_left_alone(width, left_out, unmasker, bare, masked):
    photo = cv2.copyMakeBorder(scaled(masked[0], width / box_width(bare.box)), 0, 90, 0, 190, cv2.BORDER_REPLICATE)
    (face,) = unmasker.unmask(photo)[1]
    assert box_width(face.box) == pytest.approx(width, abs=3)
    assert (face.left_out, face.redrawn) == (left_out, not left_out)


@pytest.mark.parametrize("degrees", [45, -45])
def test_a_face_turned_by_45_degrees(degrees, unmasker, bare, masked):
    matrix = cv2.getRotationMatrix2D((256, 256), degrees, 0.7)
    (face,) = unmasker.find(cv2.warpAffine(masked[0], matrix, (512, 512), borderValue=(128,) * 3))
    expected = bare.landmarks @ matrix[:, :2].T + matrix[:, 2]
    assert landmark_errors(face.landmarks[None], expected[None]).mean() < 0.2 and face.masked


def test_small_masked_faces_in_a_large_photo(unmasker, bare, masked):
    """Twelve of them, of 56 pixels, in one as wide as those of 24 megapixels."""
    faces = [scaled(photo[:300, 70:400], 56 / box_width(bare.box)) for photo in masked]
    photo = np.full((1200, 6000, 3), 150, np.uint8)
    for i in range(12):
        face, x, y = faces[i % 4], 60 + i % 6 * 950, 60 + i // 6 * 600
        photo[y : y + len(face), x : x + face.shape[1]] = face
    assert sum(face.masked and not face.left_out for face in unmasker.find(photo)) == 12


@pytest.mark.parametrize(("inside", "masks"), [(0.08, 4), (0.15, 1)])
def test_masked_faces_that_fill_the_photo(inside, masks, unmasker, bare, masked):
    """As on a close selfie, the cheeks are cut off; if too much is, the landmark network seldom agrees with the detector."""
    rim = inside * np.tile([1, 0.4] * (bare.box[2:] - bare.box[:2]), 2) * [1, 1, -1, -1]
    left, top, right, bottom = np.rint(bare.box + rim).astype(int)
    close_ups = [scaled(photo[top:bottom, left:right], 900 / (right - left)) for photo in masked[:masks]]
    assert [[face.masked for face in unmasker.find(photo)] for photo in close_ups] == [[True]] * masks


@pytest.mark.parametrize("draw", [hand, thing])
def test_hands_and_things_before_a_mouth_are_no_masks(draw, unmasker):
    """Nearly always: on drawn faces, with what is drawn before them in training."""
    found = []
    for seed in range(8):
        face, rng = render_face(seed, seed=0, size=256), np.random.default_rng(seed)
        view = FaceView(face.image / np.float32(255), face.landmarks, face_width(face.landmarks), 256)
        image, lamp = view.image.copy(), draw_lamp(rng)
        layers = [layer for layer in draw(view, rng) if layer.alpha.any()]
        for layer in layers:
            compose(image, layer.alpha, layer.albedo, layer.relief, lamp, layer.gloss, 0.02 * view.width)
        photo = np.clip(np.rint(255 * image), 0, 255).astype(np.uint8)
        found += unmasker.find(photo) if layers else []
    assert len(found) >= 5 and sum(face.masked for face in found) <= 1


@pytest.mark.parametrize(("opacity", "is_mask"), [(0.25, False), (0.4, False), (1.0, True)])
@pytest.mark.parametrize("colour", [(235, 235, 235), (25, 25, 30)])
def test_veils_through_which_the_mouth_shows_are_no_masks(opacity, is_mask, colour, unmasker):
    """Opaque ones are, as gaiters and bandanas are."""
    for seed in range(4):
        face = render_face(seed, seed=0, size=256)
        points = face.landmarks
        outline = np.concatenate([points[:1], points[1:16] + (0, 40), points[16:17], points[28:29]])
        veil = cv2.fillPoly(np.zeros((256, 256)), [np.rint(outline).astype(int)], opacity)[..., None]
        rows, columns = np.indices((256, 256))
        mesh = np.where((rows + columns) % 4 == 0, 0.8, 1.0)[..., None]
        photo = np.rint(face.image * (1 - veil * mesh) + np.array(colour) * veil * mesh).astype(np.uint8)
        assert [found.masked for found in unmasker.find(photo)] == [is_mask]
