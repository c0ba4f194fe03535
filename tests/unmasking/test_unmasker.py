import concurrent.futures
import dataclasses
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import maskgan_jax
from maskgan_jax.data.align import FaceSquare
from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.errors import UserError
from maskgan_jax.networks import face_network as networks
from maskgan_jax.unmasking.compositing import composite, redrawn_mask, redrawn_parts
from maskgan_jax.unmasking.detection import Detection, detect_faces
from maskgan_jax.unmasking.mask_finder import Segmentation, lower_face
from maskgan_jax.unmasking.unmasker import BESIDE, LEAST_REST, Unmasker

from .conftest import DRAWN, MASK_COLOUR, SIDE, Green, MeanFace, Painter, is_drawn, is_green, masked_face


@pytest.mark.parametrize("name", ["portrait", "uncertain_portrait"])
def test_the_mask_goes_and_nothing_else_changes(unmasker, name, request):
    portrait = request.getfixturevalue(name)
    result = unmasker(portrait)
    assert is_green(portrait).sum() > 5000 and is_green(result).sum() < 50
    changed = (result != portrait).any(axis=-1)
    # What changes is the mask and a rim around it.
    rim = cv2.dilate(is_green(portrait).astype(np.uint8), np.ones((25, 25)))
    assert not changed[rim == 0].any()
    inner = cv2.erode(is_green(portrait).astype(np.uint8), np.ones((9, 9))) > 0
    assert is_drawn(result[inner]).mean() > 0.97


def test_faces_without_a_mask_are_left_alone(unmasker, couple):
    result, faces = unmasker.unmask(couple)
    assert [face.masked for face in faces] == [True, False]
    assert faces[1].after is None and faces[1].cover < 0.05 < 0.7 < faces[0].cover
    np.testing.assert_array_equal(result[:, :300], couple[:, :300])
    assert (result[:, 300:] != couple[:, 300:]).any()


def test_in_one_colour_a_mask_must_hide_more_to_count(unmasker, portrait, monkeypatch):
    grey = np.repeat(portrait[..., 1:2], 3, axis=2)
    for cover, expected in ((0.29, (False, False)), (0.31, (True, False)), (0.49, (True, False)), (0.51, (True, True))):
        for how in ("cover", "least_cover"):
            monkeypatch.setattr(Segmentation, how, lambda _, cover=cover: cover)
        found = [unmasker.find(photo)[0] for photo in (portrait, grey)]
        assert tuple(face.masked for face in found) == expected and found[0].cover == found[1].cover == cover


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_faces_on_all_sides_are_found(quarters, unmasker, portrait, monkeypatch):
    (upright,) = unmasker.find(portrait)
    turned = np.ascontiguousarray(np.rot90(portrait, quarters))
    result, (face,) = unmasker.unmask(turned)
    right, down = upright.square.corners[1] - upright.square.corners[0]
    expected = [(down, -right), (-right, -down), (-down, right)][quarters - 1]
    np.testing.assert_allclose(face.square.corners[1] - face.square.corners[0], expected, atol=0.02 * upright.square.side)
    assert is_green(result).sum() < 0.01 * is_green(turned).sum()
    # Without that search it is not, or not as it lies.
    monkeypatch.setattr("maskgan_jax.unmasking.unmasker.detect_turned", lambda photo: [])
    others = [face.square.corners[1] - face.square.corners[0] for face in unmasker.find(turned)]
    assert all(np.abs(other - expected).max() > 0.5 * upright.square.side for other in others)


def test_a_face_that_fills_the_photo_is_found(unmasker, close_up, beside_a_stranger, monkeypatch):
    close, nose = close_up
    most = 0.15 * close.shape[1]
    (found,) = unmasker.find(close)
    assert np.hypot(*(found.landmarks[30] - nose)) < most
    (stranger,) = detect_faces(beside_a_stranger)
    found, other = unmasker.find(beside_a_stranger)
    assert np.hypot(*(found.landmarks[30] - nose - (150, 0))) < most
    np.testing.assert_array_equal(other.box, stranger.box)
    for name in ("detect_close_up", "detect_turned"):
        monkeypatch.setattr(f"maskgan_jax.unmasking.unmasker.{name}", lambda *_: [])
    assert unmasker.find(close) == []


