"""One cell from settings to run folder."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import asdict
from numbers import Real
from pathlib import Path
from types import NoneType
from typing import Any

import lm_eval
import torch

from cache_zoo import UsageError, caches
from cache_zoo.errors import require
from evaluation.config.installed import package_of
from evaluation.config.settings import Settings
from evaluation.run.checkpoint import find_checkpoint, other_weights
from evaluation.run.code_origin import origin_of
from evaluation.run.distributed import Ranks
from evaluation.run.efficiency import Batch, Sample, Scored, efficiency
from evaluation.run.folder import Run
from evaluation.run.journal import Journal
from evaluation.run.lm import EQUAL, CacheZooLM
from evaluation.run.provenance import merged, provenance
from evaluation.run.requests import digest
from evaluation.sandbox import Sandbox
from evaluation.storage.files import ANSWERED, RESULTS, SAMPLES, as_json
from evaluation.tasks.loading import LoadedTask, load_task
from generation import strategies
from generation.options import pointless
from models import Transformer, load_model
from models.tokenizer import load_tokenizer

_PRINTED: dict[str, Any] = {
    "status": str,
    "n": int,
    "score": (int, float, NoneType),
    "tokens_per_second": (int, float, NoneType),
}
"""Of a summary, what is read to show it again."""


def skip_reason(settings: Settings) -> str | None:
    """Why the cell can't be run though each of its parts can, or None."""
    return pointless(settings.cache.make(), settings.generation)


def run_of(settings: Settings, ranks: Ranks | None = None) -> Run:
    """The folder of a cell, which need not be there yet."""
    return Run(Path(settings.output_dir) / settings.run_name, settings.config, writes=ranks is None or ranks.first)


def summary_of(run: Run) -> dict[str, Any] | None:
    """What a run printed when it was done; None if it is not, or its files are not all there and whole."""
    if run.status.get("status") != "done" or damage_of(run):
        return None
    run.tidy()
    return {**_saved_summary(run), "folder": str(run.folder)}


def damage_of(run: Run) -> str | None:
    """What is wrong with the files of a run that says it is done; None where nothing is."""
    try:
        _saved_summary(run)
    except OSError as error:
        return f"{RESULTS} can't be read: {error.strerror}"
    except (ValueError, TypeError, KeyError, RecursionError):
        return f"{RESULTS} is damaged"
    if not any((run.folder / name).is_file() for name in (SAMPLES, f"{SAMPLES}.gz")):
        return f"{SAMPLES} is not there"
    return None


def _saved_summary(run: Run) -> dict[str, Any]:
    summary = dict(json.loads((run.folder / RESULTS).read_text(encoding="utf-8"))["summary"])
    for key, kinds in _PRINTED.items():
        if not isinstance(summary[key], kinds) or isinstance(summary[key], bool):
            raise TypeError(key)
    if summary["status"] != "done":
        raise ValueError(summary["status"])
    as_json(summary)  # what is nested too deep to be printed again is damaged
    return summary


