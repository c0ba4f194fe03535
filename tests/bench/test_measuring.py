import json

import numpy as np
import pytest

from maskgan_jax.bench.measuring import TARGET, equal_outputs, measure
from maskgan_jax.bench.rows import Row
from maskgan_jax.bench.setup import TORCH_VARIANTS
from maskgan_jax.bench.table import format_table
from maskgan_jax.errors import UserError

EAGER = [name for name, options in TORCH_VARIANTS.items() if not options["compiled"]]
COMPILED = "torch.compile, channels_last"


def test_ours(result):
    assert json.loads(json.dumps(result)) == result
    assert result["machine"]["jax"] and result["machine"]["threads"] >= 1
    for row in result["rows"].values():
        ours = row["maskgan"]
        assert ours["images_per_second"] == pytest.approx(np.median(ours["rounds"])) and len(ours["rounds"]) == 2
        assert ours["compile_seconds"] > 0 and ours["backend"] == "cpu"
        assert ours["peak_resident_bytes"] is None or ours["peak_resident_bytes"] > 1e8
    step = result["rows"]["64/proposed-2"]["maskgan"]
    assert step["step_bytes_per_image"] == sum(step["step_bytes"].values()) / 2 > 1e5


def test_against_torch(result):
    pytest.importorskip("torch")
    assert result["machine"]["torch"]
    for measured in result["rows"].values():
        ours, theirs = measured["maskgan"], measured["torch"]
        ratios = np.divide(ours["rounds"], theirs["rounds"])
        assert measured["ratio"] == pytest.approx(np.median(ratios)) and len(ratios) == 2
        assert measured["ratio_range"] == pytest.approx([ratios.min(), ratios.max()])
        assert measured["met"] == (measured["ratio"] >= TARGET)
        assert theirs["variant"] in theirs["tried_images_per_second"]
    step, unmask = (row["torch"] for row in result["rows"].values())
    assert set(step["tried_images_per_second"]) == set(EAGER) and not step["unavailable"]
    assert set(unmask["tried_images_per_second"]) == set(EAGER[:1]) and set(unmask["unavailable"]) == {COMPILED}
    assert result["rows"]["64/unmask-2"]["output_difference"] < 1e-4
    assert equal_outputs(result)


def test_on_a_gpu_the_fraction_of_its_peak_is_told(gpu_result):
    assert json.loads(json.dumps(gpu_result)) == gpu_result and gpu_result["upsampling"] == "phases"
    training, inference = gpu_result["rows"].values()
    for row in (training, inference):
        for ours in [row["maskgan"], *([row["torch"]] if "torch" in row else [])]:
            expected = row["flops"] * ours["images_per_second"] / row["batch"] / 1e12
            assert ours["flop_utilization"] == pytest.approx(expected) and 0 < expected < 1
    # A step: the generator's pass, two of the discriminator, and twice as much backwards.
    assert 3 * inference["flops"] < training["flops"] < 30 * inference["flops"]


def test_tables(result, gpu_result):
    for measured in (result, gpu_result):
        header, *lines = format_table(measured).splitlines()
        assert [line.split()[0] for line in lines] == list(measured["rows"])
        assert ("PyTorch" in header) == ("torch" in measured["machine"])


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
    assert 2 * (down + up) <= gpu_result["rows"]["64/inference-2"]["flops"] <= 1.25 * 2 * (down + up)


def test_against_torch_on_a_gpu(gpu_result):
    pytest.importorskip("torch")
    for row in gpu_result["rows"].values():
        ours, theirs = row["maskgan"]["images_per_second"], row["torch"]["images_per_second"]
        assert row["ratio"] == pytest.approx(ours / theirs) and row["ratio_range"][0] <= row["ratio"] <= row["ratio_range"][1]
        assert row["torch"]["variant"] == EAGER[0]
        assert "output" not in row["maskgan"] and "output" not in row["torch"]
    assert [set(row["torch"]["unavailable"]) for row in gpu_result["rows"].values()] == [set(), {COMPILED}]
    assert gpu_result["rows"]["64/inference-2"]["output_difference"] < 1e-4


def test_without_a_gpu(monkeypatch):
    monkeypatch.delenv("MASKGAN_ACCELERATOR", raising=False)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    with pytest.raises(UserError, match="maskgan failed: JAX finds no GPU here"):
        measure([Row("inference", 64, 4, 2)], device="gpu", pairs=1)


def test_outputs_that_differ():
    result = {"compute": "float32", "rows": {"one": {"output_difference": 2e-4}, "other": {}}}
    assert not equal_outputs(result)
    assert equal_outputs({**result, "compute": "bfloat16"})
    assert not equal_outputs({**result, "rows": {"one": {"output_difference": float("nan")}}})
