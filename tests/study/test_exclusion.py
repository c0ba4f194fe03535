"""The rule that leaves raters out: each of its parts, at its limit."""

import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.study.database import Answer
from maskgan_jax.study.design import Trial
from maskgan_jax.study.exclusion import RULE, chosen, complete_rule, excluded_raters

METHODS = ["real", "masked", "telea", "ours"]


def rating(place, method, quality, expression="happy", milliseconds=1500, repeat=False, face=None):
    trial = Trial("rating", face or f"face{place}", (method,), repeat)
    times = {"expression": milliseconds, "quality": 10}
    return Answer("anna", place, trial, {"expression": expression, "quality": quality}, times, 1.0)


def pair(place, methods, choice, repeat=False):
    return Answer("anna", place, Trial("pair", "face", methods, repeat), {"choice": choice}, {"choice": 900}, 1.0)


def reason(answers, asked=None, methods=METHODS, **limits):
    number = len(answers) if asked is None else asked
    return excluded_raters({"anna": number}, answers, complete_rule(limits), methods).get("anna")


GOOD = [rating(0, "real", 6), rating(1, "masked", 2), rating(2, "ours", 4)]


def test_a_good_rater_stays():
    assert reason(GOOD) is None


def test_unfinished():
    assert reason(GOOD, asked=4) == "answered 3 of 4 trials"
    assert reason(GOOD, asked=4, answered=0.75) is None
    assert reason([], asked=4, answered=0) == "answered 0 of 4 trials"


def test_too_fast():
    fast = [rating(place, "ours", 4, milliseconds=time) for place, time in enumerate((300, 450, 9000))]
    assert reason(fast) == "a median of 0.45 s to the first answer"
    assert reason(fast, seconds=0.4) is None


def test_unknown_times_do_not_count():
    away = rating(0, "ours", 4, milliseconds=None)
    assert reason([away, rating(1, "ours", 4, milliseconds=450)]) == "a median of 0.45 s to the first answer"
    assert reason([away]) is None


def test_repeats_that_differ():
    def again(*pairs):
        return [
            rating(10 * number + place, "ours", quality, expression, repeat=bool(place), face=f"f{number}")
            for number, two in enumerate(pairs)
            for place, (quality, expression) in enumerate(two)
        ]

    same, farther, other = (((4, "sad"), (6, "sad")), ((4, "sad"), (7, "sad")), ((4, "sad"), (4, "angry")))
    assert reason(again(farther, other, other)) == "answered 3 of 3 repeated trials otherwise"
    assert reason(again(farther, other, same)) is None
    assert reason(again(farther, other, same), repeats=0.5) == "answered 2 of 3 repeated trials otherwise"


def test_a_repeated_pair_is_mirrored():
    first, same = pair(0, ("real", "ours"), "left"), pair(1, ("ours", "real"), "right", repeat=True)
    assert chosen(first) == chosen(same) == "real"
    assert reason([first, same], seconds=0) is None
    assert reason([first, pair(1, ("ours", "real"), "left", repeat=True)]) == "answered 1 of 1 repeated trials otherwise"


def test_a_repeat_whose_first_answer_is_missing_does_not_count():
    assert reason([*GOOD, rating(9, "ours", 1, repeat=True, face="another")], asked=5, answered=0.5) is None


def test_the_clearest_anchor():
    blind = [rating(0, "real", 4), rating(1, "masked", 4), rating(2, "telea", 1)]
    assert reason(blind) == "quality 4.00 of real faces, 4.00 of 'masked'"
    assert reason(blind, methods=["real", "telea"]) is None
    assert reason(blind, methods=["real", "ours"]) is None
    assert reason(GOOD, anchor=4) == "quality 6.00 of real faces, 2.00 of 'masked'"


def of_real_and_anchor(pairs, called):
    """Choices between real and anchors, and what was called real of real faces and of the anchor."""
    answers = [pair(n, two, side)._replace(trial=Trial("pair", f"p{n}", two)) for n, (two, side) in enumerate(pairs)]
    for number, (method, said) in enumerate(called):
        trial = Trial("real", f"r{number}", (method,))
        answers.append(Answer("anna", 50 + number, trial, {"real": said}, {"real": 2000}, 1.0))
    return answers


def test_real_faces_against_anchors_in_the_other_tasks():
    real, masked, ours = (("real", "masked"), "left"), (("real", "telea"), "right"), (("ours", "masked"), "right")
    assert reason(of_real_and_anchor([real, real, masked], [])) is None
    assert reason(of_real_and_anchor([real, masked, ours], [])) == "chose the real face over an anchor in 1 of 2 pairs"
    assert reason(of_real_and_anchor([real, masked], []), anchor_pair=0.4) is None
    assert reason(of_real_and_anchor([ours], [])) is None
    yes, no = [("real", "yes"), ("real", "no"), ("masked", "no")], [("real", "no"), ("masked", "no"), ("telea", "yes")]
    assert reason(of_real_and_anchor([], yes)) is None
    assert reason(of_real_and_anchor([], no)) == "called 0% of real faces real, 0% of 'masked'"
    assert reason(of_real_and_anchor([], yes), anchor_real=0.5) == "called 50% of real faces real, 0% of 'masked'"


def test_a_study_that_began_before_a_limit_has_none():
    old = {name: limit for name, limit in RULE.items() if name in ("answered", "seconds", "repeats", "anchor")}
    answers = of_real_and_anchor([(("real", "masked"), "right")], [("real", "no"), ("masked", "yes")])
    assert excluded_raters({"anna": 3}, answers, old, METHODS) == {}
    assert excluded_raters({"anna": 3}, answers, RULE, METHODS).keys() == {"anna"}


def test_the_rule_is_complete():
    assert complete_rule({}) == RULE
    assert complete_rule({"seconds": 1})["seconds"] == 1


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"speed": 1}, "no rule 'speed' .* they are answered, seconds, repeats, anchor, anchor_pair, anchor_real"),
        ({"seconds": float("nan")}, "no number"),
    ],
)
def test_a_wrong_rule(limits, message):
    with pytest.raises(UserError, match=message):
        complete_rule(limits)
