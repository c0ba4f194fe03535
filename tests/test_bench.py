import importlib.util
import json
import os

import numpy as np
import pytest

from maskgan_jax import bench
from maskgan_jax.__main__ import main
from maskgan_jax.bench import ROWS, Row, equal_outputs, format_table, measure
from maskgan_jax.commands import bench as command
from maskgan_jax.errors import UserError

TRAINING = Row("proposed", 64, 4, 2)
INFERENCE = Row("inference", 64, 4, 2)
DEFAULT = Row("unmask", 64, 4, 2)
EAGER = [name for name, options in bench.TORCH_VARIANTS.items() if not options["compiled"]]
COMPILED = "torch.compile, channels_last"


@pytest.fixture(scope="module")
def result():
    """Of all kinds of rows; against PyTorch, if it is installed, as if there were no C++ compiler."""
    against = "torch" if importlib.util.find_spec("torch") else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "TORCH_VARIANTS", {name: bench.TORCH_VARIANTS[name] for name in (*EAGER, COMPILED)})
        patch.setenv("CXX", "/nonexistent")
        return measure([TRAINING, DEFAULT], against=against, pairs=2, seconds=0.05)


@pytest.fixture
def alone(result):
    """The same without PyTorch."""
    kept = {*vars(TRAINING), "maskgan"}
    rows = {name: {key: value for key, value in row.items() if key in kept} for name, row in result["rows"].items()}
    return {**result, "rows": rows}


def test_rows_have_names_of_their_own():
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names) == 10
    assert {"256/pix2pix-1", "256/pix2pix-256", "256/inference-64"} < {row.name for row in bench.GPU_ROWS}
    # Rows with the same name are the same.
    assert len({*ROWS, *bench.GPU_ROWS}) == len({row.name for row in (*ROWS, *bench.GPU_ROWS)})
    assert {"128/pix2pix", "256/proposed", "128/inference-1", "256/inference-8", "256/unmask-1"} < set(names)


def test_ours(result):
    assert json.loads(json.dumps(result)) == result
    assert result["machine"]["jax"] and result["machine"]["threads"] >= 1
    for row in (TRAINING, DEFAULT):
        ours = result["rows"][row.name]["maskgan"]
        assert ours["images_per_second"] == pytest.approx(np.median(ours["rounds"])) and len(ours["rounds"]) == 2
        assert ours["compile_seconds"] > 0 and ours["backend"] == "cpu"
        assert ours["peak_resident_bytes"] is None or ours["peak_resident_bytes"] > 1e8
    step = result["rows"][TRAINING.name]["maskgan"]
    assert step["step_bytes_per_image"] == sum(step["step_bytes"].values()) / 2 > 1e5


def test_against_torch(result):
    pytest.importorskip("torch")
    assert result["machine"]["torch"]
    for row in (TRAINING, DEFAULT):
        measured = result["rows"][row.name]
        ours, theirs = measured["maskgan"], measured["torch"]
        ratios = np.divide(ours["rounds"], theirs["rounds"])
        assert measured["ratio"] == pytest.approx(np.median(ratios)) and len(ratios) == 2
        assert measured["ratio_range"] == pytest.approx([ratios.min(), ratios.max()])
        assert measured["met"] == (measured["ratio"] >= bench.TARGET)
        assert theirs["variant"] in EAGER and set(theirs["tried_images_per_second"]) == set(EAGER)
        assert set(theirs["unavailable"]) == {COMPILED}
    assert result["rows"][DEFAULT.name]["output_difference"] < 1e-4
    assert equal_outputs(result)


def test_tables(result, alone):
    lines = format_table(alone).splitlines()
    assert len(lines) == 3 and lines[1].startswith(TRAINING.name) and "PyTorch" not in lines[0]
    pytest.importorskip("torch")
    lines = format_table(result).splitlines()
    assert "PyTorch" in lines[0] and all("met" in line or "MISSED" in line for line in lines[1:])


@pytest.fixture(scope="module")
def gpu_result():
    """As on a GPU, for which the CPU stands in."""
    against = "torch" if importlib.util.find_spec("torch") else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "GPU_TORCH_VARIANTS", {name: bench.GPU_TORCH_VARIANTS[name] for name in (EAGER[0], COMPILED)})
        patch.setenv("MASKGAN_ACCELERATOR", "cpu")
        patch.setenv("CXX", "/nonexistent")
        rows = [Row("pix2pix", 64, 4, 2), INFERENCE]
        return measure(rows, against=against, device="gpu", upsampling="phases", peak=1e12, pairs=2, seconds=0.05)


def test_on_a_gpu_the_fraction_of_its_peak_is_told(gpu_result):
    assert json.loads(json.dumps(gpu_result)) == gpu_result and gpu_result["upsampling"] == "phases"
    training, inference = gpu_result["rows"].values()
    for row in (training, inference):
        for ours in [row["maskgan"], *([row["torch"]] if "torch" in row else [])]:
            expected = row["flops"] * ours["images_per_second"] / row["batch"] / 1e12
            assert ours["flop_utilization"] == pytest.approx(expected) and 0 < expected < 1
    # A step: the generator's pass, two of the discriminator, and twice as much backwards.
    assert 3 * inference["flops"] < training["flops"] < 30 * inference["flops"]
    header, *lines = format_table(gpu_result).splitlines()
    assert "FLOP utilization" in header and "device MB" in header and all("%" in line for line in lines)


