"""The report's files agree with each other, and say what they are."""

import csv
import json

import numpy as np
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.files import write_png
from maskgan_jax.study import machine
from maskgan_jax.study.database import Database
from maskgan_jax.study.report import COLUMNS, write_study_report
from maskgan_jax.study.simulation import simulate_study


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The folder of a report on seven simulated raters, one of whom answers at random."""
    folder = tmp_path_factory.mktemp("study")
    tasks = {"rating": 5, "pair": 1, "real": 2}
    database = simulate_study(folder / "study.db", raters=7, careless=1, faces=60, tasks=tasks)
    assert write_study_report(database, folder / "report", resamples=100) == folder / "report" / "report.html"
    return folder / "report"


def test_the_page_has_all_tables(report):
    page = (report / "report.html").read_text()
    for words in (
        "The raters are simulated: no person judged anything.",
        "6 raters of 7 who joined; 5 methods, 60 faces",
        "Quality, accuracy and duration (the paper&#x27;s Table 3)",
        "p-values of each pair (the paper&#x27;s Table 4)",
        "Accuracy by expression (the paper&#x27;s Table 5), %",
        "Bradley-Terry",
        "Krippendorff",
        "Taken for real photographs",
        "Raters left out: 1",
        "not corrected for the number of pairs",
    ):
        assert words in page
    assert page.count("data:image/png") == 5
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")


def test_json_has_the_same(report):
    results = json.loads((report / "report.json").read_text())
    assert results["raters"]["excluded"].keys() == {"simulated-007"}
    assert results["methods"] == ["real", "masked", "telea", "pix2pix", "proposed"]
    mean = results["rating"]["table3"]["real"]["quality"]["mean"]
    assert f"<td>{mean:.2f} ± " in (report / "report.html").read_text()
    assert len(results["rating"]["table4"]) == len(results["pair"]["preferences"]) == 10


def test_csv_has_every_answer_and_gives_the_same_means(report):
    with open(report / "answers.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    results = json.loads((report / "report.json").read_text())
    assert len(rows) == 7 * (25 + 10 + 10 + 3 * 3)
    kept = [row for row in rows if row["excluded"] == "false" and row["repeat"] == "false" and row["method"] == "proposed"]
    quality = [int(row["quality"]) for row in kept if row["task"] == "rating"]
    table3 = results["rating"]["table3"]["proposed"]
    assert len(quality) == 30 and sum(quality) / 30 == pytest.approx(table3["quality"]["mean"])
    right = [row["expression"] == row["true_expression"] for row in kept if row["task"] == "rating"]
    assert 100 * sum(right) / 30 == pytest.approx(table3["accuracy"]["mean"])
    pairs = [row for row in rows if row["task"] == "pair"]
    assert all(row["chosen"] in (row["method"], row["right_method"]) and row["quality"] == "" for row in pairs)


def test_the_schema_describes_the_csv(report):
    (resource,) = json.loads((report / "datapackage.json").read_text())["resources"]
    with open(report / resource["path"], newline="") as file:
        rows = list(csv.DictReader(file))
    fields = {field["name"]: field["type"] for field in resource["schema"]["fields"]}
    assert list(rows[0]) == list(fields) == [name for name, _, _ in COLUMNS]
    reads = {"string": str, "integer": int, "number": float, "boolean": {"true": True, "false": False}.__getitem__}
    for row in rows:
        for name, text in row.items():
            assert text == "" or reads[fields[name]](text) is not None
    keys = [tuple(row[name] for name in resource["schema"]["primaryKey"]) for row in rows]
    assert len(set(keys)) == len(keys)


def test_without_answers(database, tmp_path):
    with pytest.raises(UserError, match=r"there are no answers in .*study.db yet"):
        write_study_report(database, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_a_study_that_has_just_begun(database, reply, tmp_path):
    """One rater with one answer is left out; with the rule widened, tables have gaps and no failure."""
    rater = database.join("key", "anna")
    (name, trial), *_ = database.trials(rater).items()
    database.store(rater, [reply(name, trial)])
    page = write_study_report(database, tmp_path / "report", resamples=100).read_text()
    assert "The rule below leaves all raters out" in page and "answered 1 of 21 trials" in page
    database.settings["exclusion"] |= {"answered": 0}
    page = write_study_report(database, tmp_path / "report", resamples=100).read_text()
    assert "– (no two raters judged the same image, or all answers are alike)" in page
    assert "Table 3" in page and "nan" not in page and "None" not in page


def test_names_of_methods_are_text(database, reply, tmp_path, monkeypatch):
    renamed = {"real": "real", "ours": "<b>$\\frac$", "masked": "masked", "telea": "telea"}
    design = database.design
    design = type(design)(design.faces, list(renamed.values()), {"rating": 2}, 0, 0)
    digests = {(face, method): "" for face in design.faces for method in design.methods}
    rule = database.settings["exclusion"] | {"anchor": -9}
    other = Database.create(tmp_path / "other.db", design, digests, {"consent": "", "exclusion": rule})
    for rater in ("anna", "bert"):
        other.join(rater, rater)
        other.store(rater, [reply(*item) for item in other.trials(rater).items()])
    page = write_study_report(other, tmp_path / "report", resamples=100).read_text()
    assert "&lt;b&gt;$\\frac$" in page and "<b>$" not in page


def test_a_machine_is_named_as_one(database, reply, tmp_path, monkeypatch):
    rater = database.join("key", "anna")
    database.store(rater, [reply(*item) for item in database.trials(rater).items()])
    seen = []

    def judge(images, faces):
        seen.append((images.methods, images.read(images.faces[0], "telea").shape, faces))
        accuracy = dict.fromkeys(images.methods, 50.0)
        by_expression = {expression: accuracy for expression in machine.EXPRESSIONS}
        return {"rater": machine.NAME, "faces": 24, "accuracy": accuracy, "table5": {"accuracy": by_expression}}

    monkeypatch.setattr(machine, "machine_tables", judge)
    page = write_study_report(database, tmp_path / "report", resamples=100, machine=True).read_text()
    assert seen == [(["real", "ours", "masked", "telea"], (64, 64, 3), database.design.faces)]
    assert "face-api&#x27;s classifier of expressions (a machine, not a person) chose among" in page


def test_a_machine_judges_no_other_images(database, reply, tmp_path, monkeypatch):
    rater = database.join("key", "anna")
    database.store(rater, [reply(*item) for item in database.trials(rater).items()])
    write_png(tmp_path / "other.png", np.zeros((64, 64, 3), np.uint8))
    files = database.settings["files"]
    database.settings["files"] = {**files, "ours": dict.fromkeys(files["ours"], str(tmp_path / "other.png"))}
    monkeypatch.setattr(machine, "machine_tables", lambda images, faces: images.read(images.faces[0], "ours"))
    with pytest.raises(UserError, match="of 'ours' is another image than when the study began"):
        write_study_report(database, tmp_path / "report", resamples=100, machine=True)


def test_no_machine_for_simulated_raters(tmp_path):
    database = simulate_study(tmp_path / "study.db", raters=1, faces=30, tasks={"rating": 2})
    with pytest.raises(UserError, match="this study has no images, as its raters are simulated"):
        write_study_report(database, tmp_path / "report", resamples=100, machine=True)
