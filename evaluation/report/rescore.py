"""Score saved generations again, without a model: ``cache-zoo rescore results/RUN``.

Reads ``samples.jsonl`` of a run folder, prints the new scores beside the saved ones and writes ``rescored.json``.
Neither torch nor lm-eval is loaded.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import statistics
import sys
from collections.abc import Collection
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import Field

from cache_zoo import UsageError
from cache_zoo.arguments import positional, read
from cache_zoo.errors import DONE, UNUSABLE, refusing, require, visible
from evaluation.sandbox import Sandbox
from evaluation.storage.files import RESCORED, RESULTS, SAMPLES, as_json, check_place, write_text
from evaluation.storage.readers import read_json, read_json_lines
from evaluation.storage.saved_run import SavedRun
from evaluation.storage.schema import Count, Name, Object, Provenance, Record, Text
from evaluation.storage.validation import parse
from evaluation.tasks.code_execution import check_sandbox, count_outcomes, unscored_reason
from evaluation.tasks.jsonl import check_row
from evaluation.tasks.published import published_rows
from evaluation.tasks.scorers import SCORERS

_KEYS = {"task": str, "text": str, "raw": str}
_OUTCOME = "outcome,"  # a metric that says why, not how many
_MOST_WORKERS = 64
PUBLISHED, OWN = "published", "own"
"""Whose references an answer is held against: those of the published data, or those that the run brings along."""


class Scored(Record):
    """``results.json``, as far as it is read here."""

    results: dict[Name, Object]
    summary: Object = Field(default_factory=dict)
    provenance: Provenance = Provenance()


class Kept(Record):
    """A line of ``samples.jsonl``, as far as it is read here."""

    task: Name
    doc_id: Count
    repeat: Count = 0
    text: Text
    raw: Text
    doc: Object
    metrics: Object = Field(default_factory=dict)


def rescore(
    folder: Path, workers: int = 1, execute: bool = False, update: bool = False, without: Collection[str] = ()
) -> dict[str, Any]:
    """Score a run folder again.

    Args:
        folder: of a finished run.
        workers: processes that score, at most one to a question and 64; the numbers do not depend on it.
        execute: generated code may be run, where that is how a task is scored.
        update: put the new scores into ``results.json`` and ``samples.jsonl``, too.
        without: layers of the sandbox to go without (docs/sandbox.md).

    Returns:
        What ``rescored.json`` holds: ``results`` as in lm-eval's file, task to metric to value; ``saved``, the same as
        the run had it, None where it had none; ``changed``, how many questions changed their value, by task and metric;
        ``references``, by task whether they are ``published`` ones or the run's ``own``; ``versions``.

    Raises:
        UsageError: no finished run, a task without a scorer here, references that are not those of the published data
            which the run says it asked, code to run without leave, packed samples to update, or no place to write.
    """
    require(workers >= 1, f"workers must be at least 1, not {workers}")
    require(not os.path.islink(folder), f"{folder} is a link; give the folder itself, into which the scores go")
    require(os.path.isfile(folder / RESULTS), f"{folder} has no {RESULTS}; give the folder of a finished run")
    content = read_json(folder / RESULTS)
    results = parse(Scored, content, str(folder / RESULTS))
    require(
        not update or os.path.isfile(folder / SAMPLES),
        f"update=true takes unpacked samples: gunzip {folder / SAMPLES}.gz",
    )
    for name in (RESCORED, *((SAMPLES, RESULTS) if update else ())):
        check_place(folder / name)
    rows, samples, whose = _read(SavedRun(folder).samples_path, results.provenance, execute)
    runs = any(SCORERS[task].execute for task in whose)
    scores = _scored(samples, processes(workers, len(samples)), without if runs else None)
    new = {task: _totals([one for one, its in zip(scores, samples, strict=True) if its.task == task]) for task in whose}
    saved = {task: {key: results.results.get(task, {}).get(key) for key in new[task]} for task in whose}
    changed: dict[str, dict[str, int]] = {task: dict.fromkeys(_numbers(new[task]), 0) for task in whose}
    for sample, score in zip(samples, scores, strict=True):
        for key in changed[sample.task]:
            changed[sample.task][key] += sample.metrics.get(key) != score[key]
    versions = {"python": platform.python_version(), "math-verify": version("math-verify")}
    found = {"results": new, "saved": saved, "changed": changed, "references": whose, "versions": versions}
    texts = {folder / RESCORED: as_json(found, indent=2) + "\n"}
    if update:
        texts |= _updated(folder, content, rows, scores, new)
    _write(texts)
    return found


def processes(workers: int, questions: int) -> int:
    """How many processes score, of those that were asked for."""
    return min(workers, questions, _MOST_WORKERS)


def render(found: dict[str, Any]) -> str:
    """A table: what was saved, what is now, and how many questions changed."""
    rows = [("task", "metric", "saved", "now", "changed")]
    for task, metrics in found["results"].items():
        for key in _numbers(metrics):
            saved = _shown(found["saved"][task][key])
            rows.append((task, key, saved, _shown(metrics[key]), str(found["changed"][task][key])))
    widths = [max(len(row[place]) for row in rows) for place in range(5)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _read(path: Path, provenance: Provenance, execute: bool) -> tuple[list[Object], list[Kept], dict[str, str]]:
    """The lines of ``samples.jsonl``, what is read of them, and by task whose references they have."""
    rows: list[Object] = []
    samples: list[Kept] = []
    whose: dict[str, str] = {}
    seen: set[tuple[str, int, int]] = set()
    for where, row in read_json_lines(path):
        check_row(where, row, _KEYS)
        task = row["task"]
        if task not in whose:
            _check_task(task, execute)
            whose[task] = _whose(task, provenance)
        scorer, doc = SCORERS[task], row.get("doc", {})
        require(isinstance(doc, dict), f"{where}: 'doc' must be an object, not {doc!r}")
        lacking = [key for key in scorer.needs if key not in doc]
        require(not lacking, f"{where} lacks doc.{', doc.'.join(lacking)}; run it again")
        check_row(f"{where}, doc", doc, {key: scorer.columns[key] for key in scorer.needs}, scorer.problem)
        sample = parse(Kept, row, where)
        question = (task, sample.doc_id, sample.repeat)
        require(question not in seen, f"{where}: row {sample.doc_id} of {task} appears twice")
        published = published_rows(task) if whose[task] == PUBLISHED else None
        require(
            published is None or published.has(task, sample.doc_id, doc),
            f"{where}: the reference is not that of row {sample.doc_id} of {task}, though the run says that it asked "
            "the published questions",
        )
        seen.add(question)
        rows.append(row)
        samples.append(sample)
    return rows, samples, whose


def _check_task(task: str, execute: bool) -> None:
    require(task in SCORERS, f"task '{task}' has no scorer here; those that have: {', '.join(SCORERS)}")
    require(
        execute or SCORERS[task].execute is None,
        f"the score of {task} takes running generated code: give allow_code_execution=true; "
        'read "Generated code" in docs/tasks.md first',
    )


def _whose(task: str, provenance: Provenance) -> str:
    """Whether the run says that it asked the published questions; whether it did is seen line by line."""
    published = published_rows(task)
    return PUBLISHED if published and provenance.dataset_sha256.get(task) == published.sha256 else OWN


def _scored(samples: list[Kept], workers: int, without: Collection[str] | None) -> list[dict[str, Any]]:
    """Scores by sample. A comparison's time limit needs the main thread, so that several workers are processes."""
    score = partial(_score, without=without)
    if workers == 1:
        return score(samples)
    context = multiprocessing.get_context("spawn")
    scores: list[dict[str, Any]] = [{}] * len(samples)
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        shares = pool.map(score, [samples[first::workers] for first in range(workers)])
        for first, share in enumerate(shares):
            scores[first::workers] = share
    return scores


