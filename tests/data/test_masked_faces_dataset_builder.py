import csv
import fcntl
import filecmp
import json
import os
import pickle
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import cv2
import grain
import numpy as np
import pytest

from maskgan_jax.config import load_config, read_config
from maskgan_jax.data.align import to_photo
from maskgan_jax.data.build import build_data_set
from maskgan_jax.data.masked_faces import load_split
from maskgan_jax.data.records import mapped
from maskgan_jax.data.rendered_faces import pose_face, render_face
from maskgan_jax.errors import UserError
from maskgan_jax.files import write_png


@pytest.fixture(scope="module")
def config():
    config = load_config("default")
    config.data.size = 64
    config.data.splits.train["*"], config.data.splits.validation["*"], config.data.splits.test["*"] = 0.5, 0.2, 0.3
    return config


@pytest.fixture(scope="module")
def built(config, tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("built")
    return data_dir, build_data_set(["rendered=20"], config, data_dir, workers=1)


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_records(built, config):
    data_dir, card = built
    homes = {}
    for split in card["splits"]:
        records = load_split(data_dir, split)
        assert len(records) == card["splits"][split]["records"]
        for record in records:
            assert homes.setdefault(record["identity"], split) == split
            assert {name: (value.shape, value.dtype) for name, value in record.items() if not isinstance(value, str)} == {
                "real": ((64, 64, 3), np.uint8),
                "masked": ((64, 64, 3), np.uint8),
                "mask": ((64, 64, 1), np.uint8),
                "landmarks": ((68, 2), np.float32),
                "alignment": ((4, 2), np.float64),
            }
            assert set(np.unique(record["mask"])) == {0, 255}
            visible = record["mask"][..., 0] == 0
            np.testing.assert_array_equal(record["real"][visible], record["masked"][visible])
            assert record["source"] == "rendered"
            assert record["mask_type"] in config.data.masks
            face = render_face(int(record["id"].removeprefix("rendered/")), seed=0)
            assert (record["identity"], record["expression"]) == (face.identity, face.expression)
            there = to_photo(record["landmarks"], record["alignment"], 64)
            np.testing.assert_allclose(there, face.landmarks, atol=1e-3)
    assert sum(len(load_split(data_dir, split)) for split in card["splits"]) == 20


def test_what_lies_beside_the_records(built, config):
    data_dir, card = built
    assert {path.name for path in data_dir.iterdir()} == {
        "masked_faces",
        "card.json",
        "config.json",
        "contact_sheet.png",
        "skipped.csv",
    }
    assert json.loads((data_dir / "card.json").read_text()) == card
    assert card["records"] == 20
    assert read_config(data_dir / "config.json").data.size == 64


def test_a_split_can_be_sent_to_other_processes_and_through_grain(built):
    records = load_split(built[0], "train")
    again = pickle.loads(pickle.dumps(records))
    np.testing.assert_array_equal(again[1]["masked"], records[1]["masked"])
    ids = [record["id"] for record in grain.MapDataset.source(records).shuffle(seed=0)]
    assert sorted(ids) == sorted(record["id"] for record in records)


def test_the_same_bytes_whatever_the_number_of_workers(built, config, tmp_path):
    build_data_set(["rendered=20"], config, tmp_path, workers=3)
    assert tree(tmp_path) == tree(built[0])
    assert filecmp.cmpfiles(built[0], tmp_path, tree(tmp_path), shallow=False) == (tree(tmp_path), [], [])


def test_photos_of_a_folder(config, tmp_path):
    """One photo with a face, one without, one broken, one missing: each does what it should, with workers too."""
    faces = tmp_path / "faces"
    write_png(faces / "face.png", render_face(0, seed=0).picture)
    write_png(faces / "wall.png", np.full((200, 200, 3), 120, np.uint8))
    (faces / "broken.jpg").write_bytes(b"\xff\xd8 not a jpeg")
    (faces / "faces.csv").write_text("file,identity\nface.png,ann\nwall.png,bob\nbroken.jpg,cid\ngone.jpg,dan\n")
    config = config.copy_and_resolve_references()
    config.data.splits.train["*"], config.data.splits.validation["*"], config.data.splits.test["*"] = 1.0, 0.0, 0.0
    card = build_data_set([f"folder={faces}"], config, tmp_path / "data", workers=2)
    assert card["splits"].keys() == {"train"}
    (record,) = load_split(tmp_path / "data", "train")
    assert (record["id"], record["identity"], record["expression"]) == ("folder/face.png", "ann", "")
    with (tmp_path / "data" / "skipped.csv").open(newline="") as file:
        reasons = {row["photo"]: row["reason"] for row in csv.DictReader(file)}
    assert reasons.keys() == {"folder/wall.png", "folder/broken.jpg", "folder/gone.jpg"}
    assert reasons["folder/wall.png"] == "no face found"
    assert "not a readable picture" in reasons["folder/broken.jpg"]
    assert reasons["folder/gone.jpg"] == "the file is missing"
    with pytest.raises(UserError, match="no split 'test', only train"):
        load_split(tmp_path / "data", "test")


def test_what_is_in_no_split_is_listed(config, tmp_path):
    config = config.copy_and_resolve_references()
    config.data.splits.train = {"*": 0.0}
    card = build_data_set(["rendered=20"], config, tmp_path, workers=1)
    assert (card["skipped"], card["unused"]) == ({}, 20 - card["records"])
    assert (tmp_path / "skipped.csv").read_text().count("not in any split") == card["unused"] > 0


def test_an_odd_face_is_skipped(config, tmp_path, monkeypatch):
    """No mask can be fitted to landmarks like these, although each point is where it should be relative to its neighbours."""

    def odd(landmarks: np.ndarray) -> np.ndarray:
        top = landmarks[27].copy()
        landmarks = landmarks.copy()
        landmarks[:, 0] = np.where(landmarks[:, 0] > top[0], top[0] + 0.02 * (landmarks[:, 0] - top[0]), landmarks[:, 0])
        landmarks[:17, 1] = top[1] + 2.5 * (landmarks[:17, 1] - top[1])
        return landmarks

    def pose(index: int, seed: int):
        face = pose_face(index, seed)
        landmarks = odd(face.landmarks) if index == 2 else face.landmarks
        return types.SimpleNamespace(identity=face.identity, expression=face.expression, landmarks=landmarks)

    monkeypatch.setattr("maskgan_jax.data.records.pose_face", pose)
    config = config.copy_and_resolve_references()
    config.data.splits = {"train": {"rendered": 4}, "test": {"rendered": 1.0}}
    card = build_data_set(["rendered=6"], config, tmp_path, workers=1)
    assert card["records"] == 5 and card["splits"]["train"]["records"] == 4
    assert list(card["skipped"].values()) == [1]
    assert "rendered/000002,rendered,the mask cannot be fitted to this face" in (tmp_path / "skipped.csv").read_text()


def test_broken_photos_are_counted_by_their_reason(config, tmp_path):
    write_png(tmp_path / "faces" / "face.png", render_face(0, seed=0).picture)
    for number in range(3):
        (tmp_path / "faces" / f"{number}.jpg").write_bytes(b"")
    config = config.copy_and_resolve_references()
    config.data.splits = {"train": {"*": 1.0}}
    card = build_data_set([f"ffhq={tmp_path / 'faces'}"], config, tmp_path / "data", workers=1)
    assert list(card["skipped"].values()) == [3]


@pytest.mark.parametrize(
    ("section", "setting", "message"),
    [
        ("masks", {"balaclava": 1.0}, "data.masks: "),
        ("masks", {"template": 1.0}, "data.mask_templates"),
        ("splits", {"train": {"ffhq": 0.5}}, "data.splits.train.ffhq: "),
    ],
)
def test_wrong_settings_are_told_before_any_photo_is_read(section, setting, message, config, tmp_path, monkeypatch):
    monkeypatch.delattr("maskgan_jax.data.build.find_face")
    config = config.copy_and_resolve_references()
    config.data[section] = setting
    with pytest.raises(UserError, match=message):
        build_data_set(["rendered=2"], config, tmp_path, workers=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["config.json", "card.json", "skipped.csv", "contact_sheet.png", "masked_faces/mine.png"])
def test_files_of_something_else_are_left_alone(name, overwrite, config, tmp_path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("of a training run")
    with pytest.raises(UserError, match="but no data set, and it would be lost; give another --data_dir"):
        build_data_set(["rendered=2"], config, tmp_path, workers=1, overwrite=overwrite)
    assert (tmp_path / name).read_text() == "of a training run"


def test_two_builds_at_once(config, tmp_path):
    left = tmp_path / ".unfinished-other"
    left.mkdir()
    other = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(UserError, match="another maskgan build is writing"):
        build_data_set(["rendered=2"], config, tmp_path, workers=1)
    assert left.exists()
    os.close(other)
    build_data_set(["rendered=2"], config, tmp_path, workers=1)
    assert not left.exists()


def test_no_data_set(tmp_path):
    with pytest.raises(UserError, match="make one with maskgan build --data_dir="):
        load_split(tmp_path, "train")


def test_a_data_set_is_replaced_only_when_asked(config, tmp_path):
    build_data_set(["rendered=6"], config, tmp_path, workers=1)
    with pytest.raises(UserError, match="--overwrite"):
        build_data_set(["rendered=8"], config, tmp_path, workers=1)
    assert build_data_set(["rendered=8"], config, tmp_path, workers=1, overwrite=True)["records"] == 8
    assert not list(tmp_path.glob(".*"))


def test_a_failed_replacement_leaves_the_old_data_set(config, tmp_path):
    build_data_set(["rendered=6"], config, tmp_path, workers=1)
    before = tree(tmp_path)
    config = config.copy_and_resolve_references()
    config.data.masks = {"template": 1.0}
    config.data.mask_templates = str(tmp_path / "nowhere")
    with pytest.raises(UserError):
        build_data_set(["rendered=8"], config, tmp_path, workers=2, overwrite=True)
    assert tree(tmp_path) == before


def test_nothing_usable(config, tmp_path):
    write_png(tmp_path / "faces" / "wall.png", np.full((200, 200, 3), 120, np.uint8))
    with pytest.raises(UserError, match="none of the photos is usable; ffhq/wall.png, for one: no face found"):
        build_data_set([f"ffhq={tmp_path / 'faces'}"], config, tmp_path / "data", workers=1)
    assert tree(tmp_path / "data") == []


def test_data_dir_is_a_file(config, tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        build_data_set(["rendered=2"], config, tmp_path / "data", workers=1)


def test_full_disk(config, tmp_path, monkeypatch):
    def write(*_):
        raise RuntimeError("write() failed: No space left on device; writing x; at byte 3")

    monkeypatch.setattr("tensorflow_datasets.core.writer.ExampleWriter.write", write)
    with pytest.raises(UserError, match="No space left on device"):
        build_data_set(["rendered=2"], config, tmp_path, workers=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_interrupted(stop, config, tmp_path):
    """Nothing looks finished, no process is left over, and the next build clears away what is there."""
    command = [sys.executable, "-m", "maskgan_jax", "build", "--source=rendered=3000", f"--data_dir={tmp_path}", "--workers=2"]
    build = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not list(tmp_path.glob(".unfinished-*")) and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(1)
    build.send_signal(stop)
    # The pipe ends only when the worker processes, which share it, have ended as well.
    message = build.communicate(timeout=60)[1].decode()
    assert build.returncode == (130 if stop == signal.SIGINT else -signal.SIGKILL)
    if stop == signal.SIGINT:
        assert message.strip().splitlines()[-1] == "maskgan build: interrupted"
        assert list(tmp_path.iterdir()) == []
    else:
        assert [path.name[:12] for path in tmp_path.iterdir()] == [".unfinished-"]
    with pytest.raises(UserError, match="there is no data set"):
        load_split(tmp_path, "train")
    build_data_set(["rendered=6"], config, tmp_path, workers=1)
    assert not list(tmp_path.glob(".*"))


def test_mapped_keeps_the_order_and_passes_errors_on():
    assert list(mapped(abs, range(-50, 0), workers=3)) == list(range(50, 0, -1))
    with pytest.raises(TypeError):
        list(mapped(abs, [1, "x"], workers=2))


def test_work_in_the_calling_process_leaves_its_threads_alone():
    threads = cv2.getNumThreads()
    assert list(mapped(lambda _: cv2.getNumThreads(), [0], workers=1)) == [1]
    assert cv2.getNumThreads() == threads
