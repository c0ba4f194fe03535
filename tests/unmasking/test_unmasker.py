import concurrent.futures
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import maskgan_jax
from maskgan_jax.data.align import face_square, to_photo, zoomed
from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.errors import UserError
from maskgan_jax.networks import face_network as networks
from maskgan_jax.unmasking.unmasker import (
    Unmasker,
    clean_region,
    find_region,
    paste,
    region_from_landmarks,
    regions_of_faces,
    unmask_square,
)

from .conftest import DRAWN, MASK_COLOUR, SIDE, Green, MeanFace, Painter


def is_green(picture):
    return (picture == MASK_COLOUR).all(axis=-1)


def test_the_mask_goes_and_nothing_else_changes(unmasker, portrait):
    result = unmasker(portrait)
    assert is_green(portrait).sum() > 5000 and is_green(result).sum() < 50
    changed = (result != portrait).any(axis=-1)
    # What changes is the mask and a rim around it.
    rim = cv2.dilate(is_green(portrait).astype(np.uint8), np.ones((25, 25)))
    assert not changed[rim == 0].any()
    inner = cv2.erode(is_green(portrait).astype(np.uint8), np.ones((9, 9))) > 0
    assert (result[inner] == DRAWN).all(axis=-1).mean() > 0.97


def test_faces_without_a_mask_are_left_alone(unmasker, couple):
    result, faces = unmasker.unmask(couple)
    assert [face.masked for face in faces] == [True, False]
    assert faces[1].after is None and faces[1].cover < 0.05 < 0.7 < faces[0].cover
    np.testing.assert_array_equal(result[:, :300], couple[:, :300])
    assert (result[:, 300:] != couple[:, 300:]).any()


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


def test_a_given_mask_and_no_other_is_redrawn(unmasker, couple):
    mask = np.zeros(couple.shape[:2], np.uint8)
    mask[130:200, 80:170] = 255  # On the face that wears none.
    result, faces = unmasker.unmask(couple, mask)
    np.testing.assert_array_equal(result[mask == 0], couple[mask == 0])
    assert (result[140:190, 90:160] == DRAWN).all()
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


def grey_photo(portrait):
    """The portrait in grey, but for compression's traces, and where its mask is."""
    grey = np.repeat(portrait.mean(axis=-1, keepdims=True).astype(np.uint8), 3, axis=2)
    grey[::2, ::2, 0] = np.minimum(grey[::2, ::2, 0], 250) + 4
    return grey, is_green(portrait)


def test_in_a_photo_without_colour_faces_are_drawn_grey(unmasker, portrait):
    grey, mask = grey_photo(portrait)
    result, (face,) = unmasker.unmask(grey, mask)
    luma = np.rint(np.dot(DRAWN, [0.299, 0.587, 0.114]))
    inner = cv2.erode(mask.astype(np.uint8), np.ones((25, 25))) > 0
    assert inner.any() and (result[inner] == luma).all()
    assert (face.after == face.after[..., :1]).all()
    # What is visible tells, not the mask.
    grey[mask] = MASK_COLOUR
    result, _ = unmasker.unmask(grey)
    assert (result[inner] == luma).all()


def test_faces_are_drawn_in_colour_where_there_is_a_little(unmasker, portrait):
    grey, mask = grey_photo(portrait)
    result, _ = unmasker.unmask(
        np.where(mask[..., None], grey, np.clip(grey.astype(int) + [4, 0, 0], 0, 255)).astype(np.uint8), mask
    )
    inner = cv2.erode(mask.astype(np.uint8), np.ones((25, 25))) > 0
    assert (result[inner] == DRAWN).all()


def test_networks_for_different_faces():
    other = Green()
    other.zoom = 1.25
    with pytest.raises(UserError, match="for different faces"):
        Unmasker(Painter(), MeanFace(), other)


def test_package_without_its_networks(tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "PRETRAINED", tmp_path)
    with pytest.raises(UserError, match="unmask.safetensors, the network that comes with maskgan_jax, is missing"):
        maskgan_jax.Unmasker.from_pretrained()


