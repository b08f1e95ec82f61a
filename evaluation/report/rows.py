"""Run folders as the rows of the leaderboard. docs/leaderboard.md explains every column."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from cache_zoo import UsageError
from cache_zoo.errors import visible
from evaluation.report import statistics
from evaluation.report.comparable import doubts, shared, unrecorded
from evaluation.report.compare import compare, find_baseline
from evaluation.report.statistics import Estimate
from evaluation.storage.saved_run import SavedRun
from evaluation.storage.schema import Git, Package, Provenance

SCHEMA_VERSION = 2
_TEXT, _NUMBER, _COUNT, _FLAG = "object", "float64", "Int64", "boolean"
COLUMNS = {
    "schema_version": _COUNT,
    "model": _TEXT,
    "cache": _TEXT,
    "cache_parameters": _TEXT,
    "cache_package": _TEXT,
    "decoder": _TEXT,
    "decoder_settings": _TEXT,
    "task": _TEXT,
    "n_shot": _COUNT,
    "n": _COUNT,
    "items_total": _COUNT,
    "empty_answers": _COUNT,
    "metric": _TEXT,
    "score": _NUMBER,
    "score_low": _NUMBER,
    "score_high": _NUMBER,
    "diff": _NUMBER,
    "diff_low": _NUMBER,
    "diff_high": _NUMBER,
    "p": _NUMBER,
    "p_holm": _NUMBER,
    "agreement": _NUMBER,
    "exact_agreement": _NUMBER,
    "tokens_per_second": _NUMBER,
    "speedup": _NUMBER,
    "speedup_low": _NUMBER,
    "speedup_high": _NUMBER,
    "same_work": _FLAG,
    "latency_median": _NUMBER,
    "latency_p90": _NUMBER,
    "tokens_per_forward": _NUMBER,
    "nfe": _NUMBER,
    "compute_ratio": _NUMBER,
    "flops_per_token": _NUMBER,
    "cache_mb": _NUMBER,
    "peak_mb": _NUMBER,
    "batch_size": _COUNT,
    "gen_length": _COUNT,
    "block_length": _COUNT,
    "threshold": _NUMBER,
    "steps": _COUNT,
    "num_transfer_tokens": _COUNT,
    "seed": _COUNT,
    "dtype": _TEXT,
    "device": _TEXT,
    "machine": _TEXT,
    "gpu": _TEXT,
    "torch": _TEXT,
    "transformers": _TEXT,
    "cache_zoo": _TEXT,
    "commit": _TEXT,
    "dirty": _FLAG,
    "date": _TEXT,
    "config_hash": _TEXT,
    "group": _TEXT,
    "status": _TEXT,
    "ranked": _FLAG,
    "note": _TEXT,
    "folder": _TEXT,
}
"""Name to type, in order."""

_OWN_COLUMN = ("gen_length", "block_length", "threshold", "steps", "num_transfer_tokens")
_LONGEST = 200  # letters of a text that a cell keeps
Row = dict[str, Any]


def read_rows(runs: Mapping[str, SavedRun]) -> pd.DataFrame:
    """The leaderboard, one row per run; what is not there is NA, and every text is printable.

    A run whose files are damaged is a row that says so. The order is that of the columns in `_order`: ranked rows of a
    model and a task first, the best score of a group of comparable runs first.
    """
    rows = {name: _row(name, run) for name, run in runs.items()}
    settings: dict[str, list[str]] = {}
    for name, row in rows.items():
        if row["group"] is not None:
            settings.setdefault(json.dumps(runs[name].setting, sort_keys=True), []).append(name)
    for names in settings.values():
        _compare_all({name: rows[name] for name in names}, {name: runs[name] for name in names})
    for group in {row["group"] for row in rows.values()} - {None}:
        members = [row for row in rows.values() if row["group"] == group]
        for row, adjusted in zip(members, statistics.holm([row["p"] for row in members]), strict=True):
            row["p_holm"] = adjusted
    for row in rows.values():
        row["note"] = "; ".join(row["note"]) or None
    ordered = sorted(map(_printed, rows.values()), key=_order)
    return pd.DataFrame({key: pd.array([row[key] for row in ordered], dtype=kind) for key, kind in COLUMNS.items()})


def _printed(row: Row) -> Row:
    return {key: visible(value) if isinstance(value, str) else value for key, value in row.items()}


def _order(row: Row) -> list[tuple[bool, Any]]:
    """What rows are sorted by: figures from the largest; what is not there last, an option that is off first."""
    setting = ("n_shot", "decoder", "decoder_settings", *_OWN_COLUMN, "batch_size", "seed", "dtype")
    machine = ("gpu", "device", "machine", "torch", "group")
    ranked = {**row, "ranked": not row["ranked"]}
    best = {key: None if row[key] is None else -row[key] for key in ("score", "tokens_per_second")}
    keys = ("model", "task", "ranked", *setting, *machine, *best, "cache", "cache_parameters", "folder")
    values = {key: {**ranked, **best}[key] for key in keys}
    absent = {key: (value is None) != (key in _OWN_COLUMN) for key, value in values.items()}
    return [(absent[key], 0 if value is None else value) for key, value in values.items()]


def _row(name: str, run: SavedRun) -> Row:
    """What the files of one run say, but for its questions; notes are a list yet. ``group`` is set if it is whole."""
    axes = run.axes
    row: Row = {
        **dict.fromkeys(COLUMNS),
        "schema_version": SCHEMA_VERSION,
        "model": axes.get("model"),
        "cache": axes.get("cache"),
        "decoder": axes.get("generation"),
        "task": axes.get("dataset"),
        "config_hash": _hash(run),
        "folder": name,
        "ranked": False,
        "note": [],
    }
    parts: list[Callable[[SavedRun], Row]] = [_status, _settings, _origin, _figures]
    try:
        for part in parts if run.done else parts[:2]:
            row |= {key: value for key, value in part(run).items() if value is not None}
        row["note"] = _unranked(run) if run.done else _unfinished(run)
        row["ranked"] = run.done and not row["note"]
        if run.done:
            row["note"] += _remarks(run)
    except UsageError as error:
        _damage(row, run, error)
    return row


def _damage(row: Row, run: SavedRun, error: UsageError) -> None:
    """Say in ``row`` that files of its run can't be read."""
    row |= {"ranked": False, "group": None, "note": [_within(run, str(error))]}


