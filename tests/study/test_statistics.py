"""Against SciPy, published worked examples, and the p-values that the paper prints."""

import itertools

import numpy as np
import pytest
from scipy import stats

from maskgan_jax.study import statistics
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

METHODS = ("patch", "isola", "yi", "ours", "real")
# The paper's Table 3: means and standard deviations over ten raters.
TABLE_3 = {
    "accuracy": ((96.00, 95.00, 89.00, 94.00, 97.00), (5.16, 7.07, 5.68, 5.16, 4.83)),
    "duration": ((60.20, 60.10, 56.90, 54.10, 47.00), (24.22, 18.36, 10.67, 7.58, 5.96)),
}
# Its Table 4, for the pairs in the order of `itertools.combinations`.
TABLE_4 = {
    "quality": (9.74e-5, 1.08e-5, 1.08e-5, 1.08e-5, 5.30e-4, 1.95e-4, 2.17e-5, 6.43e-1, 7.22e-3, 1.90e-2),
    "accuracy": (9.95e-1, 5.80e-2, 9.31e-1, 9.95e-1, 1.40e-1, 9.95e-1, 9.31e-1, 2.91e-1, 2.20e-2, 7.57e-1),
    "duration": (1.00, 9.88e-1, 8.93e-1, 3.00e-1, 9.89e-1, 8.98e-1, 3.08e-1, 9.93e-1, 5.85e-1, 8.28e-1),
}


@pytest.mark.parametrize("measure", TABLE_3)
def test_tukey_of_the_papers_means_gives_the_papers_p_values(measure):
    standard = stats.zscore(np.arange(10), ddof=1)
    table = tukey([mean + sd * standard for mean, sd in zip(*TABLE_3[measure], strict=True)])
    p_values = [table[pair] for pair in itertools.combinations(range(5), 2)]
    # The means and deviations are rounded to two digits, the p-values to three.
    np.testing.assert_allclose(p_values, TABLE_4[measure], atol=1.5e-3)


def test_tukey_without_any_spread_has_no_p_value():
    assert np.isnan(tukey([[1, 1], [1, 1]])).all()
    assert np.isnan(tukey([[1], [2, 3]])).all()


def test_the_papers_p_values_of_quality_are_exact_ones():
    """Of ten and ten raters there are 184,756 divisions, and what lies as far out lies there on both sides."""
    counts = np.array(TABLE_4["quality"]) * 184_756
    assert np.all(np.abs(counts / (2 * np.rint(counts / 2)) - 1) < 5e-3)
    # No overlap, as between patch-based (1.41 ± 0.49) and Yi's (4.54 ± 0.96).
    assert rank_sum(range(10), range(10, 20)) == pytest.approx(1.08e-5, rel=5e-3)
    # One pair of neighbours exchanged, as between Isola's and the real images.
    assert rank_sum([*range(9), 10], [9, *range(11, 20)]) == pytest.approx(2.17e-5, rel=5e-3)


@pytest.mark.parametrize("sizes", [(4, 6), (7, 7), (1, 5), (20, 25)])
def test_rank_sum_without_ties_is_scipys(sizes):
    values = np.random.default_rng(0).permutation(sum(sizes)) + 0.25
    a, b = values[: sizes[0]], values[sizes[0] :]
    assert rank_sum(a, b) == pytest.approx(stats.mannwhitneyu(a, b, method="exact").pvalue, rel=1e-9)


def test_rank_sum_with_ties_counts_all_divisions():
    a, b = [1, 2, 2, 3, 3], [2, 3, 4, 4, 5, 5]
    ranks = stats.rankdata([*a, *b])
    sums = [sum(each) for each in itertools.combinations(ranks, len(a))]
    middle = np.mean(sums)
    expected = np.mean(np.abs(np.array(sums) - middle) >= abs(ranks[: len(a)].sum() - middle) - 1e-9)
    assert rank_sum(a, b) == pytest.approx(expected)
    assert rank_sum([3, 3], [3, 3]) == 1


def test_rank_sum_of_many_values_hardly_differs(monkeypatch):
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 20, 50), rng.integers(2, 22, 50)
    exact = rank_sum(a, b)
    monkeypatch.setattr(statistics, "MOST_EXACT", 99)
    assert 0 < abs(rank_sum(a, b) - exact) < 5e-4


def test_sign_flip_is_scipys_permutation_test():
    margins = [4, 2, -2, 6, 0, 2, 4, -2]
    expected = stats.permutation_test(
        (margins,), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    ).pvalue
    assert sign_flip(margins) == pytest.approx(expected)
    assert sign_flip([2] * 5) == 2 / 2**5
    assert sign_flip([0, 0]) == 1


def test_holm():
    """The smallest times n, the next times n - 1, and so on, never falling."""
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.6, 0.7]), [1, 1])


