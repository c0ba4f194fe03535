"""The tests, scores and intervals of the study's tables, on plain arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

# Counting all divisions of more values takes seconds.
MOST_EXACT = 100
# Most iterations for Bradley-Terry scores.
MOST_STEPS = 500


def rank_sum(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p-value of Wilcoxon's rank-sum test (Mann and Whitney's), exact with ties, too.

    All divisions of the values at hand into two such samples are counted, as the paper must have done: each of its p-values is
    a whole number of the 184,756 divisions of 20 values. Beyond `MOST_EXACT` values, the normal approximation is close.

    Args:
      a, b: the two samples, at least one value each.
    """
    if len(a) + len(b) > MOST_EXACT:
        return float(stats.mannwhitneyu(a, b, method="asymptotic").pvalue)
    # Twice the mid-ranks are whole numbers.
    ranks = np.rint(2 * stats.rankdata([*a, *b])).astype(int)
    # How many subsets of each size have each sum of ranks.
    ways = np.zeros((len(a) + 1, ranks.sum() + 1))
    ways[0, 0] = 1
    for rank in ranks:
        ways[1:, rank:] += ways[:-1, : ways.shape[1] - rank].copy()
    middle = ranks.sum() * len(a) / len(ranks)
    as_far = np.abs(np.arange(ways.shape[1]) - middle) >= abs(ranks[: len(a)].sum() - middle) - 1e-9
    return float(min(1.0, ways[-1, as_far].sum() / ways[-1].sum()))


def tukey(samples: Sequence[Sequence[float]]) -> np.ndarray:
    """`[n, n]`, the p-values of Tukey's honestly significant difference for each two of n samples; NaN where it has none."""
    if len(samples) < 2 or min(map(len, samples)) < 2 or not sum(np.var(sample) for sample in samples):
        return np.full((len(samples), len(samples)), np.nan)
    return stats.tukey_hsd(*samples).pvalue


def holm(p_values: Sequence[float]) -> np.ndarray:
    """p-values corrected for their number by Holm's method (1979)."""
    p_values = np.asarray(p_values, float)
    order = np.argsort(p_values)
    stepped = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    corrected = np.empty_like(p_values)
    corrected[order] = np.minimum(1, stepped)
    return corrected


def bradley_terry(wins: np.ndarray, prior: float = 0.0) -> np.ndarray:
    """Scores s of Bradley and Terry's model, in which i is chosen over j with the probability 1 / (1 + exp(s_j - s_i)).

    By the iteration of Newman (2023, JMLR 24), one score after the other, to the maximum of the likelihood.

    Args:
      wins: `[..., n, n]`, how often i was chosen over j; any number of tables at once.
      prior: so much of a win is added in both directions of each pair that was compared, so that a method which always wins has
        a finite score.

    Returns:
      `[..., n]`, of mean 0.
    """
    wins = np.asarray(wins, float)
    compared = (wins + np.swapaxes(wins, -1, -2)).reshape(-1, *wins.shape[-2:]).sum(0) > 0
    wins = wins + prior * compared
    strengths = np.ones(wins.shape[:-1])
    for _ in range(MOST_STEPS):
        before = strengths.copy()
        for i in range(strengths.shape[-1]):
            of_both = strengths[..., i, None] + strengths
            won = (wins[..., i, :] * strengths / of_both).sum(-1)
            lost = (wins[..., :, i] / of_both).sum(-1)
            strengths[..., i] = np.divide(won, lost, out=np.ones_like(won), where=lost > 0)
        strengths = np.maximum(strengths, 1e-300)
        strengths /= np.exp(np.log(strengths).mean(-1, keepdims=True))
        if np.allclose(strengths, before, rtol=1e-9):
            break
    return np.log(strengths)


def bootstrap_weights(
    raters: Sequence[str], faces: Sequence[str], rng: np.random.Generator, resamples: int = 1000
) -> np.ndarray:
    """How often each answer counts when both raters and faces are drawn anew, with replacement (Owen 2007).

    An answer counts the product of how often its rater and its face were drawn. Both vary from study to study; resampling
    answers would ignore that those of one rater, or of one face, are alike. The intervals are rather too wide than too narrow.

    Args:
      raters, faces: of each of n answers.

    Returns:
      `[resamples, n]`.
    """

    def drawn(of_answers: Sequence[str]) -> np.ndarray:
        _, index = np.unique(np.asarray(of_answers), return_inverse=True)
        number = index.max(initial=0) + 1
        return rng.multinomial(number, np.full(number, 1 / number), size=resamples)[:, index]

    return drawn(raters) * drawn(faces)


def interval(values: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of bootstrapped values, `[resamples]` or `[resamples, ...]`; NaN are left out."""
    return tuple(np.nanpercentile(values, (2.5, 97.5), axis=0)) if np.isfinite(values).any() else (float("nan"), float("nan"))


def weighted_mean(values: Sequence[float], weights: np.ndarray) -> np.ndarray:
    """`[resamples]`, the means of `[n]` values by each row of `[resamples, n]` weights; NaN where they are all 0."""
    total = weights.sum(-1)
    return np.divide(weights @ np.asarray(values, float), total, out=np.full(len(total), np.nan), where=total > 0)


def sign_flip(margins: Sequence[int]) -> float:
    """Two-sided p-value for raters who prefer neither of two methods: then each one's margin could as well have the other sign.

    Args:
      margins: of each rater, how many times more the first method was chosen than the second. All signs are counted.
    """
    sizes = np.abs(np.asarray(margins, int))
    # The probability of each sum, from -sum(sizes) on; numbers of choices would overflow.
    chances = np.ones(1)
    for size in sizes:
        chances = np.convolve(chances, np.bincount([0, 2 * size]) / 2)
    sums = np.arange(len(chances)) - sizes.sum()
    return float(chances[np.abs(sums) >= abs(np.sum(margins))].sum())


def agreement(raters: Sequence[str], units: Sequence[str], values: Sequence, level: str) -> float:
    """Krippendorff's alpha: 1 if raters agree on every unit, 0 if as by chance; NaN where it has no value.

    Args:
      raters, units, values: of each answer; a rater judges a unit at most once.
      level: of measurement, "nominal" or "ordinal".
    """
    import krippendorff

    rows, columns = (np.unique(np.asarray(each), return_inverse=True) for each in (raters, units))
    domain = sorted(set(values))
    if len(domain) < 2:
        return float("nan")
    table = np.full((len(rows[0]), len(columns[0])), np.nan)
    table[rows[1], columns[1]] = [domain.index(value) for value in values]
    if not (np.isfinite(table).sum(0) > 1).any():
        return float("nan")
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement=level))
