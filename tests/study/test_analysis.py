"""The tables, from answers whose sums can be done by hand, and against SciPy and pandas-free NumPy."""

import itertools

import numpy as np
import pytest
from scipy import stats

from maskgan_jax.study.analysis import expression_table, pair_tables, rating_tables, real_table
from maskgan_jax.study.database import Answer
from maskgan_jax.study.design import EXPRESSIONS, Trial

FACES = {"a": "happy", "b": "sad", "c": "happy", "d": "sad"}


def rating(rater, face, method, expression, quality, seconds):
    times = {"expression": 1000 * seconds, "quality": 1}
    return Answer(rater, 0, Trial("rating", face, (method,)), {"expression": expression, "quality": quality}, times, 1.0)


ANSWERS = [
    rating("anna", "a", "real", "happy", 7, 1.0),
    rating("anna", "b", "real", "sad", 6, 2.0),
    rating("anna", "c", "ours", "happy", 4, 3.0),
    rating("anna", "d", "ours", "angry", 5, 1.5),
    rating("bert", "c", "real", "happy", 7, 2.0),
    rating("bert", "d", "real", "happy", 7, 2.0),
    rating("bert", "a", "ours", "neutral", 2, 4.0),
    rating("bert", "b", "ours", "sad", 2, 4.0),
    rating("carl", "a", "real", "happy", 5, 1.0),
    rating("carl", "b", "real", "sad", 6, 1.0),
    rating("carl", "c", "ours", "happy", 5, 2.0),
    rating("carl", "d", "ours", "sad", 6, 2.0),
]


@pytest.fixture
def tables():
    return rating_tables(ANSWERS, ["real", "ours", "never shown"], FACES, 2, np.random.default_rng(0), 200)


def test_table_3_is_over_raters(tables):
    ours = tables["table3"]["ours"]
    assert (ours["raters"], ours["answers"], ours["per_rater"]) == (3, 6, 2)
    for measure, of_raters in (("quality", [4.5, 2, 5.5]), ("accuracy", [50, 50, 100]), ("duration", [4.5, 8, 4])):
        assert ours[measure]["mean"] == pytest.approx(np.mean(of_raters))
        assert ours[measure]["sd"] == pytest.approx(np.std(of_raters, ddof=1))
        low, high = ours[measure]["interval"]
        assert low < ours[measure]["mean"] < high
    assert list(tables["table3"]) == ["real", "ours"]


@pytest.mark.parametrize("differ", ["raters", "faces"])
def test_intervals_are_over_raters_and_faces(differ):
    """Where all raters say the same to a face, intervals over raters alone have no width; and the other way round."""

    def answers(task, methods, said):
        return [
            Answer(rater, 0, Trial(task, face, methods), given, dict.fromkeys(given, 1000), 1.0)
            for rater, face in itertools.product("ab", repeat=2)
            for given in [said["ab".index(rater if differ == "raters" else face)]]
        ]

    rated = answers("rating", ("ours",), [{"expression": "happy", "quality": 2}, {"expression": "sad", "quality": 6}])
    chosen = answers("pair", ("ours", "real"), [{"choice": "left"}, {"choice": "right"}])
    called = answers("real", ("ours",), [{"real": "yes"}, {"real": "no"}])
    rng = np.random.default_rng(0)
    row = rating_tables(rated, ["ours"], dict.fromkeys("ab", "happy"), 2, rng, 200)["table3"]["ours"]
    for of in (
        row["quality"],
        row["accuracy"],
        pair_tables(chosen, ["ours", "real"], rng, 200)["bradley_terry"]["ours"],
        real_table(called, ["ours"], rng, 200)["called_real"]["ours"],
    ):
        assert np.diff(of["interval"]) > 0


def test_durations_compare_where_answers_or_times_are_missing():
    """Anna gave one answer only, Bert was away during one, Carl during both."""
    answers = [
        rating("anna", "a", "ours", "happy", 4, 2.0),
        rating("bert", "a", "ours", "happy", 4, 3.0),
        rating("bert", "b", "ours", "happy", 4, 9999),
        *(rating("carl", face, "ours", "happy", 4, 9999) for face in "ab"),
    ]
    answers = [a._replace(milliseconds={"expression": None}) if a.milliseconds["expression"] > 1e6 else a for a in answers]
    tables = rating_tables(answers, ["ours"], FACES, 2, np.random.default_rng(0), 100)
    assert tables["table3"]["ours"]["duration"]["mean"] == pytest.approx(np.mean([4, 6]))
    assert tables["table3"]["ours"]["raters"] == 3 and np.isfinite(tables["table3"]["ours"]["duration"]["interval"]).all()
    tables = rating_tables(answers[-2:], ["ours"], FACES, 2, np.random.default_rng(0), 100)
    assert np.isnan(tables["table3"]["ours"]["duration"]["mean"]) and tables["table3"]["ours"]["quality"]["mean"] == 4


