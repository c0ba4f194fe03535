import csv
import errno
import types

import cv2
import numpy as np
import pytest

from maskgan_jax.data.build import build as building
from maskgan_jax.data.build import make_record as records
from maskgan_jax.data.build.build import build_data_set
from maskgan_jax.data.build.make_record import FoundFace, check_fit, detect_face, try_record
from maskgan_jax.data.build.sources import Photo, Skipped
from maskgan_jax.data.masked_faces.reader import digest_of, load_split
from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.errors import UserError
from maskgan_jax.files import write_png
from maskgan_jax.storage import Unreachable

PHOTO = Photo("rendered/000003", "rendered", "", "", (3, 0))


def fail_on(monkeypatch, stage, number, error):
    """Has a stage of the build raise an error for one of the rendered faces."""
    name = {"pose": "pose_face", "fit": "fit_mask", "draw": "draw_mask"}[stage]
    function = getattr(records, name)
    landmarks = records.pose_face(number, 0).landmarks

    def failing(*arguments):
        first = arguments[0] if stage == "pose" else arguments[stage == "draw"]
        wanted = number if stage == "pose" else records.FaceSquare.around(landmarks, 64).to_aligned(landmarks)
        if np.shape(first) == np.shape(wanted) and np.allclose(first, wanted, atol=1e-3):
            raise error
        return function(*arguments)

    monkeypatch.setattr(records, name, failing)


def skipped_csv(data_dir):
    with (data_dir / "skipped.csv").open(newline="") as file:
        return {row["photo"]: row["reason"] for row in csv.DictReader(file)}


@pytest.fixture
def train_only(config):
    config.data.splits = {"train": {"*": 1.0}}
    return config


@pytest.fixture(scope="module")
def sound(make_config, tmp_path_factory):
    """A data set without a bad input, its folder and its card."""
    config, folder = make_config(), tmp_path_factory.mktemp("sound")
    config.data.splits = {"train": {"*": 1.0}}
    return folder, build_data_set(["rendered=6"], config, folder, workers=1)


@pytest.mark.parametrize("stage", ["pose", "fit", "draw"])
@pytest.mark.parametrize("error", [ZeroDivisionError("division\nby zero"), cv2.error("a mistake"), OSError(errno.EIO, "sick")])
def test_one_bad_input_does_not_end_a_build(stage, error, sound, train_only, tmp_path, monkeypatch, capfd):
    """Whatever it raises, and wherever: it is named, and the others are as they would be without it."""
    sound_dir, sound_card = sound
    capfd.readouterr()
    fail_on(monkeypatch, stage, 3, error)
    card = build_data_set(["rendered=6"], train_only, tmp_path / "data", workers=1)
    assert (sound_card["records"], card["records"], sound_card["unexpected"], card["unexpected"]) == (6, 5, 0, 1)
    ((photo, reason),) = skipped_csv(tmp_path / "data").items()
    assert photo == "rendered/000003" and list(card["skipped"]) == [reason]
    assert reason.startswith(f"unexpected error, {type(error).__name__}: ")
    assert reason.endswith(")") and "(test_make_record.py, line " in reason
    told = [line for line in capfd.readouterr().err.splitlines() if "rendered/" in line]
    assert told == [f"left out rendered/000003: {reason}"]
    expected = [record for record in load_split(sound_dir, "train") if record["id"] != photo]
    for record, other in zip(load_split(tmp_path / "data", "train"), expected, strict=True):
        assert record["id"] == other["id"]
        np.testing.assert_array_equal(record["masked"], other["masked"])
    assert card["digest"] == digest_of(tmp_path / "data") != sound_card["digest"]


