"""Streaming-dLLM's suffix: a window behind the block, and the last column."""

from __future__ import annotations

from torch import Tensor

from cache_zoo.errors import require
from cache_zoo.state import Canvas, Step
from cache_zoo.suffixes.base import Suffix


class WindowSuffix(Suffix):
    """Show the first ``window`` columns behind the current block, and the last of the canvas (Streaming-dLLM).

    The last column keeps the position where the canvas ends in view. With it the suffix is whole from ``window`` = its
    length - 1 on, and 0 leaves one column.

    The other parts of Streaming-dLLM (arXiv 2601.17917; released code, ``LLaDA-1.5/generate.py``) are options of the
    generation: ``alpha`` (dynamic threshold) and ``eos="block"``. Its released code runs one batch of size 1.

    Args:
        window: columns behind the block that are visible besides the last one of the canvas, 0 or more.
    """

    paper = "Streaming-dLLM, arXiv 2601.17917"

    def __init__(self, window: int = 32) -> None:
        require(window >= 0, f"suffix parameter 'window' must be at least 0 (the last column alone), not {window}")
        self.window = window

    def start(self, canvas: Canvas) -> None:
        self._bounds: list[tuple[int, int]] = []
        self._visible: Tensor | None = None

    def visible(self, step: Step) -> Tensor | None:
        if step.bounds != self._bounds:  # as long as no region moves, the mask is the same object
            self._bounds = step.bounds
            columns, last = step.canvas.columns, step.canvas.shape[1] - 1
            whole = all(end + self.window >= last for _, end in step.bounds)
            self._visible = None if whole else (columns < step.block_end + self.window) | (columns == last)
        return self._visible
