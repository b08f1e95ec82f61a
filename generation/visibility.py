"""Which columns of the canvas run and are attended in a forward, and which of them have run before."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cache_zoo import Canvas, Columns, Rows, Step, Suffix
from cache_zoo.rows import Ranges


class Visibility:
    """Columns that exist and that the suffix pruning lets be seen, of the ``B`` sequences of a batch."""

    def __init__(self, suffix: Suffix, canvas: Canvas) -> None:
        self.suffix = suffix
        self._mask: Tensor | None = None
        self._shown: tuple[Tensor, Columns, Rows] | None = None
        self._ran: Tensor | None = None  # as long as some column has not
        self._window: tuple[list[tuple[int, int]], Rows] | None = None  # the last ranges
        self._is_known = False  # whether ``step.fresh`` was derived from it since it last lost columns
        suffix.start(canvas)

    def look(self, step: Step, lengths: list[int] | None) -> None:
        """Set what is visible in ``step``; of the generated part, the columns before ``lengths`` (None: all)."""
        canvas = step.canvas
        mask = self.suffix.visible(step)
        require_mask(mask, canvas, f"{type(self.suffix).__name__}.visible")
        if lengths is not None:
            ends = torch.tensor(lengths, device=canvas.device).unsqueeze(1) + canvas.prompt_length
            mask = canvas.columns < ends if mask is None else mask & (canvas.columns < ends)
            hidden = [canvas.gen_length - length for length in lengths]
            step.lengths = [length - less for length, less in zip(canvas.lengths, hidden, strict=True)]
        is_same = self._shown is not None and _same(mask, self._mask)
        if not is_same:
            self._mask, seen = mask, canvas.valid if mask is None else mask & canvas.valid
            everything = canvas.all_columns, canvas.all_rows
            self._shown = seen, *(everything if mask is None else (Columns.from_mask(seen), Rows.from_mask(seen)))
        assert self._shown is not None
        if self._ran is not None and not (is_same and self._is_known):
            fresh = self._shown[0] & ~self._ran
            step.fresh, self._is_known = fresh if bool(fresh.any()) else None, True
        seen, step.columns, step.rows = self._shown
        step.visible = None if mask is None else seen
        if step.index == 0:
            step.fresh = seen

    def choose(self, step: Step, rows: Tensor | Ranges | None) -> list[tuple[int, int]] | None:
        """Let ``rows`` (BoolTensor ``[B, T]``, ranges, None: all) run, as far as they are visible, and the fresh ones.

        Returns:
            Of each sequence the range of columns that runs, where that is known without a look at the device.
        """
        canvas, ran = step.canvas, None
        if rows is None or step.index == 0:
            if step.visible is None:
                ran = _valid(canvas, [(0, canvas.shape[1])] * canvas.shape[0])
        else:
            if not isinstance(rows, Tensor):
                ranges = _valid(canvas, rows)
                if self._window is None or self._window[0] != ranges:
                    self._window = ranges, Rows.from_ranges(ranges, canvas.shape[1], canvas.device)
                if step.visible is None and step.fresh is None:
                    ran, step.rows = self._window
                else:
                    rows = self._window[1].mask
            if isinstance(rows, Tensor):
                rows = rows if step.fresh is None else rows | step.fresh
                step.rows = Rows.from_mask(rows & (canvas.valid if step.visible is None else step.visible))
        if step.index == 0 and step.visible is not None:
            self._ran = step.visible
        elif self._ran is not None and step.fresh is not None:
            self._ran = self._ran | step.fresh
        return ran

    def forget(self, moved: Tensor, canvas: Canvas) -> None:
        """What ran in the columns ``moved`` (BoolTensor ``[B, T]``) belongs to another place: they are to run again."""
        self._ran = (canvas.valid if self._ran is None else self._ran) & ~moved
        self._is_known = False

    def keep(self, kept: Tensor) -> None:
        """Keep the sequences ``kept``."""
        self.suffix.drop_finished(kept)
        self._shown = self._window = None
        if self._ran is not None:
            self._ran = self._ran[kept]


def _valid(canvas: Canvas, ranges: Ranges) -> list[tuple[int, int]]:
    """The valid columns of ``ranges``."""
    length = canvas.shape[1]
    lowest = [length - valid for valid in canvas.lengths]
    firsts = [max(first, least) for (first, _), least in zip(ranges, lowest, strict=True)]
    return [(first, max(first, min(end, length))) for first, (_, end) in zip(firsts, ranges, strict=True)]


def _same(mask: Tensor | None, other: Tensor | None) -> bool:
    return mask is other or (mask is not None and other is not None and torch.equal(mask, other))


def require_rows(rows: Tensor | Ranges | None, canvas: Canvas, origin: str) -> None:
    """Raise `TypeError` unless ``rows``, returned by ``origin``, are a mask as `require_mask` takes it, or ranges."""
    if isinstance(rows, list | tuple):
        pairs = all(isinstance(one, tuple) and len(one) == 2 and all(isinstance(it, int) for it in one) for one in rows)
        if not pairs or len(rows) != canvas.shape[0]:
            raise TypeError(f"{origin} must return {canvas.shape[0]} pairs of columns, first and end, not {rows!r}")
    else:
        require_mask(rows, canvas, origin)


def require_mask(mask: Any, canvas: Canvas, origin: str) -> None:
    """Raise `TypeError` unless ``mask``, returned by ``origin``, is None or a BoolTensor ``[B, T]``."""
    if mask is None or (isinstance(mask, Tensor) and mask.dtype == torch.bool and tuple(mask.shape) == canvas.shape):
        return
    got = f"{mask.dtype} {list(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
    raise TypeError(f"{origin} must return a BoolTensor {list(canvas.shape)} or None, not {got}")
