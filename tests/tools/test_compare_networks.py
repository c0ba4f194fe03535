import json

import numpy as np
import pytest

from maskgan_jax.data.masked_faces.reader import load_split
from maskgan_jax.data.masks.geometry import six_points
from maskgan_jax.errors import UserError
from maskgan_jax.networks.safetensors import load_safetensors, save_safetensors


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("compare_networks")


METRICS = ("detail", "contour", "seam", "mouth")


def test_scores_and_pictures(tool, data_dir, generator_file, tmp_path, capsys):
    out, examples = tmp_path / "scores.json", tmp_path / "faces.png"
    flags = [
        f"--data_dir={data_dir}",
        "--faces=2",
        f"--out={out}",
        f"--examples={examples}",
        "--by=source",
        "--by=age",
        "--by=expression",
    ]
    record = load_split(data_dir, "test")[0]
    (tmp_path / "faces.csv").write_text(f"file,source,age\n{record['id']},rendered,34\n")
    labels = f"--labels={tmp_path / 'faces.csv'}"
    tool.main([str(generator_file), *flags, labels, f"--metrics={','.join(METRICS)}"])
    result = json.loads(out.read_text())
    scores = result["scores"]
    assert set(scores) == {
        f"{name}, {masks}" for name in ("input", "telea", "generator") for masks in ("drawn", "foreign", "templates")
    }
    for score in scores.values():
        assert all(np.isfinite(score[name]) for name in ("mse_masked", "psnr", "ssim", "st_lpips", *METRICS))
    # An untrained network draws worse than Telea's method.
    assert scores["generator, drawn"]["mse_masked"] > scores["telea, drawn"]["mse_masked"]
    for name, score in scores.items():
        assert result["by_source"][f"{name}, rendered"] == score
        assert result["by_age"][f"{name}, 20-39"]["n"] == result["by_age"][f"{name}, unknown"]["n"] == 1
        assert {"mse_masked", *METRICS} <= result["by_expression"][f"{name}, sad"].keys()
    printed = capsys.readouterr().out
    assert examples.exists() and "| telea, foreign | 2 |" in printed and "| input, templates, 20-39 | 1 |" in printed
    assert "fine detail | contour error | seam | mouth error |" in printed


def test_labels(tool, tmp_path):
    (tmp_path / "faces.csv").write_text("file,source,age,expression\na/1.jpg,a,12,sad\n2.jpg,a,60,\n3.jpg,,?,happy\n")
    (tmp_path / "short.csv").write_text("age,file\n12\n3,a.jpg\n")
    assert tool.read_labels(str(tmp_path / "short.csv"))["folder/a.jpg"]["age"] == "3"
    labels = tool.read_labels(str(tmp_path / "faces.csv"))
    records = [{"id": name, "expression": ""} for name in ("a/1.jpg", "a/2.jpg", "folder/3.jpg", "b/4.jpg")]
    assert [tool._group(record, "age", labels) for record in records] == ["00-12", "60 and older", "unknown", "unknown"]
    expressions = [tool._group(record, "expression", labels) for record in records]
    assert expressions == ["sad", "unknown", "happy", "unknown"]
    assert tool._group({"id": "", "expression": "angry"}, "expression", {}) == "angry"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--metrics=beauty"], "there is no metric 'beauty'"),
        (["--metrics=seam", "--by=age"], "--by=age needs --labels"),
        (["--metrics=seam", "--faces=0"], "--faces=0: give at least 1"),
        (["other/network.safetensors", "--metrics=seam"], "two rows called network; rename one of the networks"),
        (["input", "--metrics=seam"], "two rows called input"),
        (["--metrics=seam", "--labels=nowhere.csv"], "cannot read nowhere.csv"),
        (["--metrics=seam", f"--labels={__file__}"], "no rows with a column 'file'"),
    ],
)
def test_bad_flags(tool, flags, message):
    with pytest.raises(UserError, match=message):
        tool.main(["network", *flags, "--data_dir=nowhere"])


def test_a_score_that_no_face_has(tool, capsys):
    tool.print_table({"input, drawn": {"n": 1, "psnr": 20.0, "contour": None, "other": 0.5, "left_out": {"contour": 1}}})
    assert capsys.readouterr().out.splitlines() == [
        "| network, masks | faces | PSNR, dB | contour error | other |",
        "|---|---|---|---|---|",
        "| input, drawn | 1 | 20.00 | - | 0.5000 |",
    ]


def test_foreign_masks_hide_the_mouth_and_nothing_else(tool, data_dir):
    for number, record in enumerate(load_split(data_dir, "train")):
        foreign = tool.with_foreign_mask(record, np.random.default_rng(number))
        mask = foreign["mask"][..., 0] > 0
        x, y = record["landmarks"][48:60].mean(0).round().astype(int)
        assert mask[y, x] and 0.02 < mask.mean() < 0.5
        np.testing.assert_array_equal(foreign["masked"][~mask], record["real"][~mask])
        # Of one colour, unlike the drawn masks.
        assert len(np.unique(foreign["masked"][mask], axis=0)) == 1


def test_templates_hide_the_mouth_and_nothing_else(tool, data_dir):
    kinds = set()
    for number, record in enumerate(load_split(data_dir, "train")):
        worn = tool.with_template(record, np.random.default_rng(number))
        mask = worn["mask"][..., 0] > 0
        x, y = record["landmarks"][48:60].mean(0).round().astype(int)
        assert mask[y, x] and 0.02 < mask.mean() < 0.6 and worn["mask_type"] == "template"
        np.testing.assert_array_equal(worn["masked"][~mask], record["real"][~mask])
        # Flat: of one colour or two.
        assert len(np.unique(worn["masked"][mask], axis=0)) <= 2
        assert worn["masked"].dtype == worn["mask"].dtype == np.uint8
        kinds.add(tool.draw_template(np.random.default_rng(number)).name)
    assert len(kinds) > 2


def test_templates_are_warped_by_the_six_points(tool, data_dir, monkeypatch):
    """A mark at a point of the template is at that point of the face."""
    record = load_split(data_dir, "train")[0]
    seen = 0
    for image_point, face_point in enumerate(six_points(record["landmarks"])):
        template = tool.draw_template(np.random.default_rng(0))
        x, y = template.points[image_point].round().astype(int)
        template.image[:] = 0
        template.image[max(0, y - 12) : y + 13, max(0, x - 12) : x + 13] = 255
        monkeypatch.setattr(tool, "draw_template", lambda rng, template=template: template)
        mask = tool.with_template(record, None)["mask"][..., 0]
        monkeypatch.undo()
        where = np.argwhere(mask > 0)
        if len(where):  # The ends of the top edge may lie beyond the image.
            assert np.hypot(*(where.mean(0)[::-1] - face_point)) < 4
            seen += 1
    assert seen >= 4


def test_network_for_other_squares(tool, data_dir, generator_file, config, tmp_path):
    config.data.zoom = 1.25
    save_safetensors(tmp_path / "other.safetensors", load_safetensors(generator_file), config)
    with pytest.raises(UserError, match=r"other\.safetensors is for faces with data\.zoom=1\.25, those in .* have 1"):
        tool.main([str(tmp_path / "other.safetensors"), f"--data_dir={data_dir}", "--metrics=seam"])


def test_a_file_that_cannot_be_written_is_told_before_the_work(tool, data_dir, generator_file, monkeypatch):
    monkeypatch.setattr(tool, "score_each", None)
    with pytest.raises(UserError, match="cannot write /proc/faces.png"):
        tool.main([str(generator_file), f"--data_dir={data_dir}", "--metrics=seam", "--examples=/proc/faces.png"])
