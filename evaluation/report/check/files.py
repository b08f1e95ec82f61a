"""Check which files a run folder has, before any of them is read."""

from __future__ import annotations

import os
import stat
from itertools import islice

from cache_zoo import UsageError
from cache_zoo.errors import visible
from evaluation.report.check.context import CheckedRun, Problems, compare_figure, number
from evaluation.storage.files import CONFIG, RESCORED, RESULTS, SAMPLES, STATUS
from evaluation.storage.readers import read_json
from evaluation.storage.saved_run import SavedRun
from evaluation.storage.schema import Name, Object, Record
from evaluation.storage.validation import parse

_PACKED = f"{SAMPLES}.gz"
_FILES = {CONFIG, RESULTS, SAMPLES, _PACKED, STATUS, RESCORED}
_MAX_UNEXPECTED_FILES = 20


class Rescored(Record):
    """``rescored.json`` of `evaluation.report.rescore`."""

    results: dict[Name, Object]


def check_files(run: SavedRun) -> Problems:
    """All files exist, are regular ones, and there are no others."""
    with os.scandir(run.folder) as entries:
        first = islice(entries, len(_FILES) + _MAX_UNEXPECTED_FILES)
        modes = {entry.name: entry.stat(follow_symlinks=False).st_mode for entry in first}
    yield from (f"{name} is missing" for name in (CONFIG, RESULTS) if name not in modes)
    if not modes.keys() & {SAMPLES, _PACKED}:
        yield f"{SAMPLES} or {_PACKED} is missing"
    if {SAMPLES, _PACKED} <= modes.keys():
        yield f"{SAMPLES} and {_PACKED} both exist; keep one of them"
    for name, mode in sorted(modes.items()):
        if name not in _FILES:
            yield f"{visible(name)} does not belong in a run folder"
        elif stat.S_ISLNK(mode):
            yield f"{name} is a link; a run folder holds regular files"
        elif not stat.S_ISREG(mode):
            yield f"{name} is not a regular file"
        elif name == _PACKED and _has_gzip_metadata(run):
            yield f"{name} holds a name or a time; pack it with gzip -n"


def check_rescored(checked: CheckedRun) -> Problems:
    """``rescored.json``, if it exists, has the scores of the run."""
    path = checked.run.folder / RESCORED
    if not os.path.lexists(path):
        return
    for task, metrics in parse(Rescored, read_json(path), str(path)).results.items():
        saved = checked.results.results.get(task, {})
        for key, value in metrics.items():
            if (rescored := number(value)) is not None:
                yield from compare_figure(f"{key} of {task}", number(saved.get(key)), rescored, RESCORED)


def _has_gzip_metadata(run: SavedRun) -> bool:
    """Whether flags or time of the header are set (RFC 1952)."""
    try:
        with (run.folder / _PACKED).open("rb") as file:
            return any(file.read(8)[3:])
    except OSError as error:
        raise UsageError(f"{_PACKED} can't be read: {error.strerror}") from error