def evaluate_cell(settings: Settings, ranks: Ranks | None = None) -> dict[str, Any] | None:
    """Run a cell and write its folder, or go on with it where an earlier process was stopped.

    Everything that was given is checked before the weights are loaded, and nothing is written before that.

    Returns:
        The summary that is printed; None in all processes but the first.

    Raises:
        UsageError: something given can't be used, or another process works on this run.
    """
    ranks = ranks or Ranks()
    if reason := skip_reason(settings):
        raise UsageError(reason)
    run = run_of(settings, ranks)
    if ranks.first:
        run.require_usable()
    # only the first process has answers to score
    allowed = settings.allow_code_execution and ranks.first
    sandbox = Sandbox(settings.sandbox_disable) if allowed else None
    task = load_task(settings.dataset, settings.seed, sandbox, settings.include_path)
    _require_rows(settings.trace, task)
    checkpoint = find_checkpoint(settings.model)
    folder = checkpoint.folder
    tokenizer = load_tokenizer(folder)
    require(
        not settings.model.apply_chat_template or bool(tokenizer.chat_template),
        f"the tokenizer in {folder} has no chat template; give model.apply_chat_template=false",
    )
    journal = Journal(run.folder / ANSWERED, ranks.rank, ranks.size, fresh=settings.force)

    def load() -> Transformer:
        device = settings.model.device
        model = load_model(folder, settings.model.dtype, f"cuda:{ranks.local}" if device == "cuda" else device)
        run.start(journal.progress, settings.force)
        session = {
            **provenance(),
            "cache_code": origin_of(caches.get(settings.cache.target)),
            "strategy_code": origin_of(strategies.get(settings.generation.strategy)),
        }
        if ranks.first:  # who reads all of the weights again, for their digest
            session["model"] = checkpoint.identity()
        dtype = str(model.dtype).removeprefix("torch.")
        journal.open({**session, "device": _device_name(model.device), "dtype": dtype, "rank": ranks.rank})
        return model

    lm = CacheZooLM(settings, checkpoint.config, tokenizer, load, ranks, journal)
    try:
        found = _ask(lm, task, settings)
        if not ranks.first:
            return None
        logged = found.pop("samples")
        results = {
            **_named(found, task, settings.dataset.size),
            "efficiency": efficiency(lm.samples, lm.batches, ranks.size, lm.shortages),
            "config": settings.config,
            "provenance": {
                **merged(lm.sessions),
                "cache_package": package_of(settings.cache.target),
                "checkpoint": _within_checkout(str(folder)),
                "dataset_sha256": task.sha256,
                "chat_template_sha256": _template_digest(tokenizer) if settings.model.apply_chat_template else None,
                "end_ids": sorted(lm.ending.end_ids),
            },
        }
        summary = _summary(settings, results, task, run, lm)
        results["summary"] = summary
        run.finish(results, _samples(lm, logged, task))
    except BaseException as error:  # an interrupt, too, leaves a record
        run.fail(error)
        raise
    finally:
        if sandbox:
            sandbox.close()
    return summary


def _require_rows(rows: list[int], task: LoadedTask) -> None:
    """Raise `UsageError` if a row that is to be traced is not in the data."""
    there = max((len(one.eval_docs) for one in task.loaded["tasks"].values()), default=0)
    unknown = [row for row in rows if row >= there]
    require(not unknown, f"trace names row {unknown[:1]}, and {task.name} has rows 0 to {there - 1}")


def _ask(lm: CacheZooLM, task: LoadedTask, settings: Settings) -> dict[str, Any]:
    found = lm_eval.evaluate(
        lm=lm,
        task_dict=task.loaded,
        limit=settings.dataset.size,
        system_instruction=settings.system_instruction,
        apply_chat_template=settings.model.apply_chat_template,
        fewshot_as_multiturn=settings.model.apply_chat_template,
    )
    return dict(found)


def _named(found: dict[str, Any], task: LoadedTask, size: int | None) -> dict[str, Any]:
    """lm-eval's results; where nothing is scored, or a metric is no number, the score is named and not available."""
    for name, config in found["configs"].items():
        config.pop("custom_dataset", None)  # our own reader, printed as source code
        metadata = config.get("metadata") or {}
        if source := metadata.get("config_source"):
            config["metadata"] = {**metadata, "config_source": _within_checkout(str(source))}
        if task.unscored:
            there = found["n-samples"][name]["original"]
            asked = min(there, size or there)  # lm-eval counts what has metrics
            found["n-samples"][name]["effective"] = asked
            found["results"][name] |= {"score,none": "N/A", "score_stderr,none": "N/A", "sample_len": asked}
    for metrics in found["results"].values():
        metrics |= {key: None for key, value in metrics.items() if _infinite(value)}
    return found


def _infinite(value: Any) -> bool:
    return isinstance(value, Real) and not math.isfinite(value)


def _within_checkout(path: str) -> str:
    """A path of ours without the folder that this checkout lies in; others as they are."""
    root = Path(__file__).resolve().parents[2]
    return Path(path).relative_to(root).as_posix() if Path(path).is_relative_to(root) else path


