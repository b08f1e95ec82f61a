"""Limits that every Unix knows, and layer ``memory``, which macOS lacks: a limit of address space."""

from __future__ import annotations

import resource
import sys


def restrict(cpu: int, file_size: int) -> None:
    """Limit what this process may use.

    Args:
        cpu: seconds; then comes the signal SIGXCPU, and a second later the end for those that ignore it.
        file_size: bytes of one file.

    Raises:
        OSError, ValueError: it failed.
    """
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_CPU, cpu, more=1)
    _limit(resource.RLIMIT_FSIZE, file_size)
    _limit(resource.RLIMIT_NOFILE, 64)
    _limit(resource.RLIMIT_MEMLOCK, 0)
    if sys.platform.startswith("linux"):
        _limit(resource.RLIMIT_SIGPENDING, 64)  # timers count, too
        _limit(resource.RLIMIT_MSGQUEUE, 0)
    _limit(resource.RLIMIT_NPROC, 0)  # counts all processes of the user, so that only none is a sensible number


def restrict_memory(size: int) -> None:
    """Limit the address space of this process to ``size`` bytes.

    Raises:
        OSError, ValueError: it failed.
    """
    _limit(resource.RLIMIT_AS, size)


def _limit(kind: int, most: int, more: int = 0) -> None:
    """Limit what is used of ``kind`` to ``most``, or to ``most + more`` where the process could raise that again."""
    hard = resource.getrlimit(kind)[1]
    soft, most = (value if hard == resource.RLIM_INFINITY else min(value, hard) for value in (most, most + more))
    resource.setrlimit(kind, (soft, most))
