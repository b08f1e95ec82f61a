"""Counted work of a forward, the same on every machine."""

from __future__ import annotations

from dataclasses import dataclass, field

from cache_zoo import Rows


@dataclass
class Work:
    """Work of one forward.

    Attributes:
        row_layers: rows that went through the feed-forward sub-block, summed over layers.
        keys: query-key pairs attended (of one head), summed over layers.
        logits: rows the head was applied to.
        flops: floating-point operations of all matrix products, a multiply-add counted as two.
        rows: rows whose queries ran, by layer, without layers in which none did.
    """

    row_layers: int = 0
    keys: int = 0
    logits: int = 0
    flops: int = 0
    rows: dict[int, Rows] = field(default_factory=dict)

    def linear(self, rows: int, weight_elements: int) -> None:
        """Count ``rows`` rows times a matrix of ``weight_elements``."""
        self.flops += 2 * rows * weight_elements
