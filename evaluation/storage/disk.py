"""Check that a run can be written to its output_dir, before anything is computed."""

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
_MIN_FREE_BYTES = 2**20
"""Needed to begin a run."""
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DISK_ERRORS = (*_DISK_FULL, errno.EROFS, errno.EIO, errno.ESTALE)


class NoRoomError(UsageError):
    """The disk is full; the same command resumes once there is room."""


def disk_trouble(error: BaseException | None) -> str | None:
    """What is wrong with the disk if ``error`` or one of its causes is a full, read-only or failing disk, else None."""
    seen = set[int]()
    while error is not None and id(error) not in seen:
        if isinstance(error, NoRoomError):
            return str(error)
        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            return str(error.strerror)
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def require_place(output_dir: Path, run: Path | None = None) -> None:
    """Check that run folders can be made and written in ``output_dir``, which need not exist; nothing is left behind.

    An existing folder ``run`` must be writable as well.

    Raises:
        NoRoomError: the disk is full.
        UsageError: it is not a folder, lies below a file, is read-only, or has an impossible name.
    """
    try:
        existing = output_dir.absolute()
    except OSError as error:
        raise UsageError(f"the current directory was deleted: {_reason(error)}") from error
    while _mode(existing, output_dir) is None and existing != existing.parent:
        existing = existing.parent
    for folder in (existing, output_dir / LOCKS, *((run, run / ANSWERED) if run else ())):
        mode = _mode(folder, output_dir)
        if mode is None:
            continue
        if not stat.S_ISDIR(mode):
            raise UsageError(
                f"output_dir {output_dir} can't be used: {folder} is not a folder; delete it or give another"
            )
        _test_write(folder, output_dir)


def require_whole(folder: Path) -> None:
    """Raise `UsageError` if a run folder has a file in place of a folder, or a folder in place of a file."""
    lock = folder.parent / LOCKS / f"{folder.name}.lock"
    for path, expected in {
        folder: stat.S_IFDIR,
        folder / ANSWERED: stat.S_IFDIR,
        lock.parent: stat.S_IFDIR,
        lock: stat.S_IFREG,
        **{folder / name: stat.S_IFREG for name in (CONFIG, RESULTS, SAMPLES, RESCORED, STATUS)},
    }.items():
        mode = _mode(path, folder.parent)
        if mode is not None and stat.S_IFMT(mode) != expected:
            raise UsageError(f"{path} is not a {'folder' if expected == stat.S_IFDIR else 'plain file'}; delete it")


def _mode(path: Path, output_dir: Path) -> int | None:
    """Mode of ``path``, links followed; None if it does not exist."""
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


def _test_write(folder: Path, output_dir: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_MIN_FREE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        error_type = NoRoomError if error.errno in _DISK_FULL else UsageError
        raise error_type(f"output_dir {output_dir} can't be written to: {folder}: {_reason(error)}") from error


def _reason(error: OSError | ValueError) -> str:
    return str(getattr(error, "strerror", None) or error)
