"""Finding run folders below a folder that anybody may have filled."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from cache_zoo.errors import require
from evaluation.storage.files import RESULTS, STATUS
from evaluation.storage.saved_run import SavedRun

MOST_ENTRIES = 200_000
"""Files and folders that are looked at; a thousand runs have ten thousand."""
MOST_LEVELS = 16
"""Folders within each other; a submission has three."""


def find_runs(folders: Iterable[Path], name_from: Path, levels: int = MOST_LEVELS) -> dict[str, SavedRun]:
    """All runs in ``folders`` and the folders below; hidden folders and links are left out.

    A folder with ``status.json`` or ``results.json`` is a run's, whatever these are, so that one which lost a
    file is seen.

    Args:
        folders: run folders, or folders that hold them somewhere. These may be links.
        name_from: the folder that the names are relative to.
        levels: how far below.

    Returns:
        Runs by their path from ``name_from``, in the order of these.

    Raises:
        UsageError: a folder that is not there or can't be read, one without runs, or one with too much in it.
    """
    found: dict[Path, SavedRun] = {}
    for folder in folders:
        require(os.path.isdir(folder), f"{folder} is not a folder")
        paths = _below(folder, levels)
        require(bool(paths), f"there are no runs in {folder}; run eval.py with output_dir={folder}")
        found |= {path.resolve(): SavedRun(path) for path in paths}
    start = name_from.resolve()
    return dict(sorted((Path(os.path.relpath(path, start)).as_posix(), run) for path, run in found.items()))


def _below(top: Path, levels: int) -> list[Path]:
    """Run folders in ``top``."""
    found: list[Path] = []
    entries = 0
    waiting = [(top, 0)]
    while waiting:
        folder, level = waiting.pop()
        try:
            with os.scandir(folder) as listed:
                for entry in listed:
                    entries += 1
                    require(entries <= MOST_ENTRIES, f"{top} holds more than {MOST_ENTRIES:,} files; give a part of it")
                    if entry.name in (STATUS, RESULTS) and folder not in found[-1:]:
                        found.append(folder)
                    if level < levels and not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                        waiting.append((folder / entry.name, level + 1))
        except OSError as error:
            require(folder != top, f"{folder} can't be read: {error.strerror}")
    return found
