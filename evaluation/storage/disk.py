"""Whether a run can be kept where it is asked for, found before anything is computed."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

from cache_zoo import UsageError
from evaluation.storage.files import ANSWERED, CONFIG, RESCORED, RESULTS, SAMPLES, STATUS

LOCKS = ".locks"
"""Folder of the locks, beside the run folders."""
_ROOM = 2**20
"""Bytes that must be free for a run to begin."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MENDABLE = (*_FULL, errno.EROFS, errno.EIO, errno.ESTALE)


class NoRoomError(UsageError):
    """The disk is full; the same command goes on once there is room."""


def disk_trouble(error: BaseException | None) -> str | None:
    """What was wrong if ``error``, or one that it comes from, is of a disk that is full, read-only or failing."""
    seen = set[int]()
    while error is not None and id(error) not in seen:
        if isinstance(error, NoRoomError):
            return str(error)
        if isinstance(error, OSError) and error.errno in _MENDABLE:
            return str(error.strerror)
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def require_place(output_dir: Path, run: Path | None = None) -> None:
    """Raise `UsageError` unless run folders can be made and written in ``output_dir``, which need not exist.

    Nothing is left behind.

    Args:
        output_dir: the folder.
        run: one of its run folders; if it is there, it must be writable as well.

    Raises:
        NoRoomError: there is no room.
        UsageError: it is no folder, lies below a file, is read-only, or has a name that can't be.
    """
    try:
        there = output_dir.absolute()
    except OSError as error:
        raise UsageError(f"the folder that this program was started in is gone: {_reason(error)}") from error
    while _kind(there, output_dir) is None and there != there.parent:
        there = there.parent
    for folder in (there, output_dir / LOCKS, *((run, run / ANSWERED) if run else ())):
        kind = _kind(folder, output_dir)
        if kind is None:
            continue
        if not stat.S_ISDIR(kind):
            raise UsageError(f"output_dir {output_dir} can't be used: {folder} is no folder; delete it or give another")
        _write_something(folder, output_dir)


def require_whole(folder: Path) -> None:
    """Raise `UsageError` if in a run folder a file stands where a folder belongs, or a folder where a file does."""
    lock = folder.parent / LOCKS / f"{folder.name}.lock"
    for path, wanted in {
        folder: stat.S_IFDIR,
        folder / ANSWERED: stat.S_IFDIR,
        lock.parent: stat.S_IFDIR,
        lock: stat.S_IFREG,
        **{folder / name: stat.S_IFREG for name in (CONFIG, RESULTS, SAMPLES, RESCORED, STATUS)},
    }.items():
        kind = _kind(path, folder.parent)
        if kind is not None and stat.S_IFMT(kind) != wanted:
            raise UsageError(f"{path} is no {'folder' if wanted == stat.S_IFDIR else 'plain file'}; delete it")


def _kind(path: Path, output_dir: Path) -> int | None:
    """Mode of what is at ``path``, links followed; None where nothing is."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise UsageError(f"{path} is a link to nothing; delete it") from None
        return None
    except NotADirectoryError:
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"output_dir {str(output_dir)!r} can't be used: {_reason(error)}") from error


def _write_something(folder: Path, output_dir: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_ROOM))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        kind = NoRoomError if error.errno in _FULL else UsageError
        raise kind(f"output_dir {output_dir} can't be written to: {folder}: {_reason(error)}") from error


def _reason(error: OSError | ValueError) -> str:
    return str(getattr(error, "strerror", None) or error)
