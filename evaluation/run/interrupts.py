"""What happens at Ctrl-C (SIGINT) and SIGTERM.

Both end a run with an exception, `KeyboardInterrupt` or `SystemExit`. `evaluate_cell` passes it to `RunFolder.fail`,
which records the status ``partial``. The journal has every finished batch, and the same command resumes from it.

Ctrl-C reaches all processes of a sweep. Its workers ignore it; the sweep itself ends them with SIGTERM
(`WorkerPool.stop`), so each of them records its own cell as ``partial``.
"""

from __future__ import annotations

import signal


def end_on_sigterm() -> None:
    """Let SIGTERM raise `SystemExit` in this process."""
    signal.signal(signal.SIGTERM, _exit)


def leave_ctrl_c_to_parent() -> None:
    """Ignore Ctrl-C in a worker; SIGTERM ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_on_sigterm()


def is_interrupt(error: BaseException) -> bool:
    """Whether ``error`` came from Ctrl-C or SIGTERM."""
    return isinstance(error, KeyboardInterrupt | SystemExit)


def _exit(number: int, _: object) -> None:
    raise SystemExit(128 + number)
