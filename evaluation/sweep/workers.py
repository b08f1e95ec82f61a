"""Worker processes of a sweep, each with a GPU or a share of the cores to itself.

A worker runs cell after cell as long as each is done. After any other result it is replaced, since a failed allocation
or a device error can outlive the cell that caused it.
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
from evaluation.run.interrupts import leave_ctrl_c_to_parent

if TYPE_CHECKING:
    from evaluation.sweep.cell import Cell, CellResult

_POLL_SECONDS = 0.5
"""Time between two refreshes of the display."""
_SHUTDOWN_SECONDS = 30.0
"""How long a worker may take to record where it stopped."""


@dataclass(frozen=True)
class Resources:
    """What a worker has to itself: cores (none: all, with as many threads as the environment says), and a GPU.

    ``gpu`` is the value of CUDA_VISIBLE_DEVICES; None: all.
    """

    cores: tuple[int, ...] = ()
    gpu: str | None = None

    def claim(self) -> None:
        """Confine this process; call it before torch is imported, which reads the environment."""
        if self.gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu
        if self.cores:
            os.environ["OMP_NUM_THREADS"] = str(len(self.cores))
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, self.cores)


def assign_resources(jobs: int, devices: Sequence[str]) -> list[Resources]:
    """Resources for each of ``jobs`` workers; the cells ask for ``devices``.

    Raises:
        UsageError: the machine has too few GPUs or cores.
    """
    if jobs == 1:
        return [Resources()]
    gpus: list[str | None] = [None] * jobs
    if any(device.startswith("cuda") for device in devices):
        numbered = sorted({device for device in devices if device.startswith("cuda:")})
        require(not numbered, f"jobs={jobs} gives each job its own GPU; give model.device=cuda, not {numbered[0]}")
        visible = _visible_gpus()
        require(jobs <= len(visible), f"jobs={jobs} needs {jobs} GPUs, {len(visible)} are visible; give fewer jobs")
        gpus = list(visible[:jobs])
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    require(jobs <= len(cores), f"jobs={jobs} needs {jobs} cores, {len(cores)} are available; give jobs={len(cores)}")
    share = len(cores) // jobs
    return [Resources(tuple(cores[n * share : (n + 1) * share]), gpus[n]) for n in range(jobs)]


def _visible_gpus() -> list[str]:
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    numbers = range(torch.cuda.device_count())
    return named.split(",")[: len(numbers)] if named else [str(number) for number in numbers]


class WorkerPool:
    """The workers of a sweep, one for each of the resources."""

    def __init__(self, resources: Sequence[Resources]) -> None:
        self._free = list(resources)
        self._workers: list[_Worker] = []

    @property
    def running(self) -> list[Cell]:
        """The cells that are running."""
        return [worker.cell for worker in self._workers if worker.cell is not None]

    def run(self, cells: Sequence[Cell]) -> Iterator[tuple[Cell, CellResult] | None]:
        """Run all cells, in order as workers become free.

        Yields:
            Each cell with its result, as it ends; None in between, so that a display can be refreshed.
        """
        waiting = deque(cells)
        while waiting or self.running:
            while waiting and (worker := self._idle_worker()):
                worker.start(waiting.popleft())
            ready = wait([worker.pipe for worker in self._workers if worker.cell is not None], _POLL_SECONDS)
            for worker in [one for one in self._workers if one.pipe in ready]:
                cell, result = worker.finish()
                if result.line["status"] != "done":
                    self._dismiss(worker)
                yield cell, result
            yield None
        for worker in list(self._workers):
            self._dismiss(worker)

    def _idle_worker(self) -> _Worker | None:
        idle = next((worker for worker in self._workers if worker.cell is None), None)
        if idle is None and self._free:
            idle = _Worker(self._free.pop(0))
            self._workers.append(idle)
        return idle

    def _dismiss(self, worker: _Worker) -> None:
        worker.end()
        self._workers.remove(worker)
        self._free.append(worker.resources)

    def stop(self) -> None:
        """Terminate all workers; their cells become ``partial``."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.end()
        self._workers.clear()


class _Worker:
    """A process that runs cells, seen from the sweep."""

    def __init__(self, resources: Resources) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would share the state of torch
        self.resources = resources
        self.cell: Cell | None = None
        self.pipe, child_pipe = context.Pipe()
        self.process = context.Process(target=_run_cells, args=(child_pipe, resources))
        self.process.start()
        child_pipe.close()  # so that the pipe ends with the process

    def start(self, cell: Cell) -> None:
        self.cell = cell
        with contextlib.suppress(BrokenPipeError):  # the worker died; `finish` reports it
            self.pipe.send((cell.settings, cell.log))

    def finish(self) -> tuple[Cell, CellResult]:
        """The cell that ran, and its result."""
        assert self.cell is not None
        cell, self.cell = self.cell, None
        try:
            return cell, self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            return cell, cell.died(self.process.exitcode)

    def end(self) -> None:
        self.pipe.close()
        self.process.join(_SHUTDOWN_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _run_cells(pipe: Connection, resources: Resources) -> None:
    """The program of a worker: run each cell that comes through the pipe, until it is closed."""
    standard_streams.harden()
    resources.claim()
    leave_ctrl_c_to_parent()
    threading.Thread(target=_end_with_parent, daemon=True).start()

    from evaluation.run.logs import configure_logging
    from evaluation.sweep.cell import Cell  # torch must be imported after `claim`

    configure_logging()
    while True:
        try:
            settings, log = pipe.recv()
        except EOFError:
            return
        with _output_in(log):
            result = Cell(settings).attempt()
        pipe.send(result)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def _output_in(file: Path) -> Iterator[None]:
    """Send standard output and error, also those of child processes, to ``file``, or nowhere if it is unwritable."""
    kept = [os.dup(number) for number in (1, 2)]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o666)
    except OSError as error:  # a cell runs without its log
        print(f"{file} cannot be written: {error.strerror}", file=sys.stderr)
        opened = os.open(os.devnull, os.O_WRONLY)
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
