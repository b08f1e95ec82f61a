"""Hardened standard streams: writing to one that is closed, full or no longer read ends no program."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import TextIO

_READER_GONE = (errno.EPIPE, errno.EBADF)
"""Errors that lose nothing: the reader has enough, or there never was one."""


class _LossyWriter(io.RawIOBase):
    """Writes to a descriptor (None: nowhere) and drops everything after the first ``error``."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self.error: OSError | None = None

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
        while self.error is None and self._descriptor is not None:
            try:
                return os.write(self._descriptor, content)
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except OSError as error:
                self.error = error
        return len(content)


def harden() -> None:
    """Harden standard output and error. Call it when a program starts, and again when the descriptors are redirected.

    Streams that were replaced by other objects stay.
    """
    for descriptor, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        _open_if_closed(descriptor, mode)
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    if sys.stdout is sys.__stdout__:
        sys.stdout = _hardened(sys.stdout, 1)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _hardened(sys.stderr, 2)
    for stream in (sys.stdout, sys.stderr):
        if (writer := _writer(stream)) is not None:
            writer.error = None  # the descriptor may be another file now


def output_lost() -> bool:
    """Flush standard output and report on standard error if some of it was lost. Call it when a program ends.

    A reader that stops early, such as ``head``, loses nothing.
    """
    writer = _writer(sys.stdout)
    if writer is None:
        return False
    sys.stdout.flush()
    if writer.error is None or writer.error.errno in _READER_GONE:
        return False
    print(f"error: standard output can't be written: {writer.error.strerror}", file=sys.stderr, flush=True)
    return True


def _writer(stream: TextIO) -> _LossyWriter | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, _LossyWriter) else None


def _open_if_closed(descriptor: int, mode: int) -> None:
    """Open a closed descriptor on the null device, so that no file of the program gets its number."""
    try:
        os.fstat(descriptor)
    except OSError:
        null = os.open(os.devnull, mode)
        if null == descriptor:
            os.set_inheritable(descriptor, True)
        else:
            os.dup2(null, descriptor)
            os.close(null)


def _hardened(stream: TextIO | None, descriptor: int) -> TextIO:
    if stream is None:
        writer, encoding, by_line = _LossyWriter(None), "utf-8", True
    else:
        stream.flush()
        writer, encoding, by_line = _LossyWriter(descriptor), stream.encoding, getattr(stream, "line_buffering", True)
    # characters that the encoding lacks, such as a lone surrogate, are escaped
    return io.TextIOWrapper(io.BufferedWriter(writer), encoding, "backslashreplace", line_buffering=by_line)
