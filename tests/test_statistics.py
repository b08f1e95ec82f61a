"""Intervals, tests and comparisons, against scipy, worked examples and direct computation."""

from __future__ import annotations

import json
import shutil
import time
from itertools import product
from math import comb, sqrt
from pathlib import Path
from statistics import NormalDist, median
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest, t, ttest_rel
from statsmodels.stats.multitest import multipletests

from cache_zoo import UsageError
from evaluation.report import compare as program
from evaluation.report.compare import compare, find_baseline
from evaluation.report.statistics import (
    holm,
    mean,
    paired_difference,
    paired_p,
    proportion_interval,
    ratio_of_medians,
    token_agreement,
)
from evaluation.storage.saved_run import SavedRun
from tests.small_runs import QUESTIONS, edit_results, edit_samples, pick

Z = NormalDist().inv_cdf(0.975)


def pairs(both: int, won: int, lost: int, neither: int) -> tuple[list[float], list[float]]:
    """Scores of a run and its baseline with these numbers of questions of each kind."""
    kinds = [(1.0, 1.0)] * both + [(1.0, 0.0)] * won + [(0.0, 1.0)] * lost + [(0.0, 0.0)] * neither
    return [ours for ours, _ in kinds], [theirs for _, theirs in kinds]


def test_wilson_is_its_formula_and_stays_a_share() -> None:
    for right, n in product((0, 1, 17, 40), (40, 41)):
        share, spread = right / n, Z**2 / n
        middle = (share + spread / 2) / (1 + spread)
        half = Z / (1 + spread) * sqrt(share * (1 - share) / n + Z**2 / (4 * n * n))
        assert proportion_interval(right, n) == pytest.approx((middle - half, middle + half), abs=1e-9)
    # 10 of 20, a textbook case
    assert proportion_interval(10, 20) == pytest.approx((0.2993, 0.7007), abs=1e-4)


def test_the_interval_of_a_mean_follows_what_is_averaged() -> None:
    assert (mean([1, 0, 1, 1]).low, mean([1, 0, 1, 1]).high) == pytest.approx(proportion_interval(3, 4))
    scores = [0.25, 0.5, 1.0, 0.75, 0.5]
    low, high = t.interval(0.95, 4, loc=np.mean(scores), scale=np.std(scores, ddof=1) / sqrt(5))
    assert (mean(scores).value, mean(scores).low, mean(scores).high) == pytest.approx((0.6, low, high))
    assert mean([0.5, 0.5, 0.5]).low is mean([0.3]).high is None  # nothing tells how much they vary


