import json
import os
import re
import sys
from pathlib import Path

import pytest

from maskgan_jax.__main__ import main
from maskgan_jax.data.masked_faces.reader import load_split
from maskgan_jax.data.rendered.faces import pose_face


def test_build(capsys, tmp_path):
    arguments = ["build", "--config=default", "--source=rendered=12", f"--data_dir={tmp_path}", "--workers=1"]
    assert main([*arguments, "--config.data.size=64", "--config.seed=3"]) == 0
    printed, told = capsys.readouterr()
    assert "train: " in printed
    assert "sources: rendered " in printed
    assert f"12 faces in {tmp_path}; look at {tmp_path}/contact_sheet.png" in printed
    assert load_split(tmp_path, "train")[0]["real"].shape == (64, 64, 3)

    # Twelve faces of six people, of which none falls to validation by itself.
    assert "validation would be empty, so 2 photos of 1 people go there from train" in told
    assert len(load_split(tmp_path, "validation")) == 2 and "warning" not in printed

    assert main(arguments) == 1
    assert "holds a data set already; give --overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source=lfw=x"], "no kind 'lfw'"),
        (["--source=ffhq=/nowhere"], "/nowhere is not a folder"),
        (["--source=rendered=2", "--config=nowhere"], "no config file nowhere"),
        (["--source=rendered=2", "--typo"], "typo"),
        (["--source=rendered=2", "--over"], "unknown argument --over"),
        (["--source=rendered=2", "--config.data.splits={'train': {'ffhq': 0.5}}"], "data.splits.train.ffhq: no photo is of"),
        (["--source=rendered=2", "--config.data.masks={'n95': -1.0}"], "data.masks.n95: "),
        (["--source=rendered=2", "--workers=-1"], "--workers"),
        (["--source=rendered=2", "--workers=2", "--runner=DirectRunner"], "--workers are processes without Beam"),
        (["--source=rendered=2", "--beam_pipeline_options=job_name=x"], "give --runner too"),
    ],
)
def test_wrong_arguments(arguments, message, capsys, tmp_path):
    assert main(["build", f"--data_dir={tmp_path}", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_names_cannot_move_the_cursor(capsys, tmp_path, monkeypatch):
    counts = {"records": 1, "identities": 1, "sources": {"a\x1b[2J": 1}, "mask_types": {"cloth": 1}}
    card = {"splits": {"train": counts}, "empty": [], "skipped": {"has the name of b\r.jpg": 2}, "unused": 0, "records": 1}
    monkeypatch.setattr("maskgan_jax.commands.build.build_data_set", lambda *_, **__: {**card, "unexpected": 0})
    assert main(["build", "--source=rendered=1", f"--data_dir={tmp_path}"]) == 0
    out = capsys.readouterr().out
    assert "train: 1 faces of 1 person\n  sources: a\\x1b[2J 1\n" in out and "  2: has the name of b\\r.jpg\n" in out


def test_unexpected_errors_are_told_by_the_exit_code(capsys, tmp_path, monkeypatch):
    def fail(index, seed):
        return pose_face(index, seed) if index else 1 / 0

    monkeypatch.setattr("maskgan_jax.data.build.make_record.pose_face", fail)
    arguments = ["build", "--source=rendered=6", f"--data_dir={tmp_path}", "--workers=1", "--config.data.size=64"]
    assert main([*arguments, "--config.data.splits={'train': {'*': 1.0}}"]) == 1
    printed, told = capsys.readouterr()
    assert f"5 faces in {tmp_path}" in printed
    assert "left out rendered/000000: unexpected error, ZeroDivisionError: division by zero (test_build.py, line " in told
    message = f"maskgan build: error: the data set is finished, but without 1 of the photos, .* see {tmp_path}/skipped.csv"
    assert re.match(message, told.splitlines()[-1])
    assert len(load_split(tmp_path, "train")) == 5


@pytest.mark.skipif("MASKGAN_FACES" not in os.environ, reason="MASKGAN_FACES names no folder of real faces with a faces.csv")
def test_real_faces(tmp_path):
    faces = Path(os.environ["MASKGAN_FACES"])
    header, *rows = (faces / "faces.csv").read_text().splitlines()
    chosen = [row for row in rows[:: max(1, len(rows) // 20)] if (faces / row.split(",")[0]).is_file()]
    for row in chosen:
        link = tmp_path / "faces" / row.split(",")[0]
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to((faces / row.split(",")[0]).resolve())
    (tmp_path / "faces" / "faces.csv").write_text("\n".join([header, *chosen]) + "\n")
    assert main(["build", f"--source=folder={tmp_path / 'faces'}", f"--data_dir={tmp_path / 'data'}"]) == 0
    card = json.loads((tmp_path / "data" / "card.json").read_text())
    assert card["records"] >= 0.8 * len(chosen)


def test_without_apache_beam(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    monkeypatch.delitem(sys.modules, "maskgan_jax.data.build.beam", raising=False)
    monkeypatch.delattr("maskgan_jax.data.build.beam", raising=False)
    assert main(["build", "--source=rendered=2", f"--data_dir={tmp_path}", "--runner=DirectRunner"]) == 1
    wanted = "--runner needs Apache Beam, which is not installed; pip install 'maskgan_jax[beam]', or [dask] for Dask"
    assert capsys.readouterr().err == f"maskgan build: error: {wanted}\n"
