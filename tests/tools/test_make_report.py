import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from maskgan_jax.errors import UserError
from maskgan_jax.files import read_image
from maskgan_jax.metrics.evaluation import picture_name


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("make_report")


def images(rng, count, offset=0.0):
    return [
        {
            "name": f"secret/{number}.jpg",
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


def write_run(folder, offset, width=32):
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    raw, put_back = images(rng, 60, offset), images(rng, 60, offset - 50)
    means = {"mse_masked": 1234.0, "psnr": 25.0, "ssim": 0.8, "st_lpips": 0.1, "seconds_per_image": 0.0123}
    scores = {**means, "split": "test", "parameters": 2_500_000, "images": raw, "put_back": {"images": put_back}}
    (folder / "scores.json").write_text(json.dumps(scores))
    (folder / "scores_unseen.json").write_text(json.dumps({"put_back": {"mse_masked": 2 * (1085.0 + offset)}}))
    config = {"data": {"size": 128}, "generator": {"width": width}, "training": {"epochs": 10.0, "validate_every": 0}}
    (folder / "config.json").write_text(json.dumps(config))
    lines = [{"step": step, "phase": "train", "l1": 100.0 / step, "masked": 7.0} for step in (5, 10)]
    lines += [{"step": step, "phase": "validation", "mse_masked": 1500.0} for step in (1, 10)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def runs(tmp_path):
    """Two systems, one of which is 100 worse on all images; and a network of another kind."""
    for name, offset in (("pix2pix", 100.0), ("proposed", 0.0)):
        write_run(tmp_path / name, offset)
    (tmp_path / "landmarks").mkdir()
    errors = {name: {"error": error, "contour": 2 * error} for name, error in (("unmasked", 0.03), ("masked", 0.04))}
    (tmp_path / "landmarks" / "scores.json").write_text(json.dumps(errors))
    early = {"mse_masked": 4321.0, "psnr": 20.0, "ssim": 0.7, "st_lpips": 0.3}
    (tmp_path / "proposed" / "epoch_2.json").write_text(json.dumps(early))
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

    # One of three people has the only known value: samples without that person say nothing.
    means = tool.resampled(np.array([5.0, np.nan, np.nan]), np.arange(3))
    assert set(means[~np.isnan(means)]) == {5.0} and 0.2 < np.isnan(means).mean() < 0.4


@pytest.mark.parametrize(
    ("setting", "epochs"), [({}, 3.0), ({"epochs": 0.5}, 1.5), ({"validate_every": 5}, 10.0)], ids=["a run", "short", "other"]
)
def test_curves_of_a_log_that_lacks_its_last_lines(tool, runs, setting, epochs):
    """The first validation tells where an epoch ends, unless validations are at steps of their own."""
    run = runs / "pix2pix"
    config = json.loads((run / "config.json").read_text())
    config["training"] |= setting
    (run / "config.json").write_text(json.dumps(config))
    lines = [{"step": 20, "phase": "validation", "mse_masked": 1500.0}, {"step": 60, "phase": "train", "l1": 1.0}]
    (run / "metrics.jsonl").write_text("\n".join([*map(json.dumps, lines), "cut o"]))
    assert tool._curves(run) == {"mse_masked": [[round(epochs / 3, 3)], [1500.0]], "l1": [[epochs], [1.0]]}
    (run / "metrics.jsonl").write_text(json.dumps(lines[1]))
    with pytest.raises(UserError, match="metrics.jsonl has no log of a run of `maskgan train` with a validation"):
        tool._curves(run)


def test_a_difference_without_an_interval_is_not_bold(tool):
    values = {column: np.full(4, np.nan) for column in tool.COLUMNS}
    systems = {name: tool.Scores(values, np.arange(4), {}) for name in ("pix2pix", "other")}
    with pytest.warns(RuntimeWarning, match="Mean of empty slice"):
        *_, row = tool.differences(systems, "pix2pix", tool.COLUMNS)
    assert row.startswith("| other | +nan (+nan to +nan) |")


def test_differences_are_of_images_that_both_have(tool):
    theirs, ours = np.array([1.0, 2.0, 9.0, 5.0]), np.array([2.0, 4.0, np.nan, 10.0])
    systems = {
        name: tool.Scores({"contour": values}, np.arange(4), {}) for name, values in (("pix2pix", theirs), ("other", ours))
    }
    *_, row = tool.differences(systems, "pix2pix", tool.MORE_COLUMNS)
    # Everywhere twice as much, whoever is drawn.
    assert row.startswith("| other | **+100.00 (+100.00 to +100.00)** |")


def test_a_run_with_another_seed_is_compared_with_that_of_the_same(tool, runs, tmp_path):
    write_run(runs / "pix2pix_seed1", 300.0)
    write_run(runs / "proposed_seed1", 250.0)
    tool.main([str(runs), f"--out={tmp_path / 'page' / 'results.md'}"])
    page = (tmp_path / "page" / "results.md").read_text()
    table = page.split("## Difference to pix2pix")[1].split("## ")[0].splitlines()[4:7]
    assert [row.split("|")[1].strip() for row in table] == ["pix2pix_seed1", "proposed", "proposed_seed1 to pix2pix_seed1"]
    # 200 of 1235, 100 of it less, and 50 of 1435 less.
    assert [row.split("|")[2].strip()[:7] for row in table] == ["**+16.1", "**-8.10", "**-3.48"]


def test_report(tool, runs, tmp_path, capsys):
    write_run(tmp_path / "long" / "proposed", 30.0, width=16)
    out = tmp_path / "page" / "results.md"
    tool.main([str(runs), f"--long={tmp_path / 'long'}", f"--out={out}"])
    text = out.read_text()
    assert "60 test images of 10 people" in text and "| landmarks |" not in text and "map module" not in text
    assert "is 0.0300 from dlib on bare faces, on masked ones 0.0400; its contour 0.0600 and 0.0800" in text
    raw, composite = text.split("## Table 2: the composite")
    assert "| pix2pix | 1235 (" in raw and "| proposed | 1135 (" in raw
    assert "| pix2pix | 1185 (" in composite
    # Paired, the difference is far surer than the means are.
    differences, of_composite = (part.split("## ")[0] for part in text.split("## Difference to pix2pix")[1:])
    (line,) = [line for line in differences.splitlines() if line.startswith("| proposed")]
    first = line.split("|")[2].strip()
    assert first.startswith("**-8.1") and first.endswith("**")
    assert "| +0.00 (+0.00 to +0.00) |" in line  # SSIM, which is the same.
    # The same of the composite, and of its contour and identity; there are no mouths.
    (line,) = [line for line in of_composite.splitlines() if line.startswith("| proposed")]
    cells = [cell.strip() for cell in line.split("|")]
    assert cells[2].startswith("**-8.4") and cells[6:10] == ["+0.00 (+0.00 to +0.00)", "", "+0.00 (+0.00 to +0.00)", ""]
    by_source = text.split("## The composite by source: MSE in the mask, ST-LPIPS\n")[1]
    assert "| system | one (30) | two (30) |\n|---|--:|--:|\n| pix2pix | 1200, 0.0500 | 1170, 0.0500 |\n" in by_source
    (drop,) = [line for line in text.split("unlike those trained on")[1].splitlines() if line.startswith("| proposed")]
    assert drop == "| proposed | 1085 | 2170 (2.00) |"
    assert "| proposed | 12.3 | 2.50 |" in text.split("## Cost")[1]
    of_epochs = text.split("## Table 1")[1].splitlines()[4:]
    assert of_epochs[0] == "| 128 px, width 32 | 2 | 4321 | 20.00 | 0.7000 | 0.3000 |"
    assert [line.split(" | ")[:2] for line in of_epochs[1:3]] == [["| 128 px, width 32", "10"], ["| 128 px, width 16", "10"]]
    assert of_epochs[3] == "| *the paper, 256 px, and its LPIPS* | 10 | 2594.464 | 27.596 | 0.901 | 0.0907 |"
    assert len(of_epochs) == 8
    height, width, _ = read_image(out.with_suffix(".png")).shape
    assert (width, height) == (960, 260)  # Three of the curves are logged.


def test_yi_is_a_base_too_and_the_papers_differences_stand_below(tool, runs, tmp_path):
    write_run(runs / "yi", 200.0)
    (runs / "map").mkdir()
    (runs / "map" / "scores.json").write_text(json.dumps({"iou": 0.9, "false_alarm": 0.001}))
    tool.main([str(runs), f"--out={tmp_path / 'page' / 'results.md'}"])
    page = (tmp_path / "page" / "results.md").read_text()
    assert "an intersection over union of 0.9000, and takes 0.10 % of the picture" in page
    table = page.split("## Difference to yi, per cent: what the generator draws")[1].split("## ")[0].splitlines()
    # The paper's text has 22.61 and 10.87 %, too; those of PSNR and SSIM it takes in per cent of its own method's.
    assert table[-2] == "| *proposed in the paper, and its LPIPS* | -22.61 | +6.04 | +1.98 | -10.87 |"
    assert [row.split(" | ")[0] for row in table[4:-1]] == [
        *("| pix2pix", "| proposed"),
        *(f"| *{name} in the paper, and its LPIPS*" for name in ("telea", "pix2pix", "proposed")),
    ]


def test_the_page_is_made_again_from_what_was_kept(tool, runs, tmp_path):
    out = tmp_path / "results.md"
    tool.main([str(runs), f"--out={out}"])
    kept = out.with_suffix(".json").read_text()
    assert "secret" not in kept and "person 1" not in kept
    assert json.loads(kept)["curves"]["pix2pix"] == {
        "l1": [[5.0, 10.0], [20.0, 10.0]],
        "masked": [[5.0, 10.0], [7.0, 7.0]],
        "mse_masked": [[1.0, 10.0], [1500.0, 1500.0]],
    }
    first = out.read_text()
    out.write_text(first.replace("experiment\n", "experiment\n\nWhat we read in it.\n", 1))
    tool.main([str(out.with_suffix(".json")), f"--out={out}"])
    assert out.read_text() == first.replace("experiment\n", "experiment\n\nWhat we read in it.\n", 1)
    assert out.with_suffix(".json").read_text() == kept


def test_a_file_from_before_networks_were_told(tool, runs, tmp_path):
    out = tmp_path / "results.md"
    tool.main([str(runs), f"--out={out}"])
    page, kept = out.read_text(), json.loads(out.with_suffix(".json").read_text())
    (sentence,) = [line for line in page.splitlines() if line.startswith("The landmark network")]
    del kept["networks"]
    out.with_suffix(".json").write_text(json.dumps(kept))
    tool.main([str(out.with_suffix(".json")), f"--out={out}"])
    assert out.read_text() == page.replace(f"{sentence}\n\n", "")


def test_what_is_new_is_added_to_what_was_kept(tool, runs, tmp_path):
    out = tmp_path / "page" / "results.md"
    tool.main([str(runs), f"--out={out}"])
    before = json.loads(out.with_suffix(".json").read_text())
    write_run(tmp_path / "elsewhere" / "masked", 50.0)
    write_run(tmp_path / "elsewhere" / "proposed", -40.0)
    tool.main([str(out.with_suffix(".json")), str(tmp_path / "elsewhere"), f"--out={out}"])
    after = json.loads(out.with_suffix(".json").read_text())
    assert list(after["systems"]) == list(after["curves"]) == ["pix2pix", "masked", "proposed"]
    assert after["systems"]["pix2pix"] == before["systems"]["pix2pix"]
    assert after["systems"]["proposed"]["raw"]["mse_masked"][0] == pytest.approx(
        before["systems"]["proposed"]["raw"]["mse_masked"][0] - 40, abs=1
    )
    assert "| masked | 1185 (" in out.read_text()


def test_files_are_merged_into_the_one_beside_the_page(tool, runs, tmp_path):
    pages = [tmp_path / "pages" / f"{name}.md" for name in ("first", "second", "both")]
    write_run(tmp_path / "elsewhere" / "pix2pix", 50.0)
    (tmp_path / "elsewhere" / "pix2pix" / "metrics.jsonl").unlink()
    for given, page in zip((runs, tmp_path / "elsewhere"), pages, strict=False):
        tool.main([str(given), f"--out={page}"])
    tool.main([*(str(page.with_suffix(".json")) for page in pages[:2]), f"--out={pages[2]}"])
    both = json.loads(pages[2].with_suffix(".json").read_text())
    # The last scores of a system, and no curves of others.
    assert list(both["systems"]) == ["pix2pix", "proposed"] and list(both["curves"]) == ["proposed"]
    assert both["systems"]["pix2pix"] == json.loads(pages[1].with_suffix(".json").read_text())["systems"]["pix2pix"]


def test_scores_of_other_images_are_not_added(tool, runs, tmp_path):
    out = tmp_path / "page" / "results.md"
    tool.main([str(runs), f"--out={out}"])
    before = out.with_suffix(".json").read_text()
    path = runs / "pix2pix" / "scores.json"
    path.write_text(path.read_text().replace("cloth", "n95"))
    for other in set(runs.iterdir()) - {runs / "pix2pix", runs / "page"}:
        (other / "scores.json").unlink()
    with pytest.raises(UserError, match="has scores of other images than .*results.json; make a page of its own"):
        tool.main([str(out.with_suffix(".json")), str(runs), f"--out={out}"])
    assert out.with_suffix(".json").read_text() == before


def test_another_page_is_not_overwritten(tool, runs, tmp_path):
    out = tmp_path / "README.md"
    out.write_text("# Mine\n")
    with pytest.raises(UserError, match="README.md is no page of this tool; give another --out"):
        tool.main([str(runs), f"--out={out}"])
    assert out.read_text() == "# Mine\n" and not out.with_suffix(".json").exists()


def test_pictures_of_another_program_have_a_row(tool, runs, tmp_path):
    """Their scores know the names of the pictures that they were made from, and nothing else."""
    theirs = [
        {key: value for key, value in image.items() if key not in ("person", *tool.LABELS)}
        | {"name": picture_name(number, image["name"])}
        for number, image in enumerate(images(np.random.default_rng(0), 60, 300))
    ]
    (runs / "theirs").mkdir()
    path = runs / "theirs" / "scores.json"
    path.write_text(json.dumps({"n": 60, "mse_masked": 1435.0, "images": theirs[::-1]}))
    tool.main([str(runs), f"--out={tmp_path / 'results.md'}"])
    page = (tmp_path / "results.md").read_text()
    raw, composite = page.split("## Table 2: the composite")
    # For want of others, what the program drew is also its composite.
    assert "| theirs | 1435 (" in raw and "| theirs | 1435 (" in composite and "| theirs |  |  |" in page.split("## Cost")[1]
    by_source = next(line for line in page.split("composite by source")[1].splitlines() if line.startswith("| theirs"))
    assert by_source == "| theirs | 1450, 0.0500 | 1420, 0.0500 |"
    path.write_text(json.dumps({"n": 60, "mse_masked": 1435.0, "images": theirs[1:]}))
    with pytest.raises(UserError, match="theirs/scores.json is of pictures with other names than `maskgan eval"):
        tool.main([str(runs), f"--out={tmp_path / 'results.md'}"])
    for name in ("pix2pix", "proposed"):
        (runs / name / "scores.json").unlink()
    with pytest.raises(UserError, match="theirs/scores.json does not tell who is in the pictures; put scores of `maskgan eval"):
        tool.main([str(runs), f"--out={tmp_path / 'results.md'}"])


@pytest.mark.parametrize("content", ["", "[]", '{"mse_masked": 1}', '{"mse_masked": 1, "images": [{}]}'])
def test_a_file_of_something_else(tool, runs, tmp_path, content):
    (runs / "pix2pix" / "scores.json").write_text(content)
    with pytest.raises(UserError, match="pix2pix/scores.json has no scores of `maskgan evaluate`|no scores of pix2pix"):
        tool.main([str(runs), f"--out={tmp_path / 'results.md'}"])
    with pytest.raises(UserError, match="scores.json has no scores"):
        tool.main([str(runs / "pix2pix" / "scores.json"), f"--out={tmp_path / 'results.md'}"])


@pytest.mark.parametrize("name", ["proposed/epoch_2.json", "proposed/config.json", "pix2pix/scores_unseen.json"])
@pytest.mark.parametrize("content", ["", "[]", "{}"])
def test_the_damaged_file_is_named(tool, runs, tmp_path, name, content):
    (runs / name).write_text(content)
    with pytest.raises(UserError, match=f"{name} has no scores"):
        tool.main([str(runs), f"--out={tmp_path / 'results.md'}"])
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["RUNS", "--out=results.json"], "give a name that ends in .md"),
        (["RUNS", "--out=results.md", "--long=nowhere"], "--long=nowhere: there is no proposed/scores.json"),
        (["RUNS/pix2pix/scores.json", "--out=results.md", "--long=RUNS"], "FILE.json has them already"),
    ],
)
def test_flags_that_are_of_no_use(tool, runs, tmp_path, monkeypatch, flags, message):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UserError, match=message):
        tool.main([flag.replace("RUNS", str(runs)) for flag in flags])
    assert not list(Path().iterdir())


def test_nothing_to_report(tool, tmp_path):
    with pytest.raises(UserError, match="run the experiment first"):
        tool.main([str(tmp_path), f"--out={tmp_path / 'results.md'}"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images: images[:-1], "proposed/scores.json is of other images than those of other systems"),
        (lambda images: [{k: v for k, v in image.items() if k != "st_lpips"} for image in images], "has no scores.*st_lpips"),
    ],
)
def test_scores_that_cannot_be_compared(tool, runs, change, message):
    path = runs / "proposed" / "scores.json"
    scores = json.loads(path.read_text())
    path.write_text(json.dumps({**scores, "images": change(scores["images"])}))
    with pytest.raises(UserError, match=message):
        tool.collect(runs)
