import json

import numpy as np
import pytest

SMALL = ["--config.data.size=64", "--config.generator.width=4", "--config.discriminator.width=4"]


def test_gradients_of_a_machine_without_accelerator(load_tool, capsys):
    load_tool("gpu_kit/numerics").main(["--config=pix2pix", *SMALL])
    rows = {row["arithmetic"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows.keys() == {"float32", "tf32", "bfloat16"}
    for name in ("generator", "discriminator"):
        assert rows["float32"][name] < 1e-6
        assert 1e-4 < rows["bfloat16"][name] < 1


def test_relative_error_by_numpy(load_tool):
    numerics = load_tool("gpu_kit/numerics")
    found, expected = np.array([3.0, 0.0], np.float32), np.array([3.0, 4.0], np.float32)
    assert numerics._relative([found, expected], [expected, expected]) == pytest.approx(4 / 50**0.5)


@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_speed(framework, load_tool, tmp_path, capsys):
    if framework == "torch":
        pytest.importorskip("torch")
    load_tool("gpu_kit/speed").main(
        [
            f"--framework={framework}",
            "--work=inference",
            "--batch=2",
            "--arithmetic=float32",
            f"--lock={tmp_path / 'lock'}",
            *SMALL,
        ]
    )
    row = json.loads(capsys.readouterr().out)
    assert row["images_per_second"] == pytest.approx(2000 / row["step_ms"], rel=0.01) and row["device"] == "cpu"
