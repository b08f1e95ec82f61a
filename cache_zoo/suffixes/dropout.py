"""DPad's suffix: random columns behind the block, fewer the farther they are."""

from __future__ import annotations

import math
from hashlib import blake2b

import torch
from torch import Tensor

from cache_zoo.errors import require, require_type
from cache_zoo.state import Canvas, Step
from cache_zoo.suffixes.base import Suffix


class DropoutSuffix(Suffix):
    """Show a random part of the columns behind the current block, drawn once per block (DPad, arXiv 2508.14148).

    The column at distance ``d = 0, 1, ...`` from the end of the block stays with probability
    ``scale * N(x; 0, 1)``, ``x = sigma * d / (window - 1)``, for ``d < window``, and is dropped behind that. Where this
    exceeds 1 it always stays. The last block draws nothing.

    Every column of the generated part gets one uniform number per block of a sequence, from the seed of the sequence
    and the index of the block alone. So the result depends neither on the order of requests, nor on the batch, nor on
    the device. A region that moves while its index stays keeps the numbers: when its end moves to the right, the
    distances shrink, so the density hides nothing that was visible. A new index draws anew.

    Deviates from the released code: it draws from torch's global generator, so that a result depends on the requests
    before, and refuses a window larger than the generated part (only the columns that exist count here).

    Args:
        window: columns behind the block that may stay, at least 1.
        sigma: standard deviations of the normal density that the window covers, 0 or more; 0 for a constant density.
        scale: factor of the density, 0 (drop the whole suffix) or more; at least 2.51 keeps the nearest column always.
        preserved: keep exactly so many columns of the window instead (all of a shorter suffix), equally likely ones;
            ``sigma`` and ``scale`` then mean nothing. None for the density.
    """

    paper = "DPad, arXiv 2508.14148"
    draws = True

    def __init__(self, window: int = 256, sigma: float = 4.0, scale: float = 2.0, preserved: int | None = None) -> None:
        require(window >= 1, f"suffix parameter 'window' must be at least 1, not {window}; scale=0 drops the suffix")
        for name, value in (("sigma", sigma), ("scale", scale)):
            require(0 <= value < math.inf, f"suffix parameter '{name}' must be a number from 0 on, not {value}")
        require_type("suffix parameter 'preserved'", preserved, int, optional=True)
        require(
            preserved is None or 0 <= preserved <= window,
            f"suffix parameter 'preserved' must be between 0 and 'window' ({window}), not {preserved}",
        )
        self.window, self.sigma, self.scale, self.preserved = window, sigma, scale, preserved
        self._spacing = sigma / max(window - 1, 1)

    def start(self, canvas: Canvas) -> None:
        self._regions: list[tuple[int, int, int]] = []
        self._visible: Tensor | None = None

    def visible(self, step: Step) -> Tensor | None:
        canvas = step.canvas
        ends = [end for _, end in step.bounds]
        regions = list(zip(canvas.seeds, step.block_index, ends, strict=True))
        if regions != self._regions:  # the same regions, in the same order, have the same columns
            self._regions = regions
            shown = torch.stack([self._draw(canvas, *region) for region in regions])
            self._visible = None if shown.all() else shown.to(canvas.device)
        return self._visible

    def _draw(self, canvas: Canvas, seed: int, block_index: int, end: int) -> Tensor:
        """Visible columns of one sequence, BoolTensor ``[T]`` on the CPU."""
        shown = torch.ones(canvas.shape[1], dtype=torch.bool)
        if end < canvas.shape[1]:
            generator = torch.Generator().manual_seed(_mixed(seed, block_index))
            uniform = torch.rand(canvas.gen_length, generator=generator, dtype=torch.float64)
            shown[end:] = self._kept(uniform[end - canvas.prompt_length :])
        return shown

    def _kept(self, uniform: Tensor) -> Tensor:
        """The columns that stay, BoolTensor ``[n]``, by their uniform numbers ``[n]``, nearest first."""
        kept = torch.zeros_like(uniform, dtype=torch.bool)
        near = uniform[: min(self.window, len(uniform))]
        if self.preserved is not None:
            kept[near.argsort()[: self.preserved]] = True
            return kept
        x = self._spacing * torch.arange(len(near), dtype=near.dtype)
        kept[: len(near)] = near < (-0.5 * x.square()).exp() * (self.scale / math.sqrt(2 * math.pi))
        return kept


def _mixed(seed: int, block_index: int) -> int:
    """A seed of 64 bits for one block of one sequence.

    Sums would repeat (sequences of a batch have neighbouring seeds), and the generator of the CPU reads only 32 bits.
    """
    return int.from_bytes(blake2b(f"{seed} {block_index}".encode(), digest_size=8).digest(), "little")
