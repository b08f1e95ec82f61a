"""Questions of run folders, decoded again."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import torch

from cache_zoo import UsageError
from cache_zoo.errors import nearest, require
from evaluation.config.settings import ModelSettings, Settings
from evaluation.storage.plain_yaml import read_yaml
from evaluation.storage.readers import read_json_lines
from evaluation.storage.saved_run import SavedRun
from evaluation.storage.schema import Sample
from evaluation.tasks.scorers import SCORERS
from evaluation.trace.page import write
from evaluation.trace.recording import Trace, record
from models import Transformer, load_model, resolve_checkpoint
from models.loading import CONFIGS, ROOT

Row = tuple[str, int]
"""Task and row of the dataset."""
_DIGITS = 16


@dataclass(frozen=True)
class Choice:
    """A question of a run.

    Attributes:
        run: the run.
        settings: its settings, on the device that was asked for.
        sample: its line of ``samples.jsonl``.
        rows: all questions of the run, in order.
    """

    run: SavedRun
    settings: Settings
    sample: Sample
    rows: list[Row]

    @property
    def question(self) -> Row:
        return self.sample.task, self.sample.doc_id


def choose(folder: Path, sample: str | None, device: str | None = None, settings: Settings | None = None) -> Choice:
    """The question of a run that is meant.

    Args:
        folder: of the run.
        sample: its row, or ``TASK:ROW``; None: the first.
        device: where it will be decoded; None: where the run was.
        settings: of the run, where this program made it; None: they are read from the folder, which anybody may have
            written, so that nothing that it names is imported.

    Raises:
        UsageError: no run, one that is not done or generated nothing, no such question, code that does not come with
            the package or with an installed one, or no such device.
    """
    require(os.path.isdir(folder), f"there is no run folder {folder}{_near(folder)}")
    run = SavedRun(folder)
    require(run.done, f"{folder.name} is {run.status.status}; a trace takes a run that is done")
    _ = run.results  # which a trace does without; that of a run that is damaged is not drawn
    found, rows = _find(run, sample)
    require(
        found.choices is None,
        f"{folder.name} scored given answers and generated nothing, so there is nothing to trace; give a run of a task "
        "that generates text",
    )
    settings = settings or _read_settings(run, device)
    require(
        not settings.model.device.startswith("cuda") or torch.cuda.is_available(),
        f"{folder.name} ran on {settings.model.device}, which this machine does not have; give device=cpu",
    )
    return Choice(run, settings, found, rows)


def _read_settings(run: SavedRun, device: str | None) -> Settings:
    """The settings that a run folder holds, if they need no code but that of the package and of installed ones."""
    config = run.resolved
    if device is not None:
        config = {**config, "model": {**dict(config.get("model") or {}), "device": device}}
    settings = Settings.from_config(config, trusted=False)
    elsewhere = f"of {run.folder.name} is not read from a run folder, which anybody may have written; where it is your "
    elsewhere += "own, eval.py with its settings and trace=ROW draws it"
    target, task = run.config.cache.target, settings.dataset.name
    require(":" not in settings.cache.target, f"the class {target} {elsewhere}")
    require(settings.include_path is None, f"include_path {settings.include_path} {elsewhere}")
    require(
        task in SCORERS,
        f"the task {task} {elsewhere}; the tasks that are read here are {', '.join(SCORERS)}",
    )
    _check_checkpoint(settings.model, run.folder)
    if settings.dataset.path is not None:
        _check_data(Path(settings.dataset.path).expanduser())
    return settings


def _check_checkpoint(model: ModelSettings, run: Path) -> None:
    """Refuse to fetch what a run names, unless the package names it, too, and to use what came along with the run: a
    chat template is code."""
    known = [path.stem for path in CONFIGS.glob("*.yaml")]
    published = read_yaml(CONFIGS / f"{model.name}.yaml").get("path") if model.name in known else None
    places = (os.path.expanduser(model.path), ROOT / model.path)
    there = next((os.path.realpath(path) for path in places if os.path.isdir(path)), None)
    beside = os.path.dirname(os.path.realpath(run))
    if model.path == published:
        return
    require(
        there is None or not Path(there).is_relative_to(beside),
        f"the checkpoint {model.path} lies beside {run.name} and may be part of it; eval.py with trace=ROW takes it",
    )
    require(
        there is not None,
        f"the checkpoint {model.path} is no folder here, and not that of model={model.name}; it is not fetched on the "
        "word of a run folder",
    )


def _check_data(path: Path) -> None:
    """Refuse data that a run names and that would not end, before they are read as a whole."""
    there = sorted(path.glob("*.jsonl")) if os.path.isdir(path) else [path, *sorted(path.parent.glob("*.jsonl"))]
    for file in dict.fromkeys(map(os.path.realpath, there)):
        for _ in read_json_lines(Path(file)):
            pass


def require_alike(choices: Sequence[Choice]) -> None:
    """Raise `UsageError` unless they are one question in one prompt."""
    first = choices[0]
    for other in choices[1:]:
        asked = [(one.question, one.sample.prompt_sha256) for one in (first, other)]
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
        trace = record(settings, row, task=task, saved=choice.sample.model_dump(), model=model)
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


def _find(run: SavedRun, sample: str | None) -> tuple[Sample, list[Row]]:
    """The first line of ``samples.jsonl`` of the question (the first answer, where it was asked several times), and all
    questions."""
    task, _, row = (sample or "").rpartition(":")
    require(
        sample is None or (row.isascii() and row.isdecimal() and len(row) < _DIGITS),
        f"sample= takes a row of the dataset, such as 3, not '{sample}'",
    )
    fitting: dict[Row, Sample] = {}
    rows: set[Row] = set()
    for one in run.read_samples():
        rows.add((one.task, one.doc_id))
        if sample is None:
            first = min([(one.task, one.doc_id), *fitting])
            fitting = fitting if first in fitting else {first: one}
        elif one.doc_id == int(row) and task in ("", one.task):
            fitting.setdefault((one.task, one.doc_id), one)
    questions = sorted(rows)
    if not fitting:
        raise UsageError(f"{run.folder.name} has no question {sample}; {_nearest(questions, task, int(row))}")
    require(
        len(fitting) == 1,
        f"{run.folder.name} has row {row} in several tasks; give sample={min(fitting)[0]}:{row} or another of "
        f"{', '.join(one for one, _ in sorted(fitting))}",
    )
    return next(iter(fitting.values())), questions


def _nearest(questions: list[Row], task: str, row: int) -> str:
    tasks = sorted({one for one, _ in questions})
    if task not in ("", *tasks):
        return f"its tasks are {', '.join(tasks)}"
    rows = sorted({there for one, there in questions if task in ("", one)})
    nearest = min(rows, key=lambda there: abs(there - row))
    return f"its rows are {rows[0]} to {rows[-1]} ({len(rows)}), the nearest is {nearest}"


def _near(folder: Path) -> str:
    """The run folder that may be meant, as the end of a sentence."""
    parent = folder.parent
    there = [path.name for path in parent.iterdir() if os.path.isdir(path)] if os.path.isdir(parent) else []
    near = nearest(folder.name, there)
    return f"; did you mean {parent / near}?" if near else ""


def page_of(choices: Sequence[Choice]) -> Path:
    """``trace_3.html`` in the first run's folder; ``trace_3_beside_NAME.html`` for two."""
    first, *others = choices
    require(not first.run.folder.is_symlink(), f"{first.run.folder} is a link; give out=FILE for the page")
    task, row = first.question
    parts = ["trace", *([task] if len({one for one, _ in first.rows}) > 1 else []), str(row)]
    parts += [f"beside_{other.settings.cache.label}" for other in others]
    return first.run.folder / ("_".join(parts).replace("/", "-") + ".html")


def draw(folder: Path, settings: Settings) -> list[Path]:
    """Write a page for each of the rows that ``settings`` ask for, into the folder of their run, which is done.

    Raises:
        UsageError: as in `choose`.
    """
    choices = [choose(folder, str(row), settings=settings) for row in settings.trace]
    pages = [page_of([choice]) for choice in choices]
    for page, trace in zip(pages, record_all(choices), strict=True):
        write(page, [trace])
    return pages
