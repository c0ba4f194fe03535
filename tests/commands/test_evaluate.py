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
            for flag in ("--examples=E.png", "--pictures=P", "--lpips_heads=H")
        ),
        (["--workdir=LANDMARKS", "--pictures=P"], "is for mask removers"),
        (["--method=telea", "--workdir=LANDMARKS", "--examples=E.png"], "is for mask removers"),
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
