"""From answers to the tables: the paper's Tables 3 to 5, choices of two, real or not, and agreement."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from maskgan_jax.study.database import Answer, Database
from maskgan_jax.study.design import EXPRESSIONS
from maskgan_jax.study.exclusion import chosen, excluded_raters
from maskgan_jax.study.statistics import (
    agreement,
    bootstrap_weights,
    bradley_terry,
    holm,
    interval,
    rank_sum,
    sign_flip,
    tukey,
    weighted_mean,
)

# Of a win, in both directions of each pair: a method that always wins has a finite score.
PRIOR = 0.1


def analyse(database: Database, resamples: int = 1000) -> dict[str, Any]:
    """All tables of a study, as JSON has them; NaN is None.

    Args:
      database: the study.
      resamples: of the bootstrap, whose random numbers follow from the seed of the study.
    """
    design, answers, asked = database.design, database.answers(), database.asked()
    excluded = excluded_raters(asked, answers, database.settings["exclusion"], design.methods)
    kept = [answer for answer in answers if answer.rater not in excluded and not answer.trial.repeat]
    of_task = {task: [answer for answer in kept if answer.trial.task == task] for task in design.tasks}
    rng = np.random.default_rng(design.seed)
    results: dict[str, Any] = {
        "started": database.started,
        "simulated": database.settings.get("truth"),
        "methods": list(design.methods),
        "tasks": dict(design.tasks),
        "faces": len(design.faces),
        "seed": design.seed,
        "raters": {
            "joined": len(asked),
            "analysed": len(asked) - len(excluded),
            "excluded": excluded,
            "rule": database.settings["exclusion"],
        },
        "resamples": resamples,
    }
    if rating := of_task.get("rating"):
        results["rating"] = rating_tables(rating, design.methods, design.faces, design.tasks["rating"], rng, resamples)
    if pair := of_task.get("pair"):
        results["pair"] = pair_tables(pair, design.methods, rng, resamples)
    if real := of_task.get("real"):
        results["real"] = real_table(real, design.methods, rng, resamples)
    return _without_nan(results)


def rating_tables(
    answers: Sequence[Answer],
    methods: Sequence[str],
    faces: Mapping[str, str],
    number: int,
    rng: np.random.Generator,
    resamples: int,
) -> dict[str, Any]:
    """The paper's Tables 3 to 5.

    As in the paper, the values that are averaged and tested are those of raters: the mean quality of a rater's images of a
    method, the percentage of right expressions, and the seconds in all to the answers on expression: their mean, times the
    `number` of images that each rater is asked about, as some may have no answer or no time.
    """
    measures: dict[str, Callable[[Answer], float]] = {
        "quality": lambda answer: answer.given["quality"],
        "accuracy": lambda answer: 100.0 * (answer.given["expression"] == faces[answer.trial.face]),
        "duration": lambda answer: number * _seconds(answer, "expression"),
    }
    if not any(faces.values()):
        del measures["accuracy"]
    by_method = _by(answers, lambda answer: answer.trial.methods[0])
    by_method = {method: by_method[method] for method in methods if method in by_method}
    # The values of raters: {measure: {method: [value of each]}}.
    samples = {
        name: {
            method: [
                np.mean(known) for own in _by(of, lambda answer: answer.rater).values() if (known := _known(map(value, own)))
            ]
            for method, of in by_method.items()
        }
        for name, value in measures.items()
    }
    weights = _weights(answers, rng, resamples)
    raters, units = _raters_and_units(answers)
    said = [EXPRESSIONS.index(answer.given["expression"]) for answer in answers]
    tables = {
        "table3": {method: _row(method, answers, measures, samples, weights) for method in by_method},
        "table4": _p_values(samples),
        "alpha": {
            "expression": agreement(raters, units, said, "nominal"),
            "quality": agreement(raters, units, [answer.given["quality"] for answer in answers], "ordinal"),
        },
    }
    if "accuracy" in measures:
        given = {
            method: [(faces[answer.trial.face], answer.given["expression"]) for answer in of]
            for method, of in by_method.items()
        }
        tables["table5"] = expression_table(given)
    return tables


def _row(
    method: str,
    answers: Sequence[Answer],
    measures: Mapping[str, Callable[[Answer], float]],
    samples: Mapping[str, Mapping[str, Sequence[float]]],
    weights: np.ndarray,
) -> dict[str, Any]:
    """A method's row of Table 3. The intervals are over raters and faces: `weights` `[resamples, answers]` of the bootstrap."""
    shown = np.array([answer.trial.methods[0] == method for answer in answers])
    raters = len({answer.rater for answer, is_shown in zip(answers, shown, strict=True) if is_shown})
    row: dict[str, Any] = {"raters": raters, "answers": int(shown.sum()), "per_rater": shown.sum() / raters}
    for name, value in measures.items():
        sample = samples[name][method]
        values = np.array([value(answer) if is_shown else np.nan for answer, is_shown in zip(answers, shown, strict=True)])
        known = np.isfinite(values)
        means = weighted_mean(values[known], weights[:, known])
        row[name] = {"mean": _mean(sample), "sd": _sd(sample), "interval": list(interval(means))}
    return row


