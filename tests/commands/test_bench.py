import importlib.util
import json

import pytest

from maskgan_jax.__main__ import main
from maskgan_jax.bench import measuring
from maskgan_jax.commands import bench as command
from maskgan_jax.errors import UserError

ROW = "128/pix2pix"


@pytest.fixture
def alone():
    """What was measured without PyTorch."""
    ours = {"images_per_second": 12.5, "rounds": [12.5], "compile_seconds": 3.0, "peak_resident_bytes": 2e9}
    return {
        "machine": {"load_before": 0.1},
        "compute": "float32",
        "target": 1.2,
        "rows": {ROW: {"work": "pix2pix", "size": 128, "width": 32, "batch": 8, "maskgan": ours}},
    }


def test_command(tmp_path, monkeypatch, capsys, alone):
    asked = []
    alone["machine"]["load_before"] = 3.0

    def measured(rows, keep, **options):
        asked.append((rows, options))
        keep(alone)
        return alone

    monkeypatch.setattr(command, "measure", measured)
    out = tmp_path / "new" / "bench.json"
    assert main(["bench", f"--out={out}", "--rows=256/proposed,128/pix2pix", "--pairs=3", "--compute=bfloat16"]) == 0
    ((rows, options),) = asked
    assert [row.name for row in rows] == ["256/proposed", "128/pix2pix"]
    assert options == {
        **{"against": None, "compute": "bfloat16", "pairs": 3},
        **{"device": "", "upsampling": "native", "peak": None},
    }
    assert json.loads(out.read_text()) == alone
    printed = capsys.readouterr().out
    assert str(out) in printed and ROW in printed and "load 3.0 at the start" in printed


def test_command_fails_where_outputs_differ(tmp_path, monkeypatch, capsys, alone):
    rows = {name: {**row, "output_difference": 1.0} for name, row in alone["rows"].items()}
    monkeypatch.setattr(command, "measure", lambda *_, **__: {**alone, "rows": rows})
    assert main(["bench", f"--out={tmp_path / 'bench.json'}"]) == 1
    assert "differ by more than 0.0001" in capsys.readouterr().err


def test_rows_are_kept_when_a_later_one_fails(tmp_path, monkeypatch, alone):
    measured = iter([next(iter(alone["rows"].values()))])
    monkeypatch.setattr(measuring, "_measure_row", lambda *_: next(measured))
    out = tmp_path / "bench.json"
    with pytest.raises(StopIteration):
        main(["bench", f"--out={out}", "--rows=128/pix2pix,256/pix2pix"])
    assert list(json.loads(out.read_text())["rows"]) == ["128/pix2pix"]


def test_nothing_is_measured_that_could_not_be_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "measure", lambda *_, **__: pytest.fail("measured"))
    (tmp_path / "file").touch()
    for out in (tmp_path, tmp_path / "file" / "bench.json"):
        assert main(["bench", f"--out={out}"]) == 1
        assert f"cannot write {out}" in capsys.readouterr().err


def test_what_was_measured_is_shown_if_the_disk_is_full(tmp_path, monkeypatch, capsys, alone):
    def full(*_):
        raise UserError("cannot write")

    monkeypatch.setattr(command, "measure", lambda *_, keep, **__: keep(alone))
    monkeypatch.setattr(command, "write_json", full)
    assert main(["bench", f"--out={tmp_path / 'bench.json'}"]) == 1
    assert ROW in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--pairs=0", "must be at least 1"),
        ("--rows=512/pix2pix", "there is no row '512/pix2pix'"),
        ("--rows=", "there is no row"),
        ("--compute=tf32", "are for GPUs; give --device=gpu too"),
        ("--upsampling=phases", "are for GPUs; give --device=gpu too"),
        ("--compute=bfloat16", "inference in bfloat16 is for GPUs; give --device=gpu too, or --rows without 128/inference-1,"),
        ("--peak=-1", "are for GPUs; give --device=gpu too"),
    ],
)
def test_bad_flags(flag, message, monkeypatch, capsys):
    monkeypatch.setattr(command, "measure", lambda *_, **__: pytest.fail("measured"))
    assert main(["bench", "--out=bench.json", flag]) == 1
    assert message in capsys.readouterr().err


def test_a_peak_that_is_none(capsys):
    assert main(["bench", "--out=bench.json", "--device=gpu", "--peak=0"]) == 1
    assert "give the TFLOP/s of the GPU" in capsys.readouterr().err


def test_without_torch(monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else find(name, *rest))
    assert main(["bench", "--out=bench.json", "--against=torch"]) == 1
    assert "pip install torch==2.13.0" in capsys.readouterr().err
