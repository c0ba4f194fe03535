"""Simulated raters follow their truth, and the tables find it within their intervals."""

import numpy as np
import pytest
from scipy import stats

from maskgan_jax.errors import UserError
from maskgan_jax.study.analysis import analyse
from maskgan_jax.study.design import QUALITIES
from maskgan_jax.study.exclusion import RULE, excluded_raters
from maskgan_jax.study.simulation import SPREAD, TRUTH, power_table, simulate_study

TASKS = {"rating": 10, "pair": 2, "real": 4}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of 40 raters, 4 of whom answer at random, and its tables."""
    path = tmp_path_factory.mktemp("study") / "study.db"
    database = simulate_study(path, raters=40, careless=4, faces=150, tasks=TASKS, seed=1)
    return database, analyse(database, 400)


def of_a_middle_rater(probability):
    """The mean of a probability over raters and faces."""
    points, weights = np.polynomial.hermite_e.hermegauss(31)
    logits = np.log(probability / (1 - probability)) + np.linalg.norm(SPREAD["choice"]) * points
    return 100 * float(weights @ (1 / (1 + np.exp(-logits))) / weights.sum())


def expected_quality(truth):
    """The mean of the rounded and clipped quality over raters, faces and answers."""
    steps = np.arange(QUALITIES[0], QUALITIES[-1]) + 0.5
    # Each step that is passed adds a point.
    return QUALITIES[0] + float(stats.norm.sf(steps, truth.quality, np.linalg.norm(SPREAD["quality"])).sum())


def test_careless_raters_are_left_out_and_no_others(study):
    """They take as long as others: none is found by the time alone."""
    _, results = study
    assert results["raters"]["joined"] == 40
    assert sorted(results["raters"]["excluded"]) == [f"simulated-{number:03}" for number in (37, 38, 39, 40)]
    assert not any("to the first answer" in reason for reason in results["raters"]["excluded"].values())


@pytest.mark.parametrize("tasks", [{"rating": 10}, {"pair": 2}, {"real": 4}])
def test_each_task_finds_most_of_those_who_answer_at_random(tmp_path, tasks):
    database = simulate_study(tmp_path / "study.db", raters=60, careless=40, faces=60, tasks=tasks)
    excluded = excluded_raters(database.asked(), database.answers(), RULE, list(TRUTH))
    attentive = {f"simulated-{number:03}" for number in range(1, 21)}
    assert len(excluded.keys() & attentive) <= 1 and len(excluded.keys() - attentive) > 20


@pytest.mark.parametrize("method", TRUTH)
def test_the_truth_is_within_the_intervals(study, method):
    _, results = study
    row, truth = results["rating"]["table3"][method], TRUTH[method]
    assert row["raters"] == 36 and row["per_rater"] == 10
    seconds = 10 * truth.seconds * np.exp(np.square(SPREAD["time"]).sum() / 2)
    for (low, high), expected in (
        (row["quality"]["interval"], expected_quality(truth)),
        (row["accuracy"]["interval"], of_a_middle_rater(truth.accuracy)),
        (row["duration"]["interval"], seconds),
        (results["pair"]["bradley_terry"][method]["interval"], truth.strength),
        (results["real"]["called_real"][method]["interval"], of_a_middle_rater(truth.called_real)),
    ):
        assert low <= expected <= high


def test_intervals_are_not_trivially_wide(study):
    _, results = study
    for row in results["rating"]["table3"].values():
        assert np.diff(row["quality"]["interval"]) < 0.8
    for row in results["pair"]["bradley_terry"].values():
        assert np.diff(row["interval"]) < 2


def test_large_differences_are_found_and_small_ones_not(study):
    _, results = study
    p_values = {tuple(row["pair"]): row for row in results["rating"]["table4"]}
    assert p_values["pix2pix", "proposed"]["quality_holm"] < 1e-6
    assert p_values["masked", "telea"]["quality"] > 0.01
    preferences = {tuple(row["pair"]): row for row in results["pair"]["preferences"]}
    assert preferences["real", "pix2pix"]["first_chosen"] > 0.75 and preferences["real", "pix2pix"]["p_holm"] < 0.01
    assert 0.4 < results["pair"]["left_chosen"] < 0.6


def test_agreement_is_higher_on_quality_than_on_nothing(study):
    _, results = study
    assert results["rating"]["alpha"]["quality"] > 0.6


def test_power_grows_with_raters_and_with_the_difference():
    weak, strong = (
        power_table({"quality": each, "accuracy": each / 10, "choice": each / 5}, studies=16) for each in (0.4, 1.2)
    )
    assert weak["quality"][5][5] < strong["quality"][20][10] and strong["quality"][40][20] == 1
    assert weak["quality"][10][10] < weak["quality"][40][10]
    assert weak["accuracy"][5][5] < strong["accuracy"][20][10] and strong["accuracy"][40][20] == 1
    assert strong["accuracy"][5][10] < strong["accuracy"][40][10]
    assert weak["choice"][10][5] < strong["choice"][20][20]


@pytest.mark.parametrize("spread", [(3, 0), (0, 3)], ids=["raters", "faces"])
@pytest.mark.parametrize(("name", "difference"), [("quality", 0.7), ("accuracy", 0.1), ("choice", 0.15)])
def test_power_falls_with_the_spread_of_raters_and_of_faces(name, difference, spread, monkeypatch):
    monkeypatch.setattr("maskgan_jax.study.simulation.RATERS", (20,))
    monkeypatch.setattr("maskgan_jax.study.simulation.IMAGES", (10,))

    def power(*of_raters_and_faces):
        kind, single = ("quality", SPREAD["quality"][2:]) if name == "quality" else ("choice", ())
        monkeypatch.setitem(SPREAD, kind, (*of_raters_and_faces, *single))
        return power_table({name: difference}, studies=40)[name][20][10]

    assert power(0, 0) > power(*spread) + 0.1


def test_power_needs_faces():
    assert list(power_table({"quality": 1}, faces=20, studies=2)["quality"][5]) == [5, 10]
    with pytest.raises(UserError, match="9 faces are too few to simulate two methods; give at least 10"):
        power_table({"quality": 1}, faces=9)


def test_power_without_a_difference_is_the_level():
    assert power_table({"accuracy": 1e-9}, studies=60)["accuracy"][20][10] < 0.2


def test_impossible_simulations(tmp_path):
    with pytest.raises(UserError, match="there is no power for 'speed'; choose some of quality, accuracy, choice"):
        power_table({"speed": 1})
    with pytest.raises(UserError, match="a difference of 0.6 in choice cannot be simulated"):
        power_table({"choice": 0.6})
    with pytest.raises(UserError, match="at least one rater"):
        simulate_study(tmp_path / "s.db", raters=0, faces=100, tasks=TASKS)
    with pytest.raises(UserError, match="needs .* faces, but there are 20"):
        simulate_study(tmp_path / "s.db", raters=3, faces=20, tasks=TASKS)
    assert not (tmp_path / "s.db").exists()
