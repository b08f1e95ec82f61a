"""What scores and seconds of the same questions say: intervals, paired differences, tests. All intervals are 95 %.

Formulas are those of scipy and statsmodels, but for one interval that neither has (`paired_difference`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binomtest, bootstrap, norm, ttest_1samp
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

LEVEL = 0.95
_RESAMPLES, _FEWEST = 9999, 199
_DRAWN = 20_000_000  # numbers that are drawn at most, which bounds the time: 9,999 draws of 2,000
_AT_ONCE = 2_000_000  # numbers that are resampled together, which bounds the memory
_MARGIN = 1e-9  # of a difference of shares: from the estimate, where the equation of its limits has a root of its own


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval; the limits are None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None


def proportion_interval(right: int, n: int) -> tuple[float, float]:
    """Wilson's interval of the share ``right / n``."""
    low, high = binomtest(right, n).proportion_ci(LEVEL, method="wilson")
    return float(low), float(high)


def mean(scores: Sequence[float]) -> Estimate:
    """Mean of the scores of the questions, one at least.

    Wilson's interval where each is 0 or 1, else Student's, for which there must be two that differ.
    """
    if _binary(scores):
        return Estimate(float(np.mean(scores)), *proportion_interval(int(sum(scores)), len(scores)))
    return _student(scores)


def paired_difference(scores: Sequence[float], baseline: Sequence[float]) -> Estimate:
    """Mean difference ``scores - baseline`` between two runs, question by question.

    Where each score is 0 or 1, the interval is Tango's (1998, Statistics in Medicine 17:891-908): all differences that
    a score test does not reject. At zero that test is McNemar's, so interval and test look at the same thing, and
    unlike the intervals of Wald and the bootstrap it does not shrink to a point where the runs differ on no question.
    Else it is Student's interval of the differences, for which there must be two that differ.

    Args:
        scores, baseline: one per question, in the same order.
    """
    if not (_binary(scores) and _binary(baseline)):
        return _student(np.subtract(scores, baseline).tolist())
    won, lost = _discordant(scores, baseline)
    return Estimate((won - lost) / len(scores), *_tango(won, lost, len(scores)))


def paired_p(scores: Sequence[float], baseline: Sequence[float]) -> float | None:
    """Two-sided p of no difference between two runs.

    McNemar's exact test, whatever the counts, where each score is 0 or 1; else the paired t-test, None where no two
    differences differ.
    """
    if _binary(scores) and _binary(baseline):
        won, lost = _discordant(scores, baseline)
        return float(mcnemar([[0, won], [lost, 0]], exact=True).pvalue)  # the diagonal does not matter
    differences = np.subtract(scores, baseline)
    return float(ttest_1samp(differences, 0.0).pvalue) if np.ptp(differences) else None


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjustment of the p values of one family; None, a test that was not made, stays and does not count."""
    made = [value for value in values if value is not None]
    adjusted = iter(multipletests(made, method="holm")[1] if made else [])
    return [None if value is None else float(next(adjusted)) for value in values]


def ratio_of_medians(seconds: Sequence[float], baseline: Sequence[float]) -> Estimate:
    """Median of ``baseline`` over the median of ``seconds``: how many times as fast a run is.

    The interval is that of the percentiles of a paired bootstrap: whole pairs are drawn again, 9,999 times, from a
    fixed seed; there must be two. Of more than 2,000 pairs there are fewer draws, of 20,000 a thousand. (The
    bias-corrected one needs the jackknife, which does not work for medians.)

    Args:
        seconds, baseline: positive, one per unit that was timed, in the same order.
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
        n_resamples=max(_FEWEST, min(_RESAMPLES, _DRAWN // len(seconds))),
        batch=max(1, _AT_ONCE // len(seconds)),
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Estimate(value, float(low), float(high))


def token_agreement(ids: Sequence[int], others: Sequence[int]) -> float:
    """Share of the tokens of two answers that are the same, position by position, of the longer one."""
    same = sum(a == b for a, b in zip(ids, others, strict=False))
    longer = max(len(ids), len(others))
    return same / longer if longer else 1.0


def _binary(scores: Sequence[float]) -> bool:
    return all(score in (0, 1) for score in scores)


def _discordant(scores: Sequence[float], baseline: Sequence[float]) -> tuple[int, int]:
    """How many questions only the run has right, and how many only the baseline."""
    pairs = list(zip(scores, baseline, strict=True))
    return sum(ours > theirs for ours, theirs in pairs), sum(ours < theirs for ours, theirs in pairs)


def _student(values: Sequence[float]) -> Estimate:
    average = float(np.mean(values))
    if len(values) < 2 or not np.ptp(values):
        return Estimate(average)
    low, high = ttest_1samp(values, 0.0).confidence_interval(LEVEL)
    return Estimate(average, float(low), float(high))


def _tango(won: int, lost: int, n: int) -> tuple[float, float]:
    """Limits of the difference of two paired shares, with ``won`` and ``lost`` of ``n`` pairs in favour and against."""
    z = float(norm.ppf((1 + LEVEL) / 2))

    def rejected(difference: float) -> float:
        """Above zero where the score test rejects the difference."""
        linear = (2 * n - won + lost) * difference - won - lost
        constant = -lost * difference * (1 - difference)
        share = (sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (
            4 * n
        )  # lost, where the likelihood is highest
        variance = n * (2 * share + difference * (1 - difference))
        return (won - lost - n * difference) ** 2 - z**2 * variance

    below, above = (won - lost) / n - _MARGIN, (won - lost) / n + _MARGIN
    low = brentq(rejected, -1.0, below) if below > -1 else -1.0
    high = brentq(rejected, above, 1.0) if above < 1 else 1.0
    return float(low), float(high)
