"""What both sides of the sandbox speak of."""

from __future__ import annotations

from dataclasses import dataclass

NAMES = ("landlock", "memory", "namespaces", "seccomp")
"""The layers that may be missing on a machine; the other limits are everywhere."""


@dataclass(frozen=True)
class Limits:
    """What a program may use.

    Attributes:
        cpu: whole seconds of processor time, of the program as of its tests. This is what ends a loop, since it is the
            same on a machine that is busy.
        seconds: wall-clock time. It ends what waits.
        memory: bytes of address space, those of the interpreter (some 30 MB) included.
        file_size: bytes of one file.
        disk: bytes of all files together; without the layer ``namespaces`` not limited.
    """

    cpu: int = 5
    seconds: float = 20.0
    memory: int = 512 * 2**20
    file_size: int = 16 * 2**20
    disk: int = 64 * 2**20
