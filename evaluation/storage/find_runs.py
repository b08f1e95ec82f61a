"""Find run folders below an untrusted folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from cache_zoo.errors import require
from evaluation.storage.files import RESULTS, STATUS
from evaluation.storage.saved_run import SavedRun

MAX_ENTRIES = 200_000
"""Files and folders to visit; a thousand runs have ten thousand."""
MAX_LEVELS = 16
"""Nested folders; a submission has three."""


def find_runs(folders: Iterable[Path], name_from: Path, levels: int = MAX_LEVELS) -> dict[str, SavedRun]:
    """All runs in ``folders`` and below; hidden folders and links are skipped.

    Every folder with a ``status.json`` or ``results.json`` is a run, whatever these are, so that a run that lost a file
    is still shown.

    Args:
        folders: run folders or parents of them; these may be links.
        name_from: folder that the names are relative to.
        levels: depth of the search.

    Returns:
        Runs by their path from ``name_from``, sorted by it.

    Raises:
        UsageError: a folder is missing or unreadable, has no runs, or has too many files.
    """
    runs: dict[Path, SavedRun] = {}
    for folder in folders:
        require(os.path.isdir(folder), f"{folder} is not a folder")
        paths = _run_folders(folder, levels)
        require(bool(paths), f"there are no runs in {folder}; run eval.py with output_dir={folder}")
        runs |= {path.resolve(): SavedRun(path) for path in paths}
    start = name_from.resolve()
    return dict(sorted((Path(os.path.relpath(path, start)).as_posix(), run) for path, run in runs.items()))


def _run_folders(top: Path, levels: int) -> list[Path]:
    run_folders: list[Path] = []
    visited = 0
    waiting = [(top, 0)]
    while waiting:
        folder, level = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    visited += 1
                    require(visited <= MAX_ENTRIES, f"{top} holds more than {MAX_ENTRIES:,} files; give a part of it")
                    if entry.name in (STATUS, RESULTS) and folder not in run_folders[-1:]:
                        run_folders.append(folder)
                    if level < levels and not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                        waiting.append((folder / entry.name, level + 1))
        except OSError as error:
            require(folder != top, f"{folder} can't be read: {error.strerror}")
    return run_folders
