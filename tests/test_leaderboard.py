"""The leaderboard, on real small runs and edited copies of them."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cache_zoo import UsageError
from evaluation.report import leaderboard
from evaluation.report.columns import CSV_TYPES, SCHEMA_VERSION
from evaluation.report.compare import compare
from evaluation.report.leaderboard import make_leaderboard, render_csv
from evaluation.report.markdown import render_markdown
from evaluation.report.paper_figures import read_paper_figures
from evaluation.report.rescore import rescore
from evaluation.report.rows import read_rows
from evaluation.report.statistics import holm, proportion_interval
from evaluation.storage.find_runs import find_runs
from evaluation.storage.saved_run import SavedRun
from tests.small_runs import QUESTIONS, call, edit_results, edit_samples, pick, unset_commit
from tools.tables import TABLES, with_table

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
STATUSES: dict[str, dict[str, Any]] = {
    "pending": {},
    "running": {"pid": 1, "host": "h", "heartbeat": "2026-01-01T00:00:00+00:00", "answered": 2, "total": 6},
    "failed": {"error": "ValueError: no | such\nthing", "traceback": "Traceback ..."},
    "oom": {"error": "OutOfMemoryError: 9 GB"},
    "skipped": {"reason": "needs blocks"},
    "partial": {"answered": 2, "total": 6},
}


def rows_of(folder: Path) -> pd.DataFrame:
    return read_rows(find_runs([folder], name_from=folder))


def row_of(frame: pd.DataFrame, run: Path) -> dict[str, Any]:
    (row,) = frame[frame["folder"] == run.name].to_dict(orient="records")
    return dict(row)


def unfinished(run: Path, name: str, status: dict[str, Any], config: bool = True) -> Path:
    """A folder of an unfinished run."""
    made = run.with_name(name)
    made.mkdir()
    if config:
        shutil.copy(run / "config.yaml", made)
    (made / "status.json").write_text(json.dumps({"date": "2026-01-01T00:00:00+00:00", **status}))
    return made


# --- Rows. -----------------------------------------------------------------------------------------------------------


def test_a_row_says_what_the_files_of_its_run_say(small_runs: Path) -> None:
    run, baseline = pick(small_runs, "d2cache"), pick(small_runs, "none")
    row = row_of(rows_of(small_runs), run)
    found = json.loads((run / "results.json").read_text())
    measured, provenance = found["efficiency"], found["provenance"]
    expected = {
        "schema_version": SCHEMA_VERSION,
        "model": "nano-llada",
        "cache": "d2cache",
        "cache_parameters": "confidence=live current_k=32 inflate_w=4 rollout_p=0.1 sigma=10.0",
        "suffix": "all",
        "store": "native",
        "decoder": "vanilla",
        "task": "nano-gsm",
        "n_shot": 4,
        "n": QUESTIONS,
        "items_total": QUESTIONS,
        "metric": "exact_match,strict-match",
        "score": found["results"]["nano-gsm"]["exact_match,strict-match"],
        "tokens_per_second": measured["tokens_per_second"],
        "latency_median": measured["latency_seconds"]["median"],
        "latency_p90": measured["latency_seconds"]["p90"],
        "nfe": measured["nfe"],
        "cache_mb": measured["cache_bytes"] / 1e6,
        "batch_size": 1,
        "gen_length": 64,
        "block_length": 32,
        "threshold": 0.9,
        "num_transfer_tokens": 1,
        "seed": 1234,
        "dtype": "float32",
        "device": "cpu",
        "torch": provenance["versions"]["torch"],
        "commit": "c" * 40,
        "dirty": False,
        "date": provenance["date"],
        "config_hash": run.name[-8:],
        "status": "done",
        "ranked": True,
    }
    assert {key: row[key] for key in expected} == expected
    assert provenance["machine"]["processor"] in row["machine"]
    for absent in ("steps", "peak_mb", "note", "decoder_settings", "suffix_parameters"):
        assert pd.isna(row[absent])
    compared = compare(SavedRun(run), SavedRun(baseline))
    assert compared.difference is not None
    assert compared.speed_up is not None
    assert (row["diff"], row["diff_low"], row["diff_high"]) == pytest.approx(list(vars(compared.difference).values()))
    assert (row["speedup"], row["speedup_low"]) == (compared.speed_up.value, compared.speed_up.low)
    assert (row["p"], row["agreement"]) == (compared.p, compared.agreement)
    right = round(row["score"] * QUESTIONS)
    assert (row["score_low"], row["score_high"]) == pytest.approx(proportion_interval(right, QUESTIONS))


def test_the_run_without_a_cache_is_compared_with_itself_without_a_test(small_runs: Path) -> None:
    row = row_of(rows_of(small_runs), pick(small_runs, "none"))
    assert (row["speedup"], row["agreement"], row["exact_agreement"]) == (1, 1, 1)
    for key in ("diff", "diff_low", "p", "p_holm", "speedup_low"):
        assert pd.isna(row[key])
    assert row["ranked"]


def test_holm_is_over_the_caches_of_a_group(results: Path) -> None:
    one, two, baseline = (pick(results, cache) for cache in ("dual", "d2cache", "none"))
    for run, right in ((one, 2), (two, 0), (baseline, 6)):
        score_by_hand(run, right)
    frame = rows_of(results)
    rows = [row_of(frame, run) for run in (one, two)]
    assert [row["p"] for row in rows] == pytest.approx([2 / 2**4, 2 / 2**6])
    assert [row["p_holm"] for row in rows] == pytest.approx([2 / 2**4, 4 / 2**6])
    assert holm([row["p"] for row in rows]) == pytest.approx([row["p_holm"] for row in rows])
    assert len({row["group"] for row in rows}) == 1
    other = row_of(frame, pick(results, "dual", 4))
    assert other["group"] != rows[0]["group"]
    assert other["p_holm"] == other["p"]  # a family of its own


def score_by_hand(run: Path, right: int) -> None:
    metric = "exact_match,strict-match"
    edit_samples(run, lambda samples: [s["metrics"].update({metric: float(s["doc_id"] < right)}) for s in samples])
    edit_results(run, lambda found: found["summary"].update(score=right / QUESTIONS))


def test_ranked_rows_go_first_the_best_of_a_group_on_top(results: Path) -> None:
    score_by_hand(pick(results, "none"), 3)
    score_by_hand(pick(results, "dual"), 5)
    score_by_hand(pick(results, "d2cache"), 4)
    frame = rows_of(results)
    assert list(frame["ranked"]) == [True] * 5 + [False]
    assert list(frame["cache"][:3]) == ["dual", "d2cache", "none"]
    assert list(frame["batch_size"]) == [1, 1, 1, 4, 4, 1]


@pytest.mark.parametrize("config", [True, False])
@pytest.mark.parametrize("status", STATUSES)
def test_unfinished_runs_are_there_and_not_ranked(results: Path, status: str, config: bool) -> None:
    name = "nano-llada__dual__vanilla__nano-gsm__0badcafe"
    run = unfinished(pick(results, "dual"), name, {"status": status, **STATUSES[status]}, config)
    frame = rows_of(results)
    row = row_of(frame, run)
    assert (row["status"], row["ranked"]) == (status, False)
    assert (row["model"], row["cache"], row["task"]) == ("nano-llada", "dual", "nano-gsm")
    measured = [key for key, kind in CSV_TYPES.items() if kind == "float64" and key != "threshold"]
    assert all(pd.isna(row[key]) for key in [*measured, "n", "p", "group"])
    notes = {
        "failed": "ValueError: no | such",
        "oom": "OutOfMemoryError: 9 GB",
        "skipped": "needs blocks",
        "partial": "interrupted after 2 of 6 questions",
    }
    assert row["note"] == notes.get(status) or pd.isna(row["note"])
    line = next(line for line in render_markdown(frame).splitlines() if "0badcafe" in line)
    assert "N/A" in line
    assert status in line
    assert len(line.replace("\\|", "").split("|")) == 14  # a bar in a note ends no cell
    assert line in render_markdown(frame).partition("Not ranked:")[2]


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda found: found["provenance"]["git"].update(dirty=True), "run with uncommitted changes"),
        (lambda found: found["provenance"]["git"].update(several=True), "its sessions ran several commits"),
        (
            lambda found: found["efficiency"].update(memory_shortages=[{"size": 4, "then": 2}, {"size": 2, "then": 1}]),
            "batches did not fit into memory; use batch_size=1",
        ),
        (unset_commit, "no commit is recorded"),
        (lambda found: found["summary"].update(partial=True, n=5), "only 5 of 6 questions were asked"),
        (lambda found: found["summary"].update(score=None, metric=None, note="not run"), "no score: not run"),
    ],
)
def test_a_finished_run_that_lacks_something_is_not_ranked(
    results: Path, change: Callable[[dict[str, Any]], None], note: str
) -> None:
    run = pick(results, "dual")
    edit_results(run, change)
    row = row_of(rows_of(results), run)
    assert not row["ranked"]
    assert row["note"].partition("; nano-llada")[0] == note
    assert row["tokens_per_second"] > 0


def test_a_run_that_can_not_be_compared_says_why_and_is_not_ranked(results: Path) -> None:
    run = pick(results, "dual")
    edit_samples(run, lambda samples: samples[0].update(prompt_sha256="other"))
    row = row_of(rows_of(results), run)
    assert not row["ranked"]
    assert row["note"].endswith("the prompt of nano-gsm, row 0 differs")
    assert all(pd.isna(row[key]) for key in ("diff", "p", "speedup", "agreement"))
    shutil.rmtree(pick(results, "none"))
    row = row_of(rows_of(results), run)
    assert row["ranked"]  # nothing contradicts it
    assert row["note"] == "no baseline to compare with"


def test_another_machine_is_another_group(results: Path) -> None:
    run = pick(results, "dual")
    edit_results(run, lambda found: found["provenance"]["machine"].update(processor="another"))
    frame = rows_of(results)
    row, baseline = row_of(frame, run), row_of(frame, pick(results, "none"))
    assert row["group"] != baseline["group"]
    assert pd.isna(row["speedup"])
    assert not pd.isna(row["diff"])
    assert row["note"] == "no speed-up: the baseline ran on another machine or number of processes"
    assert row["ranked"]


@pytest.mark.parametrize("name", ["results.json", "samples.jsonl", "config.yaml", "status.json"])
def test_a_damaged_run_does_not_hide_the_others(results: Path, name: str) -> None:
    run = pick(results, "dual")
    (run / name).write_text("{")
    row = row_of(rows_of(results), run)
    assert not row["ranked"]
    assert name in row["note"]
    assert str(results) not in row["note"]
    other = row_of(rows_of(results), pick(results, "d2cache", 1))
    assert other["ranked"]


def test_packed_samples_give_the_same_row(results: Path) -> None:
    before = render_csv(rows_of(results))
    for run in results.iterdir():
        (run / "samples.jsonl.gz").write_bytes(gzip.compress((run / "samples.jsonl").read_bytes(), mtime=0))
        (run / "samples.jsonl").unlink()
    assert render_csv(rows_of(results)) == before


def test_packed_samples_are_scored_again(results: Path) -> None:
    run = pick(results, "dual")
    expected = rescore(run)
    (run / "samples.jsonl.gz").write_bytes(gzip.compress((run / "samples.jsonl").read_bytes(), mtime=0))
    (run / "samples.jsonl").unlink()
    assert rescore(run) == expected
    with pytest.raises(UsageError, match="update=true takes unpacked samples: gunzip"):
        rescore(run, update=True)


# --- Files. ----------------------------------------------------------------------------------------------------------


def test_the_same_runs_give_the_same_bytes(results: Path, tmp_path: Path) -> None:
    unfinished(pick(results, "dual"), "a__b__c__d__00000000", {"status": "failed", "error": "why"})
    make_leaderboard([results], results)
    first = {path.name: path.read_bytes() for path in results.glob("leaderboard.*")}
    assert sorted(first) == ["leaderboard.csv", "leaderboard.html", "leaderboard.md"]
    make_leaderboard([results], results)
    assert {path.name: path.read_bytes() for path in results.glob("leaderboard.*")} == first
    # elsewhere, and put there in another order
    moved = tmp_path / "elsewhere" / "runs"
    for run in sorted((path for path in results.iterdir() if path.is_dir()), reverse=True):
        shutil.copytree(run, moved / run.name)
    for number, path in enumerate(sorted(moved.rglob("*"), reverse=True)):
        os.utime(path, (number, number))  # the times of the files say nothing
    make_leaderboard([moved], moved)
    assert {path.name: path.read_bytes() for path in moved.glob("leaderboard.*")} == first
    runs = find_runs([moved], name_from=moved)
    backwards = dict(reversed(runs.items()))
    assert render_csv(read_rows(backwards)) == render_csv(read_rows(runs))


def test_the_csv_is_read_as_it_is_documented(results: Path) -> None:
    skip = {"status": "skipped", "reason": "r"}
    unfinished(pick(results, "dual"), "m__dual__vanilla__nano-gsm__00000000", skip, config=False)
    make_leaderboard([results], results)
    with (results / "leaderboard.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == list(CSV_TYPES)
    assert {line["schema_version"] for line in lines} == {str(SCHEMA_VERSION)}
    skipped = next(line for line in lines if line["status"] == "skipped")
    assert (skipped["score"], skipped["n"], skipped["dirty"], skipped["ranked"]) == ("", "", "", "false")
    none = next(line for line in lines if line["cache"] == "none")
    assert (none["dirty"], none["ranked"], none["n"], none["speedup"]) == ("false", "true", "6", "1")
    frame = pd.read_csv(results / "leaderboard.csv")
    assert frame["score"].dtype == "float64"
    documented = TABLES["columns"][0].read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", documented, re.MULTILINE) == list(CSV_TYPES)
    assert with_table(documented, "columns") == documented  # python -m tools.tables


def test_folders_are_named_from_where_the_files_lie(results: Path, tmp_path: Path) -> None:
    alice = results / "submissions" / "alice"
    shutil.copytree(pick(results, "dual"), alice / "again" / pick(results, "dual").name)
    hidden = results / ".sweep" / "x"
    shutil.copytree(pick(results, "dual"), hidden)
    make_leaderboard([results, results / "submissions"], results)
    frame = pd.read_csv(results / "leaderboard.csv")
    assert len(frame) == len(set(frame["folder"])) == 7
    assert any(folder.startswith("submissions/alice/again/") for folder in frame["folder"])
    for folder in frame["folder"]:
        assert (results / folder / "results.json").is_file()
    frame = make_leaderboard([results], tmp_path / "docs" / "board")
    for folder in frame["folder"]:
        assert (tmp_path / "docs" / "board" / folder / "results.json").is_file()


def test_figures_of_papers_are_shown_apart(results: Path) -> None:
    make_leaderboard([results], results)
    plain, table = (results / "leaderboard.md").read_text(), (results / "leaderboard.csv").read_text()
    make_leaderboard([results], results, published=True)
    both = (results / "leaderboard.md").read_text()
    assert (results / "leaderboard.csv").read_text() == table
    assert "2505.22618" not in plain
    assert both.startswith(plain.rstrip())
    assert "Fast-dLLM" in both.partition("## Published figures")[2]
    frame = rows_of(results)
    frame.loc[:, ["model", "task"]] = ["llada-inst", "gsm8k"]
    beside = render_markdown(frame, read_paper_figures()).partition("## Published figures")[0]
    assert "Published. Figures of the papers" in beside
    assert beside.index("Not ranked:") < beside.index("Fast-dLLM")
    assert "| 79.3 | 6.7 |" in beside


def test_figures_of_papers_have_a_source() -> None:
    frame = read_paper_figures()
    assert frame[["paper", "arxiv", "table", "method"]].notna().all(axis=None)
    assert frame["arxiv"].str.fullmatch(r"\d{4}\.\d{5}").all()
    assert frame["score"].dropna().between(0.05, 1).all()
    assert frame[["score", "tokens_per_second", "speedup"]].notna().any(axis=1).mean() > 0.9


def test_the_command(results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, leaderboard, results) == 0
    assert "6 runs, 5 of them ranked" in capsys.readouterr().out
    assert call(monkeypatch, leaderboard, results / "absent") == 2
    assert "absent is not a folder" in capsys.readouterr().err
    (results / "empty").mkdir()
    assert call(monkeypatch, leaderboard, results / "empty") == 2
    assert "there are no runs in" in capsys.readouterr().err
    assert not (results / "empty" / "leaderboard.csv").exists()