def test_of_two_detections_of_a_face_one_is_kept(unmasker, couple, monkeypatch):
    """And none of its parts, nor where the landmarks contradict the detector."""
    large, small = detect_faces(couple)
    shifted = large._replace(box=large.box + 9, points=large.points + 9, score=0.85)
    eye = large.points[0]
    part = Detection(np.r_[eye, eye] + 0.3 * (large.box - np.r_[eye, eye]), 0.99, eye + 0.3 * (large.points - eye))
    elsewhere = small._replace(box=small.box + [0, 200, 0, 200], points=small.points + [0, 120], score=0.95)
    for found, scores in (
        ([shifted, large._replace(score=0.9), small._replace(score=0.8)], [0.9, 0.8]),
        ([large._replace(score=0.9), part._replace(score=0.8)], [0.9]),
        ([part], [0.99]),  # By itself it would be taken for a face.
        ([elsewhere], []),
    ):
        monkeypatch.setattr("maskgan_jax.unmasking.unmasker.detect_faces", lambda photo, found=found: found)
        for name in ("detect_close_up", "detect_turned"):
            monkeypatch.setattr(f"maskgan_jax.unmasking.unmasker.{name}", lambda *_: [])
        assert [face.score for face in unmasker.find(couple)] == scores


def test_faces_that_are_too_small_take_no_place_of_others(unmasker, couple, monkeypatch):
    """Such as one that is tall, but not as wide as it must be."""
    large, small = detect_faces(couple)
    middle, width = large.box[[0, 2]].mean(), small.box[2] - small.box[0]
    tall = large._replace(box=np.array([middle - width / 4, 0, middle + width / 4, 4 * couple.shape[0]]))
    monkeypatch.setattr("maskgan_jax.unmasking.unmasker.detect_faces", lambda photo: [tall, small])
    monkeypatch.setattr("maskgan_jax.unmasking.unmasker.detect_close_up", lambda *_: [])
    monkeypatch.setattr("maskgan_jax.unmasking.unmasker.is_face", lambda *_: True)
    one = Unmasker(Painter(), MeanFace(), Green(), least_width=width - 1, most_faces=1)
    assert [face.left_out for face in one.find(couple)] == ["too small", ""]


def test_the_photo_itself_is_not_changed(unmasker, portrait):
    before = portrait.copy()
    unmasker(portrait)
    np.testing.assert_array_equal(portrait, before)


def test_a_photo_without_faces_comes_back(unmasker):
    empty = np.full((100, 150, 3), 77, np.uint8)
    result, faces = unmasker.unmask(empty)
    assert faces == []
    np.testing.assert_array_equal(result, empty)


