"""Stores: in which format a cache keeps the keys and values of the canvas between forwards.

A `Store` holds two arrays, keys and values; the formats in `STORES` are arrays. A new format is a class with the
methods of `NativeArray` and a line there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from cache_zoo.errors import UsageError, first_line, require_choice
from cache_zoo.rows import Rows
from cache_zoo.state import Canvas

if TYPE_CHECKING:
    from cache_zoo.base import Cache
    from cache_zoo.state import Columns

_SCALE = torch.bfloat16
"""Dtype of scales: the range of float32, so no scale overflows, in two bytes."""


class NativeArray:
    """One vector per position, layer and key head, in the dtype of the model: ``[layers, B, T, G, E]``."""

    def __init__(self, canvas: Canvas) -> None:
        self._held = _allocate(canvas, canvas.head_dim, dtype=canvas.dtype)

    def write(self, layer: int, rows: Rows, packed: Tensor) -> None:
        """Overwrite ``rows`` with ``packed`` ``[N, G, E]``."""
        rows.write(self._held[layer], packed)

    def read(self, layer: int, columns: Columns) -> Tensor:
        """The vectors of ``columns`` ``[B, S, G, E]``; the memory itself where they are the whole canvas."""
        return self._held[layer] if columns.index is None else columns.gather(self._held[layer])

    def read_rows(self, layer: int, rows: Rows) -> Tensor:
        """The vectors of ``rows``, ``[N, G, E]``."""
        return rows.read(self._held[layer])

    def keep(self, kept: Tensor) -> None:
        """Drop all sequences but ``kept``."""
        self._held = self._held.index_select(1, kept)


class QuantisedArray:
    """One byte per number and a scale of two bytes per vector; a vector is a position's key or value in one head.

    The scale is the largest magnitude of the vector over the largest code, rounded to bfloat16 before the codes are
    computed with it, so its rounding makes errors at most 1/256 larger. Only what is read is converted back, to the
    dtype of the model; that copy belongs to the work area of the forward and is not held. NaN and infinity spoil their
    vector.
    """

    largest: ClassVar[float]

    def __init__(self, canvas: Canvas) -> None:
        self._dtype = canvas.dtype
        self._codes = _allocate(canvas, canvas.head_dim, dtype=torch.int8)
        self._scales = _allocate(canvas, dtype=_SCALE)

    def encode(self, scaled: Tensor) -> Tensor:
        """Numbers of magnitude at most ``largest`` (and a rounding of the scale), float32, to int8 bits."""
        raise NotImplementedError

    def decode(self, codes: Tensor) -> Tensor:
        """The inverse of `encode`, a new tensor in the dtype of the model."""
        raise NotImplementedError

    def write(self, layer: int, rows: Rows, packed: Tensor) -> None:
        """Quantise ``packed`` ``[N, G, E]`` and overwrite ``rows`` with it."""
        exact = packed.float()
        scales = (exact.abs().amax(dim=-1) / self.largest).clamp_(min=torch.finfo(_SCALE).tiny).to(_SCALE)
        rows.write(self._codes[layer], self.encode(exact / scales.float().unsqueeze(-1)))
        rows.write(self._scales[layer], scales)

    def read(self, layer: int, columns: Columns) -> Tensor:
        """The vectors of ``columns`` ``[B, S, G, E]``, converted after they were gathered."""
        codes, scales = self._codes[layer], self._scales[layer]
        if columns.index is not None:
            codes, scales = columns.gather(codes), columns.gather(scales)
        return self._exact(codes, scales)

    def read_rows(self, layer: int, rows: Rows) -> Tensor:
        """The vectors of ``rows``, ``[N, G, E]``."""
        return self._exact(rows.read(self._codes[layer]), rows.read(self._scales[layer]))

    def keep(self, kept: Tensor) -> None:
        """Drop all sequences but ``kept``."""
        self._codes = self._codes.index_select(1, kept)
        self._scales = self._scales.index_select(1, kept)

    def _exact(self, codes: Tensor, scales: Tensor) -> Tensor:
        return self.decode(codes).mul_(scales.to(self._dtype).unsqueeze(-1))


class Int8Array(QuantisedArray):
    """Whole numbers from -127 to 127: an error of at most 1/254 of the largest magnitude of the vector."""

    largest = 127.0

    def encode(self, scaled: Tensor) -> Tensor:
        return scaled.round_().to(torch.int8)

    def decode(self, codes: Tensor) -> Tensor:
        return codes.to(self._dtype)


class Fp8Array(QuantisedArray):
    """Floating-point numbers of 4 exponent and 3 mantissa bits (e4m3, arXiv 2209.05433): a relative error of 1/16.

    Raises:
        UsageError: the device can't convert to float8.
    """

    largest = 448.0

    def __init__(self, canvas: Canvas) -> None:
        if problem := fp8_problem(canvas.device):
            raise UsageError(f"store=fp8 is not available: {problem}; store=int8 takes as many bytes")
        super().__init__(canvas)

    def encode(self, scaled: Tensor) -> Tensor:
        return scaled.to(torch.float8_e4m3fn).view(torch.int8)  # few operations accept the dtype itself

    def decode(self, codes: Tensor) -> Tensor:
        return codes.view(torch.float8_e4m3fn).to(self._dtype)


STORES: dict[str, type[NativeArray | QuantisedArray]] = {
    "native": NativeArray,
    "int8": Int8Array,
    "fp8": Fp8Array,
}
"""Formats by the name that ``store=`` takes."""


class Store:
    """Keys and values ``[B, T, G, E]`` of every layer. ``N`` rows, ``S`` columns read, ``G`` key heads of width ``E``.

    The quantised formats are ours: none of the papers of the caches quantises keys or values. Values have one scale
    per token as in KIVI (arXiv 2402.02750, section 3), here also one per head. KIVI scales keys per channel, over
    groups of tokens that are complete; a cache here overwrites any rows at any time, so keys have a scale per token
    and head as well. Keys are quantised after RoPE.

    Args:
        canvas: shapes, dtype and device; ``canvas.store`` names the format.

    Raises:
        UsageError: unknown format, or one that the device lacks.
    """

    def __init__(self, canvas: Canvas) -> None:
        require_store(canvas.store)
        self.name = canvas.store
        self._keys, self._values = STORES[self.name](canvas), STORES[self.name](canvas)
        self._keyed, self._valued = [False] * canvas.num_layers, [False] * canvas.num_layers

    def write(self, layer: int, rows: Rows, key: Tensor | None = None, value: Tensor | None = None) -> None:
        """Overwrite ``rows`` of a layer with packed ``key`` and ``value`` ``[N, G, E]``; None leaves them as they are.

        Keys are rotated (RoPE) already. A position that moves runs again, so this is bit-identical to storing them
        before RoPE, and it saves one rotation of the whole canvas per layer and step.
        """
        if key is not None:
            self._keys.write(layer, rows, key)
            self._keyed[layer] = True
        if value is not None:
            self._values.write(layer, rows, value)
            self._valued[layer] = True

    def read(self, layer: int, columns: Columns) -> tuple[Tensor, Tensor]:
        """Keys and values of ``columns``, ``[B, S, G, E]`` each, in the dtype of the model.

        Not to be changed in place: the native format returns its own memory where ``columns`` are the whole canvas.

        Raises:
            RuntimeError: no key or no value of this layer was ever written.
        """
        self._require_written(layer)
        return self._keys.read(layer, columns), self._values.read(layer, columns)

    def read_rows(self, layer: int, rows: Rows) -> tuple[Tensor, Tensor]:
        """Key and value of ``rows``, packed ``[N, G, E]``, a copy.

        Raises:
            RuntimeError: no key or no value of this layer was ever written.
        """
        self._require_written(layer)
        return self._keys.read_rows(layer, rows), self._values.read_rows(layer, rows)

    def read_values(self, layer: int, rows: Rows) -> Tensor:
        """The values of `read_rows` alone.

        Raises:
            RuntimeError: no key or no value of this layer was ever written.
        """
        self._require_written(layer)
        return self._values.read_rows(layer, rows)

    def keep(self, kept: Tensor) -> None:
        """Keep the sequences ``kept`` (LongTensor of batch indices) and free the others."""
        self._keys.keep(kept)
        self._values.keep(kept)

    def _require_written(self, layer: int) -> None:
        if self._keyed[layer] and self._valued[layer]:
            return
        missing = " and ".join(
            what for what, written in (("keys", self._keyed), ("values", self._valued)) if not written[layer]
        )
        raise RuntimeError(f"the store holds no {missing} of layer {layer}: read before the first write")


def make_store(canvas: Canvas) -> Store:
    """An empty store in the format ``canvas.store``, for the shapes of ``canvas``.

    Raises:
        UsageError: unknown format, or one that the device lacks.
    """
    return Store(canvas)


def require_store(store: object, cache: Cache | None = None) -> None:
    """Raise `UsageError` unless ``store`` is a known format, of use to ``cache`` if one is given."""
    require_choice("store", store, STORES)
    if cache is not None and (problem := store_problem(cache, str(store))):
        raise UsageError(problem)


def store_problem(cache: Cache, store: str) -> str | None:
    """Why the format ``store`` can change nothing for ``cache``, or None."""
    from cache_zoo.base import KVCache  # imports this module

    if store == "native" or isinstance(cache, KVCache):
        return None
    return (
        f"store={store} is a format of stored keys and values, and {type(cache).__name__} stores none; "
        "leave it at store=native, or choose a cache that derives from KVCache"
    )


def fp8_problem(device: torch.device) -> str | None:
    """Why tensors of ``device`` can't be converted to float8 (e4m3) and back, or None."""
    try:
        torch.ones(1, device=device).to(torch.float8_e4m3fn).float()
    except (RuntimeError, TypeError) as error:
        return f"device '{device}' can't convert to float8: {first_line(error)}"
    return None


def _allocate(canvas: Canvas, *widths: int, dtype: torch.dtype) -> Tensor:
    """``[layers, B, T, G, *widths]``, zero at padding and not initialised elsewhere.

    Attention masks padding, but a weight of zero times a NaN in fresh memory is NaN.
    """
    shape = (canvas.num_layers, *canvas.shape, canvas.num_kv_heads, *widths)
    memory = torch.empty(shape, dtype=dtype, device=canvas.device)
    if canvas.key_mask is not None:
        memory.masked_fill_(~canvas.valid.view(1, *canvas.shape, 1, *[1] * len(widths)), 0)
    return memory
