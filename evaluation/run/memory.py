"""Running out of memory: telling it from other errors, and giving back what can be given back."""

from __future__ import annotations

import gc

import torch

_OF_THE_CPU = ("can't allocate memory", "not enough memory", "Cannot allocate memory")


class MemoryShortageError(Exception):
    """The device has too little memory for what can't be made smaller: a single prompt, or the weights."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that an allocation failed. torch has a class for that on GPUs, and a sentence on CPUs."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError | MemoryShortageError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OF_THE_CPU)


def release() -> None:
    """Give back memory that nothing refers to; the failed attempt's frames must be gone already."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