def test_the_example_of_the_docs(unmasker, couple, tmp_path, monkeypatch):
    docs = (Path(__file__).parents[2] / "docs" / "unmasking.md").read_text()
    program = re.search(r"^```python\n(.*?)^```", docs, re.MULTILINE | re.DOTALL)[1]
    cv2.imwrite(str(tmp_path / "photo.jpg"), couple[..., ::-1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(maskgan_jax.Unmasker, "from_pretrained", lambda: unmasker)
    names = {}
    exec(program, names)
    assert [picture.shape for picture in names["results"]] == [couple.shape] * 2
    changed = (names["result"] != names["photo"]).any(axis=-1)
    assert changed.any() and not changed[~names["mask"]].any()


def test_several_photos(unmasker, portrait, couple):
    listed = unmasker([portrait, couple])
    np.testing.assert_array_equal(listed[0], unmasker(portrait))
    np.testing.assert_array_equal(listed[1], unmasker(couple))
    stacked = unmasker(np.stack([portrait, portrait[:, ::-1]]))
    assert stacked.shape == (2, *portrait.shape)
    np.testing.assert_array_equal(stacked[0], listed[0])


def test_threads_may_share_it(unmasker, portrait, couple):
    expected = unmasker([portrait, couple] * 4)
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        results = list(threads.map(unmasker, [portrait, couple] * 4))
    for one, other in zip(results, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_of_a_given_mask_no_face_shows_the_generator_anything(unmasker):
    """Not even what another face is nearer to."""
    face = render_face(1, seed=0, size=250).image
    photo = np.concatenate([face[:, :190], face[:, 60:]], axis=1)
    mask = np.zeros(photo.shape[:2], bool)
    mask[130:200, 60:320] = True
    _, faces = unmasker.unmask(photo, mask)
    assert len(faces) == 2
    for face in faces:
        hidden = face.square.cut_out(mask * np.uint8(255)) > 0
        assert hidden.sum() > np.count_nonzero(face.mask) > 0
        assert (face.after[hidden] == DRAWN).all()


def test_a_given_mask_and_no_other_is_redrawn(unmasker, couple):
    mask = np.zeros(couple.shape[:2], np.uint8)
    mask[130:200, 80:170] = 255  # On the face that wears none.
    result, faces = unmasker.unmask(couple, mask)
    np.testing.assert_array_equal(result[mask == 0], couple[mask == 0])
    assert is_drawn(result[140:190, 90:160]).all()
    assert [face.after is None for face in faces] == [True, False]


@pytest.mark.parametrize(
    "photo",
    [
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((10, 10, 3), np.float32),
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((2, 10, 10, 4), np.uint8),
        np.zeros(5, np.uint8),
        "photo.jpg",
        Path("photo.jpg"),
        Image.new("RGB", (10, 10)),
        None,
    ],
    ids=lambda photo: f"{photo.shape}{photo.dtype}" if isinstance(photo, np.ndarray) else type(photo).__name__,
)
def test_what_is_no_photo(unmasker, photo):
    for call in (unmasker, unmasker.unmask, lambda photo: unmasker([photo])):
        with pytest.raises(UserError, match=r"a photo is an array \[H, W, 3\] of uint8 \(RGB\), not"):
            call(photo)


def test_what_is_said_of_what_is_no_photo(unmasker):
    with pytest.raises(UserError, match=r"not \[450, 675\] of uint8$"):
        unmasker(np.zeros((450, 675), np.uint8))
    with pytest.raises(UserError, match=r"not an object of type Image; np.asarray\(image"):
        unmasker(Image.new("RGB", (10, 10)))


def test_no_photos_at_all(unmasker):
    empty = unmasker(np.zeros((0, 8, 9, 3), np.uint8))
    assert (empty.shape, empty.dtype) == ((0, 8, 9, 3), np.uint8)
    assert unmasker([]) == []


def test_a_mask_of_another_size(unmasker, portrait):
    with pytest.raises(UserError, match="the photo is 320 x 320 but its mask is 32 x 16"):
        unmasker.unmask(portrait, np.zeros((16, 32), np.uint8))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((320, 320), np.uint8), "hides nothing"),
        (np.zeros((320, 320), bool), "hides nothing"),
        (np.ones((320, 320), np.float32), r"a mask is an array \[H, W\] of bool, or .* not \[320, 320\] of float32"),
        (np.full((320, 320, 3), 255, np.uint8), r"a mask is an array .* not \[320, 320, 3\] of uint8"),
        ("mask.png", "a mask is an array .* not an object of type str"),
    ],
)
def test_what_is_no_mask(unmasker, portrait, mask, message):
    with pytest.raises(UserError, match=message):
        unmasker.unmask(portrait, mask)


def test_a_mask_of_bool(unmasker, couple):
    mask = np.zeros(couple.shape[:2], bool)
    mask[130:200, 80:170] = True
    expected = unmasker.unmask(couple, mask * np.uint8(255))[0]
    np.testing.assert_array_equal(unmasker.unmask(couple, mask)[0], expected)
    assert (expected != couple).any()


def test_each_network_has_squares_of_its_own(portrait):
    other = Green()
    other.zoom = 1.25
    result, (face,) = Unmasker(Painter(), MeanFace(), other).unmask(portrait)
    assert face.redrawn and is_green(result).sum() < 0.01 * is_green(portrait).sum()


def test_package_without_its_networks(tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "PRETRAINED", tmp_path)
    with pytest.raises(UserError, match="unmask.safetensors, the network that comes with maskgan_jax, is missing"):
        maskgan_jax.Unmasker.from_pretrained()


def test_a_turned_face(unmasker):
    portrait = np.full((500, 500, 3), 90, np.uint8)
    face = render_face(3, seed=0, size=320)
    mask = lower_face(face.landmarks, (320, 320))
    portrait[90:410, 90:410] = np.where(mask[..., None] > 0, np.uint8(MASK_COLOUR), face.image)
    turned = cv2.warpAffine(portrait, cv2.getRotationMatrix2D((250, 250), 25, 1.0), (500, 500), borderMode=cv2.BORDER_REPLICATE)
    result, (found,) = unmasker.unmask(turned)
    down = found.square.corners[1] - found.square.corners[0]
    # By the detector's points alone, for `MeanFace` finds every face well aligned.
    assert 8 < np.degrees(np.arctan2(down[0], down[1])) < 35
    assert is_green(result).sum() < 0.01 * is_green(turned).sum()


