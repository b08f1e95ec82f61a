"""Check run folders before they are submitted: ``python -m evaluation.check results/submissions/NAME``.

RULES.md says what is asked of them.
"""

from __future__ import annotations

import math
import re
import statistics
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cache_zoo import UsageError
from cache_zoo.arguments import Parser
from cache_zoo.errors import refusing
from evaluation.raw_run import RawRun as SavedRun
from evaluation.rows import find_runs
from evaluation.runs import CONFIG, RESCORED, RESULTS, SAMPLES, STATUS
from evaluation.settings import Settings
from evaluation.tasks.scorers import SCORERS

_MATH500 = "b57da562c5777de9a8aaff9409e95fcbb8761377a69afd2a1436f3b7bdcc8f7a"
_HUMANEVAL = "bd404b002e31e4bbf58ad962a1fb33936b33b54f841a2f5d87f3b3d2314b5a28"
DATASETS = {
    "gsm8k": "50f6a997964118a1db2a9abdd1f5a24d58d3e2345ee4c5724c6d3387c9652415",
    "math-500": _MATH500,
    "math-500_instruct": _MATH500,
    "humaneval": _HUMANEVAL,
    "humaneval_instruct": _HUMANEVAL,
    "nano-gsm": "ba11f5a76084b9df20655f0e49ae7f197885c3d6aebbadc11a6fb024a6fcbb65",
    "nano-code": "9a78f2115dc1dd4e7238a71c646857ec6c21ea33c27335595ff57bcc5b6af34b",
}
"""Digests of the rows of the published test files, as `evaluation.tasks.loading` takes them."""

_FILES = {CONFIG, RESULTS, SAMPLES, f"{SAMPLES}.gz", STATUS, RESCORED}
_COUNTED = (
    "ids",
    "tokens_out",
    "tokens_canvas",
    "forwards",
    "seconds",
    "batch",
    "work",
    "prompt_sha256",
    "metrics",
)
_WORK = ("forwards", "rows", "rows_full", "keys", "logits", "flops")
Problems = Iterator[str]


def check_run(folder: Path, datasets: Mapping[str, str] = DATASETS) -> list[str]:
    """What is wrong with a run folder, one sentence each; nothing if it may be submitted.

    Args:
        folder: of the run.
        datasets: digest of the rows by task; tasks that are not in it may have any.
    """
    run = SavedRun(folder)
    problems: list[str] = []
    try:
        if not run.done:
            return [f"the run is {run.status['status']}; only runs that are done can be ranked"]
    except UsageError as error:
        return [_within(folder, error)]
    parts = (_files, _config, _provenance, partial(_data, datasets=datasets), _counts, _scores, _rescored)
    for part in parts:
        try:
            problems += part(run)
        except UsageError as error:  # a file that can't be read ends a part; the next may read another
            problems.append(_within(folder, error))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            problems.append(f"the files are not those of a run ({type(error).__name__}: {error})")
    return list(dict.fromkeys(problems))


def _files(run: SavedRun) -> Problems:
    there = {path.name for path in run.folder.iterdir()}
    yield from (f"{name} is missing" for name in (CONFIG, RESULTS) if name not in there)
    if not there & {SAMPLES, f"{SAMPLES}.gz"}:
        yield f"{SAMPLES} or {SAMPLES}.gz is missing"
    yield from (f"{name} does not belong there" for name in sorted(there - _FILES))
    packed = run.folder / f"{SAMPLES}.gz"
    if packed.is_file() and any(packed.read_bytes()[3:8]):  # flags and time of the header, RFC 1952
        yield f"{packed.name} holds a name or a time; pack it with gzip -n"


