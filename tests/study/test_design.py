"""Balance: over methods, expressions, sides and raters, and no face twice."""

import collections
import itertools

import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.study.design import EXPRESSIONS, Design

METHODS = ["real", "masked", "telea", "ours"]


def make(faces=130, seed=0, repeats=3, methods=METHODS, **tasks):
    names = {f"face{number:03}": EXPRESSIONS[number % 5] for number in range(faces)}
    return Design(names, methods, tasks or {"rating": 10, "pair": 2, "real": 3}, repeats, seed)


@pytest.mark.parametrize("seed", range(3))
def test_every_rater_sees_each_method_equally_often_and_no_face_twice(seed):
    design = make(seed=seed)
    for rater in range(15):
        trials = [trial for trial in design.trials(rater) if not trial.repeat]
        faces = [trial.face for trial in trials]
        assert len(set(faces)) == len(faces)
        shown = collections.Counter((trial.task, tuple(sorted(trial.methods))) for trial in trials)
        for task, number in design.tasks.items():
            counts = [count for (of, _), count in shown.items() if of == task]
            assert counts == [number] * len(design.treatments(task))


def test_every_method_has_every_expression_equally_often():
    for rater in range(4):
        trials = [trial for trial in make(rating=10).trials(rater) if not trial.repeat]
        shown = collections.Counter((trial.methods, make().faces[trial.face]) for trial in trials)
        assert set(shown.values()) == {2} and len(shown) == 20


def test_raters_in_a_row_see_a_face_by_each_method():
    design = make(rating=5)
    for first in (0, 4, 8):
        seen = collections.defaultdict(list)
        for rater in range(first, first + 4):
            for trial in design.trials(rater):
                if not trial.repeat:
                    seen[trial.face] += trial.methods
        assert all(sorted(methods) == sorted(METHODS) for methods in seen.values())


def test_all_faces_are_used_equally_often():
    design = make(faces=60, rating=5)
    uses = collections.Counter(trial.face for rater in range(24) for trial in design.trials(rater) if not trial.repeat)
    assert len(uses) == 60 and max(uses.values()) - min(uses.values()) <= 4


def test_sides_are_balanced():
    design = make(pair=4)
    lefts = collections.Counter()
    for rater in range(6):
        trials = [trial for trial in design.trials(rater) if not trial.repeat]
        for pair in itertools.combinations(METHODS, 2):
            of_pair = [trial.methods for trial in trials if set(trial.methods) == set(pair)]
            assert of_pair.count(pair) == 2
        lefts.update(trial.methods[0] for trial in trials)
    assert set(lefts.values()) == {6 * 24 // 4}


def test_a_single_pair_changes_sides_from_rater_to_rater():
    design = make(pair=1)
    sides = collections.Counter(
        trial.methods for rater in range(40) for trial in design.trials(rater) if set(trial.methods) == {"real", "ours"}
    )
    assert min(sides.values()) > 10


def test_repeats_come_later_and_mirrored():
    for rater in range(10):
        trials = make(pair=3, rating=4).trials(rater)
        assert sum(trial.repeat for trial in trials) == 6
        for place, trial in enumerate(trials):
            if trial.repeat:
                (first,) = (p for p, t in enumerate(trials) if t.face == trial.face and not t.repeat)
                assert first < place
                assert trials[first].methods == trial.methods[::-1]


def test_the_seed_determines_all():
    assert make(seed=5).trials(3) == make(seed=5).trials(3)
    assert make(seed=5).trials(3) != make(seed=6).trials(3)
    assert make(seed=5).trials(3) != make(seed=5).trials(7)


def test_faces_without_known_expressions():
    design = Design(dict.fromkeys(map(str, range(50)), ""), METHODS, {"rating": 10}, 0, 0)
    design.check()
    assert len({trial.face for trial in design.trials(2)}) == 40


@pytest.mark.parametrize("faces", [40, 41, 47, 79])
def test_few_faces_of_uneven_expressions_are_enough(faces):
    names = {f"{number}": "happy" if number < 33 else EXPRESSIONS[number % 5] for number in range(faces)}
    design = Design(names, METHODS, {"rating": 7, "real": 3}, 0, 1)
    design.check()
    for rater in range(9):
        assert len({trial.face for trial in design.trials(rater)}) == 40


def test_a_negative_seed():
    with pytest.raises(UserError, match="--seed cannot be negative"):
        Design({"a": ""}, METHODS, {"rating": 1}, 0, -1).check()


def test_too_few_faces():
    with pytest.raises(UserError, match=r"needs 4 x 10 \(rating\) \+ 6 x 1 \(pair\) = 46 faces, but there are 45; give more"):
        make(faces=45, rating=10, pair=1).check()


@pytest.mark.parametrize(
    ("tasks", "repeats", "message"),
    [
        ({"guess": 3}, 0, "there is no task 'guess'; choose some of rating, pair, real"),
        ({"rating": 0}, 0, "needs at least one image of each method"),
        ({"rating": 2}, -1, "--repeats cannot be negative"),
        ({}, 0, "there is no task"),
    ],
)
def test_wrong_tasks(tasks, repeats, message):
    with pytest.raises(UserError, match=message):
        Design({"a": ""}, METHODS, tasks, repeats, 0).check()
