"""Logits that are not numbers end a generation, with the place where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import torch
from torch import Tensor

from cache_zoo import Cache, Step
from cache_zoo.base import AttentionBlock, FeedForwardBlock
from models import Transformer

_NARROW = torch.float16


class NotFiniteError(ArithmeticError):
    """A model's logits are NaN or infinite. The message says in which forward, dtype and layer that began."""


def extremes(logits: Tensor) -> Tensor:
    """Least and greatest logit, float32 ``[2]``, both NaN if one is; without waiting for the device."""
    return torch.stack(logits.aminmax()) if logits.numel() else logits.new_zeros(2)


def require_finite(found: Sequence[float], model: Transformer, step: Step, live: Tensor, cache: Cache) -> None:
    """An error unless what `extremes` found are numbers.

    Args:
        found: the extremes, which have come from the device.
        model: that made the logits.
        step: in which it did.
        live: BoolTensor ``[B, T]``, positions that the logits decide.
        cache: that was used.

    Raises:
        NotFiniteError: one is NaN or infinite. A forward without the cache is run to find out where that begins.
    """
    if all(map(isfinite, found)):
        return
    dtype = str(model.dtype).removeprefix("torch.")
    what = "NaN" if any(one != one for one in found) else "infinite"
    message = f"the logits of forward {step.index + 1} are {what} in {dtype}: {_origin(model, step, live, cache)}"
    if model.dtype == _NARROW:
        message += f"; {dtype} ends at {torch.finfo(model.dtype).max:g}, bfloat16 and float32 do not"
    raise NotFiniteError(message)


def _origin(model: Transformer, step: Step, live: Tensor, cache: Cache) -> str:
    """Where a forward of all rows without a cache has the first value that is not finite."""
    probe, again = _Probe(), Step(step.canvas, step.ids, step.masked, step.open, step.index)
    try:
        logits = model.run(step.ids, cache=probe, logit_rows=live.roll(-step.canvas.shift, dims=1), step=again).logits
    except torch.OutOfMemoryError:
        return "there is no memory to look where that begins"
    probe.look(logits, f"the head, behind layer {model.config.num_layers - 1}")
    if probe.place is not None:
        return f"the first such values are those of {probe.place}"
    return f"without the cache all values are finite, so they come from what {type(cache).__name__} keeps"


class _Probe(Cache):
    """No cache, but it looks for the first values that are not finite."""

    place: str | None = None

    def look(self, values: Tensor, place: str) -> None:
        if self.place is None and not values.isfinite().all():
            self.place = place

    def attention(self, layer: int, x: Tensor, attn: AttentionBlock, step: Step) -> Tensor:
        self.look(x, f"the sum behind layer {layer - 1}" if layer else "the embedding")
        out = super().attention(layer, x, attn, step)
        self.look(out, f"the attention of layer {layer}")
        return out

    def feed_forward(self, layer: int, x: Tensor, ffn: FeedForwardBlock, step: Step) -> Tensor:
        self.look(x, f"the sum behind the attention of layer {layer}")
        out = super().feed_forward(layer, x, ffn, step)
        self.look(out, f"the feed-forward sub-block of layer {layer}")
        return out