def _score(samples: list[Kept], without: Collection[str] | None) -> list[dict[str, Any]]:
    """Scores of a worker's share; ``without`` None: no sandbox is needed."""
    with nullcontext() if without is None else Sandbox(without) as sandbox:
        if sandbox is not None:
            check_sandbox(sandbox)
        return [SCORERS[sample.task].score(sample.doc, sample.text, sample.raw, sandbox) for sample in samples]


def _totals(scores: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard error of each metric, named as lm-eval names them; outcomes are counted."""
    totals: dict[str, Any] = {}
    for key in scores[0]:
        values = [score[key] for score in scores]
        if key.startswith(_OUTCOME):
            totals[key] = count_outcomes(values)
            continue
        metric, _, chosen = key.partition(",")
        totals[key] = sum(values) / len(values)
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else "N/A"
        totals[f"{metric}_stderr,{chosen}"] = error
    return totals


def _numbers(metrics: dict[str, Any]) -> list[str]:
    return [key for key in metrics if not key.startswith(_OUTCOME) and "_stderr," not in key]


def _updated(
    folder: Path, results: Object, rows: list[Object], scores: list[dict[str, Any]], new: dict[str, dict[str, Any]]
) -> dict[Path, str]:
    """The run's own files with the new scores, the one with the score last."""
    for row, score in zip(rows, scores, strict=True):
        row["metrics"] = score
    for task, metrics in new.items():
        for key in ("score,none", "score_stderr,none"):  # of a run that had no score
            results["results"].setdefault(task, {}).pop(key, None)
        results["results"][task] |= metrics
    summary = results.get("summary", {})
    task = summary.get("dataset")
    if isinstance(task, str) and task in new:
        metric, _, chosen = SCORERS[task].headline.partition(",")
        error = new[task][f"{metric}_stderr,{chosen}"]
        summary |= {
            "metric": f"{metric},{chosen}",
            "score": new[task][f"{metric},{chosen}"],
            "score_stderr": None if error == "N/A" else error,
        }
        if left := str(summary.pop("note", None) or "").removeprefix(unscored_reason(task)).removeprefix("; "):
            summary["note"] = left  # what it says of other things stays true
    return {
        folder / SAMPLES: "".join(as_json(row) + "\n" for row in rows),
        folder / RESULTS: as_json(results, indent=2) + "\n",
    }


def _write(texts: dict[Path, str]) -> None:
    """All of the files or, where there is no room for them, none."""
    ready = {path: path.with_name(f".{path.name}.{os.getpid()}.new") for path in texts}
    try:
        for path, text in texts.items():
            write_text(ready[path], text)
        for path, new in ready.items():
            os.replace(new, path)
    except OSError as error:
        raise UsageError(f"{next(iter(texts)).parent} can't be written to: {error.strerror}") from error
    finally:
        for new in ready.values():
            new.unlink(missing_ok=True)


def _shown(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else "N/A"


@dataclass(frozen=True)
class RescoreOptions:
    """Score saved answers again, without a model, and write rescored.json.

    Exit status: 0 done, 2 a folder or an option can't be used; the other folders are scored.

    Attributes:
        folders: run folders.
        workers: processes that score, 64 at most.
        allow_code_execution: run generated code, in the sandbox.
        sandbox_disable: layers of the sandbox to switch off: landlock, memory, namespaces, seccomp.
        update: also write the scores into results.json and samples.jsonl.
    """

    folders: list[Path] = positional()
    workers: int = 1
    allow_code_execution: bool = False
    sandbox_disable: list[str] = field(default_factory=list)
    update: bool = False


@refusing
def main() -> int:
    """Score the folders and return the exit status."""
    options = read(RescoreOptions, "cache-zoo rescore")
    status = DONE
    for folder in options.folders:
        print(visible(str(folder)))
        try:
            found = rescore(
                folder, options.workers, options.allow_code_execution, options.update, options.sandbox_disable
            )
        except UsageError as error:
            print(visible(f"error: {error}"), file=sys.stderr)
            status = UNUSABLE
            continue
        print(render(found))
        if own := [task for task, whose in found["references"].items() if whose == OWN]:
            print(f"note: the references of {', '.join(own)} come from the run itself", file=sys.stderr)
    return status
