"""Run folders as the rows of the leaderboard. docs/leaderboard.md explains every column."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cache_zoo import UsageError
from cache_zoo.errors import require
from evaluation import statistics
from evaluation.compare import Comparison, compare, find_baseline
from evaluation.runs import STATUS
from evaluation.saved_run import SavedRun
from evaluation.schema import Git
from evaluation.statistics import Estimate

SCHEMA_VERSION = 1
_TEXT, _NUMBER, _COUNT, _FLAG = "object", "float64", "Int64", "boolean"
COLUMNS = {
    "schema_version": _COUNT,
    "model": _TEXT,
    "cache": _TEXT,
    "cache_parameters": _TEXT,
    "decoder": _TEXT,
    "decoder_settings": _TEXT,
    "task": _TEXT,
    "n_shot": _COUNT,
    "n": _COUNT,
    "items_total": _COUNT,
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
_LONGEST = 200  # letters of an error that a note keeps
Row = dict[str, Any]


def find_runs(folders: Iterable[Path], name_from: Path) -> dict[str, SavedRun]:
    """All runs in ``folders`` and the folders below, hidden ones left out.

    Args:
        folders: run folders, or folders that hold them somewhere.
        name_from: the folder that the names are relative to.

    Returns:
        Runs by their path from ``name_from``, in the order of these.

    Raises:
        UsageError: a folder that is not there, or one without runs.
    """
    found: dict[Path, SavedRun] = {}
    for folder in folders:
        require(folder.is_dir(), f"{folder} is not a folder")
        paths = [path.parent for path in folder.rglob(STATUS) if not _hidden(path.relative_to(folder))]
        require(bool(paths), f"there are no runs in {folder}; run eval.py with output_dir={folder}")
        found |= {path.resolve(): SavedRun(path) for path in paths}
    start = name_from.resolve()
    return dict(sorted((Path(os.path.relpath(path, start)).as_posix(), run) for path, run in found.items()))


def read_rows(runs: Mapping[str, SavedRun]) -> pd.DataFrame:
    """The leaderboard, one row per run; what is not there is NA.

    The order is that of the columns in `_order`: ranked rows of a model and a task first, the best score of a group of
    comparable runs first.
    """
    rows = {name: _row(name, run) for name, run in runs.items()}
    finished = {name: run for name, run in runs.items() if _whole(run)}
    for name, run in finished.items():
        _compare(rows[name], run, list(finished.values()))
    for group in {row["group"] for row in rows.values()} - {None}:
        members = [row for row in rows.values() if row["group"] == group]
        for row, adjusted in zip(members, statistics.holm([row["p"] for row in members]), strict=True):
            row["p_holm"] = adjusted
    for row in rows.values():
        row["note"] = "; ".join(row["note"]) or None
    frame = pd.DataFrame(sorted(rows.values(), key=_order), columns=list(COLUMNS))
    for column, kind in COLUMNS.items():
        frame[column] = pd.to_numeric(frame[column]).astype(kind) if kind in (_NUMBER, _COUNT) else frame[column]
        frame[column] = frame[column].astype(kind)
    return frame


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
    """What the files of one run say; notes are a list yet."""
    row: Row = {**dict.fromkeys(COLUMNS), "schema_version": SCHEMA_VERSION, "folder": name}
    row |= {"ranked": False, "note": [], "config_hash": _hash(run)}
    axes = run.axes
    row |= {"model": axes.get("model"), "cache": axes.get("cache")}
    row |= {"decoder": axes.get("generation"), "task": axes.get("dataset")}
    parts: list[Callable[[SavedRun], Row]] = [_status, _settings, _origin, _figures]
    try:
        for part in parts if run.done else parts[:2]:
            row |= {key: value for key, value in part(run).items() if value is not None}
        if not run.done:
            row["note"] = _unfinished(run)
            return row
        if run.scores:
            row |= _estimate("score", statistics.mean(list(run.scores.values())))
        row["note"] = _unranked(run)
        row["ranked"] = not row["note"]
        if row["score"] is not None and run.scores is None:
            row["note"].append("no interval: the score is not the mean of those of the questions")
    except UsageError as error:
        row |= {"ranked": False, "note": [_within(run, str(error))]}
    return row


def _status(run: SavedRun) -> Row:
    return {"status": run.status.status, "date": run.status.date}


def _settings(run: SavedRun) -> Row:
    """What the configuration says; nothing where there is none, as of a run that was not begun."""
    if not run.done and not run.config_path.is_file():
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
        "cache_zoo": versions.get("cache-zoo"),
        "commit": git.commit,
        "dirty": git.dirty,
        "date": found.date,
        "group": _digest([run.setting, found.dataset_sha256, run.clock]),
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
        **{key: getattr(measured, key) for key in keys},
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
    summary, git = run.summary, run.provenance.git or Git()
    found = []
    if summary.partial or summary.n != summary.items_total:
        found.append(f"a part of the dataset, {summary.n} of {summary.items_total} questions")
    if summary.score is None:
        found.append(_short(f"no score: {summary.note or 'the task has none'}"))
    if git.commit is None:
        found.append("no commit is recorded")
    elif git.dirty is not False:
        found.append("run with changes that are in no commit")
    elif git.several:
        found.append("its sessions ran several commits")
    if shortages := run.efficiency.memory_shortages:
        found.append(f"batches did not fit into memory; give batch_size={shortages[-1].then}")
    return found


def _compare(row: Row, run: SavedRun, finished: list[SavedRun]) -> None:
    """Put the comparison with the run without a cache in ``row``."""
    baseline = find_baseline(run, finished)
    if baseline is None:
        row["note"].append("there is no run without a cache to compare with")
        return
    try:
        comparison = compare(run, baseline)
    except UsageError as error:
        row["note"].append(str(error))
        row["ranked"] = False
        return
    row |= _compared(comparison)
    if run != baseline:
        row |= {**_estimate("diff", comparison.difference), **_estimate("speedup", comparison.speed_up)}
        row["p"] = comparison.p
        unscored = comparison.unscored if row["score"] is not None else None
        row["note"] += [note for note in (unscored, comparison.untimed) if note]


def _compared(comparison: Comparison) -> Row:
    speed_up = comparison.speed_up
    return {
        "agreement": comparison.agreement,
        "exact_agreement": comparison.exact_agreement,
        "speedup": speed_up.value if speed_up else None,
    }


def _whole(run: SavedRun) -> bool:
    """Whether everything that a comparison reads is there."""
    try:
        return bool(run.done and run.answers and run.setting and run.clock)
    except UsageError:
        return False


def _estimate(name: str, estimate: Estimate | None) -> Row:
    values = (None, None, None) if estimate is None else (estimate.value, estimate.low, estimate.high)
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def _options(config: dict[str, Any], group: str, without: set[str]) -> dict[str, Any]:
    keys = {key.removeprefix(f"{group}."): value for key, value in config.items() if key.startswith(f"{group}.")}
    return {key: value for key, value in keys.items() if key not in without}


def _written(options: dict[str, Any]) -> str | None:
    """``key=value ...`` by name, values as on the command line."""
    words = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in options.items()]
    return " ".join(sorted(words)) or None


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


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
