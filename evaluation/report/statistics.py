"""Intervals, paired differences and tests of scores and seconds. All intervals are 95 %.

Formulas are those of scipy and statsmodels, except for one interval that neither has (`paired_difference`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binomtest, bootstrap, norm, ttest_1samp
from statsmodels.stats.contingency_tables import mcnemar

LEVEL = 0.95
_MAX_RESAMPLES, _MIN_RESAMPLES = 9999, 199
_MAX_DRAWN = 20_000_000  # numbers drawn in total, which bounds the time: 9,999 resamples of 2,000
_MAX_BATCH = 2_000_000  # numbers drawn at a time, which bounds the memory
_ROOT_MARGIN = 1e-9  # distance of the limits of a difference from the estimate, which is a root itself


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval; without an interval the limits are None."""

    value: float
    low: float | None = None
    high: float | None = None


def proportion_interval(right: int, n: int) -> tuple[float, float]:
    """Wilson's interval of ``right / n``."""
    low, high = binomtest(right, n).proportion_ci(LEVEL, method="wilson")
    return float(low), float(high)


def mean(scores: Sequence[float]) -> Estimate:
    """Mean of at least one score.

    The interval is Wilson's if all scores are 0 or 1, else Student's, which needs two different scores.
    """
    if _binary(scores):
        return Estimate(float(np.mean(scores)), *proportion_interval(int(sum(scores)), len(scores)))
    return _student(scores)


def paired_difference(scores: Sequence[float], baseline: Sequence[float]) -> Estimate:
    """Mean of ``scores - baseline``, question by question.

    If all scores are 0 or 1, the interval is Tango's (1998, Statistics in Medicine 17:891-908): all differences that a
    score test does not reject. At zero that test is McNemar's, so interval and test agree, and unlike the intervals of
    Wald and the bootstrap it does not shrink to a point where the runs agree on all questions. Otherwise it is
    Student's interval of the differences, which needs two different ones.

    Args:
        scores, baseline: one per question, in the same order.
    """
    if not (_binary(scores) and _binary(baseline)):
        return _student(np.subtract(scores, baseline).tolist())
    won, lost = _discordant(scores, baseline)
    return Estimate((won - lost) / len(scores), *_tango(won, lost, len(scores)))


def paired_p(scores: Sequence[float], baseline: Sequence[float]) -> float | None:
    """Two-sided p value of no difference between two runs.

    McNemar's exact test if all scores are 0 or 1, else the paired t-test; None if all differences are equal.
    """
    if _binary(scores) and _binary(baseline):
        won, lost = _discordant(scores, baseline)
        return float(mcnemar([[0, won], [lost, 0]], exact=True).pvalue)  # the diagonal does not matter
    differences = np.subtract(scores, baseline)
    return float(ttest_1samp(differences, 0.0).pvalue) if np.ptp(differences) else None


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjustment of the p values of one family; None stands for no test and does not count.

    That of statsmodels collects garbage in every call, which takes longer than all else that a table needs.
    """
    tests = np.array([value for value in values if value is not None])
    order = np.argsort(tests)
    adjusted = np.empty_like(tests)
    adjusted[order] = np.minimum(np.maximum.accumulate(tests[order] * np.arange(len(tests), 0, -1)), 1)
    remaining = iter(adjusted.tolist())
    return [None if value is None else next(remaining) for value in values]


def ratio_of_medians(seconds: Sequence[float], baseline: Sequence[float]) -> Estimate:
    """Median of ``baseline`` over the median of ``seconds``: the speed-up of a run.

    The interval has the percentiles of a paired bootstrap with 9,999 resamples and a fixed seed; it needs two pairs.
    Above 2,000 pairs there are fewer resamples, with 20,000 a thousand. (The bias-corrected bootstrap needs the
    jackknife, which fails for medians.)

    Args:
        seconds, baseline: positive, one per timed batch, in the same order.
    """
    value = float(np.median(baseline) / np.median(seconds))
    if len(seconds) < 2:
        return Estimate(value)

    def ratio(slow: np.ndarray, fast: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(np.median(slow, axis=axis) / np.median(fast, axis=axis))

    low, high = bootstrap(
        (baseline, seconds),
        ratio,
        paired=True,
        vectorized=True,
        method="percentile",
        confidence_level=LEVEL,
        n_resamples=max(_MIN_RESAMPLES, min(_MAX_RESAMPLES, _MAX_DRAWN // len(seconds))),
        batch=max(1, _MAX_BATCH // len(seconds)),
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Estimate(value, float(low), float(high))


def token_agreement(ids: Sequence[int], others: Sequence[int]) -> float:
    """Share of equal tokens of two answers, position by position, over the longer one."""
    same = sum(a == b for a, b in zip(ids, others, strict=False))
    longer = max(len(ids), len(others))
    return same / longer if longer else 1.0


def _binary(scores: Sequence[float]) -> bool:
    return all(score in (0, 1) for score in scores)


def _discordant(scores: Sequence[float], baseline: Sequence[float]) -> tuple[int, int]:
    """Questions that only the run has right, and those that only the baseline has right."""
    pairs = list(zip(scores, baseline, strict=True))
    return sum(ours > theirs for ours, theirs in pairs), sum(ours < theirs for ours, theirs in pairs)


def _student(values: Sequence[float]) -> Estimate:
    average = float(np.mean(values))
    if len(values) < 2 or not np.ptp(values):
        return Estimate(average)
    low, high = ttest_1samp(values, 0.0).confidence_interval(LEVEL)
    return Estimate(average, float(low), float(high))


def _tango(won: int, lost: int, n: int) -> tuple[float, float]:
    """Limits of the difference of two paired shares: ``won`` pairs for and ``lost`` against, of ``n``."""
    z = float(norm.ppf((1 + LEVEL) / 2))

    def rejected(difference: float) -> float:
        """Positive where the score test rejects the difference."""
        linear = (2 * n - won + lost) * difference - won - lost
        constant = -lost * difference * (1 - difference)
        # maximum-likelihood share of lost pairs
        share = (sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n)
        variance = n * (2 * share + difference * (1 - difference))
        return (won - lost - n * difference) ** 2 - z**2 * variance

    below, above = (won - lost) / n - _ROOT_MARGIN, (won - lost) / n + _ROOT_MARGIN
    low = brentq(rejected, -1.0, below) if below > -1 else -1.0
    high = brentq(rejected, above, 1.0) if above < 1 else 1.0
    return float(low), float(high)
