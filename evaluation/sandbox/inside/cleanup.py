"""Remove what a program left behind, whatever it is; OSError if that fails."""

from __future__ import annotations

import os
import uuid


def empty(folder: str) -> None:
    """Remove everything in a folder that no process writes to any more.

    Nested folders may be deeper than a path can express, so the content of each is moved up before it is removed.
    """
    while entries := _entries(folder):
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
                continue
            os.chmod(entry.path, 0o700)
            for inner in _entries(entry.path):
                if inner.is_dir(follow_symlinks=False):
                    os.chmod(inner.path, 0o700)  # else it can't be moved
                    os.rename(inner.path, os.path.join(folder, uuid.uuid4().hex))
                else:
                    os.unlink(inner.path)
            os.rmdir(entry.path)


def remove(folder: str) -> None:
    """Remove a folder with everything in it."""
    empty(folder)
    os.rmdir(folder)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)
