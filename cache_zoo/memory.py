"""What a cache holds: the memory of all tensors that can be reached from it."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Container
from contextvars import ContextVar
from functools import cached_property
from types import FunctionType, ModuleType
from typing import Protocol

import torch
from torch import Tensor

from cache_zoo.state import Canvas, Step

_PLAIN = frozenset(
    (int, float, bool, str, bytes, type(None), type, type(Tensor), ModuleType, torch.dtype, torch.device)
)
"""Where a search ends: what holds no tensor, or is shared by all objects."""
_SPARSE = ("_indices", "_values", "crow_indices", "ccol_indices", "col_indices", "row_indices", "values")


class _Reports(Protocol):
    def nbytes(self) -> int: ...


class Meter:
    """Reads what a cache holds in the course of one generation.

    Args:
        model: whose weights are no cache's memory.

    Attributes:
        most: bytes held at most when `read` was called.
    """

    def __init__(self, model: object) -> None:
        self.most = 0
        self._model = model

    def read(self, cache: _Reports, step: Step) -> None:
        """Read once, apart from what ``step`` and the model hold."""
        token = _reading.set((self, step))
        try:
            self.most = max(self.most, cache.nbytes())
        finally:
            _reading.reset(token)

    @cached_property
    def weights(self) -> Container[int]:
        """Where the memory of the model is."""
        return _memory([self._model]).keys()


_reading: ContextVar[tuple[Meter, Step] | None] = ContextVar("reading", default=None)


def held_bytes(holder: object) -> int:
    """Bytes of the tensors that can be reached from ``holder``.

    Containers, attributes, slots and closures are searched, however deep. A memory counts once and whole, whatever the
    number of tensors and views on it. What belongs to a canvas or a step does not count, and while a `Meter` reads,
    what belongs to the model.
    """
    lent: list[object] = []
    found = _memory([holder], lent)
    if not found:
        return 0
    weights: Container[int] = ()
    if reading := _reading.get():
        weights = reading[0].weights
        lent.append(reading[1])
    others = _memory(lent)
    return sum(size for address, size in found.items() if address not in others and address not in weights)


def _memory(roots: list[object], lent: list[object] | None = None) -> dict[int, int]:
    """Address and bytes of each memory that can be reached; canvases and steps go into ``lent``, if it is given."""
    found: dict[int, int] = {}
    left = list(roots)
    seen: set[int] = set()
    while left:
        value = left.pop()
        if type(value) in _PLAIN or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            _add(value, found)
        elif isinstance(value, type):
            continue
        elif lent is not None and isinstance(value, Canvas | Step):
            lent.append(value)
            continue
        elif isinstance(value, FunctionType):  # without the names of its module
            left += [value.__closure__, value.__defaults__, value.__kwdefaults__]
            continue
        left += gc.get_referents(value)
    return found


def _add(tensor: Tensor, found: dict[int, int]) -> None:
    if tensor.layout != torch.strided:
        for name in _SPARSE:
            with contextlib.suppress(RuntimeError, AttributeError):
                _add(getattr(tensor, name)(), found)
        return
    if tensor.device.type == "meta":
        return
    try:
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
    except (NotImplementedError, RuntimeError):
        return  # a wrapper, whose parts are its attributes
