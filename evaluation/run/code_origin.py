"""Where code comes from: the commit of its checkout, or the installed package that owns its file."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import subprocess
import sys
from functools import cache
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[2]
NAME = "cache-zoo"
UNKNOWN = {"origin": "unknown"}
_PACKAGES = ("cache_zoo", "models", "generation", "evaluation")
_INSTALL_FOLDERS = ("site-packages", "dist-packages")
_MAX_LISTED_FILES = 20
_GIT_TIMEOUT_SECONDS = 20


def checkout(root: Path = ROOT) -> dict[str, Any] | None:
    """The commit of this project's checkout; None outside of one.

    A repository around the project does not count, nor does one around an environment with the project installed.

    Returns:
        ``commit``; ``dirty``, whether a tracked file is changed or a module in use is untracked; if so, the
        ``changed`` files.
    """
    return _state(root) if _is_checkout(root) else None


def version() -> str | None:
    """The version of this project: of the installed package, with ``+edited`` if its files differ, or the checkout."""
    this_file = Path(__file__).resolve()
    for package in distributions(name=NAME):
        files = _record(package)
        if _relative(package, this_file) in files:
            own = [file for file in _imported(ROOT, installed=True) if file.relative_to(ROOT).parts[0] in _PACKAGES]
            same = all(_unchanged(package, files, file) for file in own)
            return package.version if same else f"{package.version}+edited"
    try:
        lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.split('"')[1] for line in lines if line.startswith('version = "')), None)


def origin_of(cls: type, root: Path = ROOT) -> dict[str, Any]:
    """Where a class and its base classes come from; unknown if one of them is.

    Returns:
        ``origin``: ``cache-zoo``, a file of this project, tracked or as installed; ``package``, a file of another
        package, with its ``name``, its ``version`` and, for an editable one, the clean ``commit`` of its checkout; or
        ``unknown``.
    """
    classes = [one for one in cls.__mro__ if one.__module__.partition(".")[0] not in sys.stdlib_module_names]
    origins = [_origin(getattr(sys.modules.get(one.__module__), "__file__", None), root) for one in classes]
    return UNKNOWN if UNKNOWN in origins or not origins else origins[0]


def _origin(name: str | None, root: Path) -> dict[str, Any]:
    if name is None:
        return UNKNOWN
    file = Path(name).resolve()
    if _within(file, root) and _is_checkout(root):
        return {"origin": NAME} if _tracked(root, file) else UNKNOWN
    for package in distributions():
        files = _record(package, file)
        if files and _unchanged(package, files, file):
            own = package.name.lower().replace("_", "-") == NAME
            return {"origin": NAME if own else "package", "name": package.name, "version": package.version}
        if _is_editable(package, file) and (top := _top(file.parent)) and _tracked(top, file):
            state = _state(top)
            if state and not state["dirty"]:
                described = {"name": package.name, "version": package.version, "commit": state["commit"]}
                return {"origin": "package", **described}
    return UNKNOWN


def _is_checkout(root: Path) -> bool:
    """Whether ``root`` is the top of a repository with a commit that tracks this project's code."""
    code = root / Path(__file__).resolve().relative_to(ROOT)
    return _top(root) == root and _tracked(root, code) and _git(root, "rev-parse", "--verify", "HEAD") is not None


def _state(top: Path) -> dict[str, Any] | None:
    """The commit of a checkout, and the files that differ from it or are in use and not in it."""
    commit = _git(top, "rev-parse", "--verify", "HEAD")
    changes = _git(top, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=no")
    if commit is None or changes is None:
        return None
    changed = {line[3:] for line in changes.split("\0") if line}
    files = [file.relative_to(top).as_posix() for file in _imported(top)]
    listed = (_git(top, "--literal-pathspecs", "ls-files", "-v", "-z", "--", *files) or "").split("\0") if files else []
    # H: tracked and compared by status, unlike files marked as assumed unchanged
    changed |= set(files) - {line[2:] for line in listed if line.startswith("H ")}
    state = {"commit": commit.strip(), "dirty": bool(changed)}
    return {**state, "changed": sorted(changed)[:_MAX_LISTED_FILES]} if changed else state


def _top(folder: Path) -> Path | None:
    top = _git(folder, "rev-parse", "--show-toplevel")
    return Path(top.rstrip("\n")).resolve() if top else None


def _tracked(top: Path, file: Path) -> bool:
    path = file.relative_to(top).as_posix() if file.is_relative_to(top) else None
    return path is not None and _git(top, "--literal-pathspecs", "ls-files", "--error-unmatch", "--", path) is not None


def _git(folder: Path, *arguments: str) -> str | None:
    """The output of a git command in ``folder``, or None if it fails.

    Variables such as GIT_DIR, which hooks set, would name another repository; they are not passed on.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "-C", str(folder), "-c", "core.fsmonitor=false", *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=_GIT_TIMEOUT_SECONDS,
            env={**environment, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _imported(root: Path, installed: bool = False) -> list[Path]:
    """Files of imported modules below ``root``; those of an environment inside it only if ``installed``."""
    names = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    files = {_folder(os.path.dirname(name)) / os.path.basename(name) for name in names if isinstance(name, str)}
    return sorted(file for file in files if _within(file, root, installed) and file.is_file())


def _within(file: Path, root: Path, installed: bool = False) -> bool:
    if not file.is_relative_to(root):
        return False
    parts = set(file.relative_to(root).parts)
    return installed or not (parts & set(_INSTALL_FOLDERS) or _folder(sys.prefix) in file.parents)


@cache
def _folder(name: str) -> Path:
    return Path(name).resolve()


def _record(package: Distribution, needed: Path | None = None) -> dict[str, str]:
    """Digests of the files of an installed package, by path, from its RECORD.

    Empty if the file ``needed`` is not in it, which saves parsing most of them.
    """
    text = package.read_text("RECORD") or ""
    if needed is not None and _relative(package, needed) not in text:
        return {}
    return {row[0]: row[1] for row in csv.reader(text.splitlines()) if len(row) > 1}


def _relative(package: Distribution, file: Path) -> str:
    return Path(os.path.relpath(file, Path(str(package.locate_file(""))).resolve())).as_posix()


def _unchanged(package: Distribution, files: dict[str, str], file: Path) -> bool:
    """Whether a file has the digest that was installed."""
    recorded = files.get(_relative(package, file))
    if not recorded or not recorded.startswith("sha256="):
        return False
    digest = base64.urlsafe_b64encode(hashlib.sha256(file.read_bytes()).digest()).rstrip(b"=").decode()
    return recorded == f"sha256={digest}"


def _is_editable(package: Distribution, file: Path) -> bool:
    """Whether a package is installed as the folder that holds a file."""
    try:
        origin = json.loads(package.read_text("direct_url.json") or "{}")
        url = urlsplit(str(origin["url"]))
        editable = bool(origin["dir_info"]["editable"])
    except (KeyError, TypeError, ValueError):
        return False
    return editable and url.scheme == "file" and file.is_relative_to(Path(unquote(url.path)).resolve())
