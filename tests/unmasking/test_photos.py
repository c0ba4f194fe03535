import cv2
import numpy as np
import pytest

from maskgan_jax.__main__ import main
from maskgan_jax.data.align import face_square
from maskgan_jax.data.landmarks import find_all_landmarks
from maskgan_jax.data.rendered_faces import render_face
from maskgan_jax.errors import UserError
from maskgan_jax.files import find_pictures, read_picture, write_png
from maskgan_jax.unmasking import photos
from maskgan_jax.unmasking.photos import _regions, paste, region_from_landmarks, unmask_photos


@pytest.fixture(scope="module")
def portrait():
    """A rendered face, `[320, 320, 3]`."""
    return render_face(4, seed=0, size=320).picture


@pytest.fixture(scope="module")
def couple():
    """Two rendered faces beside each other, the larger one on the right."""
    picture = np.full((400, 700, 3), 128, np.uint8)
    picture[:250, :250] = render_face(2, seed=0, size=250).picture
    picture[:, 300:] = render_face(0, seed=0, size=400).picture
    return picture


class SameFace:
    """Stands in for `Unmasker`: a generator that changes nothing."""

    size = 256

    def __init__(self, *_, **__):
        pass

    def __call__(self, masked):
        return masked


def unmasked(picture, tmp_path, weights, masks=None):
    write_png(tmp_path / "in" / "photo.png", picture)
    assert unmask_photos([tmp_path / "in"], tmp_path / "out", weights, masks) == (1, 0)
    return read_picture(tmp_path / "out" / "photo.png")


def regions(picture):
    return [region_from_landmarks(points, picture.shape[:2]) > 0 for points in find_all_landmarks(picture)]


def test_only_the_region_of_the_face_changes(portrait, tmp_path, generator_file):
    result = unmasked(portrait, tmp_path, generator_file)
    (region,) = regions(portrait)
    np.testing.assert_array_equal(result[~region], portrait[~region])
    assert (result[region] != portrait[region]).any(axis=-1).mean() > 0.9


@pytest.mark.parametrize("size", [320, 900])
def test_a_generator_that_changes_nothing_gives_the_photo_back(size, tmp_path, monkeypatch):
    """Larger and smaller in the photo (the squares have about half its side) than in the generator."""
    monkeypatch.setattr(photos, "Unmasker", SameFace)
    portrait = render_face(4, seed=0, size=size).picture
    result = unmasked(portrait, tmp_path, "unused")
    (region,) = regions(portrait)
    np.testing.assert_array_equal(result[~region], portrait[~region])
    assert np.abs(result[region].astype(float) - portrait[region]).mean() < 3


def test_all_faces_of_a_photo(couple, tmp_path, generator_file, capsys):
    result = unmasked(couple, tmp_path, generator_file)
    for region in regions(couple):
        assert (result[region] != couple[region]).any(axis=-1).mean() > 0.9
    known = ~np.any(regions(couple), axis=0)
    np.testing.assert_array_equal(result[known], couple[known])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all("photo.png: a face of" in line for line in lines)


def test_only_the_given_mask_changes(couple, tmp_path, generator_file):
    mask = np.zeros(couple.shape[:2], np.uint8)
    mask[130:200, 80:170] = 255  # On the left face; the right one wears none.
    write_png(tmp_path / "masks" / "photo.png", mask)
    result = unmasked(couple, tmp_path, generator_file, tmp_path / "masks")
    np.testing.assert_array_equal(result[mask == 0], couple[mask == 0])
    assert (result[mask > 0] != couple[mask > 0]).any(axis=-1).mean() > 0.9


def test_a_predictor_of_ones_own(portrait, tmp_path, generator_file, monkeypatch):
    """It is asked for the landmarks, and they place the region."""
    asked = []

    def find(picture, shape_predictor):
        asked.append(shape_predictor)
        return [render_face(4, seed=0, size=320).landmarks + np.float32([20, 0])]

    monkeypatch.setattr(photos, "find_all_landmarks", find)
    monkeypatch.setattr(photos, "load_predictor", asked.append)
    write_png(tmp_path / "photo.png", portrait)
    arguments = ["unmask", f"{tmp_path / 'photo.png'}", f"--out={tmp_path / 'out'}", f"--weights={generator_file}"]
    assert main([*arguments, "--shape_predictor=own.dat"]) == 0
    assert asked == ["own.dat", "own.dat"]
    region = region_from_landmarks(find(portrait, "")[0], (320, 320)) > 0
    result = read_picture(tmp_path / "out" / "photo.png")
    np.testing.assert_array_equal(result[~region], portrait[~region])