@pytest.mark.parametrize(("size", "zoom"), [(128, 1.0), (64, 4 / 3), (128, 4 / 3)])
def test_a_generator_for_other_squares(size, zoom, portrait, unmasker):
    """Its square is cut out of the photo, and the mask carried over."""
    painter = Painter()
    painter.size, painter.zoom = size, zoom
    result, (face,) = Unmasker(painter, MeanFace(), Green()).unmask(portrait)
    assert face.before.shape == face.after.shape == (size, size, 3)
    expected = unmasker(portrait)
    assert np.abs(result.astype(int) - expected).mean() < 4 < np.abs(result.astype(int) - portrait).mean()


def test_faces_in_front_are_drawn_beside_faces_without_masks():
    photo = np.full((400, 620, 3), 128, np.uint8)
    photo[:, :400] = masked_face(0, 400)
    photo[60:360, 270:500] = masked_face(3, 300)[:, 70:]
    seen = []

    class Recorder(Painter):
        zoom = 4 / 3

        def __call__(self, pictures, masks):
            seen.append((pictures[0], masks[0, ..., 0]))
            return super().__call__(pictures, masks)

    class Middle(Green):
        def __call__(self, pictures):
            return super().__call__(pictures) * (np.abs(np.arange(SIDE) - SIDE / 2) < 0.3 * SIDE)

    unmasker = Unmasker(Recorder(), MeanFace(), Middle())
    found = unmasker.find(photo)
    assert [face.masked for face in found] == [True, True]
    _, faces = unmasker.unmask(photo)
    (_, first_mask), (image, mask) = seen[:2]
    assert [np.array_equal(first_mask, faces[1].mask), np.array_equal(mask, faces[0].mask)] == [True, True]
    # In the square of the larger face lies some of the other's mask, which is gone already where the generator may see it.
    shown = (mask == 0) & (cv2.dilate(mask, np.ones((3, 3))) == 0)
    assert (is_green(faces[0].before) & shown).sum() > 10
    assert not (is_green(image) & shown).any() and is_drawn(image[is_green(faces[0].before) & shown]).all()
    for face, before in zip(faces, found, strict=True):
        np.testing.assert_array_equal(face.before, before.before)


def beside(face):
    """What a face's mask hides to the left and right of its square."""
    return [part for part in face.rest if part.square != face.square.moved(0, BESIDE)]


@pytest.mark.parametrize("way", [-1, 1])
def test_what_a_mask_hides_beside_the_square_is_drawn_too(portrait, way):
    painter = Painter()
    painter.zoom = 4 / 3
    unmasker = Unmasker(painter, MeanFace(), Green())
    (plain,) = unmasker.unmask(portrait)[1]
    assert plain.redrawn and not beside(plain)
    # A wing of the mask that reaches out of the generator's square, but not of the one that masks are looked for in.
    finder_square = unmasker.mask_finder.square(plain.landmarks)
    edge = plain.square.to_photo([(SIDE - 1.0 if way > 0 else 0.0, 40.0)])[0]
    outermost = finder_square.to_photo([(SIDE - 2.0 if way > 0 else 1.0, 40.0)])[0]
    assert way * (outermost[0] - edge[0]) > 3
    photo = portrait.copy()
    left, right = sorted((round(plain.landmarks[33, 0]), round(outermost[0])))
    y = round(edge[1])
    photo[y - 9 : y + 10, left : right + 1] = MASK_COLOUR
    result, (face,) = unmasker.unmask(photo)
    (rest,) = beside(face)
    assert rest.square == face.square.moved(way * BESIDE)
    # The generator saw the face as it was redrawn, without grain.
    seen = composite(photo, [dataclasses.replace(face, rest=())])
    np.testing.assert_array_equal(rest.before, rest.square.cut_out(seen))
    assert not any(np.array_equal(rest.before, rest.square.cut_out(other)) for other in (photo, result))
    assert not is_green(result[y - 9 : y + 10, left + 4 : right - 3]).any()
    redrawn = redrawn_mask(photo.shape[:2], [face]) > 0
    np.testing.assert_array_equal(result[~redrawn], photo[~redrawn])
    # A generator that is not told the mask redraws whole faces only.
    blind = Painter()
    blind.inpaints = False
    (face,) = Unmasker(blind, MeanFace(), Green()).unmask(photo)[1]
    assert face.redrawn and not face.rest