def _p_values(samples: Mapping[str, Mapping[str, Sequence[float]]]) -> list[dict[str, Any]]:
    """Table 4: for each pair of methods the rank-sum test of quality, and Tukey's test of the other measures."""
    methods = list(samples["quality"])
    pairs = list(itertools.combinations(methods, 2))
    quality = [rank_sum(*(samples["quality"][method] for method in pair)) for pair in pairs]
    others = {name: tukey(list(of.values())) for name, of in samples.items() if name != "quality"}
    return [
        {
            "pair": list(pair),
            "quality": p,
            "quality_holm": corrected,
            **{name: table[methods.index(pair[0]), methods.index(pair[1])] for name, table in others.items()},
        }
        for pair, p, corrected in zip(pairs, quality, holm(quality), strict=True)
    ]


def expression_table(given: Mapping[str, Sequence[tuple[str, str]]]) -> dict[str, Any]:
    """The paper's Table 5, and what was confused with what.

    Args:
      given: {method: (true expression, answer) of each image}.

    Returns:
      `accuracy`: {expression: {method: percentage}}, and `confusion`: {method: {true expression: {answer: number}}}.
    """
    confusion = {
        method: {true: {said: pairs.count((true, said)) for said in EXPRESSIONS} for true in EXPRESSIONS}
        for method, pairs in given.items()
    }

    def percentage(counts: Mapping[str, int], true: str) -> float:
        total = sum(counts.values())
        return 100 * counts[true] / total if total else float("nan")

    accuracy = {true: {method: percentage(confusion[method][true], true) for method in given} for true in EXPRESSIONS}
    return {"accuracy": accuracy, "confusion": confusion}


