"""Cells side by side on one machine: a process per job, with a GPU or a share of the cores to itself.

A process goes on to the next cell as long as all goes well. After anything else it is replaced, since a failed
allocation or a device error can outlive the cell that caused it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

from cache_zoo import standard_streams
from cache_zoo.errors import require

if TYPE_CHECKING:
    from evaluation.config.settings import Settings
    from evaluation.sweep.outcome import Outcome

_TICK = 0.5
"""Seconds between two looks at the workers."""
_GRACE = 30.0
"""Seconds that a worker may take to write down where it stopped."""


@dataclass(frozen=True)
class Place:
    """What a job has to itself.

    Attributes:
        cores: processors; empty: all, and as many threads as the environment says.
        gpu: as in CUDA_VISIBLE_DEVICES; None: those that are there.
    """

    cores: tuple[int, ...] = ()
    gpu: str | None = None

    def claim(self) -> None:
        """Confine this process to it; before torch is imported, which reads the environment."""
        if self.gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu
        if self.cores:
            os.environ["OMP_NUM_THREADS"] = str(len(self.cores))
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, self.cores)


def places(jobs: int, devices: Sequence[str]) -> list[Place]:
    """One place per job.

    Args:
        jobs: how many.
        devices: those that the cells ask for.

    Raises:
        UsageError: there is not enough for so many.
    """
    if jobs == 1:
        return [Place()]
    gpus: list[str | None] | None = None
    if any(device.startswith("cuda") for device in devices):
        named = sorted({device for device in devices if device.startswith("cuda:")})
        require(not named, f"jobs={jobs} gives each job a GPU of its own; give model.device=cuda, not {named[:1]}")
        there = _gpus()
        require(
            jobs <= len(there), f"jobs={jobs} takes as many GPUs, and there are {len(there)}; give jobs={len(there)}"
        )
        gpus = list(there[:jobs])
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    require(jobs <= len(cores), f"jobs={jobs} takes as many cores, and there are {len(cores)}; give jobs={len(cores)}")
    share = len(cores) // jobs
    return [Place(tuple(cores[n * share : (n + 1) * share]), gpus[n] if gpus else None) for n in range(jobs)]


def _gpus() -> list[str]:
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    there = range(torch.cuda.device_count())
    return visible.split(",")[: len(there)] if visible else [str(number) for number in there]


class Pool:
    """Processes that run cells.

    Args:
        where: a place per process.
    """

    def __init__(self, where: Sequence[Place]) -> None:
        self._free = list(where)
        self._workers: list[_Worker] = []

    @property
    def running(self) -> list[Settings]:
        """The cells that are being run."""
        return [worker.cell for worker in self._workers if worker.cell is not None]

    def run(self, cells: Sequence[Settings]) -> Iterator[tuple[Settings, Outcome] | None]:
        """Run all cells, in order as places become free.

        Yields:
            Each cell with what became of it, as it ends; None now and then, so that a display can be kept fresh.
        """
        waiting = deque(cells)
        while waiting or self.running:
            while waiting and (worker := self._idle()):
                worker.give(waiting.popleft())
            ready = wait([worker.pipe for worker in self._workers if worker.cell is not None], _TICK)
            for worker in [one for one in self._workers if one.pipe in ready]:
                cell, outcome = worker.take()
                if outcome.line["status"] != "done":
                    self._dismiss(worker)
                yield cell, outcome
            yield None
        for worker in list(self._workers):
            self._dismiss(worker)

    def _idle(self) -> _Worker | None:
        for worker in self._workers:
            if worker.cell is None:
                return worker
        if not self._free:
            return None
        self._workers.append(_Worker(self._free.pop(0)))
        return self._workers[-1]

    def _dismiss(self, worker: _Worker) -> None:
        worker.end()
        self._workers.remove(worker)
        self._free.append(worker.place)

    def stop(self) -> None:
        """End all processes; cells that they work on are left as ``partial``."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.end()
        self._workers.clear()


class _Worker:
    """One process, seen from outside."""

    def __init__(self, place: Place) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would share what torch has begun
        self.place = place
        self.cell: Settings | None = None
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, place))
        self.process.start()
        theirs.close()  # so that the pipe ends when the process does

    def give(self, cell: Settings) -> None:
        self.cell = cell
        with contextlib.suppress(BrokenPipeError):  # it has died; `take` says so
            self.pipe.send(cell)

    def take(self) -> tuple[Settings, Outcome]:
        """The cell it worked on and what became of it."""
        assert self.cell is not None
        cell, self.cell = self.cell, None
        try:
            return cell, self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            return cell, _died(cell, self.process.exitcode)

    def end(self) -> None:
        self.pipe.close()
        self.process.join(_GRACE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _died(cell: Settings, code: int | None) -> Outcome:
    """Of a process that ended without a word, as one does that the system ends for want of memory."""
    from evaluation.run.evaluate import run_of
    from evaluation.sweep.outcome import outcome_of

    how = f"by signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"with status {code}"
    run = run_of(cell)
    if run.status.get("status") != "done":
        run.put("failed", error=f"the process ended {how}; what it printed is in {log_of(cell)}")
    return outcome_of(cell)


def log_of(cell: Settings) -> Path:
    """Where what is printed during a cell of a sweep goes."""
    return Path(cell.output_dir) / ".sweep" / f"{cell.run_name}.log"


def _work(pipe: Connection, place: Place) -> None:
    """Run what comes through the pipe, until it is closed."""
    standard_streams.harden()
    place.claim()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one tells the others
    signal.signal(signal.SIGTERM, _terminated)
    threading.Thread(target=_end_with_parent, daemon=True).start()

    from evaluation.run.logs import configure_logging
    from evaluation.sweep.outcome import attempt  # here, because torch must find the place claimed

    configure_logging()
    while True:
        try:
            cell = pipe.recv()
        except EOFError:
            return
        with _printing_to(log_of(cell)):
            outcome = attempt(cell)
        pipe.send(outcome)


def _terminated(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def _printing_to(file: Path) -> Iterator[None]:
    """Standard output and error of this process and of those it starts go to ``file``; nowhere if it can't be had."""
    kept = [os.dup(number) for number in (1, 2)]
    opened = _opened(file)
    for number in (1, 2):
        os.dup2(opened, number)
    os.close(opened)
    standard_streams.harden()
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, old in zip((1, 2), kept, strict=True):
            os.dup2(old, number)
            os.close(old)


def _opened(file: Path) -> int:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o666)
    except OSError as error:  # a log is no reason to lose a cell
        print(f"{file} can't be written: {error.strerror}", file=sys.stderr)
        return os.open(os.devnull, os.O_WRONLY)
