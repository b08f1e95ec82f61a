"""Score saved generations again, without a model: ``python -m evaluation.rescore results/RUN``.

Reads ``samples.jsonl`` of a run folder, prints the new scores beside the saved ones and writes ``rescored.json``.
Neither torch nor lm-eval is loaded.
"""

from __future__ import annotations

import json
import multiprocessing
import platform
import statistics
import sys
from collections.abc import Collection
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cache_zoo import UsageError
from cache_zoo.arguments import Parser
from cache_zoo.errors import refusing, require
from evaluation.data import check_row
from evaluation.runs import RESCORED, RESULTS, SAMPLES, read_samples, write_text
from evaluation.sandbox import Sandbox
from evaluation.tasks.execution import count_outcomes
from evaluation.tasks.scorers import SCORERS

_KEYS = {"task": str, "text": str, "raw": str}
_OUTCOME = "outcome,"  # a metric that says why, not how many


def rescore(
    folder: Path, workers: int = 1, execute: bool = False, update: bool = False, without: Collection[str] = ()
) -> dict[str, Any]:
    """Score a run folder again.

    Args:
        folder: of a finished run.
        workers: processes that score; the numbers do not depend on it.
        execute: generated code may be run, where that is how a task is scored.
        update: put the new scores into ``results.json`` and ``samples.jsonl``, too.
        without: layers of the sandbox to go without (docs/sandbox.md).

    Returns:
        What ``rescored.json`` holds: ``results`` as in lm-eval's file, task to metric to value; ``saved``, the same as
        the run had it, None where it had none; ``changed``, how many questions changed their value, by task and metric;
        ``versions``.

    Raises:
        UsageError: no finished run, a task without a scorer here, code to run without leave, or packed samples to
            update.
    """
    require(workers >= 1, f"--workers must be at least 1, not {workers}")
    require((folder / RESULTS).is_file(), f"{folder} has no {RESULTS}; give the folder of a finished run")
    results = _read_results(folder / RESULTS)
    samples = read_samples(folder, _KEYS)
    require(
        not update or (folder / SAMPLES).is_file(), f"--update takes unpacked samples: gunzip {folder / SAMPLES}.gz"
    )
    tasks = list(dict.fromkeys(sample["task"] for sample in samples))
    _check(folder, samples, tasks, execute)
    runs = any(SCORERS[task].execute for task in tasks)
    scores = _scored(samples, workers, without if runs else None)
    new = {
        task: _totals([one for one, its in zip(scores, samples, strict=True) if its["task"] == task]) for task in tasks
    }
    saved = {task: {key: results["results"].get(task, {}).get(key) for key in new[task]} for task in tasks}
    changed: dict[str, dict[str, int]] = {task: dict.fromkeys(_numbers(new[task]), 0) for task in tasks}
    for sample, score in zip(samples, scores, strict=True):
        for key in changed[sample["task"]]:
            changed[sample["task"]][key] += sample.get("metrics", {}).get(key) != score[key]
    versions = {"python": platform.python_version(), "math-verify": version("math-verify")}
    found = {"results": new, "saved": saved, "changed": changed, "versions": versions}
    write_text(folder / RESCORED, json.dumps(found, indent=2) + "\n")
    if update:
        _update(folder, results, samples, scores, new)
    return found


def render(found: dict[str, Any]) -> str:
    """A table: what was saved, what is now, and how many questions changed."""
    rows = [("task", "metric", "saved", "now", "changed")]
    for task, metrics in found["results"].items():
        for key in _numbers(metrics):
            saved = _shown(found["saved"][task][key])
            rows.append((task, key, saved, _shown(metrics[key]), str(found["changed"][task][key])))
    widths = [max(len(row[place]) for row in rows) for place in range(5)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _check(folder: Path, samples: list[dict[str, Any]], tasks: list[str], execute: bool) -> None:
    for task in tasks:
        require(task in SCORERS, f"task '{task}' has no scorer here; those that have: {', '.join(SCORERS)}")
        require(
            execute or SCORERS[task].execute is None,
            f"the score of {task} takes running generated code: give --allow-code-execution; "
            'read "Generated code" in docs/running.md first',
        )
    for number, sample in enumerate(samples, start=1):
        where, scorer = f"{folder / SAMPLES}, line {number}", SCORERS[sample["task"]]
        doc = sample.get("doc", {})
        require(isinstance(doc, dict), f"{where}: 'doc' must be an object, not {doc!r}")
        lacking = [key for key in scorer.needs if key not in doc]
        require(not lacking, f"{where} lacks doc.{', doc.'.join(lacking)}; run it again")
        check_row(f"{where}, doc", doc, {key: scorer.columns[key] for key in scorer.needs}, scorer.problem)


def _read_results(file: Path) -> dict[str, Any]:
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} is not valid JSON: {error}") from error
    right = isinstance(results, dict) and isinstance(results.get("results"), dict)
    require(right, f"{file} has no 'results'; give the folder of a finished run")
    return dict(results)


def _scored(samples: list[dict[str, Any]], workers: int, without: Collection[str] | None) -> list[dict[str, Any]]:
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


def _score(samples: list[dict[str, Any]], without: Collection[str] | None) -> list[dict[str, Any]]:
    """Scores of a worker's share; ``without`` None: no sandbox is needed."""
    with nullcontext() if without is None else Sandbox(without) as sandbox:
        if sandbox is not None:
            sandbox.check()
        return [
            SCORERS[sample["task"]].score(sample["doc"], sample["text"], sample["raw"], sandbox) for sample in samples
        ]


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


def _update(
    folder: Path,
    results: dict[str, Any],
    samples: list[dict[str, Any]],
    scores: list[dict[str, Any]],
    new: dict[str, dict[str, Any]],
) -> None:
    """The new scores in the run's own files, the one with the score last."""
    for sample, score in zip(samples, scores, strict=True):
        sample["metrics"] = score
    for task, metrics in new.items():
        for key in ("score,none", "score_stderr,none"):  # of a run that had no score
            results["results"].setdefault(task, {}).pop(key, None)
        results["results"][task] |= metrics
    summary = results.get("summary", {})
    if summary.get("dataset") in new:
        metric, _, chosen = SCORERS[summary["dataset"]].headline.partition(",")
        metrics = new[summary["dataset"]]
        error = metrics[f"{metric}_stderr,{chosen}"]
        summary |= {
            "metric": f"{metric},{chosen}",
            "score": metrics[f"{metric},{chosen}"],
            "score_stderr": None if error == "N/A" else error,
        }
        summary.pop("note", None)
    write_text(folder / SAMPLES, "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples))
    write_text(folder / RESULTS, json.dumps(results, indent=2, ensure_ascii=False) + "\n")


def _shown(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else "N/A"


@refusing
def main() -> int:
    """Score the folders on the command line; 0 done, 2 something given can't be used."""
    parser = Parser(prog="python -m evaluation.rescore", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", metavar="folder", help="run folders")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that score (default: 1)")
    parser.add_argument("--allow-code-execution", action="store_true", help="run generated code, in the sandbox")
    parser.add_argument(
        "--without",
        nargs="*",
        default=[],
        metavar="LAYER",
        help="layers of the sandbox to go without",
    )
    parser.add_argument("--update", action="store_true", help="write results.json and samples.jsonl, too")
    arguments = parser.parse_args()
    for folder in arguments.folders:
        print(folder)
        options = (arguments.workers, arguments.allow_code_execution, arguments.update, arguments.without)
        print(render(rescore(folder, *options)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
