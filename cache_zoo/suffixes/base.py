"""The `Suffix` interface: which columns behind the current block run and are attended."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from cache_zoo.state import Canvas, Step


class Suffix:
    """Base class: the whole canvas is visible in every forward.

    A rule hides columns behind the current block: they neither run nor are attended. Visible columns keep their
    position ids. The rule is asked before the cache, whose rows are cut to what is visible. One object serves one
    generation at a time; `start` resets it. ``B`` sequences, ``T`` canvas columns.
    """

    paper: ClassVar[str] = ""
    """Source of the method: title and arXiv id."""
    draws: ClassVar[bool] = False
    """What is visible depends on the seeds of the sequences."""

    def start(self, canvas: Canvas) -> None:
        """Reset; called once per generation, before the first step."""

    def visible(self, step: Step) -> Tensor | None:
        """Columns that take part in this forward, BoolTensor ``[B, T]``, or None for all.

        It holds everything before the end of the current region, ``step.bounds``. It may depend on the canvas, its
        seeds, ``step.block_index`` and ``step.bounds`` of a sequence, and on nothing of the other sequences. The
        caller drops padding. Returning the same object as before saves the caller a comparison on the device.
        """
        return None

    def drop_finished(self, kept: Tensor) -> None:
        """Keep the sequences ``kept`` (LongTensor of batch indices); the others have left the batch."""
