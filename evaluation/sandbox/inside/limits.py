"""The layers of isolation by name, and the resource limits of a program."""

from __future__ import annotations

from dataclasses import dataclass

LAYERS = ("landlock", "memory", "namespaces", "seccomp")
"""Layers that a machine may lack; the other limits work everywhere."""


@dataclass(frozen=True)
class Limits:
    """Resource limits.

    Attributes:
        cpu: whole seconds of processor time, for the program and for its tests. It ends loops: unlike wall-clock time
            it does not depend on how busy the machine is.
        seconds: wall-clock time. It ends what waits.
        memory: bytes of address space, the interpreter's 30 MB included.
        file_size: bytes of one file.
        disk: bytes of all files together; unlimited without the layer ``namespaces``.
    """

    cpu: int = 5
    seconds: float = 20.0
    memory: int = 512 * 2**20
    file_size: int = 16 * 2**20
    disk: int = 64 * 2**20