def test_the_paired_interval_is_the_published_one() -> None:
    # airway hyper-responsiveness, 21 children: Fagerland, Lydersen and Laake 2014, Statistics in Medicine 33:2850
    found = paired_difference(*pairs(1, 1, 7, 12))
    assert found.value == pytest.approx(-6 / 21)
    assert (found.low, found.high) == pytest.approx((-0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize(
    "counts", [(1, 1, 7, 12), (60, 40, 20, 40), (80, 9, 5, 6), (18, 0, 2, 0), (5, 3, 0, 0), (1000, 30, 40, 249)]
)
def test_the_paired_interval_holds_what_a_score_test_does_not_reject(counts: tuple[int, int, int, int]) -> None:
    """The limits, where the difference is tested with the likelihood maximised by a search, not a formula."""
    _, won, lost, _ = counts
    n = sum(counts)

    def statistic(difference: float) -> float:
        def unlikely(share: float) -> float:  # of lost ones; those won have the difference on top
            chances = (share + difference, share, 1 - difference - 2 * share)
            observed = (won, lost, n - won - lost)
            return -sum(count * np.log(max(chance, 1e-300)) for count, chance in zip(observed, chances, strict=True))

        bounds = (max(0.0, -difference), (1 - difference) / 2)
        share = minimize_scalar(unlikely, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
        variance = (2 * share + difference - difference**2) / n
        return abs(won / n - lost / n - difference) / sqrt(variance)

    found = paired_difference(*pairs(*counts))
    for limit, inside in ((found.low, 1e-3), (found.high, -1e-3)):
        if limit is not None and abs(limit) < 1:
            assert statistic(limit) == pytest.approx(Z, abs=1e-3)
            assert statistic(limit + inside) < Z < statistic(limit - inside)


def test_no_difference_in_few_questions_is_no_certainty() -> None:
    found = paired_difference(*pairs(15, 0, 0, 5))
    assert (found.value, found.high) == (
        0,
        pytest.approx(Z**2 / (20 + Z**2), abs=1e-6),
    )  # the closed form for this case
    assert found.low == pytest.approx(-(Z**2) / (20 + Z**2), abs=1e-6)
    assert paired_p(*pairs(15, 0, 0, 5)) == 1
    everything = paired_difference(*pairs(0, 3, 0, 0))
    assert (everything.value, everything.high) == (1, 1)


def test_mcnemar_is_a_binomial_test_of_the_questions_that_differ() -> None:
    for won, lost in ((1, 7), (0, 5), (3, 3), (60, 90)):
        expected = binomtest(won, won + lost, 0.5).pvalue
        assert paired_p(*pairs(4, won, lost, 9)) == pytest.approx(expected)
    by_hand = 2 * (comb(8, 0) + comb(8, 1)) / 2**8
    assert paired_p(*pairs(1, 1, 7, 12)) == pytest.approx(by_hand)


def test_scores_between_are_compared_by_their_differences() -> None:
    ours, theirs = [0.5, 0.25, 1.0, 0.8], [0.4, 0.5, 0.7, 0.2]
    test = ttest_rel(ours, theirs)
    assert paired_p(ours, theirs) == pytest.approx(test.pvalue)
    found, expected = paired_difference(ours, theirs), test.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert paired_p([0.5, 0.5], [0.25, 0.25]) is None
    assert paired_difference([0.5], [0.3]).low is None


def test_holm_by_hand() -> None:
    # 0.01 * 4; 0.02 * 3; 0.03 * 2; 0.04 * 1, which may not be below the one before
    assert holm([0.04, 0.01, None, 0.03, 0.02]) == pytest.approx([0.06, 0.04, None, 0.06, 0.06], nan_ok=True)
    assert holm([None]) == [None]
    assert holm([0.9, 0.8]) == [1, 1]


def test_holm_is_that_of_statsmodels() -> None:
    generator = np.random.default_rng(3)
    for count in (1, 2, 13, 40):
        values = generator.random(count).round(2).tolist()
        assert holm(values) == multipletests(values, method="holm")[1].tolist()


def test_speed_up_is_the_ratio_of_the_medians() -> None:
    fast, slow = [1.0, 2.0, 4.0], [6.0, 10.0, 7.0]
    found = ratio_of_medians(fast, slow)
    assert found.value == 7 / 2
    # drawn with repetition: each of the 27 triples of pairs is as likely as the others
    ratios = sorted(
        median(slow[index] for index in drawn) / median(fast[index] for index in drawn)
        for drawn in product(range(3), repeat=3)
    )
    assert (found.low, found.high) == (ratios[0], ratios[-1])
    assert found == ratio_of_medians(fast, slow)
    assert ratio_of_medians([2.0], [4.0]) == type(found)(2.0)


def test_the_bootstrap_draws_pairs() -> None:
    """Seconds that vary alike in both runs give a narrow interval of their ratio."""
    generator = np.random.default_rng(5)
    slow = generator.uniform(1, 10, 200)
    fast = slow / 3
    found = ratio_of_medians(fast.tolist(), slow.tolist())
    assert (found.low, found.value, found.high) == pytest.approx((3, 3, 3))
    apart = ratio_of_medians(generator.permutation(fast).tolist(), slow.tolist())
    assert apart.low is not None
    assert apart.high is not None
    assert apart.low < 2.8 < 3.2 < apart.high


def test_many_batches_take_little_time() -> None:
    before = time.process_time()
    found = ratio_of_medians([1.0 + n % 7 for n in range(99_000)], [2.0 + n % 5 for n in range(99_000)])
    assert time.process_time() - before < 5
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.value == 1 <= found.high


def test_the_speed_up_interval_is_that_of_a_bootstrap_written_out() -> None:
    generator = np.random.default_rng(8)
    slow, fast = generator.lognormal(1, 0.3, 60), generator.lognormal(0, 0.3, 60)
    slow[0] *= 100  # which a median bears and a mean does not
    drawn = generator.integers(0, 60, (20000, 60))
    expected = np.quantile(np.median(slow[drawn], axis=1) / np.median(fast[drawn], axis=1), [0.025, 0.975])
    found = ratio_of_medians(fast.tolist(), slow.tolist())
    assert (found.low, found.high) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    ("ids", "others", "share"),
    [([1, 2, 3, 4], [1, 2, 9, 4], 3 / 4), ([5], [5, 6], 1 / 2), ([], [], 1), ([], [1], 0), ([1, 2], [2, 1], 0)],
)
def test_tokens_agree_by_position(ids: list[int], others: list[int], share: float) -> None:
    assert token_agreement(ids, others) == token_agreement(others, ids) == share


# --- Runs. -----------------------------------------------------------------------------------------------------------


def raw(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]


def copy(run: Path, to: Path) -> Path:
    return Path(shutil.copytree(run, to / run.name))


@pytest.mark.parametrize(("cache", "batch_size"), [("dual", 1), ("d2cache", 1), ("dual", 4)])
def test_a_comparison_is_what_the_files_say(small_runs: Path, cache: str, batch_size: int) -> None:
    paths = [pick(small_runs, name, batch_size) for name in (cache, "none")]
    found = compare(*map(SavedRun, paths))
    ours, theirs = map(raw, paths)
    metric = "exact_match,strict-match"
    scores = [[sample["metrics"][metric] for sample in side] for side in (ours, theirs)]
    assert found.difference == paired_difference(*scores)
    assert found.p == paired_p(*scores)
    same = [one["ids"] == other["ids"] for one, other in zip(ours, theirs, strict=True)]
    assert found.exact_agreement == sum(same) / QUESTIONS
    assert found.agreement is not None
    assert found.exact_agreement is not None
    assert found.exact_agreement <= found.agreement <= 1
    assert found.speed_up is not None
    our_latency, their_latency = (SavedRun(path).efficiency.latency_seconds.median for path in paths)
    assert our_latency is not None
    assert their_latency is not None
    assert found.speed_up.value == pytest.approx(their_latency / our_latency)
    assert found.unscored is found.untimed is None


def test_what_was_timed_is_a_batch(small_runs: Path) -> None:
    """Six questions in batches of four and two are two observations, not six."""
    runs = [pick(small_runs, name, 4) for name in ("dual", "none")]
    found = compare(*map(SavedRun, runs)).speed_up
    seconds = [list(dict.fromkeys(sample["seconds"] for sample in raw(run))) for run in runs]
    assert [len(side) for side in seconds] == [2, 2]
    assert found == ratio_of_medians(*seconds)


def test_a_run_is_as_fast_as_itself(small_runs: Path) -> None:
    run = SavedRun(pick(small_runs, "none"))
    assert find_baseline(run, [run]) is run
    found = compare(run, run)
    assert (found.speed_up and found.speed_up.value, found.agreement, found.exact_agreement) == (1, 1, 1)


def drop_a_question(samples: list[dict[str, Any]]) -> None:
    del samples[2]


def another_prompt(samples: list[dict[str, Any]]) -> None:
    samples[4]["prompt_sha256"] = "0" * 64


def another_row(samples: list[dict[str, Any]]) -> None:
    samples[5]["doc_id"] = 77


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drop_a_question, r"their questions differ: 5 and 6 questions; only one has nano-gsm, row 2"),
        (another_row, r"their questions differ: 6 and 6 questions; only one has nano-gsm, row 5"),
        (another_prompt, r"the prompt of nano-gsm, row 4 differs"),
    ],
)
def test_runs_that_were_asked_otherwise_are_refused(small_runs: Path, tmp_path: Path, change: Any, reason: str) -> None:
    run, baseline = copy(pick(small_runs, "dual"), tmp_path), pick(small_runs, "none")
    compare(SavedRun(run), SavedRun(baseline))
    edit_samples(run, change)
    with pytest.raises(UsageError, match=reason):
        compare(SavedRun(run), SavedRun(baseline))


