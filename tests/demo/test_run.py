import functools
import json
import re

import numpy as np
import pytest

from maskgan_jax.__main__ import main
from maskgan_jax.config import load_config
from maskgan_jax.configs import default
from maskgan_jax.data.build import build
from maskgan_jax.demo import run as demo
from maskgan_jax.errors import UserError


def small(config):
    config.data.splits = default.splits(train={"rendered": 8}, validation={"rendered": 4}, test={"rendered": 4})
    config.input.batch_size = 4
    config.generator.width = config.discriminator.width = config.landmark_net.width = 4
    config.training.epochs = 2.0
    config.training.log_every = 1
    return config


@pytest.fixture(scope="module")
def configs():
    return small(load_config("demo")), small(load_config("demo_landmarks"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, configs):
    """The folder of a small demo, and its table of scores; so few faces need no worker processes, nor three masks."""
    out = tmp_path_factory.mktemp("parent") / "demo"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "build_data_set", functools.partial(build.build_data_set, workers=1))
        patch.setattr(demo, "PORTRAIT_MASKS", demo.PORTRAIT_MASKS[:1])
        return out, demo.run_demo(out, *configs)


@pytest.mark.parametrize("name", ["demo", "demo_landmarks"])
def test_shipped_settings_are_whole(name):
    config = load_config(name)
    assert config.data.size == 64
    assert config.data == load_config("demo").data and config.seed == load_config("demo").seed


def test_table_of_scores(finished):
    _, (headings, *rows) = finished
    assert len(headings) == 6 and [len(row) for row in rows] == [6] * 4
    assert np.isfinite([float(cell) for row in rows for cell in row[1:]]).all()


def test_comparison_follows_the_scores():
    low, high = ({metric: value for metric in demo.METRICS} for value in (1.0, 2.0))
    words = demo._comparison({"input": low, "telea": high, "ours": {**high, "mse_masked": 0.5, "put_back": low}})
    output, put_back = words.split(". ")
    assert "masked input by MSE in region, PSNR, PSNR in region, SSIM, and than Telea's inpainting by MSE in region" in output
    assert "masked input by none of the scores, and than Telea's inpainting by MSE in region, ST-LPIPS." in put_back
    best = {metric: 0.0 if metric in ("mse_masked", "st_lpips") else 3.0 for metric in demo.METRICS}
    assert demo._comparison({"input": low, "telea": high, "ours": {**best, "put_back": best}}).count("all scores") == 4


def test_report_needs_no_other_file(finished):
    out, (headings, *rows) = finished
    report = (out / "report.html").read_text()
    for text in (*headings[1:], *(cell for row in rows for cell in row[1:]), "C2", "rendered"):
        assert text in report
    assert report.count('src="data:image/png;base64,') == 3 and report.count("<svg") == 6
    assert not re.search(r"""(src|href)=["']?http|url\(|<script|<link""", report)
    assert (out / "examples.png").stat().st_size > 1000


def test_finished_demo_is_only_reported_again(finished, configs, capsys):
    out, table = finished
    report = (out / "report.html").read_text()
    (out / "report.html").unlink()
    before = (out / "unmask" / "metrics.jsonl").stat().st_mtime_ns
    assert demo.run_demo(out, *configs) == table
    assert capsys.readouterr().out.count("done before") == 5
    assert (out / "report.html").read_text() == report
    assert (out / "unmask" / "metrics.jsonl").stat().st_mtime_ns == before


def test_goes_on_after_an_interruption(finished, configs, capsys):
    out, table = finished
    progress = json.loads((out / demo.PROGRESS).read_text())
    progress["stations"]["train the mask remover"]["done"] = False
    del progress["stations"]["score on the test faces"]
    (out / demo.PROGRESS).write_text(json.dumps(progress))
    before = progress["stations"]["train the mask remover"]["seconds"]
    assert demo.run_demo(out, *configs) == table
    assert capsys.readouterr().out.count("done before") == 3
    after = json.loads((out / demo.PROGRESS).read_text())["stations"]["train the mask remover"]
    assert after["done"] and after["seconds"] > before


def test_failure_is_not_taken_for_done(tmp_path):
    (tmp_path / demo.PROGRESS).write_text('{"stations": {}}')

    def fail():
        raise UserError("disk full")

    with pytest.raises(UserError, match="disk full"):
        demo._stage(tmp_path, "name", tmp_path, fail)
    assert not json.loads((tmp_path / demo.PROGRESS).read_text())["stations"]["name"]["done"]


def test_other_settings_need_another_folder(finished, configs):
    out, _ = finished
    config = configs[0].copy_and_resolve_references()
    config.training.epochs = 3.0
    with pytest.raises(UserError, match="other settings"):
        demo.run_demo(out, config, configs[1])


def test_other_data_set_is_refused(finished, configs):
    out, _ = finished
    saved = {name: (out / name).read_text() for name in (demo.PROGRESS, "data/config.json")}
    progress = json.loads(saved[demo.PROGRESS])
    del progress["stations"]["draw faces and masks"]
    (out / demo.PROGRESS).write_text(json.dumps(progress))
    (out / "data" / "config.json").write_text(saved["data/config.json"].replace('"seed": 0', '"seed": 1'))
    try:
        with pytest.raises(UserError, match="built with other settings"):
            demo.run_demo(out, *configs)
    finally:
        for name, text in saved.items():
            (out / name).write_text(text)


def test_folder_of_something_else_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("x")
    assert main(["demo", f"--out={tmp_path}"]) == 1
    message = capsys.readouterr().err
    assert "something other than a demo" in message and message.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_unusable_folder_is_one_sentence(tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert main(["demo", f"--out={out}"]) == 1
        message = capsys.readouterr().err
        assert message.startswith("maskgan demo: error: cannot use") and message.count("\n") == 1


def test_damaged_progress_is_one_sentence(tmp_path, capsys):
    (tmp_path / demo.PROGRESS).write_text("{")
    assert main(["demo", f"--out={tmp_path}"]) == 1
    assert "cannot read" in capsys.readouterr().err


def test_missing_weights_are_told_before_the_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MASKGAN_CACHE", str(tmp_path / "cache"))
    assert main(["demo", f"--out={tmp_path / 'demo'}"]) == 1
    assert "maskgan weights" in capsys.readouterr().err
    assert not (tmp_path / "demo" / "data").exists()
