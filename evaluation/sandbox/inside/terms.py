"""What both sides of the sandbox speak of."""

from __future__ import annotations

from dataclasses import dataclass

NAMES = ("landlock", "memory", "namespaces", "seccomp")
"""The layers that may be missing on a machine; the other limits are everywhere."""


@dataclass(frozen=True)
class Budget:
    """What a program may use.

    Attributes:
        seconds: wall-clock time.
        memory: bytes of address space.
        file_size: bytes of one file.
        disk: bytes of all its files together, where the folder is in memory.
    """

    seconds: float
    memory: int
    file_size: int
    disk: int
