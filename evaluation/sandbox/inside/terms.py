"""What both sides of the sandbox speak of."""

from __future__ import annotations

from dataclasses import dataclass

NAMES = ("landlock", "memory", "namespaces", "seccomp")
"""The layers that may be missing on a machine; the other limits are everywhere."""


@dataclass(frozen=True)
class Limits:
    """What a program may use.

    Attributes:
        seconds: wall-clock time.
        memory: bytes of address space, those of the interpreter (some 30 MB) included.
        file_size: bytes of one file.
        disk: bytes of all files together; without the layer ``namespaces`` not limited.
    """

    seconds: float = 5.0
    memory: int = 512 * 2**20
    file_size: int = 16 * 2**20
    disk: int = 64 * 2**20
