"""A cell: whether it must run, running it, and its result."""

from __future__ import annotations

import contextlib
import signal
import sys
import traceback
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cache_zoo import UsageError
from cache_zoo.errors import DONE, FAILED, UNUSABLE, visible
from evaluation.config.settings import RETRIED, Settings
from evaluation.run.distributed import Processes
from evaluation.run.folder import InUseError, RunFolder
from evaluation.storage.disk import disk_trouble
from evaluation.storage.saved_run import SavedRun


@dataclass(frozen=True)
class CellResult:
    """The line that is printed for a cell, and the exit status that it asks for."""

    line: dict[str, Any]
    code: int


class Cell:
    """One combination of a sweep, or a single run: its settings and its run folder."""

    def __init__(self, settings: Settings, processes: Processes | None = None) -> None:
        self.settings, self._processes = settings, processes or Processes()
        self.run = RunFolder.of(settings, self._processes)

    @property
    def log(self) -> Path:
        """The file that takes what the cell prints during a sweep."""
        return Path(self.settings.output_dir) / ".sweep" / f"{self.settings.run_name}.log"

    @cached_property
    def saved(self) -> dict[str, Any] | None:
        """The summary of the finished run; None if there is none, it is damaged, or ``force`` is given."""
        return None if self.settings.force else self._read_summary()

    def settled(self) -> CellResult | None:
        """The result if the cell need not run: it is unusable, done, or failed and not to be retried."""
        try:
            self.run.require_own()
        except UsageError as error:
            return self._result(UNUSABLE, str(error), "skipped")
        if reason := self.settings.obstacle:
            self.run.set_status("skipped", reason=reason)
            return self._result(DONE, reason, "skipped")
        if self.saved and not self.settings.trace:
            return CellResult(self.saved, DONE)
        status = self.run.status
        name = status.get("status")
        if name in RETRIED and name not in self.settings.retry and not self.settings.force:
            return self._result(FAILED, f"{status.get('error', name)}; retry={name} runs it again")
        return None

    def answer(self) -> dict[str, Any] | None:
        """Run or resume the cell, or take its saved summary; then draw the traces that were asked for.

        Returns:
            The summary in the main process; None in the others.

        Raises:
            UsageError: see `evaluation.run.evaluate.evaluate_cell` and `evaluation.trace.draw.draw`.
        """
        is_main_process = self._processes.is_main_process
        if is_main_process:
            self.run.require_own()
        with contextlib.redirect_stdout(sys.stderr):
            if (line := self.saved) is None:
                from evaluation.run.evaluate import evaluate_cell  # lm-eval takes seconds to import

                summary = evaluate_cell(self.settings, self._processes)
                line = summary.as_dict() if summary else None
            elif is_main_process:
                date = visible(str(self.run.status.get("date")))
                print(f"{self.run.path} was finished at {date}; force=true runs it again, as after a change of code")
            if self.settings.trace and is_main_process:
                from evaluation.trace.draw import draw

                for page in draw(self.run.path, self.settings):
                    print(page)
        return line if is_main_process else None

    def attempt(self) -> CellResult:
        """Run the cell in a sweep: every error but an interrupt ends in the result and in the folder."""
        if result := self.settled():
            return result
        try:
            line = self.answer()
        except InUseError as error:
            return self._result(DONE, str(error))
        except Exception as error:
            return self.failed(error)
        return CellResult(line, DONE) if line else self.result()

    def failed(self, error: Exception) -> CellResult:
        """The result of a cell that ended with ``error``, which is reported on standard error.

        Errors that the user can fix are one line: the cell is ``partial`` after a disk error, else ``skipped``. All
        others have a traceback.
        """
        trouble = disk_trouble(error)
        if trouble or isinstance(error, UsageError):
            reason = str(error) if isinstance(error, UsageError) else f"{self.run.path}: {trouble}"
            print(f"error: {visible(reason)}", file=sys.stderr, flush=True)
            if trouble:
                return self._result(FAILED, f"{reason}; fix that and give the same command to resume", "partial")
            if line := self._read_summary():  # the run is done, but its trace failed
                return CellResult(line, UNUSABLE)
            self.run.set_status("skipped", reason=reason)
            return self._result(UNUSABLE, reason, "skipped")
        traceback.print_exc()
        if self.run.status.get("status") not in RETRIED:
            self.run.fail(error)
        return self.result()

    def died(self, code: int | None) -> CellResult:
        """The result of a cell whose worker died with this exit code, as when the system kills it for its memory."""
        if self.run.status.get("status") != "done":
            how = f"by signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"with status {code}"
            self.run.set_status("failed", error=f"the worker died {how}; its output is in {self.log}")
        return self.result()

    def result(self) -> CellResult:
        """The result of a cell that another process ran, read from its folder."""
        if line := self._read_summary():
            return CellResult(line, DONE)
        status = self.run.status
        code = DONE if status.get("status") == "skipped" else FAILED
        reason = status.get("reason") or status.get("error") or f"it is {status.get('status', 'not started')}"
        return self._result(code, reason)

    def _read_summary(self) -> dict[str, Any] | None:
        """The summary in the folder; None if the run is not done or is damaged."""
        if self.run.status.get("status") != "done":
            return None
        try:
            summary = SavedRun(self.run.path).printed_summary()
        except UsageError as error:
            if self._processes.is_main_process:
                print(f"{self.run.path} says it is done, but is damaged: {error}", file=sys.stderr)
            return None
        self.run.delete_journal()  # a kill may have come between the last status and this
        return summary

    def _result(self, code: int, reason: str, status: str | None = None) -> CellResult:
        status = status or self.run.status.get("status", "failed")
        return CellResult(
            {"status": status, **self.settings.axes, "reason": reason, "folder": str(self.run.path)}, code
        )
