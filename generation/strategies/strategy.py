"""The `Strategy` interface and the `View` of a forward that a strategy gets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from generation.options import GenerationOptions


@dataclass(frozen=True)
class View:
    """What a strategy sees after a forward; ``B`` running sequences, ``G`` generated positions.

    Attributes:
        eligible: BoolTensor ``[B, G]``, masked positions of the current block whose logits are live.
        confidence: float32 ``[B, G]``, at least at eligible positions; ``-inf`` where not computed.
        masked: BoolTensor ``[B, G]``, masked positions before this step.
        block_step: forwards each sequence had spent in its block before this one.
    """

    eligible: Tensor
    confidence: Tensor
    masked: Tensor
    block_step: list[int]


class Strategy(ABC):
    """Chooses the positions to commit. One object decodes one batch."""

    def __init__(self, options: GenerationOptions) -> None:
        self.options = options

    @abstractmethod
    def commit(self, view: View) -> Tensor:
        """Positions to commit, a subset of ``view.eligible``, BoolTensor ``[B, G]``, at least one per sequence."""