def test_a_turned_face(unmasker):
    portrait = np.full((500, 500, 3), 90, np.uint8)
    face = render_face(3, seed=0, size=320)
    region = region_from_landmarks(face.landmarks, (320, 320))
    portrait[90:410, 90:410] = np.where(region[..., None] > 0, np.uint8(MASK_COLOUR), face.image)
    turned = cv2.warpAffine(portrait, cv2.getRotationMatrix2D((250, 250), 25, 1.0), (500, 500), borderMode=cv2.BORDER_REPLICATE)
    result, (found,) = unmasker.unmask(turned)
    down = found.alignment[1] - found.alignment[0]
    # By the detector's points alone, for `MeanFace` finds every face well aligned.
    assert 8 < np.degrees(np.arctan2(down[0], down[1])) < 35
    assert is_green(result).sum() < 0.01 * is_green(turned).sum()


class Gradient(Painter):
    """Draws a gradient, so that the place of each pixel shows."""

    def __call__(self, pictures, masks):
        y, x = np.mgrid[:SIDE, :SIDE]
        drawn = np.stack([2 * x + 60, 2 * y + 60, x + y + 60], axis=-1).astype(np.uint8)
        return np.where(masks > 127, drawn, pictures)


@pytest.mark.parametrize(("side", "zoom"), [(64, 1.0), (64, 4 / 3), (256, 1.0), (256, 4 / 3), (48, 1.0)])
def test_generators_square_within_another(side, zoom):
    generator = Gradient()
    generator.zoom = zoom
    picture = np.zeros((side, side, 3), np.uint8)
    region = np.full((side, side), 255, np.uint8)
    result = unmask_square(generator, picture, region)
    corners = np.array([(0, 0), (0, side), (side, side), (side, 0)]) - 0.5
    square = zoomed(corners, zoom)
    place = np.array([[20.0, 12.0], [50.0, 40.0]])
    for (x, y), (column, row) in zip(place, np.rint(to_photo(place, square, SIDE)).astype(int), strict=True):
        np.testing.assert_allclose(result[row, column], [2 * x + 60, 2 * y + 60, x + y + 60], atol=5)
    above = int(side * (1 - 1 / zoom))
    assert not result[: max(above - 1, 0)].any() and result[above + 1 :, side // 2].all()


@pytest.mark.parametrize(("size", "zoom"), [(128, 1.0), (64, 4 / 3), (128, 4 / 3)])
def test_a_generator_for_other_squares(size, zoom, portrait, unmasker):
    """Its square is cut out of the photo, and the region carried over."""
    painter = Painter()
    painter.size, painter.zoom = size, zoom
    result, (face,) = Unmasker(painter, MeanFace(), Green()).unmask(portrait)
    assert face.before.shape == face.after.shape == (size, size, 3)
    expected = unmasker(portrait)
    assert np.abs(result.astype(int) - expected).mean() < 4 < np.abs(result.astype(int) - portrait).mean()


def test_region_of_an_aligned_face(portrait):
    square = np.full((200, 200, 3), 90, np.uint8)
    square[110:160, 60:140] = MASK_COLOUR
    network = Green()
    network.zoom = 4 / 3

    class Eyes:
        """Stands in for a landmark network: the eyes, which are all that is asked of it, are behind the mask."""

        def __call__(self, pictures):
            return np.full((len(pictures), 68, 2), (26.0, 34.0))

    region = find_region(network, Eyes(), square)
    assert set(np.unique(region)) == {0, 255}
    # Pixel (26, 34) of the network's 64 is in column 87 and row 130 of 200.
    assert not region[130:132, 86:88].any()
    region[122:139, 79:96] = 255
    assert region[108:162, 58:142].all()
    assert not region[:98].any() and not region[:, :48].any() and not region[:, 152:].any()


def test_specks_and_holes_are_cleaned_away():
    region = np.zeros((128, 128), bool)
    region[40:90, 30:100] = True
    expected = region * np.uint8(255)
    region[50:53, 50:53] = False
    region[5:8, 5:8] = True
    np.testing.assert_array_equal(clean_region(region), expected)
    region[60:80, 60:80] = False  # A valve.
    np.testing.assert_array_equal(clean_region(region), expected)
    region[50:80, 40:60] = False  # As in a ski mask.
    assert not clean_region(region)[50:80, 40:60].any()


def test_paste_has_a_soft_edge_inside_the_region():
    photo = np.zeros((300, 300, 3), np.uint8)
    region = np.zeros((300, 300), np.uint8)
    cv2.circle(region, (150, 150), 60, 255, -1)
    square = np.array([[20, 22], [20, 278], [276, 278], [276, 22]], np.float64)  # The edge is 4 pixels wide.
    assert paste(photo, np.full((64, 64, 3), 200, np.uint8), square, region, 1 / 64)
    assert not photo[region == 0].any()
    depth = cv2.distanceTransform(region, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    assert (photo[depth >= 4] == 200).all()
    assert (np.diff(photo[150, 90:95, 0].astype(int)) > 0).all()


def test_paste_stays_in_the_square():
    """A tilted one, that leaves the photo; the region is all of the photo."""
    photo = np.zeros((100, 100, 3), np.uint8)
    square = np.array([[50, 10], [20, 60], [70, 90], [100, 40]], np.float64) + [20, 0]
    paste(photo, np.full((64, 64, 3), 200, np.uint8), square, np.full((100, 100), 255, np.uint8), 1 / 64)
    inside = cv2.fillConvexPoly(np.zeros((100, 100), np.uint8), square.astype(np.int32), 1) > 0
    assert not photo[~inside].any()
    assert photo[50, 97].any()  # No soft edge where the photo ends.
    assert (photo[cv2.erode(inside.astype(np.uint8), np.ones((5, 5))) > 0] == 200).all()
    elsewhere = np.zeros((100, 100), np.uint8)
    elsewhere[:5, :5] = 255
    before = photo.copy()
    assert not paste(photo, np.full((64, 64, 3), 90, np.uint8), square, elsewhere, 1 / 64)
    np.testing.assert_array_equal(photo, before)


def test_each_pixel_of_a_given_region_belongs_to_the_nearest_face():
    rng = np.random.default_rng(0)
    mask = np.where(rng.random((60, 80)) < 0.3, 255, 0).astype(np.uint8)
    faces = [rng.uniform(0, 80, (68, 2)).astype(np.float32) for _ in range(4)]
    y, x = np.mgrid[:60, :80]
    nearest = np.argmin([np.hypot(x - face[33, 0], y - face[33, 1]) for face in faces], axis=0)
    found = regions_of_faces(mask, faces)
    assert len(found) == 4
    for number, region in enumerate(found):
        np.testing.assert_array_equal(region, np.where(nearest == number, mask, 0))


def test_region_from_landmarks():
    landmarks = render_face(4, seed=0, size=320).landmarks
    region = region_from_landmarks(landmarks, (320, 320)) > 0
    x, y = np.rint(landmarks).astype(int).T
    assert region[y, x][[*range(3, 14), *range(29, 36), *range(48, 68)]].all()  # Jaw, nose, mouth
    assert not region[y, x][17:27].any() and not region[y, x][36:48].any()  # Brows, eyes
    square = cv2.fillConvexPoly(np.zeros((320, 320), np.uint8), np.rint(face_square(landmarks)).astype(np.int32), 1) > 0
    assert square[region].all()


def test_eyes_are_never_redrawn(portrait):
    class Everything(Green):
        def __call__(self, pictures):
            return np.ones(pictures.shape[:3], np.float32)

    result, (face,) = Unmasker(Painter(), MeanFace(), Everything()).unmask(portrait)
    x, y = np.rint(face.landmarks[36:48]).astype(int).T
    np.testing.assert_array_equal(result[y, x], portrait[y, x])
    nose = np.rint(face.landmarks[30]).astype(int)
    assert (result[nose[1], nose[0]] == DRAWN).all()
