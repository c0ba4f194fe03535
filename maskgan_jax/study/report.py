"""The report of a study: an HTML page with tables and plots, the same as JSON, and the answers as CSV with their schema."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from maskgan_jax.demo.report import COLOURS, Section, folded, image, paragraph, table, write_report
from maskgan_jax.errors import UserError
from maskgan_jax.files import replacing, write_json
from maskgan_jax.study.analysis import analyse
from maskgan_jax.study.database import Answer, Database
from maskgan_jax.study.design import EXPRESSIONS
from maskgan_jax.study.exclusion import chosen
from maskgan_jax.study.images import Images

# The columns of answers.csv: name, type of a Table Schema (https://datapackage.org), and what it is.
COLUMNS = (
    ("rater", "string", "id of the rater"),
    ("excluded", "boolean", "whether the rule that was fixed at the start leaves the rater out"),
    ("place", "integer", "of the trial among the rater's, from 0 on"),
    ("task", "string", "rating, pair or real"),
    ("repeat", "boolean", "whether the rater had judged the same before; such rows are in no table of the report"),
    ("face", "string", "name of the face"),
    ("true_expression", "string", "empty if it is not known"),
    ("method", "string", "whose image was shown; in a pair: on the left"),
    ("right_method", "string", "in a pair: whose image was on the right"),
    ("expression", "string", "the answer in the task rating"),
    ("quality", "integer", "the answer in the task rating, 1 (worst) to 7 (best)"),
    ("chosen", "string", "the answer in the task pair: the method whose image looked more real"),
    ("called_real", "boolean", "the answer in the task real"),
    ("milliseconds", "number", "from the painted image to the first answer; empty if the rater was away or had seen it before"),
    ("quality_milliseconds", "number", "in the task rating, from the painted second question to its answer; likewise"),
    ("scale", "number", "pixels of the screen to one of the image"),
)
CAVEATS = (
    "The p-values of quality are of single pairs, as in the paper, and not corrected for the number of pairs: of twenty pairs "
    "without a difference, one falls below 0.05 on average. Holm's correction holds for all pairs together, and so do Tukey's "
    "p-values of accuracy and of duration, each for its own column: nothing corrects for looking at several columns.",
    "Both tests take the samples of two methods as independent, as the paper does, though the same raters judge all methods. "
    "This mostly costs power. Accuracies near 100 % are far from normally distributed, which Tukey's test assumes.",
    "A large p-value is no sign that two methods are equal. The intervals draw raters and faces anew: they hold for other "
    "raters and faces of the same kind, not for other kinds, and are rather too wide than too narrow.",
)


def write_study_report(database: Database, folder: str | os.PathLike, *, resamples: int = 1000, machine: bool = False) -> Path:
    """Writes `report.html`, `report.json`, `answers.csv` and `datapackage.json` to a folder; returns the path of the first.

    Args:
      database: the study.
      folder: made if it is not there.
      resamples: of the bootstrap.
      machine: whether a classifier of expressions judges the images, too.

    Raises:
      UserError: there are no answers yet, a file cannot be written, or the machine lacks something.
    """
    folder, answers = Path(folder), database.answers()
    if not answers:
        raise UserError(f"there are no answers in {database.path} yet")
    results = analyse(database, resamples)
    if machine:
        results["machine"] = _machine(database)
    write_json(folder / "report.json", results)
    _write_csv(folder / "answers.csv", answers, results["raters"]["excluded"], database.design.faces)
    fields = [{"name": name, "type": kind, "description": what} for name, kind, what in COLUMNS]
    resource = {"name": "answers", "path": "answers.csv", "format": "csv", "encoding": "utf-8"}
    schema = {"fields": fields, "primaryKey": ["rater", "place"], "missingValues": [""]}
    write_json(folder / "datapackage.json", {"name": "maskgan-study", "resources": [{**resource, "schema": schema}]})
    title = "A study with simulated raters" if results["simulated"] else "What people say about the faces"
    write_report(folder / "report.html", title, _introduction(results), list(_sections(results)))
    return folder / "report.html"


def _machine(database: Database) -> dict[str, Any]:
    # Here, because it takes JAX, which nothing else of the study needs.
    from maskgan_jax.study.machine import machine_tables

    files, mask = database.settings["files"], database.settings["mask"]
    if not files:
        raise UserError("this study has no images, as its raters are simulated; leave out --machine")
    folders = {method: {face: Path(file) for face, file in of.items()} for method, of in files.items()}
    return machine_tables(Images(folders, mask, database.digests()), database.design.faces)


def _write_csv(path: Path, answers: Sequence[Answer], excluded: Mapping[str, str], faces: Mapping[str, str]) -> None:
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        rows = csv.DictWriter(file, [name for name, _, _ in COLUMNS])
        rows.writeheader()
        for answer in answers:
            trial, given, milliseconds = answer.trial, answer.given, dict(answer.milliseconds)
            row = {
                "rater": answer.rater,
                "excluded": answer.rater in excluded,
                "place": answer.place,
                "task": trial.task,
                "repeat": trial.repeat,
                "face": trial.face,
                "true_expression": faces[trial.face],
                "method": trial.methods[0],
                "right_method": trial.methods[1] if trial.task == "pair" else "",
                "expression": given.get("expression", ""),
                "quality": given.get("quality", ""),
                "chosen": chosen(answer) if trial.task == "pair" else "",
                "called_real": given["real"] == "yes" if trial.task == "real" else "",
                "quality_milliseconds": milliseconds.pop("quality", ""),
                "milliseconds": next(iter(milliseconds.values())),
                "scale": answer.scale,
            }
            # As a Table Schema wants it.
            rows.writerow({key: str(value).lower() if isinstance(value, bool) else value for key, value in row.items()})


def _introduction(results: Mapping[str, Any]) -> str:
    raters = results["raters"]
    words = (
        f"{raters['analysed']} raters of {raters['joined']} who joined; {len(results['methods'])} methods, {results['faces']} "
        f"faces; begun {results['started']}. Each rater saw "
        + ", ".join(
            f"{number} images of each {'two methods' if task == 'pair' else 'method'} ({task})"
            for task, number in results["tasks"].items()
        )
        + ", no face twice but for the repeats that check attention."
    )
    warning = "<p><strong>The raters are simulated: no person judged anything.</strong></p>" if results["simulated"] else ""
    return f"{warning}<p>{escape(words)}</p>"


def _sections(results: Mapping[str, Any]):
    """The sections of the page, those of tasks that have answers."""
    raters = results["raters"]
    if not raters["analysed"]:
        yield Section("No rater is left", paragraph("The rule below leaves all raters out: there is nothing to tell yet."))
    if rating := results.get("rating"):
        yield from _rating_sections(rating, results["tasks"]["rating"])
    if pair := results.get("pair"):
        yield _pair_section(pair)
    if real := results.get("real"):
        rows = [
            [method, str(row["answers"]), _number(row["mean"], 1), _interval(row["interval"], 1)]
            for method, row in real["called_real"].items()
        ]
        plot = _plot(
            {method: (row["mean"], row["interval"]) for method, row in real["called_real"].items()}, "taken for real, %"
        )
        yield Section(
            "Taken for real photographs",
            table(["method", "answers", "taken for real, %", "95 % interval"], rows)
            + image(plot, "Percentage taken for real, with 95 % intervals")
            + paragraph(
                f"Krippendorff's alpha {_alpha(real['alpha'])}; {_number(real['seconds'], 1)} s to an answer on average."
            ),
        )
    if machine := results.get("machine"):
        yield Section(
            "A machine in the raters' place",
            paragraph(
                f"{machine['rater']} chose among the same five expressions on {machine['faces']} faces by each "
                "method. It replaces no person: it tells how much of an expression it can still find."
            )
            + _expression_table(machine["table5"]["accuracy"], machine["accuracy"]),
        )
    rule = raters["rule"]
    limits = (
        f"A rater is left out who answered less than {rule['answered']:.0%} of the trials, whose median time to the first "
        f"answer is below {rule['seconds']:g} s, who answered more than {rule['repeats']:.0%} of the repeated trials otherwise "
        f"(quality: by more than 2 points), or who rates real faces by no more than {rule['anchor']:g} points above the "
        "clearest anchor"
    )
    # Studies that began before there were these limits have none.
    if "anchor_pair" in rule:
        limits += f", chooses them over an anchor in no more than {rule['anchor_pair']:.0%} of such pairs"
    if "anchor_real" in rule:
        limits += f", or calls no more than {rule['anchor_real']:.0%} more of them real than of that anchor"
    limits += ". This was fixed when the study began."
    rows = [[rater, reason] for rater, reason in raters["excluded"].items()]
    yield Section(
        f"Raters left out: {len(rows)}", paragraph(limits) + (table(["rater", "why"], rows, words=True) if rows else "")
    )
    yield Section("What this can and cannot say", "".join(map(paragraph, CAVEATS)))
    if results["simulated"]:
        yield Section("What the simulated raters think", folded("truth", json.dumps(results["simulated"], indent=2)))


def _rating_sections(rating: Mapping[str, Any], number: int):
    rows3 = rating["table3"]
    measures = {"quality": ("quality, 1 to 7", 2), "accuracy": ("accuracy, %", 1), "duration": ("duration, s", 1)}
    measures = {name: what for name, what in measures.items() if name in next(iter(rows3.values()))}
    head = ["method", "raters", *(label for label, _ in measures.values())]
    rows = [
        [
            method,
            str(row["raters"]),
            *(f"{_number(row[m]['mean'], n)} ± {_number(row[m]['sd'], n)}" for m, (_, n) in measures.items()),
        ]
        for method, row in rows3.items()
    ]
    plots = "".join(
        image(
            _plot({method: (row[m]["mean"], row[m]["interval"]) for method, row in rows3.items()}, label),
            f"{label}, with 95 % intervals",
        )
        for m, (label, _) in measures.items()
    )
    yield Section(
        "Quality, accuracy and duration (the paper's Table 3)",
        table(head, rows)
        + paragraph(
            f"Mean ± standard deviation of the raters' values; a rater's duration is the mean time to an expression times the "
            f"{number} images of a method. Krippendorff's alpha: {_alpha(rating['alpha']['expression'])} for expression "
            f"(nominal), {_alpha(rating['alpha']['quality'])} for quality (ordinal)."
        )
        + plots,
    )
    head = ["pair", "quality: rank-sum", "by Holm", *(f"{m}: Tukey" for m in measures if m != "quality")]
    rows = [
        [" – ".join(row["pair"]), *(_p(row[m]) for m in ("quality", "quality_holm", "accuracy", "duration") if m in row)]
        for row in rating["table4"]
    ]
    yield Section("p-values of each pair (the paper's Table 4)", table(head, rows))
    if "table5" in rating:
        averages = {method: row["accuracy"]["mean"] for method, row in rows3.items()}
        yield Section(
            "Accuracy by expression (the paper's Table 5), %", _expression_table(rating["table5"]["accuracy"], averages)
        )


def _expression_table(accuracy: Mapping[str, Mapping[str, float]], averages: Mapping[str, float]) -> str:
    rows = [[expression, *(_number(value, 0) for value in accuracy[expression].values())] for expression in EXPRESSIONS]
    return table(["expression", *averages], [*rows, ["all", *(_number(value, 0) for value in averages.values())]])


def _pair_section(pair: Mapping[str, Any]) -> Section:
    scores = pair["bradley_terry"]
    rows = [[method, _number(row["score"], 2), _interval(row["interval"], 2)] for method, row in scores.items()]
    preferences = [
        [" over ".join(row["pair"]), str(row["comparisons"]), _percent(row["first_chosen"]), _p(row["p"]), _p(row["p_holm"])]
        for row in pair["preferences"]
    ]
    plot = _plot({method: (row["score"], row["interval"]) for method, row in scores.items()}, "Bradley-Terry score")
    return Section(
        "Which of two looks more real",
        table(["method", "Bradley-Terry score", "95 % interval"], rows)
        + image(plot, "Bradley-Terry scores, with 95 % intervals over raters and faces")
        + paragraph(
            "A method is chosen over another with the probability 1 / (1 + exp(-difference of scores)). The scores are 0 on "
            "average."
        )
        + table(["pair", "comparisons", "first chosen", "p", "p by Holm"], preferences)
        + paragraph(
            "p by exchanging the signs of raters' preferences. "
            f"Left was chosen in {_percent(pair['left_chosen'])}; Krippendorff's alpha {_alpha(pair['alpha'])}; "
            f"{_number(pair['seconds'], 1)} s to an answer on average."
        ),
    )


def _plot(values: Mapping[str, tuple[float, Sequence[float]]], label: str) -> np.ndarray:
    """`[H, W, 3]` uint8: a point with its interval for each method, one below the other."""
    figure = Figure(figsize=(6.4, 0.9 + 0.38 * len(values)), dpi=130, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()
    for place, (value, ends) in enumerate(values.values()):
        if None not in ends:
            axes.plot(ends, [place, place], color=COLOURS[0], linewidth=2.5, solid_capstyle="round", alpha=0.55)
        if value is not None:
            axes.plot(value, place, "o", color=COLOURS[0], markersize=7)
    axes.set_yticks(range(len(values)), list(values), parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.grid(axis="x", color="#e3e5e9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _known(show: Callable[..., str]) -> Callable[..., str]:
    """`show` for a value that may be None, which is shown as a dash."""
    return lambda value, *rest: "–" if value is None else show(value, *rest)


_number = _known(lambda value, digits: f"{value:.{digits}f}")
_percent = _known(lambda value: f"{value:.0%}")
_p = _known(lambda value: f"{value:.3f}" if value >= 0.001 else f"{value:.1e}")


def _alpha(value: float | None) -> str:
    return "– (no two raters judged the same image, or all answers are alike)" if value is None else f"{value:.2f}"


def _interval(ends: Sequence[float | None], digits: int) -> str:
    return " to ".join(_number(end, digits) for end in ends)
