"""Reference runs with improved figures, and the problem that the check reports for each."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluation.config import identity
from evaluation.report import check
from evaluation.report.check import check_all, check_run
from evaluation.run.checkpoint import EMBEDDED
from evaluation.storage.saved_run import SavedRun
from tests.small_runs import call, edit_results, edit_samples

ROOT = Path(__file__).resolve().parent.parent
Found = dict[str, Any]
Samples = list[dict[str, Any]]
Edit = Callable[[Found, Samples], object]
WORK = ("forwards", "rows", "rows_full", "keys", "logits", "flops")
GSM, STRICT = "nano-gsm", "exact_match,strict-match"


def copied(parent: Path, cache: str, task: str = GSM) -> Path:
    """A copy of the reference run with one token per forward, unpacked, under its current name."""
    for source in sorted((ROOT / "results" / "reference").glob(f"nano-llada__{cache}__vanilla__{task}__*")):
        config = yaml.safe_load((source / "config.yaml").read_text())
        if config["generation"]["threshold"] is None:
            folder = Path(shutil.copytree(source, parent / identity.run_name(config)))
            packed = folder / "samples.jsonl.gz"
            (folder / "samples.jsonl").write_bytes(gzip.decompress(packed.read_bytes()))
            packed.unlink()
            edit_results(folder, of_today)
            return folder
    raise AssertionError(f"the reference has no {cache} of {task}")


def of_today(found: Found) -> None:
    """Add fields that the reference runs do not record."""
    weights = {"name": "nano-llada", "family": "llada", "weights_sha256": EMBEDDED["nano-llada"]}
    for key, value in {"cache_code": {"origin": "cache-zoo"}, "model": weights}.items():
        found["provenance"].setdefault(key, value)


def forge(folder: Path, edit: Edit) -> None:
    """Change results and samples, and make the totals fit."""
    found: Found = json.loads((folder / "results.json").read_text())

    def change(samples: Samples) -> None:
        edit(found, samples)

    edit_samples(folder, change)
    (folder / "results.json").write_text(json.dumps(found))


def add_up(found: Found, samples: Samples) -> None:
    """Totals that fit the samples; every question is a batch."""
    measured, works = found["efficiency"], [one["work"] for one in samples]
    seconds = sorted(one["seconds"] for one in samples)
    number, whole = len(samples), sum(seconds)
    tokens, forwards = (sum(one[key] for one in samples) for key in ("tokens_out", "forwards"))
    total = {
        key: sum(work[key] for work in works) for key in ("forwards", "rows", "rows_full", "keys", "logits", "flops")
    }
    measured |= {
        **total,
        "samples": number,
        "tokens_out": tokens,
        "tokens_canvas": sum(one["tokens_canvas"] for one in samples),
        "seconds": whole,
        "tokens_per_second": tokens / whole if whole else None,
        "latency_seconds": {
            "mean": whole / number,
            "median": (seconds[(number - 1) // 2] + seconds[number // 2]) / 2,
            "p90": seconds[-int(-0.9 * number // 1) - 1],
        },
        "nfe": forwards / number,
        "tokens_per_forward": tokens / forwards if forwards else None,
        "compute_ratio": total["rows"] / total["rows_full"] if total["rows_full"] else None,
        "rows_per_token": total["rows"] / tokens,
        "flops_per_token": total["flops"] / tokens,
        "cache_bytes": max(work["cache_bytes"] for work in works),
    }
    scores = [one["metrics"].get(STRICT) for one in samples]
    keys = ("tokens_per_second", "nfe", "tokens_per_forward", "compute_ratio", "flops", "cache_bytes")
    found["summary"] |= {"n": number, **{key: measured[key] for key in keys}}
    if all(isinstance(score, float) for score in scores):
        mean = sum(scores) / number
        error = (sum((score - mean) ** 2 for score in scores) / (number - 1)) ** 0.5 / number**0.5
        found["results"][GSM] |= {STRICT: mean, "exact_match_stderr,strict-match": error}
        found["summary"] |= {"score": mean, "score_stderr": error}


def all_samples(**values: Any) -> Edit:
    def edit(found: Found, samples: Samples) -> None:
        for sample in samples:
            sample.update(values)
        add_up(found, samples)

    return edit


def work(**values: Any) -> Edit:
    """Scale the work."""

    def edit(found: Found, samples: Samples) -> None:
        for sample in samples:
            for key, share in values.items():
                sample["work"][key] *= share
            sample["work"]["compute_ratio"] = sample["work"]["rows"] / sample["work"]["rows_full"]
        add_up(found, samples)

    return edit


def efficiency(**values: Any) -> Edit:
    return lambda found, samples: found["efficiency"].update(values)


def provenance(**values: Any) -> Edit:
    return lambda found, samples: found["provenance"].update(values)


def summary(**values: Any) -> Edit:
    return lambda found, samples: found["summary"].update(values)


def first(change: Callable[[dict[str, Any]], object]) -> Edit:
    return lambda found, samples: change(samples[0])


def renamed(found: Found, samples: Samples) -> None:
    for sample in samples:
        sample["task"] = "hellaswag"
        sample["metrics"] = {"acc,none": 1.0}
    found["results"] = {"hellaswag": {"acc,none": 1.0}}
    found["summary"] |= {"metric": "acc,none", "score": 1.0}


def three_questions(found: Found, samples: Samples) -> None:
    right = [sample for sample in samples if sample["metrics"][STRICT]][:3]
    samples[:] = right
    add_up(found, samples)
    found["summary"]["items_total"] = 3
    found["n-samples"][GSM] = {"original": 3, "effective": 3}


def own_answers(found: Found, samples: Samples) -> None:
    for sample in samples:
        sample["doc"] = {"answer": f"#### {sample['text'].rpartition('#### ')[2]}"}
        sample["metrics"] = {STRICT: 1.0}
    add_up(found, samples)


def all_right(found: Found, samples: Samples) -> None:
    for sample in samples:
        sample["metrics"] = {STRICT: 1.0}
    add_up(found, samples)


def right_texts(found: Found, samples: Samples) -> None:
    for sample in samples:
        answer = sample["doc"]["answer"].rpartition("#### ")[2]
        sample |= {"text": f" #### {answer}", "raw": f" #### {answer}", "metrics": {STRICT: 1.0}}
    add_up(found, samples)


def another_metric(found: Found, samples: Samples) -> None:
    for sample in samples:
        sample["metrics"]["acc,none"] = 1.0
    found["results"][GSM]["acc,none"] = 1.0
    found["summary"] |= {"metric": "acc,none", "score": 1.0, "score_stderr": None}


def more_tokens(found: Found, samples: Samples) -> None:
    for sample in samples:
        sample["ids"] = sample["ids"] * 20
        sample["tokens_out"] = len(sample["ids"])
    add_up(found, samples)


def fewer_forwards(found: Found, samples: Samples) -> None:
    for sample in samples:
        canvas = sample["work"]["rows_full"] // sample["forwards"]
        sample["forwards"] = sample["work"]["forwards"] = 2
        sample["work"]["rows_full"] = 2 * canvas
    add_up(found, samples)


def one_batch(found: Found, samples: Samples) -> None:
    for sample in samples[:4]:
        sample |= {"batch": 0, "seconds": samples[0]["seconds"], "work": {**samples[0]["work"], "sequences": 4}}


@pytest.mark.sampled(8)
@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (summary(score=0.99), f"{STRICT} of nano-gsm: results.json has 0.99"),
        (summary(score_stderr=0.0), "summary.score_stderr"),
        (summary(metric="acc,none"), f"the score of nano-gsm is {STRICT}, not acc,none"),
        (summary(dataset="gsm8k"), "the summary has dataset gsm8k, the configuration nano-gsm"),
        (summary(model="llada-inst"), "the summary has model llada-inst"),
        (another_metric, f"the score of nano-gsm is {STRICT}, not acc,none"),
        (first(lambda one: one.update(metrics={STRICT: None})), "is not a number in 1 of 500 questions"),
        (first(lambda one: one.update(metrics={STRICT: "1.0"})), "is not a number in 1 of 500 questions"),
        (first(lambda one: one.update(metrics={})), "is not a number in 1 of 500 questions"),
        (renamed, "the answer is not one to nano-gsm in 500 questions"),
        (three_questions, "nano-gsm has 500 questions, not 3"),
        (own_answers, "the reference is not the published one of nano-gsm in"),
        (all_samples(doc={}), "the reference is not the published one of nano-gsm in 500"),
        (all_right, "questions do not follow from their texts, the first is nano-gsm, row"),
        (right_texts, "the text is not that of the ids in"),
        (first(lambda one: one.update(text=one["text"] + "x")), "the text is not that of the ids in 1 questions"),
        (first(lambda one: one.update(text=one["text"][:-4])), "the text ends before the ids do in 1 questions"),
        (first(lambda one: one.update(raw="x" + one["raw"])), "raw does not begin with the ids in 1 questions"),
        (first(lambda one: one["ids"].__setitem__(0, 5000)), "there are ids outside the vocabulary in 1 questions"),
        (first(lambda one: one["ids"].reverse()), "the text is not that of the ids in 1 questions"),
        (more_tokens, "there are more tokens than canvas positions in"),
        (all_samples(seed=7), "the seed is not that of the question in 500 questions"),
        (all_samples(tokens_canvas=64), "tokens_canvas is not gen_length in 500 questions"),
        (all_samples(seconds=0.0), "seconds are 0 in 500 questions"),
        (all_samples(forwards=0), "forwards are outside the decoder's range of 1 to 128"),
        (fewer_forwards, "there are more than 1 tokens per forward in"),
        (all_samples(prompt_tokens=5), "rows_full does not follow from forwards and lengths in 500"),
        (first(lambda one: one.update(doc_id=1)), "row 1 appears twice"),
        (first(lambda one: one.update(doc_id=500)), "the reference is not the published one of nano-gsm in 1"),
        (one_batch, "there are more than batch_size=1 questions in 1 batches"),
        (work(rows=0.1, flops=0.5), "keys do not follow from rows and lengths in 500"),
        (work(flops=0.1), "flops do not follow from rows, keys and logits in 500"),
        (work(rows=100), "rows are not between 0 and rows_full in 500"),
        (work(rows_full=2), "rows_full does not follow from forwards and lengths in 500"),
        (work(forwards=0.5), "the forwards are not those of the longest answer in 500"),
        (work(keys=0), "keys or flops are 0 in 500"),
        (work(keys=1000), "keys do not follow from rows and lengths in 500"),
        (work(logits=0), "logits are not between 0 and the canvas positions in 500"),
        (efficiency(seconds=0), "seconds: results.json has 0"),
        (efficiency(seconds=-1), "efficiency.seconds must be greater than or equal to 0"),
        (efficiency(flops=0), "flops: results.json has 0"),
        (efficiency(rows=1), "rows: results.json has 1"),
        (efficiency(forwards=1), "forwards: results.json has 1"),
        (efficiency(tokens_canvas=1), "tokens_canvas: results.json has 1"),
        (efficiency(peak_memory_bytes=1), "peak_memory_bytes: results.json has 1"),
        (efficiency(latency_seconds={"mean": 1, "median": 1, "p90": 1}), "latency_seconds.p90: results.json has 1"),
        (efficiency(processes=0), "the number of processes or threads is missing"),
        (lambda found, samples: found["n-shot"].update({GSM: 0}), "n-shot of nano-gsm is 0, the configuration has 4"),
        (lambda found, samples: found["results"].update(arc={"acc,none": 1.0}), "there are scores or data other than"),
        (provenance(git={"commit": "0" * 40, "dirty": False}), "is not a commit"),
        (provenance(git={"commit": "main", "dirty": False}), "main is not a commit"),
        (provenance(cache_code=None), "not recorded: the origin of the cache's code"),
        (provenance(cache_code={"origin": "unknown"}), "the code of the cache is in no commit and no package"),
        (
            provenance(cache_code={"origin": "package", "name": "a"}),
            "is from package, the registered cache from cache-zoo",
        ),
        (provenance(model=None), "not recorded: the weights"),
        (provenance(model={"weights_sha256": "0" * 64}), "the weights are not those of models/nano/llada"),
        (provenance(dtype="bfloat16"), "the provenance has dtype bfloat16, the configuration float32"),
        (provenance(device="NVIDIA H100"), "the provenance has device NVIDIA H100, the configuration cpu"),
        (provenance(checkpoint="GSAI-ML/LLaDA-8B-Base"), "the provenance has checkpoint GSAI-ML/LLaDA-8B-Base"),
        (provenance(end_ids=[]), "end_ids [] lack those of the model"),
        (provenance(chat_template_sha256="0" * 64), "apply_chat_template is False"),
        (provenance(cache_package="better 1.0"), "dual comes with cache-zoo, but the provenance names another package"),
        (provenance(date="2019-01-01T00:00:00+00:00"), "is not between the first commit of cache-zoo and today"),
        (provenance(date="2219-01-01T00:00:00+00:00"), "is not between the first commit of cache-zoo and today"),
        (provenance(date="yesterday"), "the date of the results is not one: yesterday"),
        (provenance(dataset_sha256={GSM: "0" * 64}), "the data of nano-gsm are not the published ones"),
        (
            lambda found, samples: found["provenance"]["versions"].update(torch="new"),
            "new is not a version of torch",
        ),
    ],
)
def test_the_check_finds_what_was_forged(tmp_path: Path, edit: Edit, expected: str) -> None:
    run = copied(tmp_path, "dual")
    forge(run, edit)
    assert expected in "\n".join(check_run(run))


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (work(rows=0.5), "the baseline skipped rows or kept a cache in 500"),
        (work(keys=0.5), "keys do not follow from rows and lengths in 500"),
        (work(flops=0.9), "flops do not follow from rows, keys and logits in 500"),
    ],
)
def test_a_run_without_a_cache_does_all_of_the_work(tmp_path: Path, edit: Edit, expected: str) -> None:
    run = copied(tmp_path, "none")
    forge(run, edit)
    assert expected in "\n".join(check_run(run))


def no_tests(found: Found, samples: Samples) -> None:
    samples[0]["doc"]["tests"] = ""


def passed(found: Found, samples: Samples) -> None:
    samples[0]["metrics"] |= {"pass@1,none": 1.0, "outcome,none": "failed: assert"}


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (no_tests, "the reference is not the published one of nano-code in 1"),
        (passed, "are not those of their outcomes"),
    ],
)
def test_scores_of_programs_are_held_against_what_is_there(tmp_path: Path, edit: Edit, expected: str) -> None:
    run = copied(tmp_path, "dual", "nano-code")
    assert check_run(run) == []
    ((_, found),) = check_all([SavedRun(run)])
    assert found.notes == [
        "scoring nano-code runs generated code: cache-zoo rescore RUN allow_code_execution=true",
    ]
    forge(run, edit)
    assert expected in "\n".join(check_run(run))


def rescored(run: Path) -> None:
    (run / "rescored.json").write_text(json.dumps({"results": {GSM: {STRICT: 0.1}}}))


def linked(run: Path) -> None:
    target = run.parent.parent / "samples.jsonl"
    shutil.move(run / "samples.jsonl", target)
    (run / "samples.jsonl").symlink_to(target)


def both(run: Path) -> None:
    (run / "samples.jsonl.gz").write_bytes(gzip.compress(b"{}", mtime=0))


def configured(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["seed"] = 7
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    edit_results(run, lambda found: found.update(config=config))


def finished_later(run: Path) -> None:
    (run / "status.json").write_text('{"status": "done", "date": "2026-11-24T00:00:00+00:00"}')


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (rescored, f"{STRICT} of nano-gsm: rescored.json has 0.1"),
        (linked, "samples.jsonl is a link; a run folder holds regular files"),
        (both, "samples.jsonl and samples.jsonl.gz both exist"),
        (configured, "the folder of this configuration is called"),
        (configured, "the seed is not that of the question in 500 questions"),
        (finished_later, "a run writes both when it ends"),
    ],
)
def test_the_check_finds_files_that_do_not_fit(tmp_path: Path, change: Callable[[Path], None], expected: str) -> None:
    run = copied(tmp_path / "runs", "dual")
    assert check_run(run) == []
    change(run)
    assert expected in "\n".join(check_run(run))


def problems(*runs: Path) -> str:
    return "\n".join(one for _, found in check_all(map(SavedRun, runs)) for one in found.problems)


def test_runs_are_held_against_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    none, dual = (copied(tmp_path, cache) for cache in ("none", "dual"))
    assert problems(none, dual) == ""
    again = Path(shutil.copytree(dual, tmp_path / "again" / dual.name))
    assert f"it has the configuration of {dual}" in problems(dual, again)
    assert f"500 questions took exactly as long as in {dual}" in problems(dual, again)
    asked = Path(shutil.copytree(dual, tmp_path / "asked" / dual.name))
    edit_samples(asked, lambda samples: samples[0].update(prompt_sha256="0" * 64))
    assert "its questions or prompts are not those of" in problems(none, asked)
    for name in ("samples.jsonl", "results.json"):
        shutil.copy(none / name, dual)
    found = problems(none, dual)
    assert f"500 questions took exactly as long as in {none}" in found
    assert "cache is not the same in config.yaml and results.json" in found
    assert call(monkeypatch, check, tmp_path) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "4 runs, 3 with problems"