def test_table_4_is_scipys(tables):
    (row,) = tables["table4"]
    assert row["pair"] == ["real", "ours"]
    accuracy = ([100, 50, 100], [50, 50, 100])
    duration = ([3, 4, 2], [4.5, 8, 4])
    assert row["accuracy"] == pytest.approx(stats.tukey_hsd(*accuracy).pvalue[0, 1])
    assert row["duration"] == pytest.approx(stats.tukey_hsd(*duration).pvalue[0, 1])
    # Of 20 divisions, those in which all of one side, but for the tie at 5.5, lie above the other's.
    assert row["quality"] == row["quality_holm"] == pytest.approx(4 / 20)


def test_table_5(tables):
    accuracy = tables["table5"]["accuracy"]
    assert accuracy["happy"] == {"real": 100, "ours": pytest.approx(200 / 3)}
    assert accuracy["sad"] == {"real": pytest.approx(200 / 3), "ours": pytest.approx(200 / 3)}
    assert np.isnan(accuracy["angry"]["ours"])
    assert tables["table5"]["confusion"]["ours"]["sad"] == {"neutral": 0, "happy": 0, "angry": 1, "sad": 2, "surprised": 0}


def test_the_papers_table_5_gives_the_accuracies_of_its_table_3():
    """Ten raters saw two faces of each expression by each method."""
    table = {
        "Patch-Based": (100, 95, 100, 95, 90),
        "Isola's": (100, 85, 95, 95, 100),
        "Yi's": (100, 55, 100, 90, 100),
        "Ours": (100, 75, 100, 95, 100),
        "Real Image": (90, 100, 100, 95, 100),
    }
    given = {}
    for method, percentages in table.items():
        given[method] = []
        for number, (true, percentage) in enumerate(zip(EXPRESSIONS, percentages, strict=True)):
            right = percentage // 5
            given[method] += [(true, true)] * right + [(true, EXPRESSIONS[number - 1])] * (20 - right)
    accuracy = expression_table(given)["accuracy"]
    averages = [np.mean([accuracy[true][method] for true in EXPRESSIONS]) for method in table]
    assert averages == [96, 95, 89, 94, 97]
    assert [accuracy["happy"][method] for method in table] == [95, 85, 55, 75, 100]
    # Its column of averages is rounded to whole numbers.
    assert [np.mean(list(accuracy[true].values())) for true in EXPRESSIONS] == [98, 82, 99, 94, 98]


def test_without_true_expressions_there_is_no_accuracy():
    tables = rating_tables(ANSWERS, ["real", "ours"], dict.fromkeys(FACES, ""), 2, np.random.default_rng(0), 100)
    assert "table5" not in tables and "accuracy" not in tables["table3"]["ours"] and "accuracy" not in tables["table4"][0]


def pair(rater, face, methods, choice):
    return Answer(rater, 0, Trial("pair", face, methods), {"choice": choice}, {"choice": 2000}, 1.0)


def test_pairs_are_counted_whatever_the_side():
    answers = [
        pair("anna", "a", ("real", "ours"), "left"),
        pair("anna", "b", ("ours", "real"), "right"),
        pair("bert", "a", ("ours", "real"), "right"),
        pair("bert", "b", ("real", "ours"), "right"),
    ]
    tables = pair_tables(answers, ["real", "ours"], np.random.default_rng(0), 100)
    (row,) = tables["preferences"]
    assert row["first_chosen"] == 0.75 and row["comparisons"] == 4
    # Anna is 2 ahead, Bert 0: each sign of Anna's is as far out.
    assert row["p"] == row["p_holm"] == 1
    scores = tables["bradley_terry"]
    # Three wins to one, and a tenth of a win more on either side.
    assert scores["real"]["score"] - scores["ours"]["score"] == pytest.approx(np.log(3.1 / 1.1))
    assert tables["left_chosen"] == 0.25 and tables["seconds"] == 2


def test_agreement_on_pairs_is_above_chance_only():
    """Coins of six raters on all pairs of five methods, and raters of one mind; the names of the methods do not matter."""
    rng = np.random.default_rng(0)
    pairs = list(itertools.combinations("abcde", 2))

    def alpha(choose):
        answers = [pair(rater, face, two, choose()) for face in "0123456789" for two in pairs for rater in "uvwxyz"]
        return pair_tables(answers, "abcde", np.random.default_rng(0), 100)["alpha"]

    assert abs(alpha(lambda: rng.choice(["left", "right"]))) < 0.05
    assert alpha(lambda: "left") == 1


def test_taken_for_real():
    def real(rater, face, method, said):
        return Answer(rater, 0, Trial("real", face, (method,)), {"real": said}, {"real": 500}, 1.0)

    answers = [
        real("anna", "a", "real", "yes"),
        real("anna", "b", "ours", "yes"),
        real("bert", "a", "ours", "no"),
        real("bert", "b", "real", "yes"),
    ]
    table = real_table(answers, ["real", "ours", "never shown"], np.random.default_rng(0), 100)
    assert {method: row["mean"] for method, row in table["called_real"].items()} == {"real": 100, "ours": 50}
    assert table["called_real"]["real"]["interval"] == [100, 100]
