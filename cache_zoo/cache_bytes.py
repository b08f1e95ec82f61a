"""Bytes that a cache holds: the memory of all tensors reachable from it, at their peak within a step.

A cache holds what is reachable from it between two calls of its hooks. What a hook frees before it returns is its work
area and does not count, nor does what the model computes with, such as the copy that a quantised store is read into.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Container
from contextvars import ContextVar
from functools import cached_property, partial
from types import FunctionType, ModuleType
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from cache_zoo.state import Canvas, Step
from cache_zoo.work import Work

_LEAF_TYPES = frozenset(
    (int, float, bool, str, bytes, type(None), type, type(Tensor), ModuleType, torch.dtype, torch.device, Work)
)
"""Types that the search does not enter: they hold no tensor, all objects share them, or they only note what ran."""
_SPARSE_PARTS = ("_indices", "_values", "crow_indices", "ccol_indices", "col_indices", "row_indices", "values")


class _Measured(Protocol):
    peaks_inside: ClassVar[bool]

    def nbytes(self) -> int: ...


class PeakMeter:
    """Tracks the ``peak`` of the bytes that a cache holds during one generation, without the weights of ``model``.

    `read` it after each forward and after `Cache.end_step`, and call what `inside` returns within the forward.
    """

    def __init__(self, model: object) -> None:
        self.peak = 0
        self._model = model
        self._most_rows = 0

    def read(self, cache: _Measured, step: Step) -> None:
        """Measure now, without what ``step`` and the model hold."""
        token = _active.set((self, step))
        try:
            self.peak = max(self.peak, cache.nbytes())
        finally:
            _active.reset(token)

    def inside(self, cache: _Measured, step: Step) -> Callable[[], None] | None:
        """What to call after the attention of each layer in the forward of ``step``, whose rows are chosen, or None.

        A read takes tens of microseconds, so most forwards are not measured inside. Those that run more rows than any
        before are (the first one; later ones if a suffix rule shows more columns), because what caches gather from
        layer to layer grows with the rows; and so are all forwards of a cache with ``peaks_inside``. The contract
        compares the peak with reads after every call of every hook.
        """
        if len(step.rows) <= self._most_rows and not cache.peaks_inside:
            return None
        self._most_rows = max(self._most_rows, len(step.rows))
        return partial(self.read, cache, step)

    @cached_property
    def weights(self) -> Container[int]:
        """Addresses of the model's memory."""
        return _reachable_storages([self._model]).keys()


_active: ContextVar[tuple[PeakMeter, Step] | None] = ContextVar("active", default=None)


def held_bytes(holder: object) -> int:
    """Bytes of the tensors reachable from ``holder`` through containers, attributes, slots and closures.

    A storage counts once and whole, however many tensors and views share it. Storages of a canvas or a step do not
    count; while a `PeakMeter` reads, those of the model do not either, and a sum below its peak is not looked into.
    """
    borrowed: list[object] = []
    storages = _reachable_storages([holder], borrowed)
    active, at_most = _active.get(), sum(storages.values())
    if at_most <= (active[0].peak if active else 0):
        return at_most
    weights: Container[int] = ()
    if active:
        weights = active[0].weights
        borrowed.append(active[1])
    excluded = _reachable_storages(borrowed)
    return sum(size for address, size in storages.items() if address not in excluded and address not in weights)


def _reachable_storages(roots: list[object], borrowed: list[object] | None = None) -> dict[int, int]:
    """Address and bytes of each reachable storage. Canvases and steps go to ``borrowed`` instead, if given."""
    storages: dict[int, int] = {}
    pending = list(roots)
    seen: set[int] = set()
    while pending:
        value = pending.pop()
        if type(value) in _LEAF_TYPES or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            _add_storage(value, storages)
        elif isinstance(value, type):
            continue
        elif borrowed is not None and isinstance(value, Canvas | Step):
            borrowed.append(value)
            continue
        elif isinstance(value, FunctionType):  # without the globals of its module
            pending += [value.__closure__, value.__defaults__, value.__kwdefaults__]
            continue
        pending += gc.get_referents(value)
    return storages


def _add_storage(tensor: Tensor, storages: dict[int, int]) -> None:
    if tensor.layout != torch.strided:
        for name in _SPARSE_PARTS:
            with contextlib.suppress(RuntimeError, AttributeError):
                _add_storage(getattr(tensor, name)(), storages)
    elif not tensor.is_meta:
        try:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        except (NotImplementedError, RuntimeError):  # a wrapper; its parts are its attributes
            return