def _config(run: SavedRun) -> Problems:
    """Keys and values, and that folder, configuration and results belong together."""
    settings = Settings.from_config(run.resolved)
    if settings.run_name != run.folder.name:
        yield f"the folder of this configuration is called {settings.run_name}"
    recorded = {key: value for key, value in run.results.get("config", {}).items() if key != "output_dir"}
    given = {key: value for key, value in run.resolved.items() if key != "output_dir"}
    for key in sorted({*recorded, *given}):
        if recorded.get(key) != given.get(key):
            yield f"{key} is not the same in {CONFIG} and {RESULTS}"
    named = {"model": settings.model.name, "cache": settings.cache.label, "generation": settings.generation.strategy}
    for key, value in named.items():
        if run.summary.get(key) != value:
            yield f"the summary names {key} {run.summary.get(key)}, the configuration {value}"


def _provenance(run: SavedRun) -> Problems:
    """That it is known where the figures are from."""
    found = run.provenance
    git, machine, versions = (found.get(key) or {} for key in ("git", "machine", "versions"))
    if not re.fullmatch(r"[0-9a-f]{40}", str(git.get("commit"))):
        yield "no commit is recorded; run it from a checkout"
    elif git.get("dirty") is not False:
        yield "it was run with changes that are in no commit"
    elif git.get("several"):
        yield "its sessions ran several commits"
    if shortages := run.efficiency.get("memory_shortages"):
        yield f"batches did not fit into memory; run it with batch_size={shortages[-1]['then']}"
    lacking = [key for key in ("date", "device", "dtype", "checkpoint") if not found.get(key)]
    packages = ("python", "torch", "transformers", "cache-zoo")
    lacking += [f"the version of {key}" for key in packages if not versions.get(key)]
    lacking += [f"machine.{key}" for key in ("system", "processor") if not machine.get(key)]
    if lacking:
        yield f"the provenance lacks {', '.join(lacking)}"


def _data(run: SavedRun, datasets: Mapping[str, str]) -> Problems:
    """That all questions of the dataset were asked, and once."""
    summary = run.summary
    if summary.get("partial") or summary.get("n") != summary.get("items_total"):
        yield f"only {summary.get('n')} of {summary.get('items_total')} questions were asked"
    if not run.provenance.get("dataset_sha256"):
        yield "the digest of the data is missing"
    for task, digest in (run.provenance.get("dataset_sha256") or {}).items():
        if digest != datasets.get(task, digest):
            yield f"the data of {task} are not the published ones: their digest is {digest}, not {datasets[task]}"
    if len(run.samples) != len(run.raw_samples):
        yield f"{len(run.raw_samples) - len(run.samples)} questions are there twice"


def _counts(run: SavedRun) -> Problems:
    """That the totals are those of the questions."""
    samples, measured, summary = run.raw_samples, run.efficiency, run.summary
    yield from _unequal("samples", len(samples), measured.get("samples"))
    yield from _unequal("summary.n", len(samples), summary.get("n"))
    for key in ("tokens_per_second", "nfe", "tokens_per_forward", "compute_ratio", "flops", "cache_bytes"):
        yield from _unequal(f"summary.{key}", measured.get(key), summary.get(key))
    if any("choices" in sample for sample in samples):
        return  # given answers were scored: nothing was generated that could be counted
    for number, sample in enumerate(samples, start=1):
        if lacking := [key for key in _COUNTED if key not in sample]:
            yield f"question {number} lacks {', '.join(lacking)}"
            return
    first = {sample["batch"]: sample for sample in reversed(samples)}
    for batch, sample in sorted(first.items()):
        members = [one for one in samples if one["batch"] == batch]
        if any((one["work"], one["seconds"]) != (sample["work"], sample["seconds"]) for one in members):
            yield f"the questions of batch {batch} do not agree about its work or its seconds"
        yield from _unequal(f"the questions of batch {batch}", len(members), sample["work"].get("sequences"))
    if wrong := [one["doc_id"] for one in samples if one["tokens_out"] != len(one["ids"])]:
        yield f"tokens_out is not the number of ids in {len(wrong)} questions, the first is row {wrong[0]}"
    for key, value in _totals(samples, list(first.values())).items():
        yield from _unequal(key, value, _at(measured, key))