def _status(run: SavedRun) -> Row:
    return {"status": run.status.status, "date": run.status.date}


def _settings(run: SavedRun) -> Row:
    """What the configuration says; nothing where there is none, as of a run that was not begun."""
    if not run.done and not os.path.isfile(run.config_path):
        return {}
    config = run.config
    others = _options(run.options, "generation", {"strategy", *_OWN_COLUMN})
    others = {key: value for key, value in others.items() if value is not None and value is not False}
    return {
        "model": config.model.name,
        "cache": config.cache.name or run.axes.get("cache"),
        "cache_parameters": _written(_options(run.options, "cache", {"name", "_target_"})),
        "decoder": config.generation.strategy,
        "decoder_settings": _written(others),
        "task": config.dataset.name,
        "n_shot": config.dataset.n_shot,
        **{key: getattr(config.generation, key) for key in _OWN_COLUMN},
        "batch_size": config.batch_size,
        "seed": config.seed,
        "dtype": config.model.dtype,
        "device": config.model.device,
    }


def _origin(run: SavedRun) -> Row:
    """Where a finished run comes from."""
    found = run.provenance
    machine, versions, git = found.machine, found.versions, found.git or Git()
    processes, threads = run.efficiency.processes, machine.torch_threads
    words = [
        machine.processor,
        threads and f"{threads} thread{'s' * (threads != 1)}",
        machine.system,
        processes and processes > 1 and f"{processes} processes",
        machine.several and "not the same throughout",
    ]
    return {
        "dtype": found.dtype,
        "device": found.device,
        "machine": ", ".join(str(word) for word in words if word) or None,
        "gpu": machine.gpu,
        "torch": versions.get("torch"),
        "transformers": versions.get("transformers"),
        "cache_package": _package(found),
        "cache_zoo": versions.get("cache-zoo"),
        "commit": git.commit,
        "dirty": git.dirty,
        "date": found.date,
        "group": _digest([run.setting, found.dataset_sha256, run.clock, shared(run)]),
    }


def _figures(run: SavedRun) -> Row:
    """What a finished run measured."""
    summary, measured = run.summary, run.efficiency
    keys = ("tokens_per_second", "tokens_per_forward", "nfe", "compute_ratio", "flops_per_token")
    return {
        "task": summary.dataset,
        "cache": summary.cache,
        "n_shot": run.results.n_shot.get(summary.dataset or ""),
        **{key: getattr(summary, key) for key in ("n", "items_total", "metric", "score")},
        **{key: getattr(measured, key) for key in ("empty_answers", *keys)},
        "latency_median": measured.latency_seconds.median,
        "latency_p90": measured.latency_seconds.p90,
        "cache_mb": _megabytes(measured.cache_bytes),
        "peak_mb": _megabytes(measured.peak_memory_bytes),
    }


def _unfinished(run: SavedRun) -> list[str]:
    """Why a run has no results, as far as its status says."""
    status = run.status
    if status.status == "partial" and status.answered is not None:
        return [f"interrupted after {status.answered} of {status.total or 'its'} questions"]
    reason = (status.reason or status.error or "").strip()
    return [_short(reason.splitlines()[0])] if reason else []


