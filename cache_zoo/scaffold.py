"""Templates for a new cache or strategy: files in this checkout, or an installable package of its own."""

from __future__ import annotations

import keyword
import os
import re
from pathlib import Path
from string import Template

from cache_zoo.errors import UsageError, require
from cache_zoo.registry import Registry, caches

_MAX_NAME = 24
"""Characters of a name, so that no generated line exceeds the project's limit."""
_NOT_TEXT = {"null", "true", "false", "yes", "no", "on", "off", "inf", "nan"}
"""Words that YAML or hydra's command line does not read as text."""
ROOT = Path(__file__).resolve().parent.parent
_TEMPLATES = Path(__file__).parent / "templates"
_IMPORTS_HERE = """from cache_zoo.base import KVCache
from cache_zoo.errors import require
from cache_zoo.state import Step"""
_IMPORTS_ELSEWHERE = """from cache_zoo import KVCache, Step
from cache_zoo.errors import require"""
_REGISTRY_LINE = '        "$name": "cache_zoo.methods.$name:$cls",\n'
_REGISTRY_LINES = r'        "\w+": "cache_zoo\.methods\.[\w.]+:\w+",\n'
_README_LINE = (
    "| `$name` | $title (unpublished) | everything every `every` steps, the current block in between | `every` |\n"
)


def new_cache(name: str, root: Path = ROOT) -> dict[Path, str]:
    """Add a cache to a checkout: its file, its line in the registry and its line in the README.

    Returns:
        The files written, each with a description.

    Raises:
        UsageError: the name is invalid or taken, or ``root`` is not a checkout; nothing is written.
    """
    words = _words(name, caches)
    readme, registry = root / "README.md", root / "cache_zoo" / "registry.py"
    require(
        readme.is_file() and registry.is_file(),
        f"{root} is an installed package, not a checkout; give package=true to write a package of your own",
    )
    cache = root / "cache_zoo" / "methods" / f"{name}.py"
    _refuse_existing(cache)
    registry_line, readme_line = (Template(line).substitute(words) for line in (_REGISTRY_LINE, _README_LINE))
    return _write(
        {
            cache: (_fill("cache.py", words, _IMPORTS_HERE), "the cache: its docstring, its paper and rows()"),
            registry: (_with_line(registry, _REGISTRY_LINES, registry_line), "one line"),
            readme: (_with_line(readme, r"\| `\w+` \|.*\n", readme_line), "one line in the table of caches"),
        }
    )


def new_package(name: str, folder: Path, registry: Registry = caches) -> dict[Path, str]:
    """Write an installable package with one class into ``folder``; cache-zoo finds it by its entry point.

    Args:
        name: under which it is chosen.
        folder: parent of the package's folder.
        registry: of caches, or of strategies.

    Returns:
        The files written, each with a description.

    Raises:
        UsageError: the name is invalid or taken, or the package's folder already exists; nothing is written.
    """
    words, kind = _words(name, registry), registry.kind
    home = folder / words["package"]
    _refuse_existing(home)
    return _write(
        {
            home / f"{words['module']}.py": (_fill(f"{kind}.py", words, _IMPORTS_ELSEWHERE), f"the {kind}"),
            home / "pyproject.toml": (_fill("pyproject.toml", words), "the entry point by which cache-zoo finds it"),
            home / "tests" / "test_contract.py": (_fill(f"test_{kind}.py", words), "runs the contract on it"),
            home / "README.md": (_fill(f"{kind}.md", words), "how to install and use it"),
        }
    )


def _words(name: str, registry: Registry) -> dict[str, str]:
    """The spellings of a free name in code and in prose."""
    kind = registry.kind
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or _reserved(name):
        near = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        if not re.match(r"[a-z]", near) or _reserved(near):
            near = f"{near}_{kind}".lstrip("_0123456789")
        raise UsageError(f"invalid {kind} name '{name}': use lower-case letters, digits and _, such as '{near}'")
    require(len(name) <= _MAX_NAME, f"the name '{name}' is too long; the limit is {_MAX_NAME} characters")
    for entry in registry.entries():
        require(entry.name != name, f"{kind} '{name}' of {entry.origin} already exists; choose another name")
    parts = name.split("_")
    camel = "".join(part.capitalize() for part in parts)
    return {
        "name": name,
        "cls": camel if name.endswith(kind) and name != kind else f"{camel}{kind.capitalize()}",
        "title": " ".join(parts).capitalize() + ("" if name.endswith(kind) else f" {kind}"),
        "package": f"cache-zoo-{'-'.join(parts)}",
        "module": f"cache_zoo_{name}",
        "kind": kind,
        "group": registry.group,
    }


def _reserved(name: str) -> bool:
    """Whether Python, YAML or the command line would not read it as a name."""
    return keyword.iskeyword(name) or name in _NOT_TEXT


def _fill(template: str, words: dict[str, str], imports: str = "") -> str:
    text = (_TEMPLATES / f"{template}.template").read_text(encoding="utf-8")
    return Template(text).substitute(words, imports=imports)


def _refuse_existing(path: Path) -> None:
    require(not path.exists(), f"{path} already exists; choose another name")


def _with_line(path: Path, like: str, line: str) -> str:
    """The text of ``path`` with ``line`` after the last line that matches ``like``."""
    text = path.read_text(encoding="utf-8")
    matches = list(re.finditer(rf"^{like}", text, re.MULTILINE))
    require(bool(matches), f"{path} lists no caches, so there is no place for: {line.strip()}")
    end = matches[-1].end()
    return text[:end] + line + text[end:]


def _write(files: dict[Path, tuple[str, str]]) -> dict[Path, str]:
    """Write each text atomically; returns the descriptions."""
    for path, (text, _) in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    return {path: description for path, (_, description) in files.items()}
