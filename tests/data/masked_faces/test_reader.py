import json
import re
import resource
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from maskgan_jax.data.build.build import build_data_set
from maskgan_jax.data.masked_faces import reader
from maskgan_jax.data.masked_faces.reader import (
    METADATA,
    NAME,
    VERSION,
    DamagedRecord,
    Records,
    config_of,
    digest_of,
    load_split,
    readable,
    zoom_of,
)
from maskgan_jax.data.pipeline import training_batches
from maskgan_jax.errors import UserError
from maskgan_jax.metrics import landmark_accuracy
from maskgan_jax.metrics.evaluation import evaluate
from maskgan_jax.metrics.landmark_accuracy import evaluate_landmarks


def damaged_copy(data_dir, copy, split, *places):
    """Copies a data set, and changes a byte at each place of the only file of a split."""
    shutil.copytree(data_dir, copy, dirs_exist_ok=True)
    (path,) = (copy / "masked_faces").rglob(f"*-{split}.*")
    data = bytearray(path.read_bytes())
    for place in places:
        data[place] ^= 255
    path.write_bytes(data)
    return path.name


def damaged_number(records):
    (number,) = set(range(len(records))) - {number for number, _ in readable(records, range(len(records)))}
    return number


def test_a_damaged_record_is_told_once_and_left_out(data_dir, tmp_path, capfd):
    file = damaged_copy(data_dir, tmp_path, "train", 40_000)
    sound, records = load_split(data_dir, "train"), load_split(tmp_path, "train")
    number = damaged_number(records)
    told = f"record {number} of train in {tmp_path} is damaged"
    for _ in range(2):
        with pytest.raises(DamagedRecord, match=rf"{told} \({file}: .*; build it again with maskgan build --overwrite"):
            records[number]
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"{told} and left out ({file}: ")
    assert records.damaged.keys() == {number}
    assert len(records) == len(sound)
    for other, record in readable(records, range(len(records))):
        assert other != number
        np.testing.assert_array_equal(record["masked"], sound[other]["masked"])


@pytest.mark.parametrize("threads", [0, 2])
def test_training_goes_on(threads, data_dir, tmp_path, config, capfd):
    damaged_copy(data_dir, tmp_path, "train", 40_000)
    config.input.flip, config.input.threads = False, threads
    records = load_split(tmp_path, "train")
    batches = training_batches(records, config)
    seen = np.concatenate([next(batches)["landmarks"] for _ in range(8)])
    assert len(capfd.readouterr().err.splitlines()) == 1
    lost = damaged_number(records)
    sound = load_split(data_dir, "train")
    times = [int((seen == sound[i]["landmarks"]).all((1, 2)).sum()) for i in range(16)]
    assert times == [{lost: 0, (lost + 1) % 16: 4}.get(i, 2) for i in range(16)]


def test_what_is_damaged_is_not_scored(data_dir, tmp_path, landmark_file, capfd):
    damaged_copy(data_dir, tmp_path, "test", 20_000)
    sound, records = load_split(data_dir, "test"), load_split(tmp_path, "test")
    expected = {sound[i]["id"] for i in range(4)} - {sound[damaged_number(records)]["id"]}
    scores = evaluate("input", tmp_path)
    assert scores["n"] == 3 and {image["name"] for image in scores["images"]} == expected
    assert evaluate_landmarks("ours", tmp_path, workdir=landmark_file)["n"] == 3


def test_dlib_is_not_asked_about_what_is_damaged(data_dir, tmp_path, monkeypatch, capfd):
    """The record is not among the faces that the share of found ones is of."""
    damaged_copy(data_dir, tmp_path, "test", 20_000)
    lost = damaged_number(load_split(tmp_path, "test"))
    sound = [record for number, record in enumerate(load_split(data_dir, "test")) if number != lost]
    points = {record[key].tobytes(): record["landmarks"] for record in sound for key in ("real", "masked")}
    monkeypatch.setattr(landmark_accuracy, "find_box", lambda picture: (0, 0, 64, 64))
    monkeypatch.setattr(landmark_accuracy, "landmarks_in_box", lambda picture, box: points[picture.tobytes()])
    result = evaluate_landmarks("dlib", tmp_path)
    assert (result["n"], result["n_found"]) == (3, 3)
    assert result["unmasked"] == result["masked"] == {"error": 0, "contour": 0, "detected": 1}
    assert f"record {lost} of test in {tmp_path} is damaged and left out" in capfd.readouterr().err


@pytest.mark.parametrize("threads", [0, 1])
def test_much_damage_ends_it(threads, data_dir, tmp_path, config):
    damaged_copy(data_dir, tmp_path, "train", 20_000, 40_000, 60_000, 80_000)
    config.input.threads = threads
    with pytest.raises(UserError, match=r"[234] of 16 records of train in .* are damaged, .*; build it again") as caught:
        batches = training_batches(load_split(tmp_path, "train"), config)
        for _ in range(8):
            next(batches)
    assert not isinstance(caught.value, DamagedRecord) and "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["halve", "empty", "remove", "flip"])