def test_other_data_are_refused(small_runs: Path, tmp_path: Path) -> None:
    run = copy(pick(small_runs, "dual"), tmp_path)
    edit_results(run, lambda found: found["provenance"].update(dataset_sha256={"nano-gsm": "other"}))
    with pytest.raises(UsageError, match="their data differ"):
        compare(SavedRun(run), SavedRun(pick(small_runs, "none")))


def test_only_runs_of_one_setting_are_compared(small_runs: Path, tmp_path: Path) -> None:
    one, four = (SavedRun(pick(small_runs, "dual", size)) for size in (1, 4))
    baseline = SavedRun(pick(small_runs, "none"))
    with pytest.raises(UsageError, match="their settings differ: batch_size is 4 and 1"):
        compare(four, baseline)
    with pytest.raises(UsageError, match="the baseline must have cache=none"):
        compare(baseline, one)
    failed = copy(one.folder, tmp_path)
    (failed / "status.json").write_text('{"status": "failed"}')
    with pytest.raises(UsageError, match="is failed"):
        compare(SavedRun(failed), baseline)
    everything = [SavedRun(folder) for folder in sorted(small_runs.iterdir())]
    assert find_baseline(one, everything) == baseline
    assert find_baseline(four, everything) == SavedRun(pick(small_runs, "none", 4))
    assert find_baseline(one, [one, four]) is None


