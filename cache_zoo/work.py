"""Counted work of a forward, the same on every machine."""

from __future__ import annotations

from dataclasses import dataclass, field

from cache_zoo.rows import Rows


@dataclass
class Work:
    """Work of one forward, per layer and part.

    Attributes:
        queries, keys_values, feed_forward: per layer, rows whose query, key and value (one of them alone counts half),
            and feed-forward output was computed.
        pairs: per layer, query-key pairs attended (of one head).
        beside: rows beside those of the canvas (leave-one-out rows), in every layer; counted above as well.
        logits: rows the head was applied to.
        flops: floating-point operations of all matrix products, a multiply-add counted as two, those that a cache
            computes for itself included.
        rows: rows whose queries ran, by layer, without layers in which none did.
    """

    num_layers: int = 0
    queries: list[int] = field(init=False)
    keys_values: list[float] = field(init=False)
    feed_forward: list[int] = field(init=False)
    pairs: list[float] = field(init=False)
    beside: int = 0
    logits: int = 0
    flops: int = 0
    rows: dict[int, Rows] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.queries, self.feed_forward = [0] * self.num_layers, [0] * self.num_layers
        self.keys_values, self.pairs = [0.0] * self.num_layers, [0.0] * self.num_layers

    def products(self, multiply_adds: float) -> None:
        """Count matrix products of so many multiply-adds."""
        self.flops += round(2 * multiply_adds)
