"""One run on several processes, as ``accelerate launch`` and ``torchrun`` start them."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist

from cache_zoo import UsageError
from cache_zoo.errors import shown

T = TypeVar("T")


class Processes:
    """This process among those of the launcher; ``local_rank`` is its number on its machine.

    Each process works on its share alone; the main process collects the results at the end. They travel over gloo,
    also on GPUs: they are small, and NCCL gives up on a process that is ten minutes late.
    """

    def __init__(self, rank: int = 0, world_size: int = 1, local_rank: int = 0) -> None:
        self.rank, self.world_size, self.local_rank = rank, world_size, local_rank

    @classmethod
    def from_launcher(cls) -> Processes:
        """Read RANK, WORLD_SIZE and LOCAL_RANK; one process without them.

        Raises:
            UsageError: they are not numbers, contradict each other, or are incomplete.
        """
        defaults = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
        given = {key: os.environ.get(key, default) for key, default in defaults.items()}
        try:
            rank, world_size, local_rank = map(int, given.values())
        except ValueError:
            raise UsageError(f"a launcher's variables must be whole numbers, not {shown(given)}") from None
        if not (0 <= rank < world_size and local_rank >= 0):
            raise UsageError(f"a launcher's variables contradict each other: {shown(given)}")
        missing = [key for key in ("MASTER_ADDR", "MASTER_PORT") if world_size > 1 and not os.environ.get(key)]
        if missing:  # collecting would fail, after all of the work
            raise UsageError(f"a launcher's variables are incomplete: {shown(given)} without {missing[0]}")
        return cls(rank, world_size, local_rank)

    @property
    def is_main_process(self) -> bool:
        """Whether this process collects and writes."""
        return self.rank == 0

    def share(self, items: list[T]) -> list[T]:
        """The ``items`` of this process: every ``world_size``-th."""
        return items[self.rank :: self.world_size]

    def collect(self, work: Callable[[], T]) -> list[T] | None:
        """Do ``work`` in every process.

        Returns:
            The results of all processes by rank, in the main process; None in the others.

        Raises:
            UsageError, RuntimeError: the work failed here or, in the main process, in any process.
        """
        if self.world_size == 1:
            return [work()]
        failure: Exception | None = None
        result: tuple[T | None, str | None]
        try:
            result = work(), None
        except Exception as error:
            failure, result = error, (None, f"{type(error).__name__}: {error}")
        if not dist.is_initialized():
            dist.init_process_group("gloo", timeout=timedelta(days=30))
        results: list[Any] | None = [None] * self.world_size if self.is_main_process else None
        dist.gather_object(result, results, dst=0)
        dist.destroy_process_group()
        if failure is not None:
            raise failure
        if results is None:
            return None
        for rank, (_, problem) in enumerate(results):
            if problem is not None:
                raise RuntimeError(f"process {rank} of {self.world_size} failed: {problem}")
        return [value for value, _ in results]


def refuse_under_launcher() -> None:
    """Raise `UsageError` if a launcher started this process: each of its processes would run the whole sweep."""
    launched = [key for key in ("RANK", "WORLD_SIZE", "ACCELERATE_DYNAMO_BACKEND") if key in os.environ]
    if launched:
        raise UsageError(
            "-m under accelerate launch or torchrun would run the whole sweep in every process; "
            "run the sweep without the launcher (jobs=N for several cells at a time), or launch one cell without -m"
        )
