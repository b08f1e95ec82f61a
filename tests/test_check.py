"""`cache-zoo check` on small real runs and damaged copies of them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cache_zoo import UsageError
from evaluation.config.settings import DatasetSettings
from evaluation.report import check
from evaluation.report.check import DATASETS, check_run
from evaluation.storage.find_runs import find_runs
from evaluation.storage.saved_run import SavedRun
from evaluation.tasks.loading import load_task
from tests.small_runs import call, edit_results, edit_samples, pick, unset_commit

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"


def test_runs_as_they_are_made_pass_the_check(small_runs: Path) -> None:
    for run in small_runs.iterdir():
        whole = SavedRun(run).config.dataset.size is None
        assert check_run(run, datasets={}) == ([] if whole else ["only 3 of 6 questions were asked"])


def tokens(samples: list[dict[str, Any]]) -> None:
    samples[1]["tokens_out"] += 1


def work(samples: list[dict[str, Any]]) -> None:
    samples[2]["work"]["flops"] += 10**9


def wrong(samples: list[dict[str, Any]]) -> None:
    for sample in samples:
        sample["text"] = " 1 + 1 = 3. #### 999999"


def metrics(samples: list[dict[str, Any]]) -> None:
    for sample in samples:
        sample["metrics"] = {"exact_match,strict-match": 0.5}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            tokens,
            ["tokens_out is not the number of ids in 1 questions, the first is row 1", "tokens_out: results.json"],
        ),
        (work, ["flops: results.json has", "flops_per_token: results.json has"]),
        (wrong, ["questions do not follow from their texts, the first is nano-gsm, row"]),
        (metrics, ["exact_match,strict-match of nano-gsm: results.json has"]),
        (lambda samples: samples.pop(), ["samples: results.json has 6, expected 5"]),
        (lambda samples: samples.append(samples[0]), ["line 7: nano-gsm, row 0 appears twice"]),
        (lambda samples: samples[3].pop("work"), ["question 4 lacks work"]),
        (lambda samples: samples[3].update(seconds=99.0), ["seconds: results.json has"]),
    ],
)
def test_the_check_finds_questions_that_do_not_add_up(
    results: Path, change: Callable[[list[dict[str, Any]]], object], expected: list[str]
) -> None:
    run = pick(results, "dual")
    edit_samples(run, change)
    found = "\n".join(check_run(run, datasets={}))
    for problem in expected:
        assert problem in found


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda found: found["summary"].update(score=0.99), "exact_match,strict-match of nano-gsm: results.json has"),
        (
            lambda found: found["efficiency"].update(tokens_per_second=1e6),
            "tokens_per_second: results.json has 1000000",
        ),
        (lambda found: found["efficiency"].update(nfe=1), "nfe: results.json has 1, expected"),
        (lambda found: found["efficiency"]["latency_seconds"].update(median=9), "latency_seconds.median: results.json"),
        (lambda found: found["summary"].update(compute_ratio=0.01), "summary.compute_ratio: results.json has 0.01"),
        (lambda found: found["provenance"]["git"].update(dirty=True), "run with uncommitted changes"),
        (lambda found: found["provenance"]["git"].update(several=True), "its sessions ran several commits"),
        (
            lambda found: found["efficiency"].update(memory_shortages=[{"size": 2, "then": 1}]),
            "batches did not fit into memory; use batch_size=1",
        ),
        (unset_commit, "no commit is recorded"),
        (lambda found: found["provenance"]["versions"].pop("torch"), "the provenance lacks the version of torch"),
        (lambda found: found["provenance"].pop("dataset_sha256"), "the digest of the data is missing"),
        (
            lambda found: found["config"]["cache"].update(name="none"),
            "cache is not the same in config.yaml and results",
        ),
        (lambda found: found["summary"].update(cache="none"), "the summary has cache none, the configuration dual"),
        (lambda found: found.pop("efficiency"), "results.json has no 'efficiency'"),
    ],
)
def test_the_check_finds_results_that_do_not_fit(
    results: Path, change: Callable[[dict[str, Any]], object], expected: str
) -> None:
    run = pick(results, "dual")
    edit_results(run, change)
    assert expected in "\n".join(check_run(run, datasets={}))


def test_the_check_finds_a_configuration_that_is_not_the_folders(results: Path) -> None:
    run = pick(results, "dual")
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("seed: 1234", "seed: 7"))
    found = check_run(run, datasets={})
    assert any(problem.startswith("the folder of this configuration is called nano-llada__dual") for problem in found)
    assert "seed is not the same in config.yaml and results.json" in found
    (run / "config.yaml").write_text(config.replace("seed: 1234", "seed: 1234\nsede: 7"))
    assert any("unknown key 'sede'" in problem for problem in check_run(run, datasets={}))


def test_the_check_finds_files_that_are_missing_or_too_many(results: Path) -> None:
    run = pick(results, "dual")
    (run / "notes.txt").write_text("hello")
    content = (run / "samples.jsonl").read_bytes()
    (run / "samples.jsonl").unlink()
    found = check_run(run, datasets={})
    assert "notes.txt does not belong in a run folder" in found
    assert "samples.jsonl or samples.jsonl.gz is missing" in found
    (run / "notes.txt").unlink()
    with gzip.open(run / "samples.jsonl.gz", "wb") as file:
        file.write(content)
    assert check_run(run, datasets={}) == ["samples.jsonl.gz holds a name or a time; pack it with gzip -n"]
    (run / "samples.jsonl.gz").write_bytes(gzip.compress(content, mtime=0))
    assert check_run(run, datasets={}) == []
    (run / "samples.jsonl.gz").write_bytes(gzip.compress(content, mtime=0)[:-20])
    assert any("can't be unpacked" in problem for problem in check_run(run, datasets={}))
    (run / "status.json").write_text('{"status": "partial"}')
    assert check_run(run, datasets={}) == ["the run is partial; only runs that are done can be ranked"]
    (run / "status.json").write_text("[]")
    assert check_run(run, datasets={}) == ["status.json must hold a JSON object, not list"]


def test_the_check_as_a_command(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = pick(results, "dual")
    assert call(monkeypatch, check, run) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{run}: the data of nano-gsm are not the published ones")
    edit_results(run, lambda found: found["provenance"].update(dataset_sha256={"nano-gsm": DATASETS["nano-gsm"]}))
    assert call(monkeypatch, check, run) == 1
    assert capsys.readouterr().out.splitlines() == [f"{run}: nano-gsm has 500 questions, not 6"]
    assert call(monkeypatch, check, results) == 1
    assert len(capsys.readouterr().out.splitlines()) == 7  # six runs, and one of them is also a part
    assert call(monkeypatch, check, results / "absent") == 2


@pytest.mark.parametrize("task", DATASETS)
def test_known_data_are_those_that_are_asked(task: str) -> None:
    path = None
    if not task.startswith("nano-"):
        folder = SHARED / task.removesuffix("_instruct").replace("-", "")
        if not folder.is_dir():
            pytest.skip(f"reads {folder}")
        path = str(folder)
    loaded = load_task(DatasetSettings(task, path, None, 0 if task == "gsm8k" else None, None), seed=1)
    assert loaded.sha256 == {task: DATASETS[task]}


def test_an_unusable_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a folder"):
        find_runs([tmp_path / "absent"], tmp_path)
