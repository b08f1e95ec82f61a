"""Several processes working on one run, as ``accelerate launch`` and ``torchrun`` start them."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist

from cache_zoo import UsageError
from cache_zoo.errors import shown

T = TypeVar("T")


class Ranks:
    """This process's place among those of the launcher.

    Each process does its share without talking to the others; at the end the first one collects. Collecting goes over
    gloo, also on GPUs, and waits as long as the slowest process needs: text is small, and NCCL gives up on a process
    that is ten minutes late.

    Attributes:
        rank: number of this process.
        size: number of processes.
        local: number of this process on its machine.
    """

    def __init__(self, rank: int = 0, size: int = 1, local: int = 0) -> None:
        self.rank, self.size, self.local = rank, size, local

    @classmethod
    def from_launcher(cls) -> Ranks:
        """As the launcher's variables RANK, WORLD_SIZE and LOCAL_RANK say; one process without them.

        Raises:
            UsageError: they are no numbers, or do not go together.
        """
        given = {
            key: os.environ.get(key, default)
            for key, default in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}.items()
        }
        try:
            rank, size, local = map(int, given.values())
        except ValueError:
            raise UsageError(f"a launcher's variables must be whole numbers, not {shown(given)}") from None
        if not (0 <= rank < size and local >= 0):
            raise UsageError(f"a launcher's variables do not go together: {shown(given)}")
        missing = [key for key in ("MASTER_ADDR", "MASTER_PORT") if size > 1 and not os.environ.get(key)]
        if missing:  # which collecting would find out in the end
            raise UsageError(f"a launcher's variables are not all there: {shown(given)}, but no {missing[0]}")
        return cls(rank, size, local)

    @property
    def first(self) -> bool:
        """Whether this process collects and writes."""
        return self.rank == 0

    def share(self, items: list[T]) -> list[T]:
        """The part of ``items`` that this process does."""
        return items[self.rank :: self.size]

    def collect(self, work: Callable[[], T]) -> list[T] | None:
        """``work`` of every process, in order, in the first one; None in the others.

        Raises:
            UsageError, RuntimeError: the work failed, here or, in the first process, in another one.
        """
        if self.size == 1:
            return [work()]
        failure: Exception | None = None
        result: tuple[T | None, str | None]
        try:
            result = work(), None
        except Exception as error:
            failure, result = error, (None, f"{type(error).__name__}: {error}")
        results = self._gather(result)
        if failure is not None:
            raise failure
        if results is None:
            return None
        for rank, (_, problem) in enumerate(results):
            if problem is not None:
                raise RuntimeError(f"process {rank} of {self.size} failed: {problem}")
        return [value for value, _ in results]

    def _gather(self, value: Any) -> list[Any] | None:
        if not dist.is_initialized():
            dist.init_process_group("gloo", timeout=timedelta(days=30))
        results = [None] * self.size if self.first else None
        dist.gather_object(value, results, dst=0)
        dist.destroy_process_group()
        return results


def refuse_under_launcher() -> None:
    """Raise `UsageError` when a launcher started this process: a sweep would run in each of its processes."""
    launched = [key for key in ("RANK", "WORLD_SIZE", "ACCELERATE_DYNAMO_BACKEND") if key in os.environ]
    if launched:
        raise UsageError(
            "-m under accelerate launch or torchrun would run the whole sweep in every process; "
            "run the sweep without the launcher (jobs=N for several cells at a time), or launch one cell without -m"
        )
