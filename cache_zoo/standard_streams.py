"""Standard streams that end no program: one that is closed, full or read no more drops what is written to it."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import TextIO

_QUIET = (errno.EPIPE, errno.EBADF)
"""The reader has what it wanted, or nobody ever listened."""


class _Steady(io.RawIOBase):
    """A descriptor to write to; after the first error everything is dropped.

    Args:
        descriptor: where; None: nowhere.

    Attributes:
        problem: the error, once there was one.
    """

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self.problem: OSError | None = None

    def revive(self) -> None:
        """Try again: the descriptor is another file's now."""
        self.problem = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        if self._descriptor is None:
            raise io.UnsupportedOperation("fileno")
        return self._descriptor

    def isatty(self) -> bool:
        return self._descriptor is not None and os.isatty(self._descriptor)

    def write(self, data: object) -> int:
        content = memoryview(data)  # type: ignore[arg-type]
        while self.problem is None and self._descriptor is not None:
            try:
                return os.write(self._descriptor, content)
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except OSError as error:
                self.problem = error
        return len(content)


def settle() -> None:
    """Make standard output and error steady; the begin of every program, and again where they become other files.

    Streams that somebody replaced by objects of their own stay.
    """
    for descriptor, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        _open(descriptor, mode)
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    if sys.stdout is sys.__stdout__:
        sys.stdout = _steady(sys.stdout, 1)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _steady(sys.stderr, 2)
    for stream in (sys.stdout, sys.stderr):
        if (raw := _raw(stream)) is not None:
            raw.revive()


def lost() -> bool:
    """Whether standard output could not take all of it, which standard error is told; the end of every program.

    A reader that went away, as ``head`` does, has lost nothing.
    """
    raw = _raw(sys.stdout)
    if raw is None:
        return False
    sys.stdout.flush()
    if raw.problem is None or raw.problem.errno in _QUIET:
        return False
    print(f"error: standard output can't be written: {raw.problem.strerror}", file=sys.stderr, flush=True)
    return True


def _raw(stream: TextIO) -> _Steady | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, _Steady) else None


def _open(descriptor: int, mode: int) -> None:
    """Open a closed descriptor on nothing, so that no file of the program gets its number."""
    try:
        os.fstat(descriptor)
    except OSError:
        nothing = os.open(os.devnull, mode)
        if nothing == descriptor:
            os.set_inheritable(descriptor, True)
        else:
            os.dup2(nothing, descriptor)
            os.close(nothing)


def _steady(stream: TextIO | None, descriptor: int) -> TextIO:
    if stream is None:
        raw, encoding, by_line = _Steady(None), "utf-8", True
    else:
        stream.flush()
        raw, encoding, by_line = _Steady(descriptor), stream.encoding, getattr(stream, "line_buffering", True)
    # text that the encoding lacks, such as half a surrogate, is written as its escape
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=by_line)
