import json

import numpy as np
import pytest

from maskgan_jax.data.masked_faces.reader import load_split
from maskgan_jax.errors import UserError
from maskgan_jax.networks.safetensors import load_safetensors, save_safetensors


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("compare_networks")


def test_scores_and_pictures(tool, data_dir, generator_file, tmp_path, capsys):
    out, examples = tmp_path / "scores.json", tmp_path / "faces.png"
    tool.main([str(generator_file), f"--data_dir={data_dir}", "--faces=2", f"--out={out}", f"--examples={examples}"])
    scores = json.loads(out.read_text())["scores"]
    assert set(scores) == {f"{name}, {masks}" for name in ("telea", "generator") for masks in ("drawn", "foreign")}
    for score in scores.values():
        assert all(np.isfinite(score[name]) for name in ("mse_masked", "psnr", "ssim", "st_lpips", "detail", "contour"))
    # An untrained network draws worse than Telea's method.
    assert scores["generator, drawn"]["mse_masked"] > scores["telea, drawn"]["mse_masked"]
    assert examples.exists() and "| telea, foreign |" in capsys.readouterr().out


def test_foreign_masks_hide_the_mouth_and_nothing_else(tool, data_dir):
    for number, record in enumerate(load_split(data_dir, "train")):
        foreign = tool.with_foreign_mask(record, np.random.default_rng(number))
        mask = foreign["mask"][..., 0] > 0
        x, y = record["landmarks"][48:60].mean(0).round().astype(int)
        assert mask[y, x] and 0.02 < mask.mean() < 0.5
        np.testing.assert_array_equal(foreign["masked"][~mask], record["real"][~mask])
        # Of one colour, unlike the drawn masks.
        assert len(np.unique(foreign["masked"][mask], axis=0)) == 1


def test_contour_error_of_the_same_and_of_a_moved_face(tool, data_dir):
    record = load_split(data_dir, "train")[0]
    assert tool._contour_error(record["real"], record) == 0
    moved = np.roll(record["real"], 4, axis=1)
    between_eyes = np.hypot(*(record["landmarks"][36:42].mean(0) - record["landmarks"][42:48].mean(0)))
    assert 0.3 * 4 / between_eyes < tool._contour_error(moved, record) < 2 * 4 / between_eyes


def test_detail_of_the_same_and_of_a_blurred_face(tool):
    real = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    mask = np.zeros((64, 64, 1), np.uint8)
    mask[16:48, 16:48] = 255
    assert tool._detail_ratio(real, real, mask) == pytest.approx(1)
    assert tool._detail_ratio(np.full_like(real, 128), real, mask) == 0


def test_network_for_other_squares(tool, data_dir, generator_file, config, tmp_path):
    config.data.zoom = 1.25
    save_safetensors(tmp_path / "other.safetensors", load_safetensors(generator_file), config)
    with pytest.raises(UserError, match=r"other is for faces with data\.zoom=1\.25, those in .* have 1"):
        tool.main([str(tmp_path / "other.safetensors"), f"--data_dir={data_dir}"])