def _samples(lm: CacheZooLM, logged: dict[str, list[dict[str, Any]]], task: LoadedTask) -> list[dict[str, Any]]:
    """One record per answer: what was generated or scored, what it cost, metrics by filter, what scoring reads.

    Metrics are of a question, so the same for all of its answers where a task asks for several.
    """
    scores: dict[tuple[str, int], dict[str, Any]] = defaultdict(dict)
    for name, records in logged.items():
        for record in records:
            entry = scores[name, record["doc_id"]]
            entry["target"] = record["target"]
            entry["doc_sha256"] = record["doc_hash"]
            if task.needs:
                entry["doc"] = {column: record["doc"][column] for column in task.needs}
            for metric in record["metrics"]:
                value = None if _infinite(record[metric]) else record[metric]
                entry.setdefault("metrics", {})[f"{metric},{record['filter']}"] = value
            entry.setdefault("filtered", {})[record["filter"]] = record["filtered_resps"]
    return [
        {
            **(_generated(sample, lm.batches[sample.batch]) if isinstance(sample, Sample) else _scored(sample)),
            "metrics": {},
            **scores[sample.task, sample.doc_id],
        }
        for sample in lm.samples
    ]


def _generated(sample: Sample, batch: Batch) -> dict[str, Any]:
    """Of a question that was answered; ``work`` is that of its batch, which is not split between its sequences."""
    return {
        **{key: value for key, value in asdict(sample).items() if key != "prompt"},
        "tokens_out": sample.tokens,
        "work": {"sequences": batch.size, **batch.counts.as_dict(), "peak_memory_bytes": batch.peak_memory},
        "prompt_sha256": digest(sample.prompt),
    }


def _scored(question: Scored) -> dict[str, Any]:
    """Of a question whose answers were given."""
    prompts = "".join(choice.prompt for choice in question.choices)
    values = asdict(question)
    for choice in values["choices"]:
        del choice["prompt"]
    return {**values, "ids": [], "tokens_out": None, "prompt_sha256": digest(prompts)}


def _summary(settings: Settings, results: dict[str, Any], task: LoadedTask, run: Run, lm: CacheZooLM) -> dict[str, Any]:
    measured = results["efficiency"]
    found = results["results"].get(task.name, {})
    metric = _headline(found, task)
    score, stderr = _score(found, metric)
    counted = list(results["n-samples"].values())
    asked, there = (sum(count[key] for count in counted) for key in ("effective", "original"))
    questions = len({(sample.task, sample.doc_id) for sample in lm.samples})
    repeats = max(lm.repeats.values(), default=1)
    keys = ("empty_answers", "tokens_per_second", "nfe", "tokens_per_forward", "compute_ratio", "flops", "cache_bytes")
    summary = {
        "status": "done",
        "model": settings.model.name,
        "cache": settings.cache.label,
        "generation": settings.generation.strategy,
        "dataset": task.name,
        "n": questions,
        "repeats": repeats,
        "partial": asked < there,
        "items_total": there,
        "metric": metric,
        "score": score,
        "score_stderr": stderr,
        **{key: measured[key] for key in keys},
        "folder": str(run.folder),
    }
    notes = [
        task.unscored,
        f"{metric} is not a number" if metric is not None and score is None else None,
        EQUAL if repeats > 1 and len(lm.samples) == questions else None,
        other_weights(results["provenance"].get("model") or {}),
    ]
    if said := [note for note in notes if note]:
        summary["note"] = "; ".join(said)
    return summary


def _headline(found: dict[str, Any], task: LoadedTask) -> str | None:
    """Metric and filter of the score: the task's, else the first of lm-eval's that is a number, or would be one."""
    if task.score or task.unscored:
        return task.score
    metrics = [key for key in found if "," in key and "_stderr," not in key]
    numbers = [key for key in metrics if found[key] is None or isinstance(found[key], Real)]
    return next(iter([*numbers, *metrics]), None)


def _score(found: dict[str, Any], metric: str | None) -> tuple[float | None, float | None]:
    """A metric and its standard error; None where there is none."""
    if metric is None:
        return None, None
    name, _, chosen = metric.partition(",")
    values = [found.get(metric), found.get(f"{name}_stderr,{chosen}")]
    score, stderr = (float(value) if isinstance(value, Real) else None for value in values)
    return score, stderr


def _template_digest(tokenizer: Any) -> str:
    """Of the chat template as text; two checkpoints of a family may differ in nothing else."""
    return digest(str(tokenizer.get_chat_template()))


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