def test_bradley_terry_on_agrestis_baseball():
    """The American League of 1987, Agresti, Categorical Data Analysis (2002), tables 10.10 and 10.11."""
    teams = ("Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore")
    # Of 13 games each, those that the team of the row won against that of the column.
    wins = np.array(
        [
            [0, 7, 9, 7, 7, 9, 11],
            [6, 0, 7, 5, 11, 9, 9],
            [4, 6, 0, 7, 7, 8, 12],
            [6, 8, 6, 0, 6, 7, 10],
            [6, 2, 6, 7, 0, 7, 12],
            [4, 4, 5, 6, 6, 0, 6],
            [2, 4, 1, 3, 1, 7, 0],
        ]
    )
    assert np.all(wins + wins.T + 13 * np.eye(7) == 13)
    scores = bradley_terry(wins)
    published = {"Milwaukee": 1.58, "Detroit": 1.44, "Toronto": 1.29, "New York": 1.25, "Boston": 1.11, "Cleveland": 0.68}
    for team, score in published.items():  # Relative to Baltimore.
        assert scores[teams.index(team)] - scores[-1] == pytest.approx(score, abs=0.006)


def test_bradley_terry_of_two_is_the_log_of_their_wins():
    low, high = bradley_terry(np.array([[0, 1.5], [6, 0]]))
    assert high - low == pytest.approx(np.log(4))


def test_bradley_terry_of_a_method_that_always_wins_is_finite_with_a_prior():
    scores = bradley_terry(np.array([[0, 10, 10], [0, 0, 5], [0, 5, 0]]), prior=0.1)
    assert np.isfinite(scores).all() and scores[0] > 2 and scores[1] == pytest.approx(scores[2])


def test_bradley_terry_takes_many_tables_at_once():
    tables = np.random.default_rng(0).integers(1, 9, (3, 2, 4, 4)) * (1 - np.eye(4, dtype=int))
    together = bradley_terry(tables)
    assert together.shape == (3, 2, 4)
    np.testing.assert_allclose(together[1, 1], bradley_terry(tables[1, 1]), atol=1e-6)


# Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), C: four observers, twelve units, missing data.
OBSERVERS = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3),
    (None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None),
)


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815)])
def test_agreement_in_krippendorffs_own_example(level, alpha):
    answers = [
        (f"observer {rater}", f"unit {unit:02}", value)
        for rater, row in enumerate(OBSERVERS)
        for unit, value in enumerate(row)
        if value is not None
    ]
    assert agreement(*zip(*answers, strict=True), level) == pytest.approx(alpha, abs=5e-4)


def test_agreement_that_has_no_value():
    assert np.isnan(agreement(["a", "b"], ["1", "1"], [3, 3], "nominal"))
    assert np.isnan(agreement(["a", "b"], ["1", "2"], [3, 4], "nominal"))


def test_bootstrap_draws_raters_and_faces():
    raters, faces = np.repeat(["a", "b", "c"], 4), np.tile(["1", "2", "3", "4"], 3)
    weights = bootstrap_weights(raters, faces, np.random.default_rng(0), 2000)
    assert weights.shape == (2000, 12)
    assert np.all(weights.sum(1) == 12)
    # A rater who is not drawn is drawn with none of the faces.
    of_raters = weights.reshape(2000, 3, 4)
    for row in of_raters[:50]:
        assert np.linalg.matrix_rank(row) == 1
    np.testing.assert_allclose(weights.mean(0), 1, atol=0.15)


def test_intervals_cover_the_mean_of_raters_and_faces():
    """Both vary; intervals over answers alone would cover it in far fewer studies."""
    rng, covered, narrow = np.random.default_rng(1), 0, 0
    raters, faces = np.repeat(np.arange(12), 15), np.tile(np.arange(15), 12)
    for _ in range(100):
        values = rng.normal(0, 1, 12)[raters] + rng.normal(0, 1, 15)[faces] + rng.normal(0, 1, 180)
        low, high = interval(weighted_mean(values, bootstrap_weights(raters, faces, rng, 300)))
        covered += low <= 0 <= high
        alone = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
        narrow += abs(values.mean()) <= alone
    assert covered >= 88 and narrow <= 70


def test_signs_of_thousands_of_raters():
    assert sign_flip([1, -1] * 1000) == pytest.approx(1)
    assert sign_flip([1] * 1050 + [-1] * 950) == pytest.approx(stats.binomtest(1050, 2000).pvalue)


def test_weighted_mean_of_nothing_is_left_out():
    means = weighted_mean([1.0, 3.0], np.array([[1, 1], [0, 0], [0, 2]]))
    np.testing.assert_array_equal(means, [2, np.nan, 3])
    assert interval(means) == (2.025, 2.975)
    assert np.isnan(interval(np.array([np.nan]))).all()
