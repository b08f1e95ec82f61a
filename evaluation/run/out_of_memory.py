"""Detect out-of-memory errors and free cached memory."""

from __future__ import annotations

import gc

import torch

_CPU_MESSAGES = ("can't allocate memory", "not enough memory", "Cannot allocate memory")


class OutOfMemoryError(Exception):
    """The weights or a single prompt do not fit into the memory of the device."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` is a failed allocation. torch has a class for it on GPUs, but only a message on CPUs."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError | OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _CPU_MESSAGES)


def free_cached_memory() -> None:
    """Free memory that nothing refers to; the frames of the failed attempt must be gone already."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
