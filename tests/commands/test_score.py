import json

import numpy as np
import pytest

from maskgan_jax.__main__ import main
from maskgan_jax.commands import score
from maskgan_jax.files import write_png


@pytest.fixture
def arguments(tmp_path):
    rng = np.random.default_rng(0)
    for name in "ab":
        write_png(tmp_path / "pred" / f"{name}.png", rng.integers(0, 256, (40, 40, 3), np.uint8))
        write_png(tmp_path / "real" / f"{name}.png", rng.integers(0, 256, (40, 40, 3), np.uint8))
        write_png(tmp_path / "mask" / f"{name}.png", np.full((40, 40), 255, np.uint8))
    return [f"--{what}={tmp_path / what}" for what in ("pred", "real", "mask")] + [f"--out={tmp_path / 'new' / 'scores.json'}"]


def test_writes_and_prints(arguments, tmp_path, capsys):
    assert main(["score", *arguments]) == 0
    scores = json.loads((tmp_path / "new" / "scores.json").read_text())
    assert list(scores) == ["n", "mse_masked", "psnr", "psnr_masked", "ssim", "st_lpips", "frechet_st_alexnet", "images"]
    assert scores["psnr"] == pytest.approx(scores["psnr_masked"])
    printed = capsys.readouterr().out
    assert f"{scores['mse_masked']:.4f}" in printed and "scores.json" in printed


def test_lpips_when_its_weights_are_given(arguments, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(score, "load_lpips", lambda *files: given.append(files))
    monkeypatch.setattr(score, "score_folders", lambda *_, lpips_weights, **more: {"n": 0, "lpips": 0.5, "images": []})
    score.main([*arguments, "--lpips_alexnet=A", "--lpips_heads=H"])
    assert given == [("A", "H")]


def test_one_line_on_errors(arguments, tmp_path, capsys):
    assert main(["score", *arguments, "--lpips_heads=H"]) == 1
    assert "needs both files" in capsys.readouterr().err
    (tmp_path / "pred" / "a.png").unlink()
    assert main(["score", *arguments]) == 1
    message = capsys.readouterr().err
    assert message.startswith("maskgan score: error:") and message.count("\n") == 1 and ": a;" in message


def test_error_has_a_line_of_its_own(arguments, tmp_path, capsys):
    write_png(tmp_path / "mask" / "a.png", np.ones((40, 40), np.uint8))
    assert main(["score", *arguments]) == 1
    assert capsys.readouterr().err.rstrip("\n").split("\n")[-1].startswith("maskgan score: error: a: its mask hides nothing")


def test_flags_are_not_abbreviated(arguments):
    with pytest.raises(SystemExit):
        main(["score", *arguments, "--lpips_head=H"])


def test_pictures_are_not_written_over(arguments, tmp_path, capsys):
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    for path in before:
        assert main(["score", *arguments, f"--out={path}"]) == 1
        assert f"{path} has the name of a picture, which scores would replace" in capsys.readouterr().err
    assert before and all(path.read_bytes() == data for path, data in before.items())


@pytest.mark.parametrize("out", ["", "pred/a.png/scores.json"])
def test_what_cannot_be_written_is_told_before_the_scoring(out, arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(score, "score_folders", lambda *_, **__: pytest.fail("it was begun"))
    monkeypatch.chdir(tmp_path)
    assert main(["score", *arguments, f"--out={out}"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("maskgan score: error: cannot write ") and error.count("\n") == 1


def test_more_metrics(arguments, tmp_path, capsys):
    assert main(["score", *arguments, "--metrics=seam,contour"]) == 0
    scores = json.loads((tmp_path / "new" / "scores.json").read_text())
    # Noise is no face, and the mask is all of the image.
    assert scores["contour"] is scores["seam"] is None and scores["left_out"] == {"seam": 2, "contour": 2}
    printed = capsys.readouterr().out.split()
    assert printed[printed.index("left_out") :][:5] == ["left_out", "seam", "2", "contour", "2"]


def test_a_metric_that_is_not_there_is_told_before_the_scoring(arguments, monkeypatch, capsys):
    monkeypatch.setattr(score, "score_folders", lambda *_, **__: pytest.fail("it was begun"))
    for names in ("seam,beauty", ""):
        assert main(["score", *arguments, f"--metrics={names}"]) == 1
        error = capsys.readouterr().err
        assert "there is no metric" in error and error.count("\n") == 1
