"""What runs must share to be compared and ranked (code, versions, weights); runs that did the same work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cache_zoo import UsageError
from evaluation.report import compare as program
from evaluation.report.columns import SAME_WORK
from evaluation.report.compare import compare, find_baseline
from evaluation.report.html import render_page
from evaluation.report.leaderboard import render_csv
from evaluation.report.markdown import render_markdown
from evaluation.report.rows import read_rows
from evaluation.report.table import read_runs, render
from evaluation.storage.find_runs import find_runs
from evaluation.storage.saved_run import SavedRun
from tests.small_runs import call, edit_results, edit_samples, pick

Origin = dict[str, Any]


def rows_of(folder: Path) -> dict[str, dict[str, Any]]:
    frame = read_rows(find_runs([folder], name_from=folder))
    return {row["folder"]: row for row in frame.to_dict("records")}


def changed(run: Path, change: Callable[[Origin], object]) -> None:
    edit_results(run, lambda found: change(found["provenance"]))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda found: found["git"].update(commit="d" * 40), "the baseline ran another commit"),
        (lambda found: found.update(git=None), "the baseline ran another commit"),
        (lambda found: found["git"].update(dirty=True), "the run had uncommitted changes"),
        (lambda found: found["versions"].update({"cache-zoo": "9.9"}), "cache-zoo is 0.1.0 in the baseline and 9.9 in"),
        (lambda found: found["versions"].update(torch="9.9"), "and 9.9 in this run"),
        (lambda found: found["versions"].update(transformers="9.9"), "transformers is "),
        (lambda found: found["versions"].update(lm_eval=None), "and not recorded in this run"),
        (lambda found: found["versions"].update(python="3.99.1"), "and 3.99 in this run"),
        (lambda found: found["model"].update(weights_sha256="e" * 64), "the baseline had other weights"),
        (lambda found: found["model"].update(config_sha256="e" * 64), "had other network settings"),
        (
            lambda found: found.update(strategy_code={"origin": "package", "name": "p", "version": "2"}),
            "the baseline had other strategy code",
        ),
    ],
)
def test_runs_of_other_code_versions_or_weights_are_not_compared(
    results: Path, change: Callable[[Origin], object], reason: str
) -> None:
    run, baseline = pick(results, "dual"), pick(results, "none")
    changed(run, change)
    with pytest.raises(UsageError, match=reason):
        compare(SavedRun(run), SavedRun(baseline))
    rows = rows_of(results)
    row = rows[run.name]
    assert reason in row["note"]
    assert all(pd.isna(row[key]) for key in ("diff", "p", "p_holm", "speedup", "agreement", "exact_agreement"))
    assert row["group"] != rows[baseline.name]["group"]
    assert not row["ranked"]
    assert rows[pick(results, "d2cache").name]["ranked"]


def test_the_table_has_no_speed_up_over_other_code(results: Path) -> None:
    run = pick(results, "dual")
    assert read_runs(results).set_index("folder").loc[run.name, "speedup"] > 0
    changed(run, lambda found: found["versions"].update(torch="9.9"))
    assert pd.isna(read_runs(results).set_index("folder").loc[run.name, "speedup"])


def test_the_smallest_version_of_python_does_not_count(results: Path) -> None:
    run = pick(results, "dual")
    changed(run, lambda found: found["versions"].update(python="3.11.99"))
    changed(pick(results, "none"), lambda found: found["versions"].update(python="3.11.1"))
    assert rows_of(results)[run.name]["speedup"] > 0


def test_a_baseline_of_the_same_code_goes_first(results: Path, tmp_path: Path) -> None:
    run, same = pick(results, "dual"), pick(results, "none")
    other = shutil.copytree(same, results / "a_none")  # its name would be the first
    changed(other, lambda found: found["git"].update(commit="d" * 40))
    found = find_baseline(SavedRun(run), map(SavedRun, [other, same]))
    assert found == SavedRun(same)


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda found: found.update(cache_code={"origin": "unknown"}), "the code of the cache is in no commit and"),
        (lambda found: found.update(cache_code={"origin": "package"}), "the code of the cache is in no commit and"),
        (lambda found: found.update(strategy_code={"origin": "unknown"}), "the code of the strategy is in no commit"),
        (lambda found: found["cache_code"].update(several=True), "its sessions ran several versions of the cache"),
        (lambda found: found["model"].update(several=True), "its sessions ran several checkpoints"),
    ],
)
def test_code_of_unknown_origin_is_not_ranked(results: Path, change: Callable[[Origin], object], note: str) -> None:
    run = pick(results, "dual")
    changed(run, change)
    row = rows_of(results)[run.name]
    assert not row["ranked"]
    assert note in row["note"]


def test_an_older_run_of_a_class_that_was_named_is_of_unknown_origin(results: Path) -> None:
    run = pick(results, "dual")
    changed(run, lambda found: [found.pop(key, None) for key in ("cache_code", "strategy_code")])
    row = rows_of(results)[run.name]
    assert "not recorded: the origin of the cache's code" in row["note"]
    assert "no commit" not in row["note"]
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("cache:\n", "cache:\n  _target_: own.Own\n"))
    row = rows_of(results)[run.name]
    assert not row["ranked"]
    assert "the code of the cache is in no commit and no package" in row["note"]


def test_the_package_of_a_cache_is_named_and_ranked(results: Path) -> None:
    run = pick(results, "dual")
    packaged = {"origin": "package", "name": "their-cache", "version": "1.2", "commit": "f" * 40}
    changed(run, lambda found: found.update(cache_code=packaged))
    row = rows_of(results)[run.name]
    assert row["cache_package"] == "their-cache 1.2 ffffffffff"
    assert row["ranked"]
    assert row["speedup"] > 0


def test_a_note_of_the_run_is_in_its_row(results: Path) -> None:
    run = pick(results, "dual")
    edit_results(run, lambda found: found["summary"].update(note="the weights are\nnot those of nano-llada"))
    row = rows_of(results)[run.name]
    assert "the weights are\\nnot those of nano-llada" in row["note"]


def as_the_baseline(run: Path, baseline: Path) -> None:
    """Make a run look as if it recomputed everything and generated the baseline's tokens."""
    ids = [json.loads(line)["ids"] for line in (baseline / "samples.jsonl").read_text().splitlines()]
    edit_samples(run, lambda samples: [one.update(ids=own) for one, own in zip(samples, ids, strict=True)])
    edit_results(run, lambda found: found["efficiency"].update(compute_ratio=1.0))


