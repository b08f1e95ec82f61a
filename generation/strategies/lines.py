"""What strategies remember of positions from one forward to the next."""

from __future__ import annotations

import torch
from torch import Tensor


class Lines:
    """One line of values for each of some positions.

    Attributes:
        places: BoolTensor ``[B, G]``.
        values: ``[M, ...]``, the lines of ``places``, sequence after sequence.
    """

    def __init__(self, places: Tensor, values: Tensor) -> None:
        self.places, self.values = places, values

    def at(self, places: Tensor) -> Tensor:
        """The lines of ``places``, which must be among those that have one."""
        return self.values[places[self.places]]

    def keep(self, kept: Tensor) -> Lines:
        """The lines of the sequences ``kept``, a LongTensor in ascending order."""
        stays = torch.zeros_like(self.places)
        stays[kept] = True
        return Lines(self.places[kept], self.at(self.places & stays))
