"""The story of the product, told by its commands: from nothing to unmasked faces and their scores."""

import json

import numpy as np
import pytest

from maskgan_jax.__main__ import main
from maskgan_jax.files import find_images, read_image

SMALL = [
    "--config.data.size=64",
    "--config.input.batch_size=4",
    "--config.generator.width=4",
    "--config.discriminator.width=4",
    "--config.landmark_net.width=4",
    "--config.optimizer.learning_rate=0.002",
    "--config.training.log_every=1",
]


def run(*arguments):
    """Runs `maskgan` with these arguments, which must succeed."""
    assert main([str(argument) for argument in arguments]) == 0


def numbers(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_from_nothing_to_unmasked_faces(tmp_path, capsys):
    data, landmarks, workdir = tmp_path / "data", tmp_path / "landmarks", tmp_path / "run"

    # A data set of rendered faces, with masks drawn on them.
    shares = '{"train": {"*": 16}, "validation": {"*": 4}, "test": {"*": 4}}'
    run("build", "--source=rendered=24", f"--data_dir={data}", "--workers=1", *SMALL, f"--config.data.splits={shares}")
    assert (data / "contact_sheet.png").exists()
    assert "24 faces in" in capsys.readouterr().out

    # The landmark network, which the contour loss looks through; then more of it, from where it stopped.
    settings = [*SMALL, "--config.training.validate_every=3"]
    train = ["train", "--config=configs/landmarks.py", f"--data_dir={data}", f"--workdir={landmarks}", *settings]
    for steps in (3, 6):
        run(*train, f"--config.training.steps={steps}")
    assert [line["step"] for line in numbers(landmarks) if line["phase"] == "train"] == [1, 2, 3, 4, 5, 6]
    run("evaluate", f"--workdir={landmarks}", f"--data_dir={data}", f"--out={tmp_path / 'landmarks.json'}")
    assert json.loads((tmp_path / "landmarks.json").read_text())["masked"]["contour"] > 0

    # The mask remover with all losses of the paper.
    settings = [*SMALL, f"--config.landmark_net.weights={landmarks}"]
    settings += ["--config.training.steps=6", "--config.training.validate_every=2"]
    settings += ["--config.training.checkpoint_every=2", "--config.training.keep=3"]
    run("train", "--config=configs/paper.py", f"--data_dir={data}", f"--workdir={workdir}", *settings)
    trained = [line for line in numbers(workdir) if line["phase"] == "train"]
    assert [line["step"] for line in trained] == [1, 2, 3, 4, 5, 6]
    assert all({"adversarial", "l1", "contour", "masked", "discriminator"} <= set(line) for line in trained)
    validated = [line["l1_raw"] for line in numbers(workdir) if line["phase"] == "validation"]
    assert len(validated) == 3 and validated[-1] < validated[0]

    # Its scores beside those of the baselines; and the faces as files.
    scores = {}
    test = tmp_path / "test"
    for method in ("ours", "telea", "input"):
        out = tmp_path / f"{method}.json"
        network = [f"--workdir={workdir}", f"--examples={tmp_path / 'examples.png'}"] if method == "ours" else []
        run("evaluate", f"--method={method}", f"--data_dir={data}", f"--out={out}", f"--pictures={test}", *network)
        scores[method] = json.loads(out.read_text())
    assert {result["n"] for result in scores.values()} == {4}
    assert scores["telea"]["mse_masked"] < scores["input"]["mse_masked"]
    assert (tmp_path / "examples.png").exists()

    # Pictures in, pictures out; with the regions, the known pixels stay as they were.
    unmask = ["unmask", "--aligned", test / "masked", f"--mask={test / 'mask'}"]
    run(*unmask, f"--out={tmp_path / 'unmasked'}", f"--weights={workdir}")
    folders = [f"--pred={tmp_path / 'unmasked'}", f"--real={test / 'real'}", f"--mask={test / 'mask'}"]
    run("score", *folders, f"--out={tmp_path / 'scores.json'}")
    score = json.loads((tmp_path / "scores.json").read_text())
    for name in ("mse_masked", "psnr", "ssim", "st_lpips"):
        assert score[name] == pytest.approx(scores["ours"]["put_back"][name], rel=1e-3)

    # One file to give away, which does the same.
    exported = tmp_path / "network.safetensors"
    run("export", f"--workdir={workdir}", f"--out={exported}")
    run(*unmask, f"--out={tmp_path / 'again'}", f"--weights={exported}")
    for path in find_images(test / "masked"):
        one, other = (read_image(tmp_path / folder / path.name) for folder in ("unmasked", "again"))
        np.testing.assert_array_equal(one, other)

    # The network after another step.
    run(*unmask, f"--out={tmp_path / 'step_2'}", f"--weights={workdir}", "--step=2")
    run(*unmask, f"--out={tmp_path / 'last'}", f"--weights={workdir}", "--step=last")
    run(*unmask, f"--out={tmp_path / 'checkpoint_2'}", f"--weights={workdir / 'checkpoints' / '2'}")
    for path in find_images(test / "masked"):
        second, last, same = (read_image(tmp_path / folder / path.name) for folder in ("step_2", "last", "checkpoint_2"))
        np.testing.assert_array_equal(second, same)
        assert (second != last).any()
