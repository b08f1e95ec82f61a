"""The names of tasks, read off their files: what lm-eval's own index knows, in a fraction of a second.

lm-eval parses some 14,000 files before it knows a single name. Here nothing of lm-eval is imported and no file is
parsed; the lines that name a task, a group or a tag are looked for.
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
_MOST_FILES, _LONGEST = 50_000, 4 << 20
"""Files in a folder of tasks, of which lm-eval has 14,000, and characters that are read of each."""
_KEYS = re.compile(r"""^["']?(task|group|tag)["']?[ \t]*:(.*(?:\n[ \t]*(?:-[ \t].*|\#.*|$))*)""", re.MULTILINE)
_COMMENT = re.compile(r"(?:^|[ \t])#.*$", re.MULTILINE)
_NAME = re.compile(r"""(?<![^\s,\[\]"'])[^\s,\[\]"'-][^\s,\[\]"':]*(?![^\s,\[\]"'])""")


@cache
def lm_evals() -> Path:
    """The folder of lm-eval's task files."""
    spec = find_spec("lm_eval")
    if spec is None or spec.origin is None:
        raise UsageError("lm-eval is not installed, and all tasks are loaded by it: pip install lm-eval")
    return Path(spec.origin).parent / "tasks"


def check_name(name: str, include_path: str | None = None) -> None:
    """Refuse a name that no file has.

    Args:
        name: of a task, a group or a tag.
        include_path: folder of further task files. Any mention in one of them is enough here, as is a file that can't
            be read: lm-eval reads them later.

    Raises:
        UsageError: there is no such task; it names the nearest one.
    """
    if name in OWN_TASKS or name in _index(lm_evals()):
        return
    if include_path is not None:
        files = files_in(Path(include_path).expanduser())
        if any(name in _text(file) or not _is_yaml(file) for file in files):
            return
    raise unknown(name, include_path)


def unknown(name: str, include_path: str | None = None) -> UsageError:
    """What is said of a name that is no task; lm-eval has thousands, too many to list."""
    included = _index(Path(include_path).expanduser()) if include_path is not None else {}
    near = nearest(name, included) or nearest(name, [*OWN_TASKS, *_index(lm_evals())])
    meant = f"did you mean '{near}'? " if near else ""
    known = ", ".join(sorted(OWN_TASKS))
    return UsageError(f"unknown dataset.name '{name}': {meant}Known here: {known}; beside them any task of lm-eval")


def folder_of(name: str) -> Path | None:
    """The folder with the file of a task of lm-eval; None of a group or a tag, whose tasks may be anywhere."""
    return _index(lm_evals()).get(name)


@cache
def _index(folder: Path) -> dict[str, Path | None]:
    """The names in a folder of task files; of tasks with their own folder."""
    found: dict[str, Path | None] = {}
    for file in files_in(folder):
        for key, values in _KEYS.findall(_text(file)):
            values = _COMMENT.sub("", values)
            listed = "\n" in values.strip() or "[" in values
            for name in _NAME.findall(values):
                if key != "task":
                    found[name] = None
                elif not listed:
                    found.setdefault(name, file.parent)
    return found


def files_in(folder: Path) -> list[Path]:
    """Task files and what they include, in lm-eval's order.

    Raises:
        UsageError: it is too large to be a folder of task files, or one of them is a pipe or a device.
    """
    found = []
    for number, file in enumerate(folder.rglob("*")):
        require(number < _MOST_FILES, f"{folder} holds more than {_MOST_FILES:,} files; give the folder of the tasks")
        if file.suffix not in (".yaml", ".yml", ""):
            continue
        if os.path.isfile(file):  # False of what may not be looked at, where pathlib raises
            found.append(file)
        else:
            named = file.suffix and os.path.exists(file) and not os.path.isdir(file)
            require(not named, f"{file} is no plain file, so no task can be read from it")
    return sorted(found, key=Path.as_posix)


def _text(file: Path) -> str:
    try:
        with file.open(encoding="utf-8", errors="replace") as opened:
            return opened.read(_LONGEST)
    except OSError as error:
        raise UsageError(f"{file} can't be read: {error.strerror}") from error


def _is_yaml(file: Path) -> bool:
    try:
        yaml.compose(_text(file), yaml.SafeLoader)
    except yaml.YAMLError:
        return False
    return True
