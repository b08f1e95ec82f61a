"""What all readers of files of other people share: plain files only, and numbers that JSON has."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO, NoReturn

from cache_zoo import UsageError


def open_plain(path: Path, follow: bool = True, instead: str = "") -> BinaryIO:
    """Open a plain file to read. Others, such as a device or a pipe, may have no end, and are not waited for.

    That it is one is asked of what was opened, so that it can't be exchanged in between.

    Args:
        path: of the file.
        follow: it may be a link.
        instead: what to give in place of something that is no plain file, as the end of a sentence.

    Raises:
        UsageError: it can't be opened, or is no plain file.
    """
    flags = ["O_NONBLOCK", "O_BINARY", "O_CLOEXEC", *([] if follow else ["O_NOFOLLOW"])]
    try:
        descriptor = os.open(path, os.O_RDONLY | sum(getattr(os, flag, 0) for flag in flags))  # no system has all
    except ValueError as error:  # a NUL in the name
        raise UsageError(f"{str(path)!r} is no name of a file") from error
    except OSError as error:
        reason = "it is a link" if not follow and os.path.islink(path) else error.strerror
        raise UsageError(f"{path} can't be read: {reason}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageError(f"{path} is not a plain file{instead}")
    return os.fdopen(descriptor, "rb")


def refuse_constant(text: str) -> NoReturn:
    """For `json`, which otherwise reads NaN and Infinity."""
    raise ValueError(f"{text} is no number of JSON")