def pair_tables(answers: Sequence[Answer], methods: Sequence[str], rng: np.random.Generator, resamples: int) -> dict[str, Any]:
    """How often each method was chosen over each other one, and their Bradley-Terry scores, which are 0 on average."""
    index = {method: number for number, method in enumerate(methods)}
    winners = np.array([index[chosen(answer)] for answer in answers])
    both = np.array([[index[method] for method in answer.trial.methods] for answer in answers])
    losers = both.sum(1) - winners
    number = len(methods)

    def wins(weights: np.ndarray) -> np.ndarray:
        """`[resamples, n, n]` from `[resamples, answers]`."""
        one_hot = np.zeros((len(answers), number * number))
        one_hot[np.arange(len(answers)), winners * number + losers] = 1
        return (weights @ one_hot).reshape(-1, number, number)

    table = wins(np.ones((1, len(answers))))[0]
    scores = bradley_terry(table, PRIOR)
    ends = interval(bradley_terry(wins(_weights(answers, rng, resamples)), PRIOR))
    preferences = []
    for one, other in itertools.combinations(methods, 2):
        of_pair = [answer for answer in answers if set(answer.trial.methods) == {one, other}]
        of_raters = _by(of_pair, lambda answer: answer.rater).values()
        preferences.append(
            {
                "pair": [one, other],
                "comparisons": len(of_pair),
                "first_chosen": np.mean([chosen(answer) == one for answer in of_pair]) if of_pair else float("nan"),
                "p": sign_flip([sum(1 if chosen(answer) == one else -1 for answer in of) for of in of_raters]),
            }
        )
    for preference, corrected in zip(preferences, holm([each["p"] for each in preferences]), strict=True):
        preference["p_holm"] = corrected
    # Raters agree on whether a method is chosen. A pair can only give two of the methods' names: chance over all names would be
    # too low.
    units = [f"{a.trial.face} {sorted(a.trial.methods)} {place}" for place in (0, 1) for a in answers]
    values = [sorted(a.trial.methods)[place] == chosen(a) for place in (0, 1) for a in answers]
    return {
        "bradley_terry": {
            method: {"score": scores[place], "interval": [end[place] for end in ends]} for method, place in index.items()
        },
        "preferences": preferences,
        "left_chosen": np.mean([answer.given["choice"] == "left" for answer in answers]),
        "seconds": _mean(_known(_seconds(answer, "choice") for answer in answers)),
        "alpha": agreement([answer.rater for answer in answers] * 2, units, values, "nominal"),
    }


def real_table(answers: Sequence[Answer], methods: Sequence[str], rng: np.random.Generator, resamples: int) -> dict[str, Any]:
    """What percentage of each method's images was taken for real photographs."""
    called = np.array([100.0 * (answer.given["real"] == "yes") for answer in answers])
    shown = np.array([answer.trial.methods[0] for answer in answers])
    weights = _weights(answers, rng, resamples)
    return {
        "called_real": {
            method: {
                "answers": int((shown == method).sum()),
                "mean": called[shown == method].mean(),
                "interval": list(interval(weighted_mean(called[shown == method], weights[:, shown == method]))),
            }
            for method in methods
            if (shown == method).any()
        },
        "seconds": _mean(_known(_seconds(answer, "real") for answer in answers)),
        "alpha": agreement(*_raters_and_units(answers), called.tolist(), "nominal"),
    }


def _weights(answers: Sequence[Answer], rng: np.random.Generator, resamples: int) -> np.ndarray:
    return bootstrap_weights([answer.rater for answer in answers], [answer.trial.face for answer in answers], rng, resamples)


def _raters_and_units(answers: Sequence[Answer]) -> tuple[list[str], list[str]]:
    """Who gave each answer, and to which image."""
    return [answer.rater for answer in answers], [f"{answer.trial.face} {answer.trial.methods[0]}" for answer in answers]


def _by(answers: Iterable[Answer], key: Callable[[Answer], str]) -> dict[str, list[Answer]]:
    groups: dict[str, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(key(answer), []).append(answer)
    return groups


def _seconds(answer: Answer, question: str) -> float:
    """How long an answer took; NaN if it is not known."""
    milliseconds = answer.milliseconds[question]
    return float("nan") if milliseconds is None else milliseconds / 1000


def _known(values: Iterable[float]) -> list[float]:
    return [value for value in values if not np.isnan(value)]


def _mean(sample: Sequence[float]) -> float:
    return np.mean(sample) if len(sample) else float("nan")


def _sd(sample: Sequence[float]) -> float:
    return np.std(sample, ddof=1) if len(sample) > 1 else float("nan")


def _without_nan(value: Any) -> Any:
    """The value with plain numbers only, and None for those that are NaN."""
    if isinstance(value, Mapping):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