def _unranked(run: SavedRun) -> list[str]:
    """Why a finished run can't be ranked."""
    summary, found = run.summary, []
    if summary.partial or summary.n != summary.items_total:
        total = "an unknown number of" if summary.items_total is None else summary.items_total
        found.append(f"a part of the dataset, {summary.n} of {total} questions")
    if summary.score is None:
        found.append(_short(f"no score: {summary.note or 'the task has none'}"))
    found += doubts(run)
    if shortages := run.efficiency.memory_shortages:
        found.append(f"batches did not fit into memory; give batch_size={shortages[-1].then}")
    return found


def _remarks(run: SavedRun) -> list[str]:
    """What else there is to say of a finished run."""
    found = []
    if run.summary.note and run.summary.score is not None:
        found.append(_short(run.summary.note))
    if lacking := unrecorded(run):
        found.append(f"not recorded: {', '.join(lacking)}")
    return found


def _compare_all(rows: Mapping[str, Row], runs: Mapping[str, SavedRun]) -> None:
    """Put scores, and the comparison with the run without a cache, in the rows of runs of one setting.

    The questions of two runs at most are in memory at a time.
    """
    sound: list[SavedRun] = []
    for name in sorted(runs, key=lambda name: not runs[name].is_baseline):
        row, run = rows[name], runs[name]
        try:
            _score(row, run)
        except UsageError as error:
            _damage(row, run, error)
            continue
        if run.is_baseline:
            sound.append(run)
        baseline = _compare(row, run, sound)
        for one in {run, *sound} - {baseline}:
            one.free_answers()
    for one in sound:
        one.free_answers()


def _score(row: Row, run: SavedRun) -> None:
    """The interval of the score, which is that of the questions."""
    if not run.answers or run.summary.score is None:
        return
    if run.scores is None:
        row["note"].append("no interval: the score is not the mean of those of the questions")
    else:
        row |= _estimate("score", statistics.mean(list(run.scores.values())))


def _compare(row: Row, run: SavedRun, baselines: list[SavedRun]) -> SavedRun | None:
    """Put the comparison with the run without a cache, which is returned, in ``row``."""
    baseline = find_baseline(run, baselines)
    if baseline is None:
        row["note"].append("there is no run without a cache to compare with")
        return None
    try:
        comparison = compare(run, baseline)
    except UsageError as error:
        row["note"].append(str(error))
        row["ranked"] = False
        return baseline
    row |= {"agreement": comparison.agreement, "exact_agreement": comparison.exact_agreement}
    row |= {**_estimate("speedup", comparison.speed_up), "same_work": comparison.same_work}
    if run == baseline:
        row |= {"speedup_low": None, "speedup_high": None}
        return baseline
    row |= {**_estimate("diff", comparison.difference), "p": comparison.p}
    unscored = comparison.unscored if row["score"] is not None else None
    row["note"] += [note for note in (unscored, comparison.untimed) if note]
    return baseline


def _estimate(name: str, estimate: Estimate | None) -> Row:
    values = (None, None, None) if estimate is None else (estimate.value, estimate.low, estimate.high)
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def _options(config: dict[str, Any], group: str, without: set[str]) -> dict[str, Any]:
    keys = {key.removeprefix(f"{group}."): value for key, value in config.items() if key.startswith(f"{group}.")}
    return {key: value for key, value in keys.items() if key not in without}


def _written(options: dict[str, Any]) -> str | None:
    """``key=value ...`` by name, values as on the command line."""
    words = [f"{key}={_value(value)}" for key, value in options.items()]
    return _short(" ".join(sorted(words))) or None


def _value(value: Any) -> str:
    """Text as it is, unless it would look like several options."""
    return value if isinstance(value, str) and re.fullmatch(r"[^\s=]+", value) else json.dumps(value)


def _package(found: Provenance) -> str | None:
    """The package that the cache comes with, if that is not this project."""
    code, named = found.cache_code, found.cache_package
    if code is not None and code.origin == "package":
        return " ".join(part for part in (code.name, code.version, (code.commit or "")[:10]) if part) or None
    return f"{named.name} {named.version or ''}".rstrip() if isinstance(named, Package) else named


def _hash(run: SavedRun) -> str | None:
    found = re.fullmatch(r".+__([0-9a-f]{8})", run.folder.name)
    return found[1] if found else None


def _digest(values: list[Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def _megabytes(size: float | None) -> float | None:
    return None if size is None else size / 1e6


def _within(run: SavedRun, message: str) -> str:
    """``message`` with file names in place of paths, which depend on where the folder lies."""
    return message.replace(f"{run.folder}/", "").replace(str(run.folder), run.folder.name)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
