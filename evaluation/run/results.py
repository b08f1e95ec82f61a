"""The results of a run, assembled from lm-eval's scores and what was measured: results.json, samples and summary."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from numbers import Real
from pathlib import Path
from typing import Any

from evaluation.config.registered_choices import package_of
from evaluation.config.settings import Settings
from evaluation.run.checkpoint import Checkpoint, other_weights
from evaluation.run.efficiency import Batch, GeneratedAnswer, ScoredQuestion, efficiency
from evaluation.run.lm import EQUAL_ANSWERS, CacheZooLM
from evaluation.run.provenance import merged
from evaluation.run.requests import digest
from evaluation.storage.schema import HEADLINE, MAX_NUMBER, Summary
from evaluation.tasks.loading import LoadedTask
from evaluation.tasks.metric_keys import is_value, stderr_key

_ROOT = Path(__file__).resolve().parents[2]


def make_results(
    settings: Settings, task: LoadedTask, lm: CacheZooLM, checkpoint: Checkpoint, scored: dict[str, Any]
) -> dict[str, Any]:
    """The content of ``results.json`` but for the summary; ``scored`` is what `lm_eval.evaluate` returned."""
    templated = settings.model.apply_chat_template
    return {
        **clean_scores(scored, task, settings.dataset.size),
        "efficiency": efficiency(lm.answers, lm.runner.batches, lm.processes.world_size, lm.runner.shortages),
        "config": settings.config,
        "provenance": {
            **merged(lm.runner.sessions),
            "cache_package": package_of("cache", settings.cache.target),
            "checkpoint": _relative_to_checkout(str(checkpoint.folder)),
            "dataset_sha256": task.sha256,
            "chat_template_sha256": digest(str(lm.tokenizer.get_chat_template())) if templated else None,
            "end_ids": sorted(lm.ending.end_ids),
        },
    }


def clean_scores(scored: dict[str, Any], task: LoadedTask, size: int | None) -> dict[str, Any]:
    """lm-eval's results without machine paths and infinite numbers; "N/A" as the score of a task that is not scored."""
    for name, config in scored["configs"].items():
        config.pop("custom_dataset", None)  # the source code of our own reader
        metadata = config.get("metadata") or {}
        if source := metadata.get("config_source"):
            config["metadata"] = {**metadata, "config_source": _relative_to_checkout(str(source))}
        if task.unscored:
            counts = scored["n-samples"][name]
            counts["effective"] = min(counts["original"], size or counts["original"])  # lm-eval counts scored ones
            scored["results"][name] |= {"score,none": "N/A", "score_stderr,none": "N/A"}
            scored["results"][name]["sample_len"] = counts["effective"]
    for metrics in scored["results"].values():
        metrics |= {key: None for key, value in metrics.items() if _is_infinite(value)}
    return scored


def make_samples(
    answers: Iterable[GeneratedAnswer | ScoredQuestion],
    batches: list[Batch],
    logged: dict[str, list[dict[str, Any]]],
    task: LoadedTask,
) -> list[dict[str, Any]]:
    """The lines of ``samples.jsonl``: per answer what was generated or scored, its cost, metrics and targets.

    lm-eval's metrics are per question, so all answers to a question share them.
    """
    scores: dict[tuple[str, int], dict[str, Any]] = defaultdict(lambda: {"metrics": {}})
    for name, records in logged.items():
        for record in records:
            entry = scores[name, record["doc_id"]]
            entry["target"] = record["target"]
            entry["doc_sha256"] = record["doc_hash"]
            if task.needs:
                entry["doc"] = {column: record["doc"][column] for column in task.needs}
            for metric in record["metrics"]:
                value = None if _is_infinite(record[metric]) else record[metric]
                entry["metrics"][f"{metric},{record['filter']}"] = value
            entry.setdefault("filtered", {})[record["filter"]] = record["filtered_resps"]
    return [
        {
            **(_generated(answer, batches[answer.batch]) if isinstance(answer, GeneratedAnswer) else _scored(answer)),
            **scores[answer.task, answer.doc_id],
        }
        for answer in answers
    ]


def _generated(answer: GeneratedAnswer, batch: Batch) -> dict[str, Any]:
    """The record of a generated answer; ``work`` is that of its batch, which cannot be split between sequences."""
    return {
        **{key: value for key, value in asdict(answer).items() if key != "prompt"},
        "tokens_out": answer.tokens,
        "work": {
            "sequences": batch.size,
            **batch.counts.as_dict(),
            "peak_memory_bytes": batch.peak_memory,
            "processor_seconds": batch.processor_seconds,
        },
        "prompt_sha256": digest(answer.prompt),
    }


def _scored(question: ScoredQuestion) -> dict[str, Any]:
    prompts = "".join(choice.prompt for choice in question.choices)
    record = asdict(question)
    for choice in record["choices"]:
        del choice["prompt"]
    return {**record, "ids": [], "tokens_out": None, "prompt_sha256": digest(prompts)}


def summarize(settings: Settings, task: LoadedTask, lm: CacheZooLM, results: dict[str, Any], folder: Path) -> Summary:
    """The summary of a run with these results."""
    metrics = results["results"].get(task.name, {})
    metric = headline_metric(metrics, task)
    score, stderr = headline_score(metrics, metric)
    effective, original = (
        sum(count[key] for count in results["n-samples"].values()) for key in ("effective", "original")
    )
    questions = len({(answer.task, answer.doc_id) for answer in lm.answers})
    repeats = max(lm.repeats.values(), default=1)
    notes = [
        task.unscored,
        f"{metric} is not a number" if metric is not None and score is None else None,
        EQUAL_ANSWERS if repeats > 1 and len(lm.answers) == questions else None,
        other_weights(results["provenance"].get("model") or {}),
    ]
    copied: dict[str, Any] = settings.axes | {key: getattr(results["efficiency"], key) for key in HEADLINE}
    return Summary(
        n=questions,
        repeats=repeats,
        partial=effective < original,
        items_total=original,
        metric=metric,
        score=score,
        score_stderr=stderr,
        **copied,
        folder=str(folder),
        note="; ".join(note for note in notes if note) or None,
    )


def headline_metric(metrics: dict[str, Any], task: LoadedTask) -> str | None:
    """Metric and filter of the score: the task's own, else the first of lm-eval's that is a number or missing."""
    if task.score or task.unscored:
        return task.score
    names = list(filter(is_value, metrics))
    numbers = [key for key in names if metrics[key] is None or isinstance(metrics[key], Real)]
    return next(iter([*numbers, *names]), None)


def headline_score(metrics: dict[str, Any], metric: str | None) -> tuple[float | None, float | None]:
    """A metric and its standard error; None where it is not a number, or beyond those a summary holds."""
    if metric is None:
        return None, None
    values = [metrics.get(metric), metrics.get(stderr_key(metric))]
    score, stderr = (
        float(value) if isinstance(value, Real) and abs(float(value)) <= MAX_NUMBER else None for value in values
    )
    return score, stderr


def _is_infinite(value: Any) -> bool:
    return isinstance(value, Real) and not math.isfinite(value)


def _relative_to_checkout(path: str) -> str:
    """Paths inside this checkout relative to it, others unchanged."""
    return Path(path).relative_to(_ROOT).as_posix() if Path(path).is_relative_to(_ROOT) else path
