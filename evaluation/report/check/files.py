"""The files of a run folder, before any of them is read as a whole."""

from __future__ import annotations

import os
import stat
from itertools import islice
from typing import Any

from cache_zoo import UsageError
from cache_zoo.errors import visible
from evaluation.report.check.subject import Problems, Subject, unequal
from evaluation.storage.files import CONFIG, RESCORED, RESULTS, SAMPLES, STATUS
from evaluation.storage.readers import read_json
from evaluation.storage.saved_run import SavedRun
from evaluation.storage.schema import Name, Object, Record
from evaluation.storage.validation import parse

_PACKED = f"{SAMPLES}.gz"
_FILES = {CONFIG, RESULTS, SAMPLES, _PACKED, STATUS, RESCORED}
_MOST = 20


class Rescored(Record):
    """``rescored.json`` of `evaluation.report.rescore`."""

    results: dict[Name, Object]


def check_files(run: SavedRun) -> Problems:
    """That the files are there, plain ones, and no others."""
    with os.scandir(run.folder) as entries:
        there = {entry.name: entry.stat(follow_symlinks=False) for entry in islice(entries, len(_FILES) + _MOST)}
    yield from (f"{name} is missing" for name in (CONFIG, RESULTS) if name not in there)
    if not there.keys() & {SAMPLES, _PACKED}:
        yield f"{SAMPLES} or {_PACKED} is missing"
    if {SAMPLES, _PACKED} <= there.keys():
        yield f"{SAMPLES} and {_PACKED} are both there; leave one of them"
    for name in sorted(there):
        if name not in _FILES:
            yield f"{visible(name)} does not belong there"
        elif stat.S_ISLNK(there[name].st_mode):
            yield f"{name} is a link; a run folder holds plain files"
        elif not stat.S_ISREG(there[name].st_mode):
            yield f"{name} is not a plain file"
        elif name == _PACKED and _header(run):
            yield f"{name} holds a name or a time; pack it with gzip -n"


def check_rescored(subject: Subject) -> Problems:
    """That ``rescored.json``, where it is there, has the scores of the run."""
    path = subject.run.folder / RESCORED
    if not os.path.lexists(path):
        return
    found = parse(Rescored, read_json(path), str(path)).results
    for task, metrics in found.items():
        for key, value in metrics.items():
            if _number(value) is not None:
                saved = _number(subject.results.results.get(task, {}).get(key))
                yield from unequal(f"{key} of {task}", saved, _number(value), RESCORED)


def _header(run: SavedRun) -> bool:
    """Whether flags or time of the header are set (RFC 1952)."""
    try:
        with (run.folder / _PACKED).open("rb") as file:
            return any(file.read(8)[3:])
    except OSError as error:
        raise UsageError(f"{_PACKED} can't be read: {error.strerror}") from error


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
