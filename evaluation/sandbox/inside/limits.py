"""Limits that every Unix knows, and layer ``memory``, which macOS lacks: a limit of address space."""

from __future__ import annotations

import resource


def restrict(cpu: int, file_size: int) -> None:
    """Limit what this process may use.

    Args:
        cpu: seconds.
        file_size: bytes of one file.

    Raises:
        OSError, ValueError: it failed.
    """
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_CPU, cpu)
    _limit(resource.RLIMIT_FSIZE, file_size)
    _limit(resource.RLIMIT_NOFILE, 64)
    _limit(resource.RLIMIT_NPROC, 0)  # counts all processes of the user, so that only none is a sensible number


def restrict_memory(size: int) -> None:
    """Limit the address space of this process to ``size`` bytes.

    Raises:
        OSError, ValueError: it failed.
    """
    _limit(resource.RLIMIT_AS, size)


def _limit(kind: int, most: int) -> None:
    hard = resource.getrlimit(kind)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))