def test_the_same_work_is_no_speed_up(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, baseline = pick(results, "dual"), pick(results, "none")
    as_the_baseline(run, baseline)
    found = compare(SavedRun(run), SavedRun(baseline))
    assert found.same_work
    assert found.speed_up is None
    assert (found.agreement, found.exact_agreement) == (1, 1)
    rows = rows_of(results)
    row = rows[run.name]
    assert (row["same_work"], rows[pick(results, "d2cache").name]["same_work"]) == (True, False)
    assert all(pd.isna(row[key]) for key in ("speedup", "speedup_low", "speedup_high"))
    assert row["ranked"]
    own = rows[baseline.name]
    assert (own["speedup"], own["same_work"]) == (1, False)  # it is the unit
    frame = read_rows(find_runs([results], name_from=results))
    csv_row = next(line for line in render_csv(frame).splitlines() if line.endswith(run.name))
    assert ",,,,true," in csv_row
    line = next(line for line in render_markdown(frame).splitlines() if run.name in line)
    assert f"| {SAME_WORK} |" in line
    assert f">{SAME_WORK}<" in render_page(frame)
    line = next(line for line in render(read_runs(results)).splitlines() if SAME_WORK in line)
    assert " dual " in line
    assert call(monkeypatch, program, run, baseline) == 0
    assert f"speed-up          {SAME_WORK}" in capsys.readouterr().out


@pytest.mark.parametrize("ratio", [0.999, None])
def test_less_work_or_other_tokens_are_not_the_same_work(results: Path, ratio: float | None) -> None:
    run, baseline = pick(results, "dual"), pick(results, "none")
    as_the_baseline(run, baseline)
    edit_results(run, lambda found: found["efficiency"].update(compute_ratio=ratio))
    assert not compare(SavedRun(run), SavedRun(baseline)).same_work
    edit_results(run, lambda found: found["efficiency"].update(compute_ratio=1))
    edit_samples(run, lambda samples: samples[3]["ids"].append(5))
    found = compare(SavedRun(run), SavedRun(baseline))
    assert not found.same_work
    assert found.speed_up is not None


def test_empty_answers_are_shown(results: Path) -> None:
    assert "empty answers" not in render(read_runs(results))
    run = pick(results, "dual")
    edit_results(run, lambda found: found["efficiency"].update(empty_answers=2))
    edit_results(pick(results, "none"), lambda found: found["efficiency"].update(empty_answers=None))
    assert rows_of(results)[run.name]["empty_answers"] == 2
    assert "empty answers" in render(read_runs(results))
    assert 'data-key="empty_answers"' in render_page(read_rows(find_runs([results], name_from=results)))
