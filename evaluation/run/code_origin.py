"""Where code comes from: the commit of the checkout that it lies in, or the installed package that owns its file."""

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
_INSTALLED = ("site-packages", "dist-packages")
_SHOWN = 20


def checkout(root: Path = ROOT) -> dict[str, Any] | None:
    """Commit of the checkout of this project; None where the code lies in none.

    A repository around the project is none, nor is one around an environment that the project is installed in.

    Returns:
        ``commit``; ``dirty``, whether anything tracked differs from it or a module in use is in no commit; and, where
        it is, the ``changed`` files.
    """
    if _top(root) != root or not _tracked(root, root / Path(__file__).resolve().relative_to(ROOT)):
        return None
    return _state(root)


def version() -> str | None:
    """Of this project: of the installed package, with ``+edited`` where its files differ, or of the checkout."""
    here = Path(__file__).resolve()
    for package in distributions(name=NAME):
        files = _record(package)
        if _relative(package, here) in files:
            own = [file for file in _imported(ROOT, installed=True) if file.relative_to(ROOT).parts[0] in _PACKAGES]
            same = all(_unchanged(package, files, file) for file in own)
            return package.version if same else f"{package.version}+edited"
    try:
        lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.split('"')[1] for line in lines if line.startswith('version = "')), None)


def origin_of(cls: type, root: Path = ROOT) -> dict[str, Any]:
    """Where a class and those that it derives from come from.

    Returns:
        ``origin``: ``cache-zoo``, a file of this project, tracked in its checkout or as it was installed; ``package``,
        one of another package, with its ``name``, its ``version`` and, where it is installed from a checkout, a
        ``commit`` from which nothing differs; or ``unknown``, anything else.
    """
    classes = [one for one in cls.__mro__ if one.__module__.partition(".")[0] not in sys.stdlib_module_names]
    found = [_origin(getattr(sys.modules.get(one.__module__), "__file__", None), root) for one in classes]
    return next((one for one in found if one == UNKNOWN), found[0] if found else UNKNOWN)


def _origin(name: str | None, root: Path) -> dict[str, Any]:
    if name is None:
        return UNKNOWN
    file = Path(name).resolve()
    if _within(file, root) and checkout(root) is not None:
        return {"origin": NAME} if _tracked(root, file) else UNKNOWN
    for package in distributions():
        files = _record(package, file)
        if files and _unchanged(package, files, file):
            own = package.name.lower().replace("_", "-") == NAME
            return {"origin": NAME if own else "package", "name": package.name, "version": package.version}
        if _is_editable(package, file) and (top := _top(file.parent)) and _tracked(top, file):
            state = _state(top)
            if state and not state["dirty"]:
                told = {"name": package.name, "version": package.version, "commit": state["commit"]}
                return {"origin": "package", **told}
    return UNKNOWN


def _state(top: Path) -> dict[str, Any] | None:
    """Commit of a checkout, and what is in use and not in it."""
    commit = _git(top, "rev-parse", "--verify", "HEAD")
    changes = _git(top, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=no")
    if commit is None or changes is None:
        return None
    changed = {line[3:] for line in changes.split("\0") if line}
    files = [file.relative_to(top).as_posix() for file in _imported(top)]
    listed = (_git(top, "--literal-pathspecs", "ls-files", "-v", "-z", "--", *files) or "").split("\0") if files else []
    # H: tracked, and looked at by status; not so what somebody marked as assumed to be unchanged
    changed |= set(files) - {line[2:] for line in listed if line.startswith("H ")}
    found = {"commit": commit.strip(), "dirty": bool(changed)}
    return {**found, "changed": sorted(changed)[:_SHOWN]} if changed else found


def _top(folder: Path) -> Path | None:
    found = _git(folder, "rev-parse", "--show-toplevel")
    return Path(found.rstrip("\n")).resolve() if found else None


def _tracked(top: Path, file: Path) -> bool:
    path = file.relative_to(top).as_posix() if file.is_relative_to(top) else None
    return path is not None and _git(top, "--literal-pathspecs", "ls-files", "--error-unmatch", "--", path) is not None


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says of the repository that ``folder`` is in; None where it says no.

    Variables like GIT_DIR, which hooks have, name another repository.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "-C", str(folder), "-c", "core.fsmonitor=false", *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=20,
            env={**environment, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _imported(root: Path, installed: bool = False) -> list[Path]:
    """Files of the modules in use below ``root``, without those of an environment in it unless they are asked for."""
    names = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    files = {_folder(os.path.dirname(name)) / os.path.basename(name) for name in names if isinstance(name, str)}
    return sorted(file for file in files if _within(file, root, installed) and file.is_file())


def _within(file: Path, root: Path, installed: bool = False) -> bool:
    if not file.is_relative_to(root):
        return False
    return installed or not (set(file.relative_to(root).parts) & set(_INSTALLED) or _folder(sys.prefix) in file.parents)


@cache
def _folder(name: str) -> Path:
    return Path(name).resolve()


def _record(package: Distribution, wanted: Path | None = None) -> dict[str, str]:
    """Digests of the files of an installed package, by path, as its installation recorded them.

    Nothing for a package that does not have the file that is ``wanted``, which spares reading most of them.
    """
    text = package.read_text("RECORD") or ""
    if wanted is not None and _relative(package, wanted) not in text:
        return {}
    return {row[0]: row[1] for row in csv.reader(text.splitlines()) if len(row) > 1}


def _relative(package: Distribution, file: Path) -> str:
    return Path(os.path.relpath(file, Path(str(package.locate_file(""))).resolve())).as_posix()


def _unchanged(package: Distribution, files: dict[str, str], file: Path) -> bool:
    """Whether a file is what was installed."""
    recorded = files.get(_relative(package, file))
    if not recorded or not recorded.startswith("sha256="):
        return False
    digest = base64.urlsafe_b64encode(hashlib.sha256(file.read_bytes()).digest()).rstrip(b"=").decode()
    return recorded == f"sha256={digest}"


def _is_editable(package: Distribution, file: Path) -> bool:
    """Whether a package is installed as the folder that a file is in."""
    try:
        given = json.loads(package.read_text("direct_url.json") or "{}")
        url = urlsplit(str(given["url"]))
        editable = bool(given["dir_info"]["editable"])
    except (KeyError, TypeError, ValueError):
        return False
    return editable and url.scheme == "file" and file.is_relative_to(Path(unquote(url.path)).resolve())
