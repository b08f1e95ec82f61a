"""A run while it is under way: its folder from the first status to the last, and the lock that keeps others away."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from traceback import format_exception
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from cache_zoo import UsageError
from evaluation.journal import count_answered
from evaluation.memory import is_out_of_memory
from evaluation.runs import (
    ANSWERED,
    CONFIG,
    RESCORED,
    RESULTS,
    SAMPLES,
    STATUS,
    now,
    read_status,
    write_status,
    write_text,
)

_BEATS = 2.0
"""Seconds between two signs of life."""
_PATIENCE = 5.0
"""Seconds that a process which was told to end may need to do so."""


class Run:
    """The folder of one run.

    A process that works on it holds a lock, which the system takes back when the process ends, however it ends. So a
    status of ``running`` without a lock is that of a run that was killed.

    Args:
        folder: where; nothing is written before `start` or `put`.
        config: the resolved configuration.
        writes: False in all processes but one.
    """

    def __init__(self, folder: Path, config: dict[str, Any], writes: bool = True) -> None:
        self.folder, self._config, self._writes = folder, config, writes
        self._lock = FileLock(folder.parent / ".locks" / f"{folder.name}.lock")
        self._heart: Heart | None = None
        self.started = False

    @property
    def status(self) -> dict[str, Any]:
        """What ``status.json`` says; empty where there is none, or nothing that can be read."""
        return read_status(self.folder)

    @property
    def elsewhere(self) -> bool:
        """Whether another process works on it."""
        if not Path(self._lock.lock_file).exists():
            return False
        free = self._acquire(_PATIENCE)
        self._lock.release()
        return not free

    def start(self, progress: Callable[[], dict[str, Any]] = dict, fresh: bool = False) -> None:
        """Make the folder; results of an earlier run of the same configuration go.

        Args:
            progress: what the status has to say of the progress, asked every two seconds.
            fresh: answers that an interrupted run left go, too.

        Raises:
            InUseError: another process works on it.
        """
        if self._writes:
            Path(self._lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
            if not self._acquire(_PATIENCE):
                raise InUseError(self)
        self.started = True
        if not self._writes:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._heart = Heart(self.folder / STATUS, progress)
        for name in (RESULTS, SAMPLES, RESCORED):
            (self.folder / name).unlink(missing_ok=True)
        for half in self.folder.glob(".*.tmp"):  # what a kill left of a file that was being written
            if half.name.split(".")[-2] != str(os.getpid()):
                half.unlink(missing_ok=True)
        if fresh:
            shutil.rmtree(self.folder / ANSWERED, ignore_errors=True)
        self._write_config()

    def finish(self, results: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        """Write everything; the status goes last."""
        lines = (json.dumps(sample, ensure_ascii=False, default=str) for sample in samples)
        write_text(self.folder / SAMPLES, "".join(line + "\n" for line in lines))
        write_text(self.folder / RESULTS, json.dumps(results, indent=2, ensure_ascii=False, default=str) + "\n")
        self._end({"status": "done"})
        self.tidy()

    def tidy(self) -> None:
        """Of a run that is done, take away what only helps one that is not; a kill may have come before that."""
        shutil.rmtree(self.folder / ANSWERED, ignore_errors=True)

    def fail(self, error: BaseException) -> None:
        """Record why there are no results: ``failed``, ``oom``, or ``partial`` where the run was interrupted."""
        stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        if not self._writes or (not self.started and (stopped or isinstance(error, UsageError))):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.started:
            self._write_config()
        if stopped:
            total = self._heart.progress().get("total") if self._heart else None
            answered = count_answered(self.folder / ANSWERED)
            self._end({"status": "partial", "answered": answered, "total": total, "reason": "interrupted"})
        else:
            status = "oom" if is_out_of_memory(error) else "failed"
            reason = f"{type(error).__name__}: {error}"
            self._end({"status": status, "error": reason, "traceback": "".join(format_exception(error))})

    def put(self, status: str, **more: Any) -> None:
        """Write a status without running anything: ``pending``, or ``skipped`` with its ``reason``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_config()
        write_status(self.folder / STATUS, status, **more)

    def _end(self, status: dict[str, Any]) -> None:
        if self._heart:
            self._heart.stop()
        write_status(self.folder / STATUS, **status)
        self._lock.release()

    def _acquire(self, seconds: float) -> bool:
        try:
            self._lock.acquire(timeout=seconds)
        except Timeout:
            return False
        return True

    def _write_config(self) -> None:
        write_text(self.folder / CONFIG, OmegaConf.to_yaml(OmegaConf.create(self._config)))


class InUseError(UsageError):
    """Another process works on a run."""

    def __init__(self, run: Run) -> None:
        status = run.status
        super().__init__(
            f"{run.folder} is being worked on by process {status.get('pid')} on {status.get('host')}, whose last sign "
            f"of life is of {status.get('heartbeat')}; wait for it, or end it"
        )


class Heart:
    """Keeps ``status.json`` of a running run fresh, from a thread of its own, until it is stopped."""

    def __init__(self, file: Path, progress: Callable[[], dict[str, Any]]) -> None:
        self._file, self.progress = file, progress
        self._still = threading.Event()
        self._since = now()
        self._beat()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write no more."""
        self._still.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._still.wait(_BEATS):
            with contextlib.suppress(OSError):  # a full disk must not end the run; it will where that matters
                self._beat()

    def _beat(self) -> None:
        process = {"pid": os.getpid(), "host": socket.gethostname(), "started": self._since}
        write_status(self._file, "running", **process, heartbeat=now(), **self.progress())
