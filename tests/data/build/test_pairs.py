import cv2
import numpy as np
import pytest
from PIL import Image

from maskgan_jax.config import load_config
from maskgan_jax.data.align import FaceSquare
from maskgan_jax.data.build.build import build_data_set
from maskgan_jax.data.build.face_lists import from_json, to_json
from maskgan_jax.data.build.make_record import FoundFace, check_fit, make_record
from maskgan_jax.data.build.pairs import difference
from maskgan_jax.data.build.sources import Photo, Skipped
from maskgan_jax.data.masked_faces.reader import load_split
from maskgan_jax.data.masks import draw_mask
from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.errors import UserError

SIDE = 256


@pytest.fixture(scope="module")
def config():
    return load_config("cpu", ["--config.data.size=64"])


@pytest.fixture(scope="module")
def faces(config):
    """Rendered faces, their landmarks, the same with masks and where the masks are."""
    faces = [render_face(number, seed=0, size=SIDE) for number in range(4)]
    drawn = [draw_mask(face.image, face.landmarks, np.random.default_rng(i), config.data) for i, face in enumerate(faces)]
    return [(face.image, face.landmarks, masked.image, masked.mask) for face, masked in zip(faces, drawn, strict=True)]


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


@pytest.mark.parametrize("quality", [None, 75, 95])
def test_the_region_is_what_differs(quality, faces):
    for bare, _, masked, mask in faces:
        if quality:
            bare, masked = (
                cv2.imdecode(cv2.imencode(".jpg", one, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1) for one in (bare, masked)
            )
        assert overlap(difference(bare, masked), mask) > 0.8
        assert not difference(bare, bare).any()


def pair_of(faces, folder, number=0, *, region=False, masked=None):
    bare, landmarks, worn, mask = faces[number]
    files = {"a.png": bare, "a_surgical.png": worn if masked is None else masked, "region.png": mask * np.uint8(255)}
    for name, image in files.items():
        Image.fromarray(image).save(folder / name)
    path, worn, where = (str(folder / name) for name in files)
    return FoundFace(Photo("pairs/a", "pairs", "a", "", path, worn, where if region else "", "surgical"), landmarks)


@pytest.mark.parametrize("region", [True, False])
def test_a_record_of_a_pair(region, faces, config, tmp_path):
    bare, landmarks, worn, mask = faces[0]
    face = pair_of(faces, tmp_path, region=region)
    assert check_fit(face, config.data, 0) == face and from_json(to_json(face)).photo == face.photo
    record = make_record(face, config.data, 0)
    square = FaceSquare.around(landmarks, 64, config.data.zoom)
    np.testing.assert_array_equal(record["masked"], square.cut_out(worn))
    np.testing.assert_array_equal(record["real"], square.cut_out(bare))
    assert overlap(record["mask"][..., 0] > 127, square.cut_out(mask * np.uint8(255)) > 127) > (0.999 if region else 0.8)
    assert record["mask_type"] == "surgical" and f'"{"given" if region else "difference"}"' in record["mask_parameters"]


@pytest.mark.parametrize(
    ("masked", "reason"),
    [
        (lambda bare: bare, "the masked photo shows no mask on the face"),
        (lambda bare: 255 - bare[::-1], "the masked photo is another one"),
        (lambda bare: bare[:-1], "the masked photo is 256 x 255, the photo without a mask 256 x 256"),
    ],
)
def test_what_is_no_pair_is_left_out(masked, reason, faces, config, tmp_path):
    left_out = check_fit(pair_of(faces, tmp_path, masked=masked(faces[0][0])), config.data, 0)
    assert isinstance(left_out, Skipped) and left_out.reason == reason and not left_out.unexpected


def test_a_pair_that_cannot_be_read(faces, config, tmp_path):
    face = pair_of(faces, tmp_path)
    (tmp_path / "a_surgical.png").write_bytes(b"no image")
    assert "not a readable picture" in check_fit(face, config.data, 0).reason


def test_half_a_pair(config, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "in" / "a.png")
    with pytest.raises(UserError, match="none of the photos is usable; pairs/a.png, for one: there is no other of its pair"):
        build_data_set([f"pairs={tmp_path / 'in'}"], config, tmp_path / "data", workers=1)
    assert capsys.readouterr().err == "" and not (tmp_path / "data").exists()


def test_a_data_set_of_pairs(faces, config, tmp_path, monkeypatch):
    landmarks = {number: face[1] for number, face in enumerate(faces)}
    for number, (bare, _, masked, _) in enumerate(faces):
        bare = bare.copy()
        bare[0, 0] = number  # By which the stand-in for dlib knows it.
        for name, image in ((f"{number}.png", bare), (f"{number}_surgical_blue.png", masked)):
            (tmp_path / "in").mkdir(exist_ok=True)
            Image.fromarray(image).save(tmp_path / "in" / name)
    monkeypatch.setattr("maskgan_jax.data.build.landmarks.load_predictor", lambda path: None)
    monkeypatch.setattr("maskgan_jax.data.build.landmarks.largest_face_landmarks", lambda image, _: landmarks[image[0, 0, 0]])
    card = build_data_set([f"pairs={tmp_path / 'in'}"], config, tmp_path / "data", workers=1)
    assert card["records"] == 4 and set(card["splits"]) == {"train", "validation", "test"}
    (record,) = [one for one in load_split(tmp_path / "data", "test")][:1]
    assert record["mask_type"] == "surgical" and record["mask"].any() and (tmp_path / "data" / "contact_sheet.png").exists()
