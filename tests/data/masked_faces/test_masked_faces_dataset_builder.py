import csv
import errno
import fcntl
import filecmp
import functools
import hashlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import types
import weakref
from pathlib import Path

import grain
import numpy as np
import pytest

from maskgan_jax.config import load_config, read_config
from maskgan_jax.data.align import FaceSquare
from maskgan_jax.data.build.build import _swap, build_data_set
from maskgan_jax.data.build.card import record_digest
from maskgan_jax.data.masked_faces import masked_faces_dataset_builder as dataset_builder
from maskgan_jax.data.masked_faces.reader import digest_of, load_split
from maskgan_jax.data.rendered.faces import pose_face, render_face
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
            there = FaceSquare(record["alignment"], 64).to_photo(record["landmarks"])
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


def test_workers_where_the_system_does_not_tell_which_cores_are_ours(config, tmp_path, monkeypatch):
    """As macOS: then all that there are."""

    def stop(*_, workers, **__):
        raise UserError(f"{workers} workers")

    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr("maskgan_jax.data.build.build._find_faces", stop)
    for cores, workers in ((7, 7), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        with pytest.raises(UserError, match=f"^{workers} workers$"):
            build_data_set(["rendered=2"], config, tmp_path)


def test_the_same_bytes_whatever_the_number_of_workers(built, config, tmp_path):
    build_data_set(["rendered=20"], config, tmp_path, workers=3)
    assert tree(tmp_path) == tree(built[0])
    assert filecmp.cmpfiles(built[0], tmp_path, tree(tmp_path), shallow=False) == (tree(tmp_path), [], [])


def test_the_same_digest_whatever_the_number_of_files(built, config, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_builder, "RECORDS_PER_FILE", 3)
    data_dir, card = built
    records = (f"{split}{record_digest(record)}" for split in sorted(card["splits"]) for record in load_split(data_dir, split))
    lines = [(text[:-64].encode(), bytes.fromhex(text[-64:])) for text in records]
    expected = hashlib.sha256(b"".join(split + digest for split, digest in lines)).hexdigest()
    assert digest_of(data_dir) == card["digest"] == expected
    assert build_data_set(["rendered=20"], config, tmp_path / "same", workers=1) == card
    assert digest_of(tmp_path / "same") == expected
    assert len(list((tmp_path / "same").rglob("*.array_record-*"))) > 3
    config = config.copy_and_resolve_references()
    config.data.mask_rotation += 1e-9
    assert build_data_set(["rendered=20"], config, tmp_path / "other", workers=1)["digest"] != expected


def test_photos_of_a_folder(config, tmp_path):
    """One photo with a face, one without, one broken, one missing: each does what it should, with workers too."""
    faces = tmp_path / "faces"
    write_png(faces / "face.png", render_face(0, seed=0).image)
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

    monkeypatch.setattr("maskgan_jax.data.build.make_record.pose_face", pose)
    config = config.copy_and_resolve_references()
    config.data.splits = {"train": {"rendered": 4}, "test": {"rendered": 1.0}}
    card = build_data_set(["rendered=6"], config, tmp_path, workers=1)
    assert card["records"] == 5 and card["splits"]["train"]["records"] == 4
    assert list(card["skipped"].values()) == [1]
    assert "rendered/000002,rendered,the mask cannot be fitted to this face" in (tmp_path / "skipped.csv").read_text()


def test_broken_photos_are_counted_by_their_reason(config, tmp_path):
    write_png(tmp_path / "faces" / "face.png", render_face(0, seed=0).image)
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
    monkeypatch.delattr("maskgan_jax.data.build.build.detect_face")
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


def test_brackets_in_the_name_of_a_folder(config, tmp_path):
    """They are no pattern, by which the data set in it would not be found, or one in another folder."""
    for name in ("run1", "run[2]"):
        build_data_set(["rendered=2"], config, tmp_path / name, workers=1)
    (tmp_path / "run[1]").mkdir()
    (tmp_path / "run[1]" / "config.json").write_text("of a training run")
    with pytest.raises(UserError, match="holds config.json but no data set"):
        build_data_set(["rendered=2"], config, tmp_path / "run[1]", workers=1, overwrite=True)
    with pytest.raises(UserError, match="holds a data set already"):
        build_data_set(["rendered=2"], config, tmp_path / "run[2]", workers=1)
    build_data_set(["rendered=4"], config, tmp_path / "run[2]", workers=1, overwrite=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [("ftp://host/data", "cannot be used; give a folder, or"), (os.fsdecode(b"/tmp/d\xe9"), "is not UTF-8; give another")],
)
def test_a_data_set_cannot_be_there(name, message, config):
    with pytest.raises(UserError, match=message):
        build_data_set(["rendered=2"], config, name, workers=1)


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no names that are not UTF-8")
def test_a_name_that_is_not_utf_8_in_a_reason(config, tmp_path):
    (tmp_path / "in").mkdir()
    for name in (b"x\xe9.jpg", b"x\xe9.png"):
        (tmp_path / "in" / os.fsdecode(name)).touch()
    build_data_set(["rendered=2", f"pairs={tmp_path / 'in'}"], config, tmp_path / "data", workers=1)
    with (tmp_path / "data" / "skipped.csv").open(newline="", encoding="utf-8") as file:
        assert ["pairs/x\\xe9.png", "pairs", "has the name of x\\udce9.jpg"] in csv.reader(file)


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


def test_two_builds_at_once_where_folders_cannot_be_locked(config, tmp_path, monkeypatch):
    """The one that ends first is done, and the other one refused."""

    def flock(*_):
        raise OSError(errno.ENOLCK, "no locks available")

    def contact_sheet(records):
        monkeypatch.undo()
        monkeypatch.setattr(fcntl, "flock", flock)
        assert build_data_set(["rendered=6"], config, tmp_path, workers=1)["records"] == 6
        return np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr("maskgan_jax.data.build.build.contact_sheet", contact_sheet)
    with pytest.raises(UserError, match="holds a data set already"):
        build_data_set(["rendered=8"], config, tmp_path, workers=1)
    assert json.loads((tmp_path / "card.json").read_text())["records"] == 6
    assert not list(tmp_path.glob(".*"))


def test_a_file_named_as_an_unfinished_build_is_left_alone(config, tmp_path):
    (tmp_path / ".unfinished-notes").write_text("")
    build_data_set(["rendered=2"], config, tmp_path, workers=1)
    assert (tmp_path / ".unfinished-notes").exists()


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


@pytest.mark.parametrize("there", [False, True])
def test_a_failure_while_files_are_moved_leaves_all_as_it_was(there, config, built, tmp_path, monkeypatch):
    """After any number of moves: five, and as many again out of the way if there was a data set."""
    rename = Path.rename
    before = shutil.copytree(built[0], tmp_path / "before") if there else tmp_path / "nothing"
    before.mkdir(exist_ok=True)
    for moves in range(10 if there else 5):
        left = moves

        def interrupted(self, target):
            nonlocal left
            left -= 1
            if left == -1:
                raise KeyboardInterrupt
            return rename(self, target)

        data_dir = shutil.copytree(before, tmp_path / str(moves))
        new, replaced = shutil.copytree(built[0], tmp_path / f"{moves}-new"), tmp_path / f"{moves}-replaced"
        (new / "card.json").write_text("new")
        replaced.mkdir()
        monkeypatch.setattr(Path, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _swap(new, data_dir, replaced)
        monkeypatch.undo()
        assert tree(data_dir) == tree(before)
        assert filecmp.cmpfiles(before, data_dir, tree(before), shallow=False) == (tree(before), [], [])
        _swap(new, data_dir, replaced)
        assert (data_dir / "card.json").read_text() == "new" and tree(data_dir) == tree(built[0])


def test_a_folder_in_place_of_a_file_is_not_replaced(built, config, tmp_path):
    data_dir = shutil.copytree(built[0], tmp_path / "data")
    (data_dir / "card.json").unlink()
    (data_dir / "card.json").mkdir()
    before = tree(data_dir)
    with pytest.raises(UserError, match="holds a folder card.json, and it would be lost"):
        build_data_set(["rendered=2"], config, data_dir, workers=1, overwrite=True)
    assert tree(data_dir) == before


def records_to_write(numbers, alive):
    """Records one by one; none but the last two may be kept by whoever writes them."""
    pictures = []
    for number in numbers:
        alive.append(sum(picture() is not None for picture in pictures))
        picture = np.full((64, 64, 3), number, np.uint8)
        pictures.append(weakref.ref(picture))
        texts = dict.fromkeys(["source", "identity", "expression", "mask_type", "mask_parameters"], "x")
        record = {"real": picture, "masked": picture, "mask": picture[..., :1], "id": str(number), **texts}
        yield {**record, "landmarks": np.zeros((68, 2), np.float32), "alignment": np.zeros((4, 2))}
        del picture, record


def test_written_records_are_not_kept(tmp_path):
    alive = []
    splits = {"train": (20, records_to_write(range(20), alive))}
    dataset_builder.prepare(dataset_builder.Builder(size=64, splits=splits, data_dir=tmp_path))
    assert [record["real"][0, 0, 0] for record in load_split(tmp_path, "train")] == list(range(20))
    assert max(alive) <= 2


def test_a_file_of_records_is_written_again_when_a_worker_does_its_work_again(tmp_path):
    """The same bytes, nothing else beside them, and no records kept."""
    builder = dataset_builder.Builder(size=64, splits={}, data_dir=tmp_path)
    serializer = dataset_builder.ExampleSerializer(builder.info.features.get_serialized_info())
    template = builder._get_filename_template(split_name="train").replace(data_dir=tmp_path)
    contents = []
    for _ in range(2):
        alive = []
        made = records_to_write(range(20), alive)
        options = {
            "writer": dataset_builder.ShardWriter(builder.info.features, serializer, builder._example_writer()),
            "templates": {"train": template},
            "ends": {"train": [0, 20]},
            "make": lambda number, made=made: next(made),
        }
        items = [(number, None) for number in reversed(range(20))]
        split, number, length, size, _ = dataset_builder._write_file((("train", 0), items), **options)
        (path,) = tmp_path.iterdir()
        contents.append(path.read_bytes())
        assert (split, number, length, size) == ("train", 0, 20, len(contents[-1]))
        assert max(alive) <= 2
    assert contents[0] == contents[1]


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
    # A shell has what it runs in the background, be it these tests, ignore SIGINT, and that is inherited.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    build = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, preexec_fn=heed)
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
