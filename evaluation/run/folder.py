"""A run while it is under way: its folder from the first status to the last, and the lock that keeps others away."""

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
from evaluation.run.journal import count_answered
from evaluation.run.memory import is_out_of_memory
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
        self._lock = FileLock(folder.parent / LOCKS / f"{folder.name}.lock")
        self._heart: Heart | None = None
        self.started = False

    @property
    def status(self) -> dict[str, Any]:
        """What ``status.json`` says; empty where there is none, or nothing that can be read."""
        return read_status(self.folder)

    def require_usable(self) -> None:
        """Raise `UsageError` if the run can't be kept in its folder; nothing is written.

        Raises:
            InUseError: another process works on it.
            NoRoomError: the disk is full.
        """
        self.require_own()
        require_place(self.folder.parent, self.folder)
        if self.elsewhere:
            raise InUseError(self)

    def require_own(self) -> None:
        """Raise `UsageError` if the folder is none, is damaged, or holds another run, as one that was renamed does."""
        require_whole(self.folder)
        there = _counted_in(self.folder)
        if there is not None and there != counted(self._config):  # also where both have one hash
            raise UsageError(
                f"{self.folder} holds another run, as its {CONFIG} says; give it back its own name, or delete it, or "
                "give another output_dir"
            )

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
        if fresh:
            shutil.rmtree(self.folder / ANSWERED, ignore_errors=True)
        self._write_config()

    def finish(self, results: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        """Write everything; the status goes last.

        Warns:
            RuntimeWarning: something was NaN or infinite, and is null in the files; ``not_finite`` in the results and
                the warning say what.
        """
        if lost := [*not_finite(results), *not_finite(samples, SAMPLES)]:
            told = f"{', '.join(lost[:10])}{', ...' if len(lost) > 10 else ''}"
            warnings.warn(f"{self.folder}: not finite, so null: {told}", RuntimeWarning, stacklevel=2)
            results = {**results, "not_finite": lost}
        write_text(self.folder / SAMPLES, "".join(as_json(sample) + "\n" for sample in samples))
        write_text(self.folder / RESULTS, as_json(results, indent=2) + "\n")
        self._end({"status": "done"})
        self.tidy()

    def tidy(self) -> None:
        """Of a run that is done, take away what only helps one that is not; a kill may have come before that."""
        shutil.rmtree(self.folder / ANSWERED, ignore_errors=True)

    def fail(self, error: BaseException) -> None:
        """Record why there are no results.

        The status is ``partial`` where the run was interrupted or the disk was in the way, which leave the answers as
        they are, else ``failed`` or ``oom``.
        """
        stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        if not self._writes or (not self.started and (stopped or isinstance(error, UsageError))):
            return
        if stopped or disk_trouble(error):
            total = self._heart.progress().get("total") if self._heart else None
            answered = count_answered(self.folder / ANSWERED)
            reason = "interrupted" if stopped else disk_trouble(error)
            self._end({"status": "partial", "answered": answered, "total": total, "reason": reason})
        else:
            status = "oom" if is_out_of_memory(error) else "failed"
            reason = f"{type(error).__name__}: {error}"
            self._end({"status": status, "error": reason, "traceback": "".join(format_exception(error))})

    def put(self, status: str, **more: Any) -> None:
        """Write a status without running anything: ``pending``, or ``skipped`` with its ``reason``.

        Where it can't be written, standard error says so.
        """
        with self._told():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write_config()
            write_status(self.folder / STATUS, status, **more)

    def _end(self, status: dict[str, Any]) -> None:
        if self._heart:
            self._heart.stop()
        try:
            if status["status"] == "done":
                write_status(self.folder / STATUS, **status)
                return
            with self._told():  # what went wrong first is what counts
                if not self.started:
                    self.folder.mkdir(parents=True, exist_ok=True)
                    self._write_config()
                try:
                    write_status(self.folder / STATUS, **status)
                except OSError:
                    write_status_in_place(self.folder / STATUS, **status)
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            print(f"{self.folder / STATUS} can't be written: {error.strerror or error}", file=sys.stderr)

    def _acquire(self, seconds: float) -> bool:
        """Whether this process holds the lock now.

        Raises:
            UsageError: locks can't be had there.
        """
        problem: Exception
        try:
            self._lock.acquire(timeout=seconds)
            return True
        except Timeout:
            if (found := _refusal(Path(self._lock.lock_file))) is None:
                return False
            problem = found
        except (OSError, NotImplementedError) as error:
            if disk_trouble(error):
                raise
            problem = error
        raise UsageError(
            f"{self._lock.lock_file} can't be locked ({getattr(problem, 'strerror', None) or problem}), and locks keep "
            "two processes from working on one run; give an output_dir on another disk"
        ) from problem

    def _write_config(self) -> None:
        write_text(self.folder / CONFIG, OmegaConf.to_yaml(OmegaConf.create(self._config)))


def _counted_in(folder: Path) -> dict[str, Any] | None:
    """What makes the run in a folder; None where there is none, or nothing that can be read."""
    try:
        return counted(read_yaml(folder / CONFIG))
    except UsageError:  # it is not there, or damaged; the file is written anew
        return None


def _refusal(lock: Path) -> OSError | None:
    """Why a file can't be locked at all; None where it can, or is locked by somebody else."""
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

    def __init__(self, run: Run) -> None:
        status = run.status
        if status.get("status") == "running":
            who = f"process {status.get('pid')} on {status.get('host')}"
            who += f", whose last sign of life is of {status.get('heartbeat')}"
        else:  # it has only just begun
            who = "another process"
        super().__init__(f"{run.folder} is being worked on by {who}; wait for it, or end it")


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
