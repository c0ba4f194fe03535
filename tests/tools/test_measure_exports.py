import re

import pytest

from maskgan_jax.errors import UserError


@pytest.fixture
def tool(load_tool, monkeypatch):
    tool = load_tool("measure_exports")
    monkeypatch.setattr(tool, "ROUNDS", 1)
    monkeypatch.setattr(tool, "SECONDS", 1e-6)
    return tool


def test_every_format_is_written_run_and_agrees(tool, tmp_path, capsys):
    out = tmp_path / "exports"
    tool.main([f"--out={out}", "--network=segmentation", "--batch=1"])
    printed = capsys.readouterr().out
    rows = {line[:26].strip(): line[26:].split() for line in printed.split("difference\n")[1].splitlines()}
    assert {"safetensors", "safetensors, float16", "orbax", "stablehlo", "onnx", "pytorch"} <= rows.keys()
    # Our own has no file; those after it have a size, and those that can be run here speed and difference too.
    for name in ("stablehlo", "onnx"):
        size, seconds, speed, difference = map(float, rows[name])
        assert size > 0 and seconds > 0 and speed > 0 and difference < 1e-4
    stored = sum(path.stat().st_size for path in out.glob("half.safetensors")) / 1e6
    assert float(rows["safetensors, float16"][0]) == pytest.approx(stored, abs=0.051)
    assert re.search(r"^segmentation, batch 1$", printed, re.MULTILINE)


def test_what_is_there_is_kept(tool, tmp_path):
    (tmp_path / "mine").write_text("dear")
    with pytest.raises(UserError, match="File exists"):
        tool.main([f"--out={tmp_path}"])
    assert (tmp_path / "mine").read_text() == "dear"
    with pytest.raises(UserError, match="--batch=0: give at least 1"):
        tool.main([f"--out={tmp_path / 'new'}", "--batch=0"])
    assert not (tmp_path / "new").exists()
