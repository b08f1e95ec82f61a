"""Questions of run folders, decoded again."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from cache_zoo.errors import require
from evaluation.raw_run import Question
from evaluation.raw_run import RawRun as SavedRun
from evaluation.settings import Settings
from evaluation.trace.page import write
from evaluation.trace.recording import Trace, record
from models import Transformer, load_model, resolve_checkpoint


@dataclass(frozen=True)
class Choice:
    """A question of a run.

    Attributes:
        run: the run.
        settings: its settings, on the device that was asked for.
        sample: its line of ``samples.jsonl``.
    """

    run: SavedRun
    settings: Settings
    sample: Mapping[str, Any]

    @property
    def question(self) -> Question:
        return str(self.sample["task"]), int(self.sample["doc_id"])


def choose(folder: Path, sample: str | None, device: str | None = None) -> Choice:
    """The question of a run that is meant.

    Args:
        folder: of the run.
        sample: its row, or ``TASK:ROW``; None: the first.
        device: where it will be decoded; None: where the run was.

    Raises:
        UsageError: no run, one that is not done or generated nothing, no such question, or no such device.
    """
    require(folder.is_dir(), f"there is no run folder {folder}{_near(folder)}")
    run = SavedRun(folder)
    require(run.done, f"{folder.name} is {run.status['status']}; a trace takes a run that is done")
    found = _find(run, sample)
    require(
        "choices" not in found,
        f"{folder.name} scored given answers and generated nothing, so there is nothing to trace; give a run of a task "
        "that generates text",
    )
    config = run.resolved
    if device is not None:
        config = {**config, "model": {**dict(config.get("model") or {}), "device": device}}
    settings = Settings.from_config(config)
    require(
        not settings.model.device.startswith("cuda") or torch.cuda.is_available(),
        f"{folder.name} ran on {settings.model.device}, which this machine does not have; give --device cpu",
    )
    return Choice(run, settings, found)


def require_alike(choices: Sequence[Choice]) -> None:
    """Raise `UsageError` unless they are one question in one prompt."""
    first = choices[0]
    for other in choices[1:]:
        asked = [(one.question, one.sample.get("prompt_sha256")) for one in (first, other)]
        require(
            asked[0] == asked[1],
            f"{first.run.folder.name} and {other.run.folder.name} were not asked the same: {_named(first)} and "
            f"{_named(other)}{' in another prompt' if asked[0][0] == asked[1][0] else ''}; two runs side by side need "
            "one question in one prompt",
        )


def record_all(choices: Sequence[Choice]) -> list[Trace]:
    """Decode each, and say on standard error where that is not the saved answer; a checkpoint is loaded once.

    Raises:
        UsageError: as in `record`.
    """
    load = lru_cache(_load)
    traces = []
    for choice in choices:
        settings, (task, row) = choice.settings, choice.question
        model = partial(load, settings.model.path, settings.model.dtype, settings.model.device)
        trace = record(settings, row, task=task, saved=choice.sample, model=model)
        if trace.same is False:
            print(
                f"warning: this is not the answer that {choice.run.folder.name} saved, from token {trace.departure} "
                "on: rounding in another batch or on another machine",
                file=sys.stderr,
            )
        traces.append(trace)
    return traces


def _named(choice: Choice) -> str:
    return f"{choice.question[0]} row {choice.question[1]}"


def _load(path: str, dtype: str, device: str) -> Transformer:
    return load_model(resolve_checkpoint(path), dtype, device)


def _find(run: SavedRun, sample: str | None) -> Mapping[str, Any]:
    """The first line of ``samples.jsonl`` of the question: the first answer, where it was asked several times."""
    task, _, row = (sample or "").rpartition(":")
    require(sample is None or row.isdecimal(), f"--sample takes a row of the dataset, such as 3, not '{sample}'")
    questions = list(run.samples)
    if sample is None:
        wanted = questions[0]
    else:
        fitting = [one for one in questions if one[1] == int(row) and task in ("", one[0])]
        require(len(fitting) > 0, f"{run.folder.name} has no question {sample}; {_nearest(questions, task, int(row))}")
        require(
            len(fitting) == 1,
            f"{run.folder.name} has row {row} in several tasks; give --sample {fitting[0][0]}:{row} or another of "
            f"{', '.join(one for one, _ in fitting)}",
        )
        wanted = fitting[0]
    return next(one for one in run.raw_samples if (str(one["task"]), int(one["doc_id"])) == wanted)


def _nearest(questions: list[Question], task: str, row: int) -> str:
    tasks = sorted({one for one, _ in questions})
    if task not in ("", *tasks):
        return f"its tasks are {', '.join(tasks)}"
    rows = sorted({there for one, there in questions if task in ("", one)})
    nearest = min(rows, key=lambda there: abs(there - row))
    return f"its rows are {rows[0]} to {rows[-1]} ({len(rows)}), the nearest is {nearest}"


def _near(folder: Path) -> str:
    """The run folder that may be meant, as the end of a sentence."""
    parent = folder.parent
    there = [path.name for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []
    close = difflib.get_close_matches(folder.name, there, n=1, cutoff=0.3)
    return f"; did you mean {parent / close[0]}?" if close else ""


def page_of(choices: Sequence[Choice]) -> Path:
    """``trace_3.html`` in the first run's folder; ``trace_3_beside_NAME.html`` for two."""
    first, *others = choices
    task, row = first.question
    parts = ["trace", *([task] if len({one for one, _ in first.run.samples}) > 1 else []), str(row)]
    parts += [f"beside_{other.settings.cache.label}" for other in others]
    return first.run.folder / ("_".join(parts).replace("/", "-") + ".html")


def draw(folder: Path, rows: Sequence[int]) -> list[Path]:
    """Write a page for each of these rows of a run that is done, into its folder.

    Raises:
        UsageError: as in `choose`.
    """
    choices = [choose(folder, str(row)) for row in rows]
    pages = [page_of([choice]) for choice in choices]
    for page, trace in zip(pages, record_all(choices), strict=True):
        write(page, [trace])
    return pages