def test_photos_that_change_during_a_build_by_several_workers(train_only, tmp_path, monkeypatch, capfd):
    """One is gone and one is damaged when the masks are drawn."""
    photos = tmp_path / "photos"
    for number in range(4):
        write_png(photos / f"{number}.png", render_face(number, seed=0).image)
    split_photos = building.split_photos

    def change(*arguments):
        (photos / "1.png").unlink()
        (photos / "2.png").write_bytes(b"")
        return split_photos(*arguments)

    monkeypatch.setattr(building, "split_photos", change)
    card = build_data_set([f"folder={photos}"], train_only, tmp_path / "data", workers=2)
    assert (card["records"], card["unexpected"]) == (2, 2)
    reasons = skipped_csv(tmp_path / "data")
    assert reasons["folder/1.png"].startswith("cannot read (No such file or directory), unlike before")
    assert reasons["folder/2.png"].startswith("not a readable picture (an empty file), unlike before")
    assert capfd.readouterr().err.count("left out folder/") == 2


def test_the_only_record_of_a_split_fails(config, tmp_path, monkeypatch):
    config.data.splits = {"train": {"*": 1.0}, "test": {"*": 1}}
    card = build_data_set(["rendered=6"], config, tmp_path / "sound", workers=1)
    (number,) = (int(record["id"][-6:]) for record in load_split(tmp_path / "sound", "test"))
    fail_on(monkeypatch, "draw", number, ValueError("odd"))
    card = build_data_set(["rendered=6"], config, tmp_path / "data", workers=1)
    assert (card["records"], card["empty"], card["splits"].keys()) == (4, ["test"], {"train"})
    assert len(load_split(tmp_path / "data", "train")) == 4
    with pytest.raises(UserError, match="has no split 'test', only train"):
        load_split(tmp_path / "data", "test")


def test_what_happens_to_most_photos_is_no_fault_of_theirs(train_only, tmp_path, monkeypatch):
    """As when a network disk disappears: a good data set is not replaced by a small rest."""
    build_data_set(["rendered=6"], train_only, tmp_path, workers=1)
    digest = digest_of(tmp_path)
    pose_face = records.pose_face
    monkeypatch.setattr(records, "pose_face", lambda index, seed: pose_face(index, seed) if index < 2 else 1 / 0)
    with pytest.raises(UserError, match="^4 of 6 photos led to unexpected errors; rendered/000002, for one: "):
        build_data_set(["rendered=6"], train_only, tmp_path, workers=1, overwrite=True)
    assert digest_of(tmp_path) == digest


def test_no_record_can_be_made(train_only, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "draw_mask", lambda *_: 1 / 0)
    message = "^2 of 2 photos led to unexpected errors; rendered/.*, for one: unexpected error, ZeroDivisionError: "
    with pytest.raises(UserError, match=message):
        build_data_set(["rendered=2"], train_only, tmp_path, workers=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [Unreachable("cannot reach gs://b"), MemoryError(), KeyboardInterrupt()])
@pytest.mark.parametrize("stage", ["pose", "fit", "draw"])
def test_what_is_not_the_fault_of_one_photo_ends_a_build(stage, error, train_only, tmp_path, monkeypatch):
    fail_on(monkeypatch, stage, 0, error)
    expected = UserError if isinstance(error, MemoryError) else type(error)
    with pytest.raises(expected):
        build_data_set(["rendered=2"], train_only, tmp_path, workers=1)
    assert not list(tmp_path.iterdir())


def test_a_missing_predictor_ends_a_build(train_only, tmp_path):
    write_png(tmp_path / "photos" / "0.png", render_face(0, seed=0).image)
    train_only.data.shape_predictor = str(tmp_path / "none.dat")
    with pytest.raises(UserError, match="cannot load the shape predictor"):
        build_data_set([f"ffhq={tmp_path / 'photos'}"], train_only, tmp_path / "data", workers=1)


def test_reasons_of_single_stages(config, monkeypatch):
    face = detect_face(PHOTO, config.data)
    assert isinstance(face, FoundFace)
    unfit = FoundFace(face.photo, np.zeros((68, 2), np.float32))
    assert check_fit(unfit, config.data, 0) == Skipped(PHOTO.id, "rendered", check_fit(unfit, config.data, 0).reason)
    assert check_fit(FoundFace(face.photo, np.full((68, 2), np.nan, np.float32)), config.data, 0).reason
    gone = FoundFace(types.SimpleNamespace(id="a/b", source="a", path="/nowhere", read=lambda: 1 / 0), face.landmarks)
    assert try_record(gone, config.data, 0).unexpected
