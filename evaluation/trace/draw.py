"""Record questions of run folders and draw their pages."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

from cache_zoo.errors import require
from evaluation.config.settings import Settings
from evaluation.trace.page import write
from evaluation.trace.questions import TracedQuestion, select_question
from evaluation.trace.recording import Trace, record
from models import load_model


def draw(folder: Path, settings: Settings) -> list[Path]:
    """Write a page for each row in ``settings.trace`` into the folder of the finished run.

    Raises:
        UsageError: as in `select_question`.
    """
    questions = [select_question(folder, str(row), settings=settings) for row in settings.trace]
    pages = [page_path([question]) for question in questions]
    for page, trace in zip(pages, record_all(questions), strict=True):
        write(page, [trace])
    return pages


def record_all(questions: Sequence[TracedQuestion]) -> list[Trace]:
    """Decode the questions, loading each checkpoint once; warn if an answer is not the saved one.

    Raises:
        UsageError: as in `record`.
    """
    load = lru_cache(load_model)
    traces = []
    for question in questions:
        model, (task, row) = question.settings.model, question.row
        loaded = partial(load, model.path, model.dtype, model.device)
        trace = record(question.settings, row, task=task, saved=question.sample.model_dump(), model=loaded)
        if trace.matches_saved is False:
            print(
                f"warning: the answer is not the one that {question.run.folder.name} saved, from token "
                f"{trace.first_difference} on: rounding in another batch or on another machine",
                file=sys.stderr,
            )
        traces.append(trace)
    return traces


def page_path(questions: Sequence[TracedQuestion]) -> Path:
    """``trace_3.html`` in the folder of the first run; ``trace_3_beside_NAME.html`` for two."""
    first, *others = questions
    require(not first.run.folder.is_symlink(), f"{first.run.folder} is a link; give the page with out=")
    task, row = first.row
    parts = ["trace", *([task] if len({name for name, _ in first.rows}) > 1 else []), str(row)]
    parts += [f"beside_{other.settings.cache.label}" for other in others]
    return first.run.folder / ("_".join(parts).replace("/", "-") + ".html")
