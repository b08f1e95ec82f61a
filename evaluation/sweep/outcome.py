"""A cell as it is asked for: run, gone on with, or shown again if it is done; in a sweep, whatever goes wrong."""

from __future__ import annotations

import contextlib
import sys
import traceback
from typing import Any, NamedTuple

from cache_zoo import UsageError
from cache_zoo.errors import DONE, FAILED, UNUSABLE, visible
from evaluation.config.settings import RETRIED, Settings
from evaluation.run.distributed import Ranks
from evaluation.run.evaluate import damage_of, evaluate_cell, run_of, skip_reason, summary_of
from evaluation.run.folder import InUseError, Run
from evaluation.storage.disk import disk_trouble


class Outcome(NamedTuple):
    """What became of a cell: the line that is printed, and the exit status that it asks for."""

    line: dict[str, Any]
    code: int


def answer(settings: Settings, ranks: Ranks) -> dict[str, Any] | None:
    """The summary of a cell, which is run unless it is done; what is to be traced is drawn.

    Returns:
        The summary; None in all processes but the first.

    Raises:
        UsageError: as in `evaluation.run.evaluate.evaluate_cell` and `evaluation.trace.runs.draw`.
    """
    run = run_of(settings, ranks)
    if ranks.first:
        run.require_own()
    with contextlib.redirect_stdout(sys.stderr):
        summary = None if settings.force else summary_of(run)
        if summary is not None and ranks.first:
            print(f"{run.folder} is done since {visible(str(run.status.get('date')))}; force=true runs it again")
        if summary is None:
            if ranks.first and run.status.get("status") == "done" and not settings.force:
                print(f"{run.folder} says it is done, but {damage_of(run)}; it is run again")
            summary = evaluate_cell(settings, ranks)
        if settings.trace and ranks.first:
            from evaluation.trace.runs import draw

            for page in draw(run.folder, settings):
                print(page)
    return summary if ranks.first else None


def settled(settings: Settings) -> Outcome | None:
    """What a sweep need not run: cells that make no sense, are done, or failed and are not to be tried again."""
    run = run_of(settings)
    try:
        run.require_own()
    except UsageError as error:
        return _outcome(settings, run, UNUSABLE, str(error), "skipped")
    if reason := skip_reason(settings):
        run.put("skipped", reason=reason)
        return _outcome(settings, run, DONE, reason, "skipped")
    if settings.force:
        return None
    if (summary := summary_of(run)) and not settings.trace:
        return Outcome(summary, DONE)
    status = run.status.get("status")
    if status in RETRIED and status not in settings.retry:
        reason = f"{run.status.get('error', status)}; retry={status} runs it again"
        return _outcome(settings, run, FAILED, reason)
    return None


def attempt(settings: Settings) -> Outcome:
    """One cell of a sweep, which only an interrupt ends: what went wrong is in the outcome and in the folder."""
    if outcome := settled(settings):
        return outcome
    try:
        answer(settings, Ranks())
    except InUseError as error:
        return _outcome(settings, run_of(settings), DONE, str(error))
    except Exception as error:
        return explained(settings, error)
    return outcome_of(settings)


def explained(settings: Settings, error: Exception) -> Outcome:
    """What became of a cell that ended with ``error``, which standard error is told.

    What the user can mend is one line: such a cell is ``partial``, if the disk was in the way, or ``skipped``. Of all
    else there is a traceback.
    """
    run = run_of(settings)
    trouble = disk_trouble(error)
    if trouble or isinstance(error, UsageError):
        reason = str(error) if isinstance(error, UsageError) else f"{run.folder}: {trouble}"
        print(f"error: {visible(reason)}", file=sys.stderr, flush=True)
        if trouble:
            return _outcome(settings, run, FAILED, f"{reason}; the same command goes on once that is mended", "partial")
        if summary_of(run):  # it is the trace that can't be had
            return outcome_of(settings)._replace(code=UNUSABLE)
        run.put("skipped", reason=reason)
        return _outcome(settings, run, UNUSABLE, reason, "skipped")
    traceback.print_exc()
    if run.status.get("status") not in RETRIED:
        run.fail(error)
    return outcome_of(settings)


def outcome_of(settings: Settings) -> Outcome:
    """What became of a cell that another process has run, as its folder says."""
    run = run_of(settings)
    if summary := summary_of(run):
        return Outcome(summary, DONE)
    found = run.status
    code = DONE if found.get("status") == "skipped" else FAILED
    reason = found.get("reason") or found.get("error") or f"it is {found.get('status', 'not begun')}"
    return _outcome(settings, run, code, reason)


def axes(settings: Settings) -> dict[str, str]:
    """The names of the choices that make a cell, as they are printed."""
    return {
        "model": settings.model.name,
        "cache": settings.cache.label,
        "generation": settings.generation.strategy,
        "dataset": settings.dataset.name,
    }


def _outcome(settings: Settings, run: Run, code: int, reason: str, status: str | None = None) -> Outcome:
    status = status or run.status.get("status", "failed")
    return Outcome({"status": status, **axes(settings), "reason": reason, "folder": str(run.folder)}, code)
