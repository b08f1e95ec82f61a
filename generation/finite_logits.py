"""Non-finite logits end a generation with an error that names the place where they arise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite, isnan

import torch
from torch import Tensor

from cache_zoo import Cache, Step
from cache_zoo.blocks import AttentionBlock, FeedForwardBlock
from models import Transformer


class NotFiniteError(ArithmeticError):
    """A model's logits are NaN or infinite. The message names forward, dtype and the first place of such values."""


def extremes(logits: Tensor) -> Tensor:
    """Minimum and maximum logit, float32 ``[2]``, both NaN if any logit is; does not wait for the device."""
    return torch.stack(logits.aminmax()) if logits.numel() else logits.new_zeros(2)


def require_finite(limits: Sequence[float], model: Transformer, step: Step, live: Tensor, cache: Cache) -> None:
    """Check the minimum and maximum logit (on the host) of a forward that predicts ``live`` (BoolTensor ``[B, T]``).

    Raises:
        NotFiniteError: one is NaN or infinite. One more forward, without the cache, locates the origin.
    """
    if all(map(isfinite, limits)):
        return
    dtype = str(model.dtype).removeprefix("torch.")
    what = "NaN" if any(map(isnan, limits)) else "infinite"
    message = f"the logits of forward {step.index + 1} are {what} in {dtype}: {_origin(model, step, live, cache)}"
    if model.dtype == torch.float16:
        message += f"; {dtype} ends at {torch.finfo(model.dtype).max:g}, bfloat16 and float32 do not"
    raise NotFiniteError(message)


def _origin(model: Transformer, step: Step, live: Tensor, cache: Cache) -> str:
    """The first non-finite value of a forward of all rows without a cache."""
    probe, again = _Probe(), replace(step)  # with all rows and columns
    try:
        logits = model.run(step.ids, cache=probe, logit_rows=live.roll(-step.canvas.shift, dims=1), step=again).logits
    except torch.OutOfMemoryError:
        return "out of memory while locating the origin"
    probe.look(logits, f"the head, behind layer {model.config.num_layers - 1}")
    if probe.place is not None:
        return f"the first such values are those of {probe.place}"
    return f"without the cache all values are finite, so they come from what {type(cache).__name__} stores"


class _Probe(Cache):
    """No cache; remembers the place of the first non-finite values."""

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
