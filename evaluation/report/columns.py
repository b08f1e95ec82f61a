"""The columns of the leaderboard, each declared once, in the order of the CSV.

Table, CSV, Markdown, page, headings of groups and the table of docs/leaderboard.md read this registry, so a new figure
is one entry. `evaluation.report.column_type.Column` explains the fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from evaluation.config.identity import BASELINE
from evaluation.report import descriptions
from evaluation.report.column_type import COUNT, FLAG, NUMBER, TEXT, Column, Row, SpeedAxis, View
from evaluation.storage.saved_run import SavedRun

SCHEMA_VERSION = 3
SAME_WORK = "same work"
"""Shown instead of a speed-up (`evaluation.report.compare.Comparison.same_work`)."""
GROUPS = ("quality", "speed", "work", "memory", "setting", "origin")
"""Groups of columns that the page shows and hides."""
HIDDEN_GROUPS = ("setting", "origin")
"""Hidden when the page opens."""


def _megabytes(size: float | None) -> float | None:
    return None if size is None else size / 1e6


def _share(key: str) -> Callable[[SavedRun], float | None]:
    """A number of rows as a share of those of full recomputation; None in runs that did not count it."""

    def share(run: SavedRun) -> float | None:
        rows, full = getattr(run.efficiency, key), run.efficiency.rows_full
        return None if rows is None or not full else rows / full

    return share


def _canvas(run: SavedRun) -> float | None:
    """Mean positions of a canvas that grows; None where it is as long as the configuration says."""
    canvas, answers = run.efficiency.tokens_canvas, run.efficiency.samples
    if canvas is None or not answers or canvas == answers * (run.config.generation.gen_length or 0):
        return None
    return canvas / answers


# fmt: off
COLUMNS = (
    Column("schema_version", COUNT, "", "version of this table"),
    Column("model", TEXT, "", "name of `configs/model`", "model", config="config.model.name", page=1, shared=True),
    Column("cache", TEXT, "", "registered name of the cache, or name of its class", "cache",
           config="config.cache.name", results="summary.cache"),
    Column("cache_parameters", TEXT, "", "parameters of the cache, `key=value` by name, separated by blanks",
           "parameters", config=descriptions.cache_parameters),
    Column("cache_package", TEXT, "", "package of the cache with its version or commit; empty: cache-zoo", "package",
           results=descriptions.cache_package, page=16, group="origin"),
    Column("suffix", TEXT, "", "registered name of the suffix rule, or name of its class; `all`: none",
           "suffix", config="config.suffix.name", results="summary.suffix", table=1, page=1,
           plain=(BASELINE["suffix"], None), tip=True),
    Column("suffix_parameters", TEXT, "", "parameters of the suffix rule, as those of the cache", "suffix parameters",
           config=descriptions.suffix_parameters, page=1, plain=(None,)),
    Column("store", TEXT, "", "format of the stored keys and values; `native` is the dtype of the weights", "store",
           config="config.store", results="summary.store", table=1, page=1, plain=(BASELINE["store"], None), tip=True),
    Column("decoder", TEXT, "", "`generation.strategy`", "decoder", config="config.generation.strategy",
           heading=(1, "{}")),
    Column("decoder_settings", TEXT, "",
           "options of `generation` without a column of their own, `key=value`; without those that are off or neutral",
           "other settings", config=descriptions.decoder_settings, heading=(1, "{}"), page=13, group="setting"),
    Column("task", TEXT, "", "`dataset.name`", "dataset", config="config.dataset.name", results="summary.dataset",
           page=1, shared=True),
    Column("decoding", None, "", "strategy, and the settings, batch, seed and dtype that differ between runs",
           "decoding", page=1, tip=True, shared=True),
    Column("n_shot", COUNT, "", "examples in the prompt", "shots", ".0f", config="config.dataset.n_shot",
           results=lambda run: run.results.n_shot.get(run.summary.dataset or ""),
           heading=(2, "shots {:g}"), page=10, group="setting"),
    Column("n", COUNT, "questions", "questions answered, each counted once", "n", ".0f", better="more",
           results="summary.n", total="items_total", heading=(6, "{:.0f} questions"), table=1, unranked=1, page=1,
           group="quality"),
    Column("items_total", COUNT, "questions", "questions in the dataset", results="summary.items_total"),
    Column("empty_answers", COUNT, "answers", "answers without any text", "empty answers", ".0f", better="less",
           results="efficiency.empty_answers", table=1, page=1, if_any=True, group="quality"),
    Column("metric", TEXT, "", "metric and filter of the score, as lm-eval names them", "metric",
           results="summary.metric", page=9, group="setting"),
    Column("score", NUMBER, "share", "value of the metric, 0 to 1 where questions are right or wrong", "score %", ".1f",
           100, "more", interval=True, results="summary.score", table=1, ranked=1, unranked=1, page=1,
           table_interval=True, published=True, group="quality", tip=True, bar=True),
    Column("diff", NUMBER, "share", "score minus that of the baseline, paired by question", "difference, points",
           "+.1f", 100, "more", interval=True, compared="difference", ranked=1, unranked=1, page=1, group="quality",
           tip=True),
    Column("p", NUMBER, "", "p value of no difference to the baseline", "p", ".3g", better="less", compared="p",
           page=9, group="setting"),
    Column("p_holm", NUMBER, "", "p, adjusted by Holm over the rows of the `group`", "p (Holm)", ".3g", better="less",
           ranked=1, page=1, group="quality"),
    Column("agreement", NUMBER, "share",
           "answer tokens that equal the baseline's, position by position, over the longer answer; mean over questions",
           "agreement %", ".1f", 100, "more", compared="agreement", table=4, ranked=1, unranked=1, page=4,
           group="quality", tip=True),
    Column("exact_agreement", NUMBER, "share", "questions whose answer tokens all equal the baseline's",
           "same answers %", ".1f", 100, "more", compared="exact_agreement", ranked=1, page=4, group="quality"),
    Column("tokens_per_second", NUMBER, "1/s",
           "answer tokens over the seconds of the batches, of one process; comparable within one machine only",
           "tokens/s", ".1f", better="more", results="efficiency.tokens_per_second", table=1, ranked=1, unranked=1,
           page=3, published=True, group="speed", tip=True,
           axis=SpeedAxis("tokens per second", timed=True, form="~s")),
    Column("speedup", NUMBER, "", "median seconds of the baseline over median seconds, on one machine",
           "speed-up", ".2f", better="more", interval=True, compared="speed_up", flag=("same_work", SAME_WORK),
           table=1, ranked=1, unranked=1, page=2, published=True, group="speed", tip=True,
           axis=SpeedAxis("times as fast as the baseline, same decoding", timed=True, relative=True, even=1)),
    Column("same_work", FLAG, "",
           "recomputed everything and generated the baseline's tokens, so there is no speed-up; empty: not compared",
           compared="same_work"),
    Column("latency_median", NUMBER, "s", "median seconds of a batch", "median s", ".3g", better="less",
           results="efficiency.latency_seconds.median", ranked=1, page=7, group="speed"),
    Column("latency_p90", NUMBER, "s", "90th percentile of the seconds of a batch", "p90 s", ".3g", better="less",
           results="efficiency.latency_seconds.p90", page=7, group="speed"),
    Column("tokens_per_forward", NUMBER, "", "answer tokens over forwards", "tokens/forward", ".2f", better="more",
           results="efficiency.tokens_per_forward", table=3, ranked=3, page=6, group="work", tip=True,
           axis=SpeedAxis("tokens per forward")),
    Column("nfe", NUMBER, "", "forwards per answer, mean", "NFE", ".1f", better="less", results="efficiency.nfe",
           table=2, ranked=2, page=6, group="work", tip=True, axis=SpeedAxis("forwards per answer")),
    Column("compute_ratio", NUMBER, "", "rows run over the rows of full recomputation in the same forwards",
           "compute ratio", ".3f", better="less", results="efficiency.compute_ratio", table=3, ranked=3, page=5,
           group="work", tip=True, axis=SpeedAxis("rows run, share of full recomputation", relative=True, even=1)),
    Column("hit_rate", NUMBER, "share", "rows reused, as a share of the rows of full recomputation: 1 - compute ratio",
           "hit rate %", ".1f", 100, "more",
           results=lambda run: None if (ratio := run.efficiency.compute_ratio) is None else 1 - ratio,
           ranked=3, page=5, group="work", tip=True),
    Column("query_ratio", NUMBER, "", "rows whose query was computed, mean over layers, as a share of the same",
           "query ratio", ".3f", better="less", results=_share("query_rows"), page=6, plain=(None,), group="work"),
    Column("kv_ratio", NUMBER, "", "rows whose key and value were computed, mean over layers, as a share of the same",
           "K/V ratio", ".3f", better="less", results=_share("kv_rows"), page=6, plain=(None,), group="work"),
    Column("flops_per_token", NUMBER, "FLOPs", "floating-point operations of all matrix products per answer token",
           "FLOPs/token", ".2e", better="less", results="efficiency.flops_per_token", page=6, group="work"),
    Column("cache_mb", NUMBER, "10^6 bytes", "largest size of the cache within a step", "cache MB", ".1f",
           better="less", results=lambda run: _megabytes(run.efficiency.cache_bytes), table=4, ranked=4, page=8,
           group="memory"),
    Column("peak_mb", NUMBER, "10^6 bytes", "peak memory of the device, where it is measured", "peak MB", ".0f",
           better="less", results=lambda run: _megabytes(run.efficiency.peak_memory_bytes), page=8, group="memory"),
    Column("batch_size", COUNT, "", "prompts decoded together", "batch", ".0f", config="config.batch_size",
           heading=(3, "batch {:g}"), page=10, group="setting"),
    Column("gen_length", COUNT, "tokens", "length of the canvas behind the prompt", "length", ".0f",
           config="config.generation.gen_length", heading=(1, "length {:g}"), page=10, group="setting"),
    Column("canvas", NUMBER, "tokens", "generated positions of an answer, mean, where the canvas grows; empty: length",
           "canvas", ".1f", results=_canvas, table=3, page=6, plain=(None,), if_any=True, group="work"),
    Column("block_length", COUNT, "tokens", "length of a block; empty: one block", "block", ".0f",
           config="config.generation.block_length", heading=(1, "block {:g}"), page=10, group="setting"),
    Column("threshold", NUMBER, "", "confidence above which a token is committed; empty: off", "threshold", "g",
           config="config.generation.threshold", heading=(1, "threshold {:g}"), page=10, group="setting"),
    Column("steps", COUNT, "", "LLaDA's number of steps for the whole canvas; empty: off", "steps", ".0f",
           config="config.generation.steps", heading=(1, "steps {:g}"), page=12, group="setting"),
    Column("num_transfer_tokens", COUNT, "tokens", "tokens committed per forward, at least", "tokens/step", ".0f",
           config="config.generation.num_transfer_tokens", heading=(1, "tokens per step {:g}"), page=11,
           group="setting"),
    Column("seed", COUNT, "", "seed of all randomness", "seed", ".0f", config="config.seed", heading=(3, "seed {:g}"),
           page=14, group="setting"),
    Column("dtype", TEXT, "", "dtype of the weights", "dtype", config="config.model.dtype", results="provenance.dtype",
           heading=(3, "{}"), page=14, group="setting"),
    Column("hardware", None, "", "machine that was timed", "hardware", page=15, group="origin", tip=True),
    Column("device", TEXT, "", "`cpu` or the name of the GPU that was used", "device", config="config.model.device",
           results="provenance.device", page=15, group="origin"),
    Column("machine", TEXT, "", "processor, torch threads, system, number of processes if above one", "machine",
           results=descriptions.machine, heading=(5, "{}")),
    Column("gpu", TEXT, "", "GPU of the machine", "GPU", results="provenance.machine.gpu", heading=(4, "{}")),
    Column("torch", TEXT, "", "version of torch", "torch", results=lambda run: run.provenance.versions.get("torch"),
           heading=(5, "torch {}"), page=15, group="origin"),
    Column("transformers", TEXT, "", "version of transformers", "transformers",
           results=lambda run: run.provenance.versions.get("transformers"), page=15, group="origin"),
    Column("cache_zoo", TEXT, "", "version of cache-zoo", "cache-zoo",
           results=lambda run: run.provenance.versions.get("cache-zoo"), page=16, group="origin"),
    Column("commit", TEXT, "", "commit of the checkout; the page marks uncommitted changes with +", "commit",
           results=lambda run: run.provenance.git and run.provenance.git.commit, page=16, group="origin"),
    Column("dirty", FLAG, "", "tracked files differed from the commit",
           results=lambda run: run.provenance.git and run.provenance.git.dirty),
    Column("date", TEXT, "UTC", "end of the run; without results, date of its status", "date",
           results="provenance.date", page=16, group="origin"),
    Column("config_hash", TEXT, "", "hash of the resolved configuration, last part of the folder's name", "hash",
           page=16, group="origin"),
    Column("group", TEXT, "",
           "equal in rows that are ranked and timed against each other: one setting, one set of data, one machine, the "
           "same code, versions and weights", results=descriptions.group),
    Column("status", TEXT, "",
           "`done`, `pending`, `running`, `partial` (interrupted, resumable), `failed`, `oom` or `skipped`", "status"),
    Column("ranked", FLAG, "", "see [RULES.md](../RULES.md)"),
    Column("note", TEXT, "", "why figures are missing or the row is not ranked", "note"),
    Column("folder", TEXT, "", "folder of the run, relative to the CSV"),
)
# fmt: on

CSV_TYPES = {key: column.kind for column in COLUMNS if column.kind for key in column.keys}
"""Names and types of the columns of the CSV, in order."""
BY_KEY = {column.key: column for column in COLUMNS}
SPEED_AXES = sorted((column for column in COLUMNS if column.axis), key=lambda column: column.page)
"""Choices of the charts' speed axis; the page opens with the first."""


def columns_in(view: View, rows: Sequence[Row] | None = None) -> list[Column]:
    """Columns of a view from left to right: all, or those that are shown for ``rows``."""
    columns = [column for column in COLUMNS if getattr(column, view) and (rows is None or column.is_shown(rows))]
    return sorted(columns, key=lambda column: getattr(column, view))


def plain_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of the leaderboard as plain values: None where something is missing, also a whole column."""
    columns = [(key, column) for column in COLUMNS if column.kind for key in column.keys]
    return [
        {key: column.normalized(row.get(key)) for key, column in columns} for row in frame.to_dict(orient="records")
    ]


def grouped(rows: Iterable[dict[str, Any]], *keys: str) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """Rows by their values of ``keys``, in the order of the first of each."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def heading(row: Mapping[str, Any]) -> list[str]:
    """Strategy, settings, machine and number of questions of a group of runs, without what is off or missing."""
    parts = sorted(((*column.heading, column.key) for column in COLUMNS if column.heading), key=lambda part: part[0])
    return [template.format(row[key]) for _, template, key in parts if row[key] is not None]
