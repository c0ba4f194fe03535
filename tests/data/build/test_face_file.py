import json

import numpy as np
import pytest

from maskgan_jax.data.build import landmarks as landmark_module
from maskgan_jax.data.build.build import build_data_set
from maskgan_jax.data.build.face_file import kept_faces, read_face_file
from maskgan_jax.data.build.face_lists import landmarks_to_text
from maskgan_jax.data.build.make_record import FoundFace
from maskgan_jax.data.build.sources import Photo, Skipped
from maskgan_jax.data.masked_faces.reader import load_split
from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.errors import UserError
from maskgan_jax.files import write_png

PHOTO = Photo("ffhq/ä.png", "ffhq", "somebody", "", "/photos/ä.png")


@pytest.fixture
def file(tmp_path):
    landmarks = np.random.default_rng(0).normal(size=(68, 2)).astype(np.float32)
    with kept_faces(tmp_path / "faces.jsonl") as keep:
        keep(FoundFace(PHOTO, landmarks, 87))
        keep(Skipped("ffhq/b.png", "ffhq", "no face found"))
        keep(Skipped("ffhq/c.png", "ffhq", "unexpected error, ValueError: of a library", unexpected=True))
    return tmp_path / "faces.jsonl", landmarks


def test_faces_come_back_as_they_were(file):
    path, landmarks = file
    known = read_face_file(path)
    elsewhere = Photo("ffhq/ä.png", "ffhq", "somebody", "", "/elsewhere/ä.png")
    face = known.face_in(elsewhere)
    assert face.photo == elsewhere and face.jpeg_quality == 87
    np.testing.assert_array_equal(face.landmarks, landmarks)
    assert face.landmarks.dtype == np.float32
    assert known.face_in(Photo("ffhq/b.png", "ffhq", "", "", "b")) == Skipped("ffhq/b.png", "ffhq", "no face found")
    assert "not in the file" in known.face_in(Photo("ffhq/c.png", "ffhq", "", "", "c")).reason


def test_without_a_path_nothing_is_kept():
    with kept_faces(None) as keep:
        keep(Skipped("a", "b", "c"))


@pytest.mark.parametrize("text", ["[" * 9999, "", "[]", "{}\n", '{"format": "maskgan faces", "version": 2}\n', "\0\1"])
def test_other_files_are_refused(text, tmp_path):
    (tmp_path / "faces").write_text(text)
    with pytest.raises(UserError, match="is not a file of faces, or is damaged"):
        read_face_file(tmp_path / "faces")


NOT_FINITE = landmarks_to_text(np.full((68, 2), np.nan))


@pytest.mark.parametrize(
    "change",
    [
        *({"landmarks": landmarks} for landmarks in ("AAAA", "no base64!", None, NOT_FINITE)),
        *({"jpeg_quality": quality} for quality in (0, 101, "90", [], 1e400)),
    ],
)
def test_damaged_faces_are_refused(change, file):
    path, _ = file
    lines = path.read_text().splitlines()
    entry = json.loads(lines[1]) | change
    path.write_text("\n".join([lines[0], json.dumps(entry)]))
    with pytest.raises(UserError, match="damaged"):
        read_face_file(path)


def test_missing_file_is_told(tmp_path):
    with pytest.raises(UserError, match="cannot read .*No such file"):
        read_face_file(tmp_path / "faces")


def test_a_build_from_kept_faces_needs_no_dlib_and_gives_the_same_records(make_config, tmp_path, monkeypatch):
    """Those of a build that finds the faces; also with other masks, size and zoom than the build that kept them."""
    for number in range(3):
        write_png(tmp_path / "photos" / f"{number}.png", render_face(number, seed=0).image)
    write_png(tmp_path / "photos" / "grey.png", np.full((80, 80, 3), 128, np.uint8))
    config = make_config()
    config.data.splits = {"train": {"*": 1.0}}
    other = config.copy_and_resolve_references()
    other.data.update(size=96, zoom=1.0, masks={**dict.fromkeys(config.data.masks, 0.0), "n95": 1.0})
    source, faces = f"ffhq={tmp_path / 'photos'}", tmp_path / "faces.jsonl"
    found = {"a": build_data_set([source], config, tmp_path / "a", workers=1, keep_faces=faces)}
    found["other_a"] = build_data_set([source], other, tmp_path / "other_a", workers=1)
    assert found["a"]["records"] >= 2 and found["a"]["skipped"]

    def fail(*_):
        raise AssertionError("dlib was asked")

    monkeypatch.setattr(landmark_module, "load_predictor", fail)
    monkeypatch.setattr(landmark_module, "largest_face_landmarks", fail)
    for name, of_build in (("a", config), ("other_a", other)):
        again = tmp_path / f"{name}_again"
        assert build_data_set([source], of_build, again, workers=1, faces=faces) == found[name]
        for one, same in zip(load_split(tmp_path / name, "train"), load_split(again, "train"), strict=True):
            assert one.keys() == same.keys()
            for key in one:
                np.testing.assert_array_equal(one[key], same[key])
    records = list(load_split(again, "train"))
    assert {record["mask_type"] for record in records} == {"n95"} and records[0]["real"].shape[0] == 96


def test_photos_of_kept_faces_that_cannot_be_read(make_config, tmp_path, capfd):
    """They are elsewhere, and were not read before by this build: they are left out like any others."""
    photos, faces = [tmp_path / "photos" / f"{number}.png" for number in range(3)], tmp_path / "faces.jsonl"
    with kept_faces(faces) as keep:
        for number, path in enumerate(photos):
            face = render_face(2 * number, seed=0)
            write_png(path, face.image)
            keep(FoundFace(Photo(f"ffhq/{path.name}", "ffhq", "", "", str(path)), face.landmarks))
    config = make_config()
    config.data.splits = {"train": {"*": 1.0}}
    arguments = [f"ffhq={tmp_path / 'photos'}"], config
    for path in photos[:2]:
        path.write_bytes(b"")
    card = build_data_set(*arguments, tmp_path / "data", workers=1, faces=faces)
    assert (card["records"], card["unexpected"]) == (1, 0)
    assert card["skipped"] == {"not a readable picture (an empty file)": 2}
    assert "left out" not in capfd.readouterr().err
    photos[2].write_bytes(b"")
    with pytest.raises(UserError, match=r"^none of the photos is usable; ffhq/.\.png, for one: not a readable picture"):
        build_data_set(*arguments, tmp_path / "none", workers=1, faces=faces)


def test_pipelines_take_no_face_files(make_config, tmp_path):
    with pytest.raises(UserError, match="face files are for builds without Beam"):
        build_data_set(["rendered=2"], make_config(), tmp_path / "d", runner="DirectRunner", faces=tmp_path / "f")