@pytest.mark.parametrize("pattern", ["*-train.*", "features.json", "dataset_info.json"])
def test_a_damaged_file(pattern, damage, data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path, dirs_exist_ok=True)
    (path,) = (tmp_path / "masked_faces").rglob(pattern)
    data = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    elif damage == "flip":
        # Of a file of records: in its last block, which says where they are.
        data[len(data) // 3 if path.suffix == ".json" else -(1 << 16) + 50] ^= 255
        path.write_bytes(data)
    else:
        path.write_bytes(data[: len(data) // 2 if damage == "halve" else 0])
    with pytest.raises(UserError, match=f"data set in {tmp_path} is damaged .*; build it again with maskgan build") as caught:
        load_split(tmp_path, "train")
    assert "\n" not in str(caught.value)
    assert path.suffix == ".json" or path.name in str(caught.value)


@pytest.mark.parametrize(("old", "new"), [("-{SPLIT}.", "-{SPLIT."), ("{FILEFORMAT}", "{MAT}"), ('"16"', '"8", "8", "0"')])
def test_names_and_numbers_of_files_that_cannot_be(old, new, data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path, dirs_exist_ok=True)
    (path,) = (tmp_path / "masked_faces").rglob("dataset_info.json")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(UserError, match=f"data set in {tmp_path} is damaged .*; build it again with maskgan build"):
        load_split(tmp_path, "train")


def test_one_of_several_files_is_missing(config, tmp_path, monkeypatch):
    monkeypatch.setattr("maskgan_jax.data.masked_faces.masked_faces_dataset_builder.RECORDS_PER_FILE", 3)
    config.data.splits = {"train": {"*": 1.0}}
    build_data_set(["rendered=8"], config, tmp_path, workers=1)
    _, second, _ = sorted((tmp_path / "masked_faces").rglob("*-train.*"))
    second.unlink()
    with pytest.raises(UserError, match=rf"is damaged \({second.name}: .*No such file"):
        load_split(tmp_path, "train")


def test_a_data_set_of_another_version(data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path, dirs_exist_ok=True)
    (tmp_path / "masked_faces" / VERSION).rename(tmp_path / "masked_faces" / "1.0.0")
    with pytest.raises(UserError, match=rf"has format 1.0.0, and {VERSION} is needed; build it again"):
        load_split(tmp_path, "train")


def test_too_many_open_files_are_no_damage(data_dir, capfd):
    records = load_split(data_dir, "train")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        # The checks open files themselves.
        with pytest.raises(UserError) as of_record:
            records[3]
        with pytest.raises(UserError) as of_split:
            load_split(data_dir, "train")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert str(of_record.value).startswith(f"cannot read train in {data_dir} (RuntimeError: open() failed: Too many open files")
    assert not isinstance(of_record.value, DamagedRecord)
    assert str(of_split.value).startswith(f"cannot read {data_dir}/masked_faces") and "Too many open" in str(of_split.value)
    assert not records.damaged and not capfd.readouterr().err


@pytest.mark.parametrize(
    ("message", "is_damage"),
    [
        ("Permanent error, with a last message of Received HTTP status code: 503; reading gs://bucket/train-0", False),
        ("Retry policy exhausted, with a last message of Could not connect to server; reading gs://bucket/train-0", False),
        ("Permanent error, with a last message of Received HTTP status code: 404; reading gs://bucket/train-0", True),
        ("Unparsable record", True),
    ],
)
def test_a_bucket_that_does_not_answer_is_no_damage(message, is_damage):
    class Stored(list):
        def __getitem__(self, index):
            raise RuntimeError(message)

    records = Records(Stored([1, 2, 3]), "gs://bucket", "train", {"train-0": 3})
    with pytest.raises(UserError, match="is damaged" if is_damage else "cannot read train in gs://bucket") as error:
        records[1]
    assert isinstance(error.value, DamagedRecord) == is_damage


@pytest.mark.parametrize(("fails", "message"), [("is_dir", "cannot reach gs://bucket/data"), ("read_text", "cannot read ")])
def test_a_bucket_that_fails_is_told(monkeypatch, fails, message):
    """An error of the client, which is no OSError."""
    retry = pytest.importorskip("gcsfs.retry", reason="comes with gcsfs: pip install 'maskgan_jax[gcs]'")

    def fail(*_, **__):
        raise retry.HttpError({"code": 503, "message": "try later"})

    class Folder:
        name = "data"

        def __truediv__(self, name):
            return self

        def is_dir(self):
            return True

    monkeypatch.setattr(Folder, fails, fail, raising=False)
    monkeypatch.setattr(reader, "readable_folder", lambda data_dir: Folder())
    with pytest.raises(UserError, match=f"{message}.*HttpError: try later, 503"):
        load_split("gs://bucket/data", "train")


def test_landmarks_that_are_not_finite_are_damage(capfd):
    stored = [{"landmarks": np.full((68, 2), value, np.float32), "id": b"face"} for value in (1, np.nan, 3)]
    records = Records(stored, "DATA", "train", {"train-0": 3})
    assert [number for number, _ in readable(records, range(3))] == [0, 2]
    assert (
        "record 1 of train in DATA is damaged and left out (train-0: ValueError: its landmarks are not"
        in capfd.readouterr().err
    )


def test_want_of_memory_is_no_damage(data_dir, monkeypatch):
    records = load_split(data_dir, "train")

    class Stored:
        def __len__(self):
            return 16

        def __getitem__(self, index):
            raise MemoryError

    monkeypatch.setattr(records, "_stored", Stored())
    with pytest.raises(MemoryError):
        records[3]
    assert not records.damaged


def test_numbers_of_records(data_dir):
    records = load_split(data_dir, "test")
    assert records[-1]["id"] == records[np.int64(3)]["id"]
    with pytest.raises(IndexError):
        records[4]
    with pytest.raises(TypeError):
        records[0:2]
    assert not records.damaged


def test_a_data_set_in_a_bucket(data_dir, data_in_bucket):
    for there, here in zip(load_split(data_in_bucket, "train"), load_split(data_dir, "train"), strict=True):
        assert there["id"] == here["id"] and np.array_equal(there["masked"], here["masked"])
    assert digest_of(str(data_in_bucket)) == digest_of(data_dir)
    with pytest.raises(UserError, match="there is no data set in .*/none; make one with maskgan build"):
        load_split(data_in_bucket.parent / "none", "train")


def test_digest_travels_with_the_records(data_dir, tmp_path):
    """It is in TFDS's metadata, not only in the card, which may be left behind."""
    shutil.copytree(data_dir / NAME, tmp_path / NAME)
    digest = digest_of(tmp_path)
    assert digest == digest_of(data_dir) == json.loads((data_dir / "card.json").read_text())["digest"]
    assert tfds.builder_from_directory(tmp_path / NAME / VERSION).info.metadata["digest"] == digest
    assert re.fullmatch("[0-9a-f]{64}", digest)


def test_digest_of_an_older_data_set(data_dir, config, tmp_path):
    """Without a stored one it still tells a rebuilt data set, whose files may have the same sizes, from the old one."""
    shutil.copytree(data_dir, tmp_path / "old")
    config.seed = 1
    build_data_set(["rendered=24"], config, tmp_path / "new", workers=1)
    for name in ("old", "new"):
        (tmp_path / name / NAME / VERSION / METADATA).unlink()
    shutil.copytree(tmp_path / "old", tmp_path / "copy")
    assert digest_of(tmp_path / "old") == digest_of(tmp_path / "copy") != digest_of(tmp_path / "new")
    assert digest_of(tmp_path / "old") != digest_of(data_dir)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"digest'])
def test_a_damaged_digest(text, data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path, dirs_exist_ok=True)
    (tmp_path / NAME / VERSION / METADATA).write_text(text)
    with pytest.raises(UserError, match=rf"data set in {tmp_path} is damaged \({METADATA}: .*; build it again"):
        digest_of(tmp_path)


def test_digest_of_nothing(tmp_path):
    with pytest.raises(UserError, match="there is no data set in"):
        digest_of(tmp_path)


def test_config(data_dir, config, tmp_path):
    assert config_of(data_dir).to_dict() == config.to_dict()
    assert zoom_of(data_dir) == config.data.zoom
    assert zoom_of(tmp_path) == 1.0
    with pytest.raises(UserError, match=f"{tmp_path} has no config.json, .*; build it again with maskgan build"):
        config_of(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UserError, match="is not a saved config"):
        config_of(tmp_path)


def change_features(folder, change):
    (path,) = folder.rglob("features.json")
    features = json.loads(path.read_text())
    change(features["featuresDict"]["features"])
    path.write_text(json.dumps(features))


@pytest.mark.parametrize("name", ["source", "real", "more"])
def test_no_class_that_a_data_set_names_is_imported(name, data_dir, tmp_path, monkeypatch):
    """TFDS would import its module, and so run it."""
    shutil.copytree(data_dir, tmp_path / "data")
    (tmp_path / "harmful.py").write_text(f"open({str(tmp_path / 'proof')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    change_features(tmp_path / "data", lambda each: each.update({name: {"pythonClassName": "harmful.Text", "text": {}}}))
    with pytest.raises(UserError, match=f"is damaged .features.json: ValueError: {name} is no"):
        load_split(tmp_path / "data", "train")
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize("shape", [["64", "32", "3"], ["1000000", "1000000", "3"], ["0", "0", "3"], ["64", "64"]])
def test_images_of_another_shape(shape, data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path, dirs_exist_ok=True)
    for name in ("real", "masked"):
        change_features(tmp_path, lambda each, name=name: each[name]["tensor"]["shape"].update(dimensions=shape))
    with pytest.raises(UserError, match="features.json: ValueError: "):
        load_split(tmp_path, "train")


def test_features_that_are_nested_without_end(data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path, dirs_exist_ok=True)
    (path,) = tmp_path.rglob("features.json")
    path.write_text("[" * 9999)
    with pytest.raises(UserError, match="features.json: RecursionError"):
        load_split(tmp_path, "train")
