"""The recipes of docs/extending.md, each executed where it says and used on a small data set."""

import importlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from maskgan_jax.__main__ import main
from maskgan_jax.config import save_config
from maskgan_jax.data.build import sources
from maskgan_jax.data.build.build import build_data_set
from maskgan_jax.data.masked_faces.reader import load_split
from maskgan_jax.data.masks import catalogue
from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.files import write_png
from maskgan_jax.losses import TERMS
from maskgan_jax.metrics.face_quality import FACE_METRICS, FacePair
from maskgan_jax.metrics.image_quality import METRICS
from maskgan_jax.metrics.scoring import score_images
from maskgan_jax.metrics.set_quality import SET_METRICS
from maskgan_jax.models.generators import GENERATORS
from maskgan_jax.training.loop import train

DOCS = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
RECIPES = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", DOCS, re.M | re.S))
TABLES = (TERMS, GENERATORS, sources.KINDS, METRICS, SET_METRICS, FACE_METRICS, catalogue.MASKS)


@pytest.fixture
def follow(config):
    """What executes the code of a recipe, each block in the module that its first line names."""
    before = [dict(table) for table in TABLES]

    def execute(heading):
        for path, code in re.findall(r"^```python\n# (\S+)\n(.*?)^```", RECIPES[heading], re.M | re.S):
            if path == "configs/default.py":
                exec(code, {"config": config})
            else:
                exec(code, dict(vars(importlib.import_module(path.removesuffix(".py").replace("/", ".")))))

    yield execute
    for table, entries in zip(TABLES, before, strict=True):
        table.clear()
        table.update(entries)


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_every_recipe_is_executed_here():
    assert list(RECIPES) == [
        "A loss term",
        "A generator with its discriminators",
        "A source of photos",
        "A metric",
        "A kind of face mask",
    ]


def test_loss_term(follow, config, data_dir, tmp_path):
    follow("A loss term")
    config.losses.edges = 3.0
    config.training.steps = 1
    train(config, data_dir, tmp_path)
    logged = lines(tmp_path)[0]
    assert logged["weighted_edges"] == pytest.approx(3 * logged["edges"]) and logged["edges"] > 0


def test_generator_with_its_discriminators(follow, config, data_dir, tmp_path, capsys):
    follow("A generator with its discriminators")
    config.generator.architecture = "plain"
    config.training.steps = 2
    config.losses.feature_matching = 1.0
    state = train(config, data_dir, tmp_path / "run")
    assert state.params.keys() == {"generator", "discriminator", "inner"}
    logged = lines(tmp_path / "run")[0]
    assert logged["inner"] > 0 and logged["inner"] != logged["discriminator"]
    out = tmp_path / "scores.json"
    assert main(["evaluate", f"--workdir={tmp_path / 'run'}", f"--data_dir={data_dir}", f"--out={out}"]) == 0
    export = ["export", f"--workdir={tmp_path / 'run'}", f"--out={tmp_path / 'network'}"]
    for form in ("safetensors", "stablehlo"):
        assert main([*export, f"--format={form}"]) == 0
    capsys.readouterr()
    assert main([*export, "--format=pytorch"]) == 1
    assert "a Plain has no twin in PyTorch" in capsys.readouterr().err


def test_source(follow, config, tmp_path):
    follow("A source of photos")
    for number in range(3):
        write_png(tmp_path / "photos" / f"anna-{number}.png", render_face(number, 0).image)
    photos = list(sources.list_photos(f"numbered={tmp_path / 'photos'}", config))
    assert [photo.id for photo in photos] == [f"numbered/anna-{number}.png" for number in range(3)]
    assert {photo.identity for photo in photos} == {"numbered/anna"} and photos[0].read().ndim == 3


def test_metrics(follow):
    follow("A metric")
    rng = np.random.default_rng(0)
    real = rng.integers(60, 200, (3, 48, 48, 3), np.uint8)
    items = [(str(i), image + np.uint8(7), image, np.full((48, 48), 255, np.uint8)) for i, image in enumerate(real)]
    items.append(("face", *items[0][1:], np.random.default_rng(0).uniform(8, 40, (68, 2)).astype(np.float32)))
    scores = score_images(items, metrics=["nose"])
    assert scores["brightness_error"] == pytest.approx(7) and scores["images"][0]["brightness_error"] == pytest.approx(7)
    assert scores["mean_distance"] > 0
    _, image, same, mask, landmarks = items[-1]
    errors = FacePair(image, same, mask > 0, landmarks).landmark_errors
    assert scores["nose"] == pytest.approx(errors[27:36].mean()) and scores["left_out"] == {"nose": 3}


def test_kind_of_face_mask(follow, config, tmp_path):
    follow("A kind of face mask")
    config.data.masks = {"felt": 1.0}
    config.data.splits = {"train": {"*": 2}}
    save_config(tmp_path / "config.json", config)
    build_data_set(["rendered=4"], config, tmp_path / "data", workers=1)
    record = load_split(tmp_path / "data", "train")[0]
    assert record["mask_type"] == "felt" and (record["mask"] > 0).mean() > 0.05
