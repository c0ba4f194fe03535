"""`maskgan evaluate`: what its flags mean. How is scored: tests/metrics/test_evaluation.py."""

import json

import pytest

from maskgan_jax.__main__ import main


def test_without_a_network(data_dir, tmp_path, capsys):
    assert main(["evaluate", f"--data_dir={data_dir}", f"--out={tmp_path / 'scores.json'}"]) == 1
    assert "needs --workdir" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        *(
            (["--method=dlib", flag], "is for mask removers")
            for flag in ("--examples=E.png", "--pictures=P", "--lpips_heads=H", "--metrics=seam", "--workers=2")
        ),
        (["--workdir=LANDMARKS", "--pictures=P"], "is for mask removers"),
        (["--method=telea", "--workdir=LANDMARKS", "--examples=E.png"], "is for mask removers"),
        (["--workdir=UNMASK", "--step=last"], "--step=last is for the workdir of a run"),
        (["--method=telea", "--step=last"], "--step is of the run that --workdir names"),
        *(([f"--method={method}", "--workdir=UNMASK"], "uses no network") for method in ("input", "telea", "dlib")),
    ],
)
def test_flags_that_do_not_go_together(flags, message, tmp_path, generator_file, landmark_file, capsys):
    flags = [flag.replace("LANDMARKS", str(landmark_file)).replace("UNMASK", str(generator_file)) for flag in flags]
    assert main(["evaluate", f"--data_dir={tmp_path}", f"--out={tmp_path / 'scores.json'}", *flags]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_baseline_and_examples(data_dir, tmp_path, capsys):
    arguments = ["evaluate", "--method=input", f"--data_dir={data_dir}", f"--out={tmp_path / 'scores.json'}"]
    assert main([*arguments, f"--examples={tmp_path / 'examples.png'}"]) == 1
    assert "--examples" in capsys.readouterr().err


def test_a_baseline_is_scored_printed_and_written(data_dir, tmp_path, capsys):
    out = tmp_path / "scores.json"
    assert main(["evaluate", "--method=telea", "--split=validation", f"--data_dir={data_dir}", f"--out={out}"]) == 0
    scores = json.loads(out.read_text())
    printed = capsys.readouterr().out
    assert f"{scores['psnr']:.2f}" in printed and f"scores are in {out}" in printed
    assert scores["n"] == len(scores["images"]) == 4


@pytest.mark.parametrize("flag", ["--method=lama", "--split=holiday", "--work=RUN"])
def test_flags_and_values_that_are_not_there(flag, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["evaluate", f"--data_dir={tmp_path}", f"--out={tmp_path / 'scores.json'}", flag])
    assert end.value.code == 2
    assert "error: " in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "flags",
    [
        ["--method=telea", "--out="],
        ["--method=telea", "--out=FILE/scores.json"],
        ["--method=telea", "--out=scores.json", "--pictures=FILE"],
        ["--method=telea", "--out=scores.json", "--pictures="],
        ["--workdir=NETWORK", "--out=scores.json", "--examples=FILE/examples.png"],
    ],
)
def test_what_cannot_be_written_is_told_before_the_scoring(flags, data_dir, generator_file, tmp_path, monkeypatch, capsys):
    for name in ("evaluate", "write_examples"):
        monkeypatch.setattr(f"maskgan_jax.commands.evaluate.{name}", lambda *_, **__: pytest.fail("it was begun"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("")
    flags = [flag.replace("NETWORK", str(generator_file)) for flag in flags]
    assert main(["evaluate", f"--data_dir={data_dir}", *flags]) == 1
    error = capsys.readouterr().err
    assert error.startswith("maskgan evaluate: error: cannot write ") and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["FILE"]


def test_examples_are_not_written_over(data_dir, tmp_path, capsys):
    (tmp_path / "examples.png").write_bytes(b"a picture")
    assert main(["evaluate", "--method=telea", f"--data_dir={data_dir}", f"--out={tmp_path / 'examples.png'}"]) == 1
    assert "examples.png has the name of a picture, which scores would replace" in capsys.readouterr().err
    assert (tmp_path / "examples.png").read_bytes() == b"a picture"


def test_more_metrics(data_dir, tmp_path, capsys):
    out = tmp_path / "scores.json"
    arguments = ["evaluate", "--method=telea", f"--data_dir={data_dir}", f"--out={out}"]
    assert main([*arguments, "--metrics=seam,contour,mouth"]) == 0
    scores = json.loads(out.read_text())
    assert scores["contour"] > 0 and scores["mouth"] > 0 and "left_out" not in scores
    assert scores["by_source"]["rendered"]["seam"] == pytest.approx(scores["seam"])
    assert main([*arguments, "--metrics=beauty"]) == 1
    assert "there is no metric 'beauty'" in capsys.readouterr().err
