"""Resource limits of Unix, and layer ``memory``: a limit of address space, which macOS lacks.

The functions raise OSError or ValueError if that fails.
"""

from __future__ import annotations

import resource
import sys


def restrict(cpu: int, file_size: int) -> None:
    """Limit this process to ``cpu`` seconds until SIGXCPU, and to files of ``file_size`` bytes.

    SIGKILL follows SIGXCPU a second later for those that ignore it.
    """
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_CPU, cpu, margin=1)
    _limit(resource.RLIMIT_FSIZE, file_size)
    _limit(resource.RLIMIT_NOFILE, 64)
    _limit(resource.RLIMIT_MEMLOCK, 0)
    if sys.platform.startswith("linux"):
        _limit(resource.RLIMIT_SIGPENDING, 64)  # timers count, too
        _limit(resource.RLIMIT_MSGQUEUE, 0)
    _limit(resource.RLIMIT_NPROC, 0)  # counts all processes of the user, so 0 is the only sensible limit


def restrict_memory(size: int) -> None:
    """Limit the address space of this process to ``size`` bytes."""
    _limit(resource.RLIMIT_AS, size)


def _limit(kind: int, soft: int, margin: int = 0) -> None:
    """Set the soft limit, and a hard one ``margin`` above it; neither exceeds the present hard limit."""
    present = resource.getrlimit(kind)[1]
    most = sys.maxsize if present == resource.RLIM_INFINITY else present
    resource.setrlimit(kind, (min(soft, most), min(soft + margin, most)))