def test_bad_photos_are_reported_and_the_rest_is_done(portrait, tmp_path, generator_file, capsys):
    folder, masks, out = tmp_path / "in", tmp_path / "masks", tmp_path / "out"
    (region,) = regions(portrait)
    for name, mask in {
        "good": region * np.uint8(255),
        "misfit": np.full((32, 32), 255, np.uint8),
        "none": np.zeros((320, 320), np.uint8),
        "faceless": np.full((200, 300), 255, np.uint8),
        "elsewhere": cv2.rectangle(np.zeros((320, 320), np.uint8), (0, 0), (5, 5), 255, -1),
        "broken": region * np.uint8(255),
    }.items():
        write_png(folder / f"{name}.png", portrait)
        write_png(masks / f"{name}.png", mask)
    write_png(folder / "faceless.png", np.full((200, 300, 3), 90, np.uint8))
    write_png(folder / "maskless.png", portrait)
    (folder / "broken.png").write_bytes(b"no picture")
    arguments = ["unmask", f"{folder}", f"--out={out}", f"--weights={generator_file}", f"--mask={masks}"]
    assert main(arguments) == 1
    captured = capsys.readouterr()
    for message in (
        "broken.png is not a readable picture",
        "faceless.png: no face found",
        "maskless.png has no region of the same name",
        "misfit.png is 320 x 320 but its region is 32 x 32",
        "hides nothing (no pixel above 127)",
        "elsewhere.png: the given region is on none of the faces",
    ):
        assert message in captured.err
    assert "6 inputs could not be used" in captured.out
    assert [path.name for path in find_pictures(out)] == ["good.png"]


def test_wrong_requests(portrait, tmp_path, generator_file, capsys):
    write_png(tmp_path / "photo.png", portrait)
    with pytest.raises(UserError, match="would be overwritten"):
        unmask_photos([tmp_path / "photo.png"], tmp_path, generator_file)
    with pytest.raises(UserError, match="cannot load the shape predictor .*gone.dat"):
        unmask_photos([tmp_path / "photo.png"], tmp_path / "out", generator_file, shape_predictor=str(tmp_path / "gone.dat"))
    aligned = ["unmask", "--aligned", f"{tmp_path}", f"--out={tmp_path / 'out'}", f"--weights={generator_file}"]
    assert main([*aligned, "--shape_predictor=own.dat"]) == 1
    assert "--shape_predictor is for whole photos" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_paste_has_a_soft_edge_inside_the_region():
    photo = np.zeros((300, 300, 3), np.uint8)
    region = np.zeros((300, 300), np.uint8)
    cv2.circle(region, (150, 150), 60, 255, -1)
    square = np.array([[20, 22], [20, 278], [276, 278], [276, 22]], np.float64)  # The edge is 4 pixels wide.
    assert paste(photo, np.full((64, 64, 3), 200, np.uint8), square, region)
    assert not photo[region == 0].any()
    depth = cv2.distanceTransform(region, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    assert (photo[depth >= 4] == 200).all()
    assert (np.diff(photo[150, 90:95, 0].astype(int)) > 0).all()


def test_paste_stays_in_the_square():
    """A tilted one, that leaves the photo; the region is all of the photo."""
    photo = np.zeros((100, 100, 3), np.uint8)
    square = np.array([[50, 10], [20, 60], [70, 90], [100, 40]], np.float64) + [20, 0]
    paste(photo, np.full((64, 64, 3), 200, np.uint8), square, np.full((100, 100), 255, np.uint8))
    inside = cv2.fillConvexPoly(np.zeros((100, 100), np.uint8), square.astype(np.int32), 1) > 0
    assert not photo[~inside].any()
    assert photo[50, 97].any()  # No soft edge where the photo ends.
    assert (photo[cv2.erode(inside.astype(np.uint8), np.ones((5, 5))) > 0] == 200).all()
    elsewhere = np.zeros((100, 100), np.uint8)
    elsewhere[:5, :5] = 255
    before = photo.copy()
    assert not paste(photo, np.full((64, 64, 3), 90, np.uint8), square, elsewhere)
    np.testing.assert_array_equal(photo, before)


def test_each_pixel_of_a_given_region_belongs_to_the_nearest_face():
    rng = np.random.default_rng(0)
    mask = np.where(rng.random((60, 80)) < 0.3, 255, 0).astype(np.uint8)
    faces = [rng.uniform(0, 80, (68, 2)).astype(np.float32) for _ in range(4)]
    y, x = np.mgrid[:60, :80]
    nearest = np.argmin([np.hypot(x - face[33, 0], y - face[33, 1]) for face in faces], axis=0)
    found = list(_regions(mask.shape, mask, faces))
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
