"""Score saved answers again, without a model: ``cache-zoo rescore results/RUN``.

Prints the new scores beside the saved ones and writes ``rescored.json``. Neither torch nor lm-eval is loaded.
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

from cache_zoo import UsageError
from cache_zoo.arguments import positional, read
from cache_zoo.errors import DONE, UNUSABLE, refusing, require, visible
from evaluation.report.rescore_input import OWN, SavedText, SavedTexts, read_saved_texts
from evaluation.sandbox import Sandbox
from evaluation.storage.files import RESCORED, RESULTS, SAMPLES, as_json, check_place, write_text
from evaluation.tasks.code_execution import check_sandbox, count_outcomes, unscored_reason
from evaluation.tasks.metric_keys import is_outcome, is_value, stderr_key
from evaluation.tasks.scorers import SCORERS, Scores

_MAX_WORKERS = 64


def rescore(
    folder: Path,
    workers: int = 1,
    allow_code_execution: bool = False,
    update: bool = False,
    sandbox_disable: Collection[str] = (),
) -> dict[str, Any]:
    """Score a run folder again.

    Args:
        folder: of a finished run.
        workers: processes that score, at most one per question and 64; scores do not depend on it.
        allow_code_execution: run generated code for tasks that are scored by it.
        update: also write the new scores into ``results.json`` and ``samples.jsonl``.
        sandbox_disable: layers of the sandbox to switch off (docs/sandbox.md).

    Returns:
        The content of ``rescored.json``: ``results``, task to metric to value as in lm-eval's file; ``saved``, the same
        of the run, None where it had none; ``changed``, the number of questions with another value, by task and metric;
        ``references``, by task `PUBLISHED` or `OWN`; ``versions``.

    Raises:
        UsageError: as in `read_saved_texts`; or not a finished run, code to run without permission, packed samples to
            update, or a file that can't be written.
    """
    require(workers >= 1, f"workers must be at least 1, not {workers}")
    require(not os.path.islink(folder), f"{folder} is a link; give the folder itself")
    require(os.path.isfile(folder / RESULTS), f"{folder} has no {RESULTS}; give the folder of a finished run")
    require(
        not update or os.path.isfile(folder / SAMPLES),
        f"update=true takes unpacked samples: gunzip {folder / SAMPLES}.gz",
    )
    for name in (RESCORED, *((SAMPLES, RESULTS) if update else ())):
        check_place(folder / name)
    saved = read_saved_texts(folder, allow_code_execution)
    needs_sandbox = any(SCORERS[task].execute for task in saved.references)
    workers = processes(workers, len(saved.answers))
    scores = _score_all(saved.answers, workers, sandbox_disable if needs_sandbox else None)
    results: dict[str, Scores] = {}
    before: dict[str, Scores] = {}
    changed: dict[str, dict[str, int]] = {}
    for task in saved.references:
        pairs = [
            (answer.metrics, new) for answer, new in zip(saved.answers, scores, strict=True) if answer.task == task
        ]
        results[task] = _totals([new for _, new in pairs])
        before[task] = {key: saved.scores.results.get(task, {}).get(key) for key in results[task]}
        changed[task] = {key: sum(old.get(key) != new[key] for old, new in pairs) for key in _numeric(results[task])}
    rescored = {
        "results": results,
        "saved": before,
        "changed": changed,
        "references": saved.references,
        "versions": {"python": platform.python_version(), "math-verify": version("math-verify")},
    }
    texts = {folder / RESCORED: as_json(rescored, indent=2) + "\n"}
    if update:
        _update(saved, scores, results)
        texts[folder / SAMPLES] = "".join(as_json(row) + "\n" for row in saved.rows)
        texts[folder / RESULTS] = as_json(saved.content, indent=2) + "\n"  # the score comes last
    _write(texts)
    return rescored


def processes(workers: int, questions: int) -> int:
    """Number of processes to use for ``questions``."""
    return min(workers, questions, _MAX_WORKERS)


def render(rescored: dict[str, Any]) -> str:
    """A table of saved and new scores, and of how many questions changed."""
    rows = [("task", "metric", "saved", "now", "changed")]
    for task, metrics in rescored["results"].items():
        for key in _numeric(metrics):
            saved = _format(rescored["saved"][task][key])
            rows.append((task, key, saved, _format(metrics[key]), str(rescored["changed"][task][key])))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _score_all(answers: list[SavedText], workers: int, sandbox_disable: Collection[str] | None) -> list[Scores]:
    """Scores of all answers. Time limits of comparisons need a main thread, so workers are processes."""
    score = partial(_score, sandbox_disable=sandbox_disable)
    if workers == 1:
        return score(answers)
    scores: list[Scores] = [{}] * len(answers)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for first, share in enumerate(pool.map(score, [answers[first::workers] for first in range(workers)])):
            scores[first::workers] = share
    return scores


def _score(answers: list[SavedText], sandbox_disable: Collection[str] | None) -> list[Scores]:
    """Scores of a worker's answers; None: they need no sandbox."""
    with nullcontext() if sandbox_disable is None else Sandbox(sandbox_disable) as sandbox:
        if sandbox is not None:
            check_sandbox(sandbox)
        return [SCORERS[answer.task].score(answer.doc, answer.text, answer.raw, sandbox) for answer in answers]


