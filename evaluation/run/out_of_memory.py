"""Out of memory: detect it, halve the batch until it fits, and free cached memory in between."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable
from typing import TypeVar

import torch

from cache_zoo.errors import first_line
from evaluation.storage.schema import MemoryShortage

_CPU_MESSAGES = ("can't allocate memory", "not enough memory", "Cannot allocate memory")
R = TypeVar("R")


class OutOfMemoryError(Exception):
    """The weights or a single prompt do not fit into the memory of the device."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` is a failed allocation. torch has a class for it on GPUs, but only a message on CPUs."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError | OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _CPU_MESSAGES)


def halve_until_it_fits(work: Callable[[list[R]], object], batch: list[R], max_size: int) -> list[MemoryShortage]:
    """Do ``work`` on a batch, in pieces of at most ``max_size`` requests, which is halved until they fit.

    Returns:
        Each time memory was too short; the last one has the size that fits.

    Raises:
        OutOfMemoryError: a single request does not fit.
    """
    shortages: list[MemoryShortage] = []
    waiting = deque([batch])
    while waiting:
        piece = waiting.popleft()
        if len(piece) > max_size:
            waiting.extendleft([piece[max_size:], piece[:max_size]])
            continue
        problem = _memory_problem(work, piece)
        if problem is None:
            continue
        _free_cached_memory()
        if len(piece) == 1:
            raise OutOfMemoryError(f"out of memory with a single prompt: {problem}")
        max_size = len(piece) // 2
        shortages.append(MemoryShortage(size=len(piece), then=max_size))
        waiting.appendleft(piece)
    return shortages


def _memory_problem(work: Callable[[list[R]], object], piece: list[R]) -> str | None:
    """Do ``work``; if memory was too short, return why. Returning drops the error, whose frames hold memory."""
    try:
        work(piece)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return first_line(error)
    return None


def _free_cached_memory() -> None:
    """Free memory that nothing refers to; the frames of the failed attempt must be gone already."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
