import csv
import json
import time

import cv2
import numpy as np
import pytest
from safetensors import safe_open

from maskgan_jax.data.grid import HEADING
from maskgan_jax.data.masked_faces.reader import load_split
from maskgan_jax.errors import UserError
from maskgan_jax.files import find_images, read_image
from maskgan_jax.metrics import evaluation
from maskgan_jax.metrics.baselines import telea
from maskgan_jax.metrics.evaluation import evaluate, write_examples
from maskgan_jax.metrics.face_quality import FACE_METRICS
from maskgan_jax.metrics.image_quality import METRICS
from maskgan_jax.metrics.scoring import score_images
from maskgan_jax.models.generators import create_generator
from maskgan_jax.networks.face_network import FaceNetwork
from maskgan_jax.networks.safetensors import save_safetensors

MEANS = ("mse_masked", "psnr", "psnr_masked", "ssim", "st_lpips")


@pytest.fixture(scope="module")
def records(data_dir):
    split = load_split(data_dir, "test")
    return [split[i] for i in range(len(split))]


@pytest.fixture(scope="module")
def ours(data_dir, generator_file):
    return evaluate("ours", data_dir, workdir=generator_file)


def scored(records, predictions):
    return score_images(
        (record["id"], prediction, record["real"], record["mask"])
        for record, prediction in zip(records, predictions, strict=True)
    )


def assert_scores(result, expected):
    assert result["n"] == expected["n"] and {image["name"] for image in result["images"]} == {
        image["name"] for image in expected["images"]
    }
    for name in MEANS:
        assert result[name] == pytest.approx(expected[name], rel=1e-4)


@pytest.mark.parametrize("method", ["input", "telea", "navier_stokes"])
def test_baselines(method, data_dir, records):
    result = evaluate(method, data_dir)
    fill = {
        "input": lambda r: r["masked"],
        "telea": lambda r: telea(r["masked"], r["mask"]),
        "navier_stokes": lambda r: cv2.inpaint(r["masked"], (r["mask"][..., 0] > 127).astype(np.uint8), 3, cv2.INPAINT_NS),
    }[method]
    assert_scores(result, scored(records, map(fill, records)))
    assert (result["method"], result["split"]) == (method, "test")
    assert "put_back" not in result and "parameters" not in result


def test_ours_is_scored_raw_and_with_the_known_pixels_put_back(ours, records, generator_file):
    raw = FaceNetwork(generator_file, "unmask")(np.stack([record["masked"] for record in records]))
    assert_scores(ours, scored(records, raw))
    composite = [np.where(r["mask"] > 127, one, r["masked"]) for r, one in zip(records, raw, strict=True)]
    assert_scores(ours["put_back"], scored(records, composite))
    assert ours["put_back"]["psnr"] > ours["psnr"]
    assert ours["put_back"]["mse_masked"] == pytest.approx(ours["mse_masked"])
    with safe_open(generator_file, "numpy") as stored:
        names = [name for name in stored.keys() if name.startswith("params")]
        assert ours["parameters"] == sum(stored.get_tensor(name).size for name in names) > 0
    assert json.loads(json.dumps(ours, allow_nan=False)) == ours


def test_what_is_said_of_an_image_has_no_name_of_a_score():
    assert not evaluation.ORIGIN.keys() & {*METRICS, *FACE_METRICS}


def test_means_by_source_and_mask_type(ours, records):
    assert set(ours["by_source"]) == {"rendered"}
    assert ours["by_source"]["rendered"] == {"n": 4, **{name: pytest.approx(ours[name]) for name in MEANS}}
    for image, record in zip(ours["images"], records, strict=True):
        assert [image[key] for key in ("person", "acted")] == [record[key] for key in ("identity", "expression")]
    kinds = {record["id"]: record["mask_type"] for record in records}
    assert set(ours["by_mask_type"]) == set(kinds.values())
    for kind, means in ours["by_mask_type"].items():
        images = [image for image in ours["images"] if kinds[image["name"]] == kind]
        assert means["n"] == len(images)
        assert means["ssim"] == pytest.approx(np.mean([image["ssim"] for image in images]))


class Bright:
    """What makes every picture brighter, and counts how often it is asked to."""

    size, batch_size, zoom, parameters, calls = 64, 3, 1.0, 7, 0

    def __init__(self, weights, task, batch_size):
        pass

    def __call__(self, masked, masks):
        type(self).calls += 1
        time.sleep(0.01)
        return np.clip(masked.astype(int) + 20, 0, 255).astype(np.uint8)


def fake_scores(items, **_):
    for name, prediction, real, *_ in items:
        features = prediction.mean((0, 1)), real.mean((0, 1))
        yield {"name": name, "psnr": float(np.abs(prediction.astype(int) - real).mean()), "features": features}