def test_the_nearest_baseline_is_taken(small_runs: Path, tmp_path: Path) -> None:
    run, baseline = SavedRun(pick(small_runs, "dual")), pick(small_runs, "none")
    here, elsewhere, others = (copy(baseline, tmp_path / name) for name in ("a", "b", "c"))
    edit_results(elsewhere, lambda found: found["provenance"]["machine"].update(processor="another"))
    edit_results(others, lambda found: found["provenance"].update(dataset_sha256={"nano-gsm": "another"}))
    assert find_baseline(run, map(SavedRun, [others, elsewhere])) == SavedRun(elsewhere)
    assert find_baseline(run, map(SavedRun, [others, elsewhere, here])) == SavedRun(here)
    assert find_baseline(run, map(SavedRun, [others, elsewhere, here, baseline])) == SavedRun(baseline)


def test_speed_is_compared_on_one_machine_only(small_runs: Path, tmp_path: Path) -> None:
    run, baseline = copy(pick(small_runs, "dual"), tmp_path), SavedRun(pick(small_runs, "none"))
    here = compare(SavedRun(run), baseline)
    for change in ({"machine": {"processor": "another"}}, {"device": "a GPU"}, {"dtype": "bfloat16"}):
        edit_results(run, lambda found, change=change: found["provenance"].update(change))  # type: ignore[misc]
        found = compare(SavedRun(run), baseline)
        assert found.speed_up is None
        assert found.untimed == "no speed-up: the baseline ran on another machine or number of processes"
        assert (found.difference, found.agreement) == (here.difference, here.agreement)
        shutil.copy(pick(small_runs, "dual") / "results.json", run)


def test_batches_of_other_questions_have_no_speed_up(small_runs: Path, tmp_path: Path) -> None:
    run = copy(pick(small_runs, "dual", 4), tmp_path)
    edit_samples(run, lambda samples: samples[3].update(batch=1))
    found = compare(SavedRun(run), SavedRun(pick(small_runs, "none", 4)))
    assert found.speed_up is None
    assert found.untimed == "no speed-up: the batches of the baseline hold other questions"


def test_scores_that_are_no_means_are_not_compared(small_runs: Path, tmp_path: Path) -> None:
    run, baseline = copy(pick(small_runs, "dual"), tmp_path), SavedRun(pick(small_runs, "none"))
    edit_results(run, lambda found: found["summary"].update(score=0.123))
    assert compare(SavedRun(run), baseline).difference is None
    edit_results(run, lambda found: found["summary"].update(metric=None, score=None))
    found = compare(SavedRun(run), baseline)
    assert (found.difference, found.p) == (None, None)
    assert found.unscored == "scored by nothing, the baseline by exact_match,strict-match"
    assert found.agreement is not None


def test_the_command_compares_or_says_why_not(
    small_runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def call(run: Path, baseline: Path) -> int:
        monkeypatch.setattr("sys.argv", ["compare", str(run), str(baseline)])
        return program.main()

    run, baseline = pick(small_runs, "dual"), pick(small_runs, "none")
    assert call(run, baseline) == 0
    assert "difference" in (out := capsys.readouterr().out)
    assert "speed-up" in out
    assert call(pick(small_runs, "dual", 4), baseline) == 2
    assert "their settings differ: batch_size is 4 and 1" in capsys.readouterr().err
    assert call(tmp_path, baseline) == 2
    assert "status.json can't be read" in capsys.readouterr().err
    broken = copy(run, tmp_path)
    (broken / "results.json").write_text("{")
    assert call(broken, baseline) == 2
    assert "results.json is not valid JSON" in capsys.readouterr().err
