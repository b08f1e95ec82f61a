"""Names of lm-eval's tasks without importing it: a search for the lines of its files that name one.

lm-eval's own index parses some 14,000 files first, which takes 9 seconds; the search takes a fraction of one.
"""

from __future__ import annotations

import os
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import yaml

from cache_zoo import UsageError
from cache_zoo.errors import nearest, require
from evaluation.config.task_table import OWN_TASKS

OWN_FOLDER = Path(__file__).resolve().parents[1] / "tasks"
_MAX_FILES, _MAX_CHARACTERS = 50_000, 4 << 20
"""Files in a folder of tasks (lm-eval has 14,000), and characters read from each."""
_KEYS = re.compile(r"""^["']?(task|group|tag)["']?[ \t]*:(.*(?:\n[ \t]*(?:-[ \t].*|\#.*|$))*)""", re.MULTILINE)
_COMMENT = re.compile(r"(?:^|[ \t])#.*$", re.MULTILINE)
_NAME = re.compile(r"""(?<![^\s,\[\]"'])[^\s,\[\]"'-][^\s,\[\]"':]*(?![^\s,\[\]"'])""")


@cache
def lm_evals() -> Path:
    """The folder of lm-eval's task files."""
    spec = find_spec("lm_eval")
    if spec is None or spec.origin is None:
        raise UsageError("lm-eval, which loads all tasks, is not installed: pip install lm-eval")
    return Path(spec.origin).parent / "tasks"


def check_name(name: str, include_path: str | None = None) -> None:
    """Raise `UsageError` for a name without a task file.

    Args:
        name: of a task, a group or a tag.
        include_path: folder of further task files. A mention in any of them is enough, as is a file that can't be read:
            lm-eval reads them later.

    Raises:
        UsageError: there is no such task; the message names the nearest one.
    """
    if name in OWN_TASKS or name in _index(lm_evals()):
        return
    if include_path is not None:
        files = files_in(Path(include_path).expanduser())
        if any(name in _text(file) or not _is_yaml(file) for file in files):
            return
    raise unknown(name, include_path)


def unknown(name: str, include_path: str | None = None) -> UsageError:
    """The error for an unknown task. It lists only the tasks of this package: lm-eval has thousands."""
    included = _index(Path(include_path).expanduser()) if include_path is not None else {}
    near = nearest(name, included) or nearest(name, [*OWN_TASKS, *_index(lm_evals())])
    meant = f"did you mean '{near}'? " if near else ""
    known = ", ".join(sorted(OWN_TASKS))
    return UsageError(f"unknown dataset.name '{name}': {meant}Known here: {known}; any task of lm-eval works as well")


def folder_of(name: str) -> Path | None:
    """The folder of a task of lm-eval; None for a group or tag, whose tasks may be anywhere."""
    return _index(lm_evals()).get(name)


@cache
def _index(folder: Path) -> dict[str, Path | None]:
    """Names in a folder of task files; tasks with the folder of their file, groups and tags with None."""
    names: dict[str, Path | None] = {}
    for file in files_in(folder):
        for key, values in _KEYS.findall(_text(file)):
            values = _COMMENT.sub("", values)
            listed = "\n" in values.strip() or "[" in values
            for name in _NAME.findall(values):
                if key != "task":
                    names[name] = None
                elif not listed:
                    names.setdefault(name, file.parent)
    return names


def files_in(folder: Path) -> list[Path]:
    """Task files and the files they include, in lm-eval's order.

    Raises:
        UsageError: too many files, or one of them is a pipe or a device.
    """
    files = []
    for number, file in enumerate(folder.rglob("*")):
        require(number < _MAX_FILES, f"{folder} holds more than {_MAX_FILES:,} files; give the folder of the tasks")
        if file.suffix not in (".yaml", ".yml", ""):
            continue
        if os.path.isfile(file):  # pathlib raises where access is denied
            files.append(file)
        else:
            named = file.suffix and os.path.exists(file) and not os.path.isdir(file)
            require(not named, f"{file} is not a regular file")
    return sorted(files, key=Path.as_posix)


def _text(file: Path) -> str:
    try:
        with file.open(encoding="utf-8", errors="replace") as opened:
            return opened.read(_MAX_CHARACTERS)
    except OSError as error:
        raise UsageError(f"{file} can't be read: {error.strerror}") from error


def _is_yaml(file: Path) -> bool:
    try:
        yaml.compose(_text(file), yaml.SafeLoader)
    except yaml.YAMLError:
        return False
    return True
