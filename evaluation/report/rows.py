"""Run folders as rows of the leaderboard. `evaluation.report.columns` declares the columns."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import pandas as pd

from cache_zoo import UsageError
from cache_zoo.errors import visible
from evaluation.report import statistics
from evaluation.report.column_type import read_source
from evaluation.report.columns import BY_KEY, COLUMNS, CSV_TYPES, SCHEMA_VERSION
from evaluation.report.compare import compare, find_baseline
from evaluation.report.descriptions import config_hash, shortened
from evaluation.report.ranking import reasons_not_ranked, unrecorded
from evaluation.storage.saved_run import SavedRun

_OPTIONS = ("gen_length", "block_length", "threshold", "steps", "num_transfer_tokens")
Row = dict[str, Any]


def read_rows(runs: Mapping[str, SavedRun]) -> pd.DataFrame:
    """The leaderboard, one row per run; missing values are NA and every text is printable.

    A run with damaged files is a row with a note. Rows are sorted by `_sort_key`: ranked rows of a model and a task
    first, the best score of a group first.
    """
    rows = {name: _read_row(name, run) for name, run in runs.items()}
    settings: dict[str, list[str]] = {}
    for name, row in rows.items():
        if row["group"] is not None:
            settings.setdefault(json.dumps(runs[name].setting, sort_keys=True), []).append(name)
    for names in settings.values():
        _compare_setting({name: rows[name] for name in names}, {name: runs[name] for name in names})
    for group in {row["group"] for row in rows.values()} - {None}:
        members = [row for row in rows.values() if row["group"] == group]
        for row, adjusted in zip(members, statistics.holm([row["p"] for row in members]), strict=True):
            row["p_holm"] = adjusted
    for row in rows.values():
        row["note"] = "; ".join(row["note"]) or None
    printable = ({key: visible(it) if isinstance(it, str) else it for key, it in row.items()} for row in rows.values())
    ordered = sorted(printable, key=_sort_key)
    return pd.DataFrame({key: pd.array([row[key] for row in ordered], dtype=kind) for key, kind in CSV_TYPES.items()})


def _sort_key(row: Row) -> list[tuple[bool, Any]]:
    """Model, task, ranked or not, settings, machine, best score; missing values last, options that are off first."""
    settings = ("n_shot", "decoder", "decoder_settings", *_OPTIONS, "batch_size", "seed", "dtype")
    machine = ("gpu", "device", "machine", "torch", "group")
    descending = {key: None if row[key] is None else -row[key] for key in ("score", "tokens_per_second")}
    values = {**row, "ranked": not row["ranked"], **descending}
    method = ("cache", "cache_parameters", "suffix", "suffix_parameters", "store")
    keys = ("model", "task", "ranked", *settings, *machine, *descending, *method, "folder")
    missing = {key: (values[key] is None) != (key in _OPTIONS) for key in keys}
    return [(missing[key], 0 if values[key] is None else values[key]) for key in keys]


def _read_row(name: str, run: SavedRun) -> Row:
    """A row from the files of one run but its samples. ``note`` is a list; ``group`` is set if nothing is damaged."""
    row: Row = {
        **dict.fromkeys(CSV_TYPES),
        "schema_version": SCHEMA_VERSION,
        "model": run.axes.get("model"),
        "cache": run.axes.get("cache"),
        "decoder": run.axes.get("generation"),
        "task": run.axes.get("dataset"),
        "config_hash": config_hash(run),
        "folder": name,
        "ranked": False,
        "note": [],
    }
    try:
        row |= {"status": run.status.status, "date": run.status.date}
        if run.done or os.path.isfile(run.config_path):  # a pending run may have no configuration yet
            row |= _read_values(run, "config")
        if not run.done:
            row["note"] = _status_note(run)
            return row
        row |= _read_values(run, "results")
        row["note"] = [shortened(reason) for reason in reasons_not_ranked(run)]
        row["ranked"] = not row["note"]
        if run.summary.note and run.summary.score is not None:
            row["note"].append(shortened(run.summary.note))
        if missing := unrecorded(run):
            row["note"].append(f"not recorded: {', '.join(missing)}")
    except UsageError as error:
        _mark_damaged(row, run, error)
    return row


def _read_values(run: SavedRun, stage: str) -> Row:
    """Known values of the columns that have a source in ``stage``, ``config`` or ``results``."""
    sources = {column.key: source for column in COLUMNS if (source := getattr(column, stage))}
    return {key: value for key, source in sources.items() if (value := read_source(source, run)) is not None}


def _mark_damaged(row: Row, run: SavedRun, error: UsageError) -> None:
    """Note that files of a run can't be read; paths are cut to names, as they depend on where the folder lies."""
    message = str(error).replace(f"{run.folder}/", "").replace(str(run.folder), run.folder.name)
    row |= {"ranked": False, "group": None, "note": [message]}


def _status_note(run: SavedRun) -> list[str]:
    """Why a run has no results, as far as its status says."""
    status = run.status
    if status.status == "partial" and status.answered is not None:
        return [f"interrupted after {status.answered} of {status.total or 'its'} questions"]
    reason = (status.reason or status.error or "").strip()
    return [shortened(reason.splitlines()[0])] if reason else []


def _compare_setting(rows: Mapping[str, Row], runs: Mapping[str, SavedRun]) -> None:
    """Add intervals of scores and comparisons with the baseline to the rows of runs of one setting.

    At most two runs have their answers in memory at a time.
    """
    baselines: list[SavedRun] = []
    for name in sorted(runs, key=lambda name: not runs[name].is_baseline):
        row, run = rows[name], runs[name]
        try:
            _add_score_interval(row, run)
        except UsageError as error:
            _mark_damaged(row, run, error)
            continue
        if run.is_baseline:
            baselines.append(run)
        baseline = _add_comparison(row, run, baselines)
        for other in {run, *baselines} - {baseline}:
            other.free_answers()
    for run in baselines:
        run.free_answers()


def _add_score_interval(row: Row, run: SavedRun) -> None:
    if not run.answers or run.summary.score is None:
        return
    if run.scores is None:
        row["note"].append("no interval: the score is not the mean of the questions' scores")
    else:
        row |= _with_interval("score", statistics.mean(list(run.scores.values())))


def _add_comparison(row: Row, run: SavedRun, baselines: list[SavedRun]) -> SavedRun | None:
    """Add the comparison with the baseline, which is returned."""
    baseline = find_baseline(run, baselines)
    if baseline is None:
        row["note"].append("no baseline to compare with")
        return None
    try:
        comparison = compare(run, baseline)
    except UsageError as error:
        row["note"].append(str(error))
        row["ranked"] = False
        return baseline
    for column in COLUMNS:
        if column.compared:
            row |= _with_interval(column.key, getattr(comparison, column.compared))
    unscored = comparison.unscored if row["score"] is not None else None
    if run != baseline:
        row["note"] += [note for note in (unscored, comparison.untimed) if note]
    return baseline


def _with_interval(key: str, value: Any) -> Row:
    """A value, or an estimate with its interval, by the columns of the CSV."""
    keys = BY_KEY[key].keys
    if not BY_KEY[key].interval:
        return {key: value}
    return dict(zip(keys, (value.value, value.low, value.high) if value else (None, None, None), strict=True))
