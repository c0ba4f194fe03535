import json

import numpy as np
import pytest
from scipy import stats

from maskgan_jax.errors import UserError


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("make_report")


def images(rng, count, offset=0.0):
    return [
        {
            "id": str(number),
            "person": f"person {number % 10}",
            "source": "one" if number % 2 else "two",
            "mask_type": "cloth",
            "acted": "happy" if number % 3 else "",
            "identity": 0.4,
            "mse_masked": float(1000 + offset + 30 * (number % 10) + rng.normal()),
            "psnr": 30.0 - offset / 100,
            "ssim": 0.9,
            "st_lpips": 0.05,
            "contour": None if number == 3 else 0.1,
        }
        for number in range(count)
    ]


@pytest.fixture
def runs(tmp_path):
    """Two systems, one of which is 100 worse on all images; and a network of another kind."""
    rng = np.random.default_rng(0)
    for name, offset in (("pix2pix", 100.0), ("proposed", 0.0)):
        folder = tmp_path / name
        folder.mkdir()
        raw, put_back = images(rng, 60, offset), images(rng, 60, offset - 50)
        scores = {"mse_masked": 1.0, "images": raw, "put_back": {"images": put_back}}
        (folder / "scores.json").write_text(json.dumps(scores))
        (folder / "scores_unseen.json").write_text(json.dumps({"mse_masked": 1.0, "images": images(rng, 60, offset + 1000)}))
    (tmp_path / "landmarks").mkdir()
    (tmp_path / "landmarks" / "scores.json").write_text(json.dumps({"error": 1.0}))
    return tmp_path


def test_intervals_equal_scipys_where_each_person_has_one_image(tool):
    values = np.random.default_rng(1).gamma(2, 100, 150)
    ours = tool.interval(tool.resampled(values, np.arange(150)))
    theirs = stats.bootstrap((values,), np.mean, n_resamples=5000, method="percentile", rng=2).confidence_interval
    np.testing.assert_allclose(ours, theirs, rtol=0.01)


def test_people_are_drawn_and_not_images(tool):
    """Where all images of a person are equal, more of them add nothing."""
    of_people = np.random.default_rng(2).normal(100, 10, 20)
    once = tool.interval(tool.resampled(of_people, np.arange(20)))
    often = tool.interval(tool.resampled(np.repeat(of_people, 7), np.repeat(np.arange(20), 7)))
    np.testing.assert_allclose(once, often)
    alone = tool.interval(tool.resampled(np.repeat(of_people, 7), np.arange(140)))
    assert alone[1] - alone[0] < 0.5 * (once[1] - once[0])


def test_what_is_missing_is_left_out(tool):
    values = np.array([1.0, np.nan, 3.0])
    assert tool.resampled(values, np.zeros(3, int)) == pytest.approx(2)


def test_report(tool, runs, tmp_path, capsys):
    tool.main([str(runs), f"--out={tmp_path / 'results.md'}"])
    text = (tmp_path / "results.md").read_text()
    assert "60 test images of 10 people" in text and "landmarks" not in text
    raw, composite = text.split("## Table 2: the composite")
    assert "| pix2pix | 1235 (" in raw and "| proposed | 1135 (" in raw
    assert "| pix2pix | 1185 (" in composite
    # Paired, the difference is far surer than the means are.
    differences = text.split("## Difference to pix2pix")[1].split("## ")[0]
    (line,) = [line for line in differences.splitlines() if line.startswith("| proposed")]
    first = line.split("|")[2].strip()
    assert first.startswith("**-8.1") and first.endswith("**")
    assert "| +0.00 (+0.00 to +0.00) |" in line  # SSIM, which is the same.
    assert "| system | one (30) | two (30) |" in text
    (drop,) = [line for line in text.split("unlike those trained on")[1].splitlines() if line.startswith("| proposed")]
    assert drop.startswith("| proposed | 1085 | 2135 (1.97)")


@pytest.mark.parametrize("content", ["", "[]", '{"mse_masked": 1}', '{"mse_masked": 1, "images": [{}]}'])
def test_a_file_of_something_else(tool, runs, content):
    (runs / "pix2pix" / "scores.json").write_text(content)
    with pytest.raises(UserError, match="has no scores of `maskgan evaluate`|has no pix2pix/scores.json"):
        tool.report(runs)


def test_nothing_to_report(tool, tmp_path):
    with pytest.raises(UserError, match="run the experiment first"):
        tool.report(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images: images[:-1], "proposed/scores.json is of other images than pix2pix"),
        (lambda images: [{k: v for k, v in image.items() if k != "st_lpips"} for image in images], "has no scores.*st_lpips"),
    ],
)
def test_scores_that_cannot_be_compared(tool, runs, change, message):
    path = runs / "proposed" / "scores.json"
    scores = json.loads(path.read_text())
    path.write_text(json.dumps({**scores, "images": change(scores["images"])}))
    with pytest.raises(UserError, match=message):
        tool.report(runs)
