"""Scoring untrusted runs again: references, workers, written files."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import pytest

from benchmarks.references import digests
from cache_zoo import UsageError
from evaluation.config.settings import DatasetSettings
from evaluation.report import rescore as module
from evaluation.report.rescore import processes, rescore
from evaluation.tasks.jsonl import read_rows
from evaluation.tasks.loading import load_task
from evaluation.tasks.published_data import FILE, published_rows, row_digest
from evaluation.tasks.scorers import SCORERS
from models.nano.data import ITEMS
from tests.small_runs import call, edit_samples, pick
from tests.test_forged_runs import copied

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
GSM, STRICT = "nano-gsm", "exact_match,strict-match"


def test_every_task_with_a_scorer_has_its_published_questions() -> None:
    sizes = {task: len(found.rows) for task in SCORERS if (found := published_rows(task))}
    assert sizes == {
        "gsm8k": 1319,
        "math-500": 500,
        "math-500_instruct": 500,
        "humaneval": 164,
        "humaneval_instruct": 164,
        "mbpp": 500,
        "mbpp_instruct": 500,
        "nano-gsm": 500,
        "nano-code": 200,
    }
    for task, place in (("nano-gsm", "gsm"), ("nano-code", "code")):
        known = published_rows(task)
        assert known is not None
        rows = read_rows(ITEMS / place / "test.jsonl")
        assert [row_digest(row, SCORERS[task].needs) for row in rows] == list(known.rows)
        assert known.sha256 == load_task(DatasetSettings(task, None, None, None, None), seed=1).sha256[task]
    assert published_rows("hellaswag") is None


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"reads {SHARED}")
def test_the_digests_are_those_of_the_published_files() -> None:
    assert digests(SHARED) == json.loads(FILE.read_text())


def test_references_of_published_data_cannot_be_changed(tmp_path: Path) -> None:
    run = copied(tmp_path, "dual")
    found = rescore(run)
    assert found["references"] == {GSM: "published"}
    assert found["results"][GSM][STRICT] == found["saved"][GSM][STRICT]

    def own_answer(samples: list[dict[str, Any]]) -> None:
        samples[3]["doc"]["answer"] = f"#### {samples[3]['text'].rpartition('#### ')[2]}"

    edit_samples(run, own_answer)
    with pytest.raises(UsageError, match=r"samples\.jsonl, line 4: the reference is not the published one"):
        rescore(run)
    edit_samples(run, lambda samples: samples.__setitem__(3, samples[2]))
    with pytest.raises(UsageError, match="line 4: row 2 of nano-gsm appears twice"):
        rescore(run)


def test_tests_of_programs_cannot_be_taken_away(tmp_path: Path) -> None:
    run = copied(tmp_path, "dual", "nano-code")

    def first_only(samples: list[dict[str, Any]]) -> None:
        samples[0]["doc"]["tests"] = samples[0]["doc"]["tests"].splitlines()[0] + "\n"

    edit_samples(run, first_only)
    with pytest.raises(UsageError, match=r"line 1: the reference is not the published one of nano-code, row 0"):
        rescore(run, allow_code_execution=True)
    edit_samples(run, lambda samples: samples[0]["doc"].update(tests="assert True\n"))
    with pytest.raises(UsageError, match=r"line 1, doc: 'tests' assert nothing about"):
        rescore(run, allow_code_execution=True)


def test_references_of_other_data_are_noted_as_the_run_s_own(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = pick(results, "dual")
    assert call(monkeypatch, module, run) == 0
    assert "note: the references of nano-gsm come from the run itself" in capsys.readouterr().err
    assert json.loads((run / "rescored.json").read_text())["references"] == {GSM: "own"}


@pytest.mark.slow
def test_there_are_no_more_workers_than_questions(results: Path) -> None:
    run = pick(results, "dual")
    assert [processes(1_000_000, number) for number in (1, 6, 64, 100_000)] == [1, 6, 64, 64]
    assert processes(2, 100) == 2
    assert rescore(run, workers=1_000_000)["results"] == rescore(run)["results"]


def test_a_damaged_folder_does_not_end_the_others(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged, whole = pick(results, "none"), pick(results, "dual")
    (damaged / "samples.jsonl").write_text("{")
    link = tmp_path / "link"
    link.symlink_to(whole)
    assert call(monkeypatch, module, damaged, link, tmp_path / "absent", whole) == 2
    said = capsys.readouterr()
    errors = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert "samples.jsonl, line 1 is not valid JSON" in errors[0]
    assert "is a link" in errors[1]
    assert "has no results.json" in errors[2]
    assert len(errors) == 3
    assert STRICT in said.out
    assert (whole / "rescored.json").is_file()
    assert not (damaged / "rescored.json").exists()


@pytest.mark.parametrize("name", ["rescored.json", "results.json"])
def test_nothing_is_written_where_a_file_cannot_go(results: Path, tmp_path: Path, name: str) -> None:
    run = pick(results, "dual")
    target = tmp_path / "target"
    target.write_bytes((run / name).read_bytes() if (run / name).exists() else b"mine")
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(target)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(UsageError, match="link"):
        rescore(run, update=True)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    (run / name).unlink()
    (run / name).mkdir()
    with pytest.raises(UsageError, match=r"not a plain file|has no results\.json"):
        rescore(run, update=True)


def test_an_update_is_whole_or_not_at_all(results: Path) -> None:
    run = pick(results, "dual")
    edit_samples(run, lambda samples: samples[0].update(metrics={STRICT: 0.5}))
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, hard))  # enough for rescored.json alone
    try:
        with pytest.raises(UsageError, match="can't be written to: File too large"):
            rescore(run, update=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    rescore(run, update=True)
    assert set(rescore(run)["changed"][GSM].values()) == {0}