def _totals(scores: list[Scores]) -> Scores:
    """Mean and standard error of each metric under lm-eval's names; outcomes are counted."""
    totals: Scores = {}
    for key in scores[0]:
        values = [score[key] for score in scores]
        if is_outcome(key):
            totals[key] = count_outcomes(values)
            continue
        totals[key] = sum(values) / len(values)
        totals[stderr_key(key)] = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else "N/A"
    return totals


def _numeric(metrics: Scores) -> list[str]:
    return [key for key in metrics if is_value(key) and not is_outcome(key)]


def _update(saved: SavedTexts, scores: list[Scores], new: dict[str, Scores]) -> None:
    """Put the new scores into the content of the run's own files."""
    for row, score in zip(saved.rows, scores, strict=True):
        row["metrics"] = score
    for task, metrics in new.items():
        results = saved.content["results"].setdefault(task, {})
        for key in ("score,none", "score_stderr,none"):  # of a run that had no score
            results.pop(key, None)
        results |= metrics
    summary = saved.content.get("summary", {})
    task = summary.get("dataset")
    if isinstance(task, str) and task in new:
        metric = SCORERS[task].headline
        error = new[task][stderr_key(metric)]
        summary |= {
            "metric": metric,
            "score": new[task][metric],
            "score_stderr": None if error == "N/A" else error,
        }
        if note := str(summary.pop("note", None) or "").removeprefix(unscored_reason(task)).removeprefix("; "):
            summary["note"] = note  # about other things


def _write(texts: dict[Path, str]) -> None:
    """Write all of the files, or none if there is no room for them."""
    temporary = {path: path.with_name(f".{path.name}.{os.getpid()}.new") for path in texts}
    try:
        for path, text in texts.items():
            write_text(temporary[path], text)
        for path, new in temporary.items():
            os.replace(new, path)
    except OSError as error:
        raise UsageError(f"{next(iter(texts)).parent} can't be written to: {error.strerror}") from error
    finally:
        for new in temporary.values():
            new.unlink(missing_ok=True)


def _format(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else "N/A"


@dataclass(frozen=True)
class RescoreOptions:
    """Score saved answers again, without a model, and write rescored.json.

    Exit status: 0 done, 2 unusable folder or option; the other folders are scored.

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
            rescored = rescore(
                folder, options.workers, options.allow_code_execution, options.update, options.sandbox_disable
            )
        except UsageError as error:
            print(visible(f"error: {error}"), file=sys.stderr)
            status = UNUSABLE
            continue
        print(render(rescored))
        if own := [task for task, source in rescored["references"].items() if source == OWN]:
            print(f"note: the references of {', '.join(own)} come from the run itself", file=sys.stderr)
    return status