def test_what_a_mask_hides_below_the_square_is_drawn_too(portrait):
    unmasker = Unmasker(Painter(), MeanFace(), Green())
    (plain,) = unmasker.unmask(portrait)[1]
    (x, chin), (_, low) = plain.landmarks[8], plain.square.to_photo([(SIDE / 2, 1.1 * SIDE)])[0]
    x, chin, low = round(x), round(chin), round(low)
    photo = portrait.copy()
    photo[chin - 20 : low, x - 15 : x + 16] = MASK_COLOUR
    photo[low + 6 : low + 12, x - 15 : x + 16] = MASK_COLOUR  # A shirt's, which is left alone.
    result, (face,) = unmasker.unmask(photo)
    (rest,) = face.rest
    np.testing.assert_array_equal(rest.square.corners, face.square.moved(0, BESIDE).corners)
    assert is_drawn(result[chin - 10 : low - 12, x - 8 : x + 9]).all()
    np.testing.assert_array_equal(result[low + 6 :], photo[low + 6 :])
    redrawn = redrawn_mask(photo.shape[:2], [face]) > 0
    np.testing.assert_array_equal(result[~redrawn], photo[~redrawn])


def hiding_all(segmentation):
    """As if a mask hid the whole square."""
    return dataclasses.replace(segmentation, probability=np.ones((SIDE, SIDE), np.float32))


def test_the_rest_of_a_face_leaves_other_faces_alone(couple):
    """What another face hides beside the square is that face's own."""
    painter = Painter()
    painter.zoom = 4 / 3
    unmasker = Unmasker(painter, MeanFace(), Green())
    _, faces = unmasker.unmask(couple)
    first = next(face for face in faces if face.redrawn)
    other = dataclasses.replace(first, rest=(), square=first.square.moved(0.5), mask=np.full((SIDE, SIDE), 255, np.uint8))
    everything = dataclasses.replace(first, rest=(), segmentation=hiding_all(first.segmentation))
    assert len(unmasker._masks_outside(couple, everything, [])) == 2
    assert len(unmasker._masks_outside(couple, everything, list(redrawn_parts(couple.shape[:2], [other])))) == 1


def test_of_other_faces_those_that_are_near_count(couple):
    """As all of them would, and each is put back once."""
    painter = Painter()
    painter.zoom = 4 / 3
    unmasker, shape = Unmasker(painter, MeanFace(), Green()), couple.shape[:2]
    first = next(face for face in unmasker.unmask(couple)[1] if face.redrawn)
    everything = dataclasses.replace(first, rest=(), segmentation=hiding_all(first.segmentation))
    alone, counts = unmasker._masks_outside(couple, everything, []), set()
    for step in np.linspace(-2, 2, 21):
        other = dataclasses.replace(first, rest=(), square=first.square.moved(step), mask=np.full((SIDE, SIDE), 255, np.uint8))
        taken = redrawn_mask(shape, [other])
        expected = [(square, np.where(square.cut_out(taken) > 0, np.uint8(0), mask)) for square, mask in alone]
        expected = [(square, mask) for square, mask in expected if mask.mean() > 255 * LEAST_REST]
        found = unmasker._masks_outside(couple, everything, list(redrawn_parts(shape, [other])))
        assert [square for square, _ in found] == [square for square, _ in expected]
        for (_, one), (_, same) in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, same)
        counts.add(len(found))
    assert counts == {1, 2}


def test_the_rests_of_a_crowd_take_no_time_by_its_square(crowd, unmasker, monkeypatch):
    photo = np.ascontiguousarray(crowd[:300, :400])
    faces = [unmasker.inpainter.redraw(face) for face in unmasker.find(photo)]
    assert len(faces) > 8
    put, calls = FaceSquare.put_mask_back, []
    monkeypatch.setattr(FaceSquare, "put_mask_back", lambda *arguments: calls.append(1) or put(*arguments))
    for face in faces:
        unmasker._masks_outside(photo, face, [])
    of_own, _ = len(calls), calls.clear()
    monkeypatch.setattr("maskgan_jax.unmasking.unmasker.composite", lambda photo, _: photo)
    unmasker._with_rests(photo, faces)
    assert len(calls) == of_own + len(faces)