def test_flops_are_those_of_the_convolutions(gpu_result):
    """Of a U-Net of width 4 for two images of 64 px; two for each multiply-add within the image."""

    def taps(side):
        """How many of 4 taps meet the image, for all pixels of a side together; stride 2, padding 1."""
        return 4 * side - 2

    channels = [3, 4, 8, 16, 32, 32, 32]
    down = sum(2 * taps(32 >> i) ** 2 * channels[i] * channels[i + 1] for i in range(6))
    skips = [0, 32, 32, 16, 8, 4]  # Of each layer on the way up.
    outputs = [32, 32, 16, 8, 4, 3]
    inputs = [32, 32, 32, 16, 8, 4]
    up = sum(2 * taps(1 << i) ** 2 * (inputs[i] + skips[i]) * outputs[i] for i in range(6))
    assert 2 * (down + up) <= gpu_result["rows"][INFERENCE.name]["flops"] <= 1.25 * 2 * (down + up)


def test_against_torch_on_a_gpu(gpu_result):
    pytest.importorskip("torch")
    for row in gpu_result["rows"].values():
        ours, theirs = row["maskgan"]["images_per_second"], row["torch"]["images_per_second"]
        assert row["ratio"] == pytest.approx(ours / theirs) and row["ratio_range"][0] <= row["ratio"] <= row["ratio_range"][1]
        assert row["torch"]["variant"] == EAGER[0] and set(row["torch"]["unavailable"]) == {COMPILED}
        assert "output" not in row["maskgan"] and "output" not in row["torch"]
    assert gpu_result["rows"][INFERENCE.name]["output_difference"] < 1e-4


def test_without_a_gpu(monkeypatch):
    monkeypatch.delenv("MASKGAN_ACCELERATOR", raising=False)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    with pytest.raises(UserError, match="maskgan failed: JAX finds no GPU here"):
        measure([INFERENCE], device="gpu", pairs=1)


def test_outputs_that_differ(alone):
    result = {**alone, "rows": {"one": {"output_difference": 2e-4}, "other": {}}}
    assert not equal_outputs(result)
    assert equal_outputs({**result, "compute": "bfloat16"})
    assert not equal_outputs({**result, "rows": {"one": {"output_difference": float("nan")}}})


def test_a_process_that_fails():
    with pytest.raises(UserError, match="maskgan failed: ValueError: its size is 48, not a power of two"):
        measure([Row("inference", 48, 4, 2)], pairs=1)


def die(*_):
    os.kill(os.getpid(), 9)


def die_in_the_first_round(_, connection):
    connection.send({"step_seconds": 1.0})
    die()


@pytest.mark.parametrize("serve", [die, die_in_the_first_round])
def test_a_process_that_is_killed(monkeypatch, serve):
    monkeypatch.setattr(bench, "_serve", serve)
    with pytest.raises(UserError, match=r"the process of maskgan ended \(SIGKILL\); free some memory"):
        measure([INFERENCE], pairs=1)


def test_command(tmp_path, monkeypatch, capsys, alone):
    asked = []
    alone["machine"] = {**alone["machine"], "load_before": 3.0}

    def measured(rows, keep, **options):
        asked.append((rows, options))
        keep(alone)
        return alone

    monkeypatch.setattr(command, "measure", measured)
    out = tmp_path / "new" / "bench.json"
    assert main(["bench", f"--out={out}", "--rows=256/inference-1,128/pix2pix", "--pairs=3", "--compute=bfloat16"]) == 0
    ((rows, options),) = asked
    assert [row.name for row in rows] == ["256/inference-1", "128/pix2pix"]
    assert options == {
        **{"against": None, "compute": "bfloat16", "pairs": 3},
        **{"device": "", "upsampling": "native", "peak": None},
    }
    assert json.loads(out.read_text()) == alone
    printed = capsys.readouterr().out
    assert str(out) in printed and TRAINING.name in printed and "load 3.0 at the start" in printed


def test_command_fails_where_outputs_differ(tmp_path, monkeypatch, capsys, alone):
    rows = {name: {**row, "output_difference": 1.0} for name, row in alone["rows"].items()}
    monkeypatch.setattr(command, "measure", lambda *_, **__: {**alone, "rows": rows})
    assert main(["bench", f"--out={tmp_path / 'bench.json'}"]) == 1
    assert "differ by more than 0.0001" in capsys.readouterr().err


def test_rows_are_kept_when_a_later_one_fails(tmp_path, monkeypatch, alone):
    measured = iter([next(iter(alone["rows"].values()))])
    monkeypatch.setattr(bench, "_measure_row", lambda *_: next(measured))
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
    assert TRAINING.name in capsys.readouterr().out


def test_peak_memory_where_the_system_does_not_tell(monkeypatch):
    monkeypatch.setattr(bench.Path, "read_text", lambda _: "VmPeak: 1 kB")
    assert bench._peak_resident_bytes() is None


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--pairs=0", "must be at least 1"),
        ("--rows=512/pix2pix", "there is no row '512/pix2pix'"),
        ("--rows=", "there is no row"),
        ("--compute=tf32", "are for GPUs; give --device=gpu too"),
        ("--upsampling=phases", "are for GPUs; give --device=gpu too"),
        ("--peak=-1", "are for GPUs; give --device=gpu too"),
    ],
)
def test_bad_flags(flag, message, capsys):
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
