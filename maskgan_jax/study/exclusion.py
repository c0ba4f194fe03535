"""Which raters are left out, by a rule that is fixed when the study begins."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from maskgan_jax.errors import UserError
from maskgan_jax.study.database import Answer
from maskgan_jax.study.design import ANCHORS, REAL

RULE = {
    # A rater is left out who has answered less than this fraction of the trials,
    "answered": 1.0,
    # whose median time from the image to the first answer is shorter, in seconds,
    "seconds": 0.5,
    # who answers a larger fraction of the repeated trials otherwise (quality: by more than 2 points),
    "repeats": 0.67,
    # whose mean quality of real faces is not above that of the clearest anchor by more than so many points,
    "anchor": 0.0,
    # who chooses the real face over an anchor in no larger fraction of such pairs,
    "anchor_pair": 0.5,
    # or whose fraction of real faces that are called real is not above that of the clearest anchor by more than this.
    "anchor_real": 0.0,
}
# How far two answers on quality may be apart that count as the same.
_SAME_QUALITY = 2


def complete_rule(limits: Mapping[str, float]) -> dict[str, float]:
    """`RULE` with some limits of one's own. Raises UserError if one has an unknown name or is no number."""
    for name, limit in limits.items():
        if name not in RULE:
            raise UserError(f"there is no rule {name!r} for excluding raters; they are {', '.join(RULE)}")
        if not abs(limit) < 1e6:
            raise UserError(f"the limit {limit} of the rule {name!r} for excluding raters is no number that can be reached")
    return {**RULE, **limits}


def excluded_raters(
    asked: Mapping[str, int], answers: Iterable[Answer], rule: Mapping[str, float], methods: Sequence[str]
) -> dict[str, str]:
    """{rater: why} of the raters who are left out.

    Args:
      asked: {rater: number of trials}.
      answers: of all raters.
      rule: limits as in `RULE`; one that is missing, as in a study that began before there was such a limit, leaves nobody out.
      methods: of the study, which tell the anchor.
    """
    of_rater: dict[str, list[Answer]] = {rater: [] for rater in asked}
    for answer in answers:
        of_rater[answer.rater].append(answer)
    anchor = next((name for name in ANCHORS if name in methods), None)
    reasons = {rater: _reason(asked[rater], of_rater[rater], rule, anchor) for rater in asked}
    return {rater: reason for rater, reason in reasons.items() if reason}


def _reason(asked: int, answers: Sequence[Answer], rule: Mapping[str, float], anchor: str | None) -> str | None:
    if len(answers) < rule["answered"] * asked or not answers:
        return f"answered {len(answers)} of {asked} trials"
    times = [time for time in (next(iter(answer.milliseconds.values())) for answer in answers) if time is not None]
    if times and (seconds := statistics.median(times) / 1000) < rule["seconds"]:
        return f"a median of {seconds:.2f} s to the first answer"
    first = {_shown(answer): answer for answer in answers if not answer.trial.repeat}
    # Of an unfinished rater, the first of the two may be missing.
    again = [(first[_shown(answer)], answer) for answer in answers if answer.trial.repeat and _shown(answer) in first]
    differ = sum(not _same(*pair) for pair in again)
    if again and differ / len(again) > rule["repeats"]:
        return f"answered {differ} of {len(again)} repeated trials otherwise"
    to_anchors = [{REAL, name} for name in ANCHORS]
    pairs = [chosen(a) == REAL for a in answers if a.trial.task == "pair" and set(a.trial.methods) in to_anchors]
    if "anchor_pair" in rule and pairs and statistics.mean(pairs) <= rule["anchor_pair"]:
        return f"chose the real face over an anchor in {sum(pairs)} of {len(pairs)} pairs"
    if anchor:
        quality, called = (
            [[value(a) for a in answers if a.trial.task == task and a.trial.methods == (of,)] for of in (REAL, anchor)]
            for task, value in (("rating", lambda a: a.given["quality"]), ("real", lambda a: a.given["real"] == "yes"))
        )
        real, low = map(_mean, quality)
        if real - low <= rule["anchor"]:
            return f"quality {real:.2f} of real faces, {low:.2f} of '{anchor}'"
        real, low = map(_mean, called)
        if "anchor_real" in rule and real - low <= rule["anchor_real"]:
            return f"called {real:.0%} of real faces real, {low:.0%} of '{anchor}'"
    return None


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else float("nan")


def _shown(answer: Answer) -> tuple:
    return answer.trial.task, answer.trial.face, frozenset(answer.trial.methods)


def _same(one: Answer, other: Answer) -> bool:
    mine, again = one.given, other.given
    if one.trial.task == "rating":
        return mine["expression"] == again["expression"] and abs(mine["quality"] - again["quality"]) <= _SAME_QUALITY
    return chosen(one) == chosen(other) if one.trial.task == "pair" else mine == again


def chosen(answer: Answer) -> str:
    """The method that a rater chose of two."""
    return answer.trial.methods[0 if answer.given["choice"] == "left" else 1]
