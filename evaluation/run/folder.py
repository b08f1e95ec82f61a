"""The folder of a run in progress: its files, its status with a heartbeat, and the lock of the process at work."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from traceback import format_exception
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from cache_zoo import UsageError
from evaluation.config.identity import counted
from evaluation.config.settings import Settings
from evaluation.run.distributed import Processes
from evaluation.run.interrupts import is_interrupt
from evaluation.run.journal import count_answered
from evaluation.run.out_of_memory import is_out_of_memory
from evaluation.storage.disk import LOCKS, disk_trouble, require_place, require_whole
from evaluation.storage.files import (
    ANSWERED,
    CONFIG,
    RESCORED,
    RESULTS,
    SAMPLES,
    STATUS,
    as_json,
    not_finite,
    now,
    read_status,
    write_status,
    write_status_in_place,
    write_text,
)
from evaluation.storage.plain_yaml import read_yaml

HEARTBEAT_SECONDS = 2.0
"""Time between two updates of a running status."""
LOCK_TIMEOUT_SECONDS = 5.0
"""How long to wait for a lock: a process that was told to end may need as long."""


class RunFolder:
    """The folder of one run.

    A process that works on the run holds a lock, which the system releases when the process ends in any way. So a
    status of ``running`` without a lock is that of a killed run.

    Args:
        path: of the folder; nothing is written before `start` or `set_status`.
        config: the resolved configuration.
        writes: False in all processes but the main process.
    """

    def __init__(self, path: Path, config: dict[str, Any], writes: bool = True) -> None:
        self.path, self._config, self._writes = path, config, writes
        self._lock = FileLock(path.parent / LOCKS / f"{path.name}.lock")
        self._heartbeat: Heartbeat | None = None
        self.started = False

    @classmethod
    def of(cls, settings: Settings, processes: Processes | None = None) -> RunFolder:
        """The folder of a cell, which need not exist."""
        path = Path(settings.output_dir) / settings.run_name
        return cls(path, settings.config, writes=processes is None or processes.is_main_process)

    @property
    def status(self) -> dict[str, Any]:
        """The content of ``status.json``; empty if it is missing or unreadable."""
        return read_status(self.path)

    def require_usable(self) -> None:
        """Raise `UsageError` if the run cannot be kept in its folder; nothing is written.

        Raises:
            InUseError: another process works on it.
            NoRoomError: the disk is full.
        """
        self.require_own()
        require_place(self.path.parent, self.path)
        if self.in_use:
            raise InUseError(self)

    def require_own(self) -> None:
        """Raise `UsageError` if the folder is not one, is damaged, or holds another run (it was renamed)."""
        require_whole(self.path)
        try:
            held = counted(read_yaml(self.path / CONFIG))
        except UsageError:  # missing or damaged; it will be written again
            return
        if held != counted(self._config):  # also where both have one hash
            raise UsageError(
                f"{self.path} holds another run (see its {CONFIG}); give it its own name again, delete it, or "
                "give another output_dir"
            )

    @property
    def in_use(self) -> bool:
        """Whether another process works on the run."""
        if not Path(self._lock.lock_file).exists():
            return False
        free = self._acquire_lock()
        self._lock.release()
        return not free

    def start(self, progress: Callable[[], dict[str, Any]] = dict) -> None:
        """Make the folder, take the lock, and delete the results of an earlier run.

        Args:
            progress: fields for the status, called with every heartbeat.

        Raises:
            InUseError: another process works on the run.
        """
        if not self._writes:
            return
        Path(self._lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        if not self._acquire_lock():
            raise InUseError(self)
        self.started = True
        self.path.mkdir(parents=True, exist_ok=True)
        self._heartbeat = Heartbeat(self.path / STATUS, progress)
        for name in (RESULTS, SAMPLES, RESCORED):
            (self.path / name).unlink(missing_ok=True)
        self._write_config()

    def finish(self, results: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        """Write all files, the status last.

        Warns:
            RuntimeWarning: NaN or infinity became null in the files; the warning and ``not_finite`` in the results
                name the places.
        """
        if places := [*not_finite(results), *not_finite(samples, SAMPLES)]:
            named = f"{', '.join(places[:10])}{', ...' if len(places) > 10 else ''}"
            warnings.warn(f"{self.path}: not finite, so null: {named}", RuntimeWarning, stacklevel=2)
            results = {**results, "not_finite": places}
        write_text(self.path / SAMPLES, "".join(as_json(sample) + "\n" for sample in samples))
        write_text(self.path / RESULTS, as_json(results, indent=2) + "\n")
        self._end({"status": "done"})
        self.delete_journal()

    def delete_journal(self) -> None:
        """Delete the journal, which a finished run does not need."""
        shutil.rmtree(self.path / ANSWERED, ignore_errors=True)

    def fail(self, error: BaseException) -> None:
        """Record why there are no results.

        The status is ``partial`` after an interrupt or a disk error, which leave the journal intact, else ``failed``
        or ``oom``.
        """
        stopped = is_interrupt(error)
        if not self._writes or (not self.started and (stopped or isinstance(error, UsageError))):
            return
        if stopped or disk_trouble(error):
            total = self._heartbeat.progress().get("total") if self._heartbeat else None
            answered = count_answered(self.path / ANSWERED)
            reason = "interrupted" if stopped else disk_trouble(error)
            self._end({"status": "partial", "answered": answered, "total": total, "reason": reason})
        else:
            status = "oom" if is_out_of_memory(error) else "failed"
            reason = f"{type(error).__name__}: {error}"
            self._end({"status": status, "error": reason, "traceback": "".join(format_exception(error))})

    def set_status(self, status: str, **more: Any) -> None:
        """Write a status without running anything: ``pending``, or ``skipped`` with its ``reason``.

        If it cannot be written, a line on standard error says so.
        """
        with self._reporting_errors():
            self._make()
            write_status(self.path / STATUS, status, **more)

    def _end(self, status: dict[str, Any]) -> None:
        """Write the last status and release the lock."""
        if self._heartbeat:
            self._heartbeat.stop()
        try:
            if status["status"] == "done":
                write_status(self.path / STATUS, **status)
                return
            with self._reporting_errors():  # the first error is the one that counts
                if not self.started:
                    self._make()
                try:
                    write_status(self.path / STATUS, **status)
                except OSError:
                    write_status_in_place(self.path / STATUS, **status)
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def _reporting_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            print(f"{self.path / STATUS} cannot be written: {error.strerror or error}", file=sys.stderr)

    def _acquire_lock(self) -> bool:
        """Whether this process holds the lock now.

        Raises:
            UsageError: the file system refuses locks.
        """
        problem: Exception
        try:
            self._lock.acquire(timeout=LOCK_TIMEOUT_SECONDS)
            return True
        except Timeout:
            if (refusal := _lock_refusal(Path(self._lock.lock_file))) is None:
                return False
            problem = refusal
        except (OSError, NotImplementedError) as error:
            if disk_trouble(error):
                raise
            problem = error
        raise UsageError(
            f"{self._lock.lock_file} cannot be locked ({getattr(problem, 'strerror', None) or problem}), and locks "
            "keep two processes from working on one run; give an output_dir on another disk"
        ) from problem

    def _make(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self._write_config()

    def _write_config(self) -> None:
        write_text(self.path / CONFIG, OmegaConf.to_yaml(OmegaConf.create(self._config)))


def _lock_refusal(lock: Path) -> OSError | None:
    """Why the file system refuses to lock a file; None if it can be locked, or another process holds the lock."""
    try:
        import fcntl

        with lock.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, BlockingIOError):
        return None
    except OSError as error:
        return error
    return None


class InUseError(UsageError):
    """Another process works on a run."""

    def __init__(self, run: RunFolder) -> None:
        status = run.status
        worker = "another process"  # it has not written a status yet
        if status.get("status") == "running":
            worker = f"process {status.get('pid')} on {status.get('host')} (last heartbeat {status.get('heartbeat')})"
        super().__init__(f"{run.path} is in use by {worker}; wait for it, or end it")


class Heartbeat:
    """A thread that keeps ``status.json`` of a running run fresh until it is stopped."""

    def __init__(self, file: Path, progress: Callable[[], dict[str, Any]]) -> None:
        self._file, self.progress = file, progress
        self._stopped = threading.Event()
        self._started_at = now()
        self._beat()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop writing."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError):  # a full disk ends the run when a batch cannot be written, not here
                self._beat()

    def _beat(self) -> None:
        process = {"pid": os.getpid(), "host": socket.gethostname(), "started": self._started_at}
        write_status(self._file, "running", **process, heartbeat=now(), **self.progress())
