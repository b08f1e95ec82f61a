"""The two sub-blocks of a layer, as a cache calls them.

``N`` rows, ``D`` model width, ``H`` query heads, ``G`` key/value heads, ``E`` width of a head, ``S`` keys, ``W`` rows
of the sequence with the most rows.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from cache_zoo.rows import Rows


class AttentionBlock(Protocol):
    """The attention sub-block of one layer in one forward. All of its calls are counted."""

    def norm(self, x: Tensor) -> Tensor:
        """Pre-attention norm, ``[N, D]`` to ``[N, D]``."""

    def project(self, h: Tensor, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
        """Query ``[N, H, E]``, key and value ``[N, G, E]`` of normed rows; query and key are rotated (RoPE)."""

    def query(self, h: Tensor, rows: Rows) -> Tensor:
        """Query alone, rotated."""

    def query_key(self, h: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """Query and key alone, rotated."""

    def key_value(self, h: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """Key, rotated, and value alone."""

    def value(self, h: Tensor) -> Tensor:
        """Value alone, ``[N, G, E]``."""

    def attend(
        self,
        query: Tensor,
        rows: Rows,
        keys: Tensor,
        values: Tensor,
        *,
        mask: Tensor | None = None,
        counts: list[int] | None = None,
    ) -> Tensor:
        """Attention of ``query`` over ``keys`` and ``values`` ``[B, S, G, E]``; returns ``[N, H * E]``.

        Without ``mask`` keys and values stand as `Columns.gather` of ``step.columns`` returns them, and all of these
        are attended. With it they may stand in any order, and hidden ones may hold anything.

        Args:
            query: of ``rows``, rotated.
            rows: whose query it is.
            keys, values: of the canvas; values may be others than those of the layer.
            mask: keys to attend, True: BoolTensor ``[B, S]``, ``[B, G, S]`` (by key head) or ``[B, H, W, S]`` (by query
                head and row; rows of each sequence first). Each row must attend to one key at least.
            counts: keys that each row of a sequence attends to; without it they are counted from ``mask``, which waits
                for the device.
        """

    def attend_observed(self, query: Tensor, rows: Rows, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """`attend` over ``step.columns``, and the mean of its weights over heads, float32 ``[N, T]``."""

    def weights(self, query: Tensor, rows: Rows, keys: Tensor) -> Tensor:
        """Attention weights of ``query`` over ``step.columns``, by head: float32 ``[N, H, S]``, 0 at hidden keys."""

    def output(self, mixed: Tensor) -> Tensor:
        """Output projection, ``[N, H * E]`` to ``[N, D]``."""


class FeedForwardBlock(Protocol):
    """The feed-forward sub-block of one layer, including its norm."""

    def __call__(self, x: Tensor) -> Tensor:
        """The output ``[N, D]`` for ``x`` ``[N, D]``, to be added to the residual stream."""