def test_pictures_for_other_methods(data_dir, records, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "FaceNetwork", Bright)
    monkeypatch.setattr(evaluation, "score_each", fake_scores)
    result = evaluate("ours", data_dir, workdir="run", pictures=tmp_path)
    # Four faces, three at once: once over the split for both outputs.
    assert Bright.calls - (evaluation.TIMED + 1) == 2
    # Each call takes at least so long.
    assert result["parameters"] == 7 and 0.01 / 3 <= result["seconds_per_image"] < 0.1
    assert result["psnr"] > result["put_back"]["psnr"]
    evaluate("telea", data_dir, pictures=tmp_path)
    evaluate("input", data_dir, pictures=tmp_path)
    names = [path.name for path in find_images(tmp_path / "real")]
    with open(tmp_path / "real" / "faces.csv", newline="") as file:
        faces = list(csv.DictReader(file))
    assert [face["file"] for face in faces] == names
    assert [face["expression"] for face in faces] == [record["expression"] for record in records]
    for folder in tmp_path.iterdir():
        assert [path.name for path in find_images(folder)] == names
    bright = [np.clip(record["masked"].astype(int) + 20, 0, 255) for record in records]
    expected = {name: [record[name] for record in records] for name in ("real", "masked")} | {
        "mask": [np.repeat(record["mask"], 3, axis=-1) for record in records],
        "ours": bright,
        "put_back": [np.where(r["mask"] > 127, one, r["masked"]) for r, one in zip(records, bright, strict=True)],
        "telea": [telea(record["masked"], record["mask"]) for record in records],
    }
    assert {folder.name for folder in tmp_path.iterdir()} == set(expected)
    for folder, pictures in expected.items():
        for name, picture in zip(names, pictures, strict=True):
            np.testing.assert_array_equal(read_image(tmp_path / folder / name), picture)


@pytest.mark.parametrize(
    ("identifier", "name"), [("a/b c.JPG", "00007_a_b_c_JPG"), ("../\0é" + "x" * 300, "00007_" + "x" * 100)]
)
def test_names_of_pictures_are_safe(tmp_path, identifier, name):
    picture = np.zeros((4, 4, 3), np.uint8)
    record = {"id": identifier, "real": picture, "masked": picture, "mask": picture}
    evaluation._write_images(tmp_path, 7, record, {})
    assert (tmp_path / "real" / f"{name}.png").exists()


def test_examples(data_dir, generator_file, records, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "SHOWN_SIDE", 64)  # As they are, not enlarged.
    write_examples(tmp_path / "examples.png", data_dir, generator_file, count=3)
    sheet = read_image(tmp_path / "examples.png")
    assert sheet.shape[0] == HEADING + 64
    row = np.split(sheet[HEADING:, : 5 * 64], 5, axis=1)
    np.testing.assert_array_equal(row[0], records[0]["masked"])
    np.testing.assert_array_equal(row[1], telea(records[0]["masked"], records[0]["mask"]))
    np.testing.assert_array_equal(row[3], np.where(records[0]["mask"] > 127, row[2], row[0]))
    np.testing.assert_array_equal(row[4], records[0]["real"])


def test_no_example_can_be_read(data_dir, generator_file, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "readable", lambda records, numbers: iter(()))
    with pytest.raises(UserError, match="that were to be shown are damaged; build the data set again"):
        write_examples(tmp_path / "examples.png", data_dir, generator_file)
    assert not list(tmp_path.iterdir())


def test_wrong_requests(data_dir, tmp_path, landmark_file):
    with pytest.raises(UserError, match="there is no method 'magic'; choose one of ours, input, telea, navier_stokes"):
        evaluate("magic", data_dir)
    with pytest.raises(UserError, match="needs a workdir"):
        evaluate("ours", data_dir)
    with pytest.raises(UserError, match="trained for 'landmarks'"):
        evaluate("ours", data_dir, workdir=landmark_file)
    with pytest.raises(UserError, match="has no split 'holiday'"):
        evaluate("input", data_dir, split="holiday")
    with pytest.raises(UserError, match="there is no data set in"):
        evaluate("input", tmp_path)


def test_network_of_another_size(data_dir, tmp_path, draw_variables, config):
    config.data.size = 128
    variables = draw_variables(create_generator(config), np.zeros((1, 128, 128, 3), np.float32))
    save_safetensors(tmp_path / "network.safetensors", variables, config)
    with pytest.raises(UserError, match="takes faces of 128 px, not 64 x 64"):
        evaluate("ours", data_dir, workdir=tmp_path / "network.safetensors")


@pytest.mark.parametrize("name", ["../../outside", "/etc/outside", "a\\..\\b", "x" * 999, "\0"])
def test_images_of_records_stay_in_their_folder(name, records, tmp_path):
    """A data set of somebody else has any ids."""
    file = evaluation._write_images(tmp_path / "images", 0, {**records[0], "id": name}, {"telea": records[0]["real"]})
    written = [path.relative_to(tmp_path / "images").as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(written) == [f"{kind}/{file}" for kind in ("mask", "masked", "real", "telea")]