def _totals(samples: list[dict[str, Any]], batches: list[dict[str, Any]]) -> dict[str, float | None]:
    """Figures of the efficiency block, from the questions and one question per batch."""
    total = {key: sum(batch["work"][key] for batch in batches) for key in _WORK}
    seconds = [batch["seconds"] for batch in batches]
    tokens, forwards = (sum(sample[key] for sample in samples) for key in ("tokens_out", "forwards"))
    return {
        "tokens_out": tokens,
        "tokens_canvas": sum(sample["tokens_canvas"] for sample in samples),
        "seconds": sum(seconds),
        "tokens_per_second": tokens / sum(seconds) if sum(seconds) else None,
        "latency_seconds.median": statistics.median(seconds),
        "nfe": forwards / len(samples),
        "tokens_per_forward": tokens / forwards if forwards else None,
        "compute_ratio": total["rows"] / total["rows_full"] if total["rows_full"] else None,
        **total,
        "flops_per_token": total["flops"] / tokens if tokens else None,
        "cache_bytes": max(batch["work"]["cache_bytes"] for batch in batches),
    }


def _scores(run: SavedRun) -> Problems:
    """That the scores are the means of those of the questions."""
    metric, score, task = (run.summary.get(key) for key in ("metric", "score", "dataset"))
    results = run.results.get("results", {})
    if score is None:
        yield f"there is no score: {run.summary.get('note') or 'the task has none'}"
    else:
        yield from _unequal(f"{metric} of {task}", results.get(task, {}).get(metric), score)
    for name, metrics in results.items():
        samples = [sample["metrics"] for sample in run.raw_samples if sample["task"] == name]
        for key, value in metrics.items():
            scores = [sample.get(key) for sample in samples]
            if scores and all(isinstance(one, int | float) for one in scores):
                yield from _unequal(f"{key} of {name}", sum(scores) / len(scores), value)


def _rescored(run: SavedRun) -> Problems:
    """That the scores of the questions are those of their texts, where that takes no running of code."""
    wrong = []
    for sample in run.raw_samples:
        scorer = SCORERS.get(sample["task"])
        if scorer is not None and scorer.execute is None:
            found = scorer.score(sample["doc"], sample["text"], sample["raw"], None)
            if any(sample["metrics"].get(key) != value for key, value in found.items()):
                wrong.append(sample)
    if wrong:
        first = f"{wrong[0]['task']}, row {wrong[0]['doc_id']}"
        yield f"the scores of {len(wrong)} questions do not follow from their texts, the first is {first}"


def _unequal(what: str, counted: float | None, recorded: Any) -> Problems:
    same = counted == recorded or (
        isinstance(counted, int | float)
        and isinstance(recorded, int | float)
        and math.isclose(counted, recorded, rel_tol=1e-6, abs_tol=1e-9)
    )
    if not same:
        yield f"{what}: {RESULTS} says {recorded}, its parts make {counted}"


def _at(values: dict[str, Any], path: str) -> Any:
    key, _, rest = path.partition(".")
    return _at(values.get(key) or {}, rest) if rest else values.get(key)


def _within(folder: Path, error: UsageError) -> str:
    return str(error).replace(f"{folder}/", "").replace(str(folder), "the folder")


@refusing
def main() -> int:
    """Print every problem; 0 there is none, 1 there are some, 2 something given can't be used."""
    parser = Parser(
        prog="python -m evaluation.check",
        description="Check run folders before they are submitted to the leaderboard: a line per problem. "
        "Exit status: 0 no problem, 1 problems, 2 something given can't be used.",
    )
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="folder", help="run folders, or folders that hold them somewhere below"
    )
    arguments = parser.parse_args()
    runs = find_runs(arguments.folders, name_from=Path())
    problems = {run.folder: check_run(run.folder) for run in runs.values()}
    for folder, found in problems.items():
        for problem in found:
            print(f"{folder}: {problem}")
    bad = sum(bool(found) for found in problems.values())
    print(f"{len(runs)} run{'s' * (len(runs) != 1)}, {bad} with problems", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
