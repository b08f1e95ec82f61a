"""Templates for a new cache: files in this checkout, or an installable package of its own."""

from __future__ import annotations

import keyword
import os
import re
from pathlib import Path
from string import Template

from cache_zoo.errors import UsageError, require
from cache_zoo.registry import caches

_MAX_NAME = 24
"""Characters of a name, so that no generated line exceeds the project's limit."""
_NOT_TEXT = {"null", "true", "false", "yes", "no", "on", "off", "inf", "nan"}
"""Words that YAML or hydra's command line does not read as text."""
ROOT = Path(__file__).resolve().parent.parent

_CACHE = '''"""$title: one line on what it does."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

$imports


class $cls(KVCache):
    """Recompute everything every ``every`` steps, and only the current block in between (authors, title, section).

    What a step computes, and where it deviates from the paper or its released code.

    Args:
        every: steps between refreshes of the whole canvas, at least 1; 1 recomputes everything always.
    """

    paper = "$title, unpublished"  # or the title and arXiv id of its paper
    exact_with: ClassVar[dict[str, Any] | None] = {"every": 1}  # makes it recompute everything; None: nothing does

    def __init__(self, every: int = 4) -> None:
        require(every >= 1, f"cache parameter 'every' must be at least 1, not {every}")
        self.every = every

    def rows(self, step: Step) -> Tensor | None:
        if step.index % self.every == 0:
            return None  # every row
        return step.block.roll(-step.canvas.shift, dims=1)  # row j - shift predicts position j
'''

_IMPORTS_HERE = """from cache_zoo.base import KVCache
from cache_zoo.errors import require
from cache_zoo.state import Step"""

_IMPORTS_ELSEWHERE = """from cache_zoo import KVCache, Step
from cache_zoo.errors import require"""

_REGISTRY_LINE = '        "$name": "cache_zoo.methods.$name:$cls",\n'

_README_LINE = (
    "| `$name` | $title (unpublished) | everything every `every` steps, the current block in between | `every` |\n"
)

_PYPROJECT = """[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "$package"
version = "0.1.0"
description = "$title, a cache for masked diffusion language models, for cache-zoo"
readme = "README.md"
requires-python = ">=3.10"
dependencies = ["cache-zoo", "torch>=2.6"]

[project.optional-dependencies]
dev = ["pytest>=8.3"]

# cache-zoo finds it by this entry point, under the name on the left.
[project.entry-points."cache_zoo.caches"]
$name = "$module:$cls"

[tool.hatch.build.targets.wheel]
only-include = ["$module.py"]

[tool.pytest.ini_options]
testpaths = ["tests"]
"""

_PACKAGE_README = """# $package

$title: what it does, and for which paper. A cache for masked diffusion language models that plugs into cache-zoo.

    pip install -e '.[dev]'                # in the environment that has cache-zoo
    cache-zoo list $name
    pytest                                 # cache-zoo's contract

In a checkout of cache-zoo it is a choice like any other:

    python eval.py model=nano-llada dataset=nano-gsm dataset.size=20 cache=$name cache.every=2
    python eval.py -m model=nano-llada dataset=nano-gsm dataset.size=20 cache=none,$name
    cache-zoo table results/

| parameter | default | |
|---|---|---|
| `every` | 4 | steps between refreshes of the whole canvas |
"""

_TEST = '''"""cache-zoo's contract: batched equals one by one, counters equal a hand count, and more."""

import pytest

from generation.testing import Check, checks


@pytest.mark.parametrize("check", checks("$name", {"every": 2}), ids=str)
def test_it_keeps_the_contract(check: Check) -> None:
    check()
'''


def new_cache(name: str, root: Path = ROOT) -> dict[Path, str]:
    """Add a cache to a checkout: its file, its line in the registry and its line in the README.

    Args:
        name: of the cache, ``lower_case_letters_and_digits``.
        root: of the checkout.

    Returns:
        The files written, each with a description.

    Raises:
        UsageError: the name is invalid or taken, or ``root`` is not a checkout; nothing is written.
    """
    words = _words(name)
    readme, registry = root / "README.md", root / "cache_zoo" / "registry.py"
    require(
        readme.is_file() and registry.is_file(),
        f"{root} is an installed package, not a checkout; give package=true to write a package of your own",
    )
    cache = root / "cache_zoo" / "methods" / f"{name}.py"
    _refuse_existing(cache)
    lines = {
        registry: _with_line(registry, r'        "\w+": "cache_zoo\.[\w.]+:\w+",\n', _fill(_REGISTRY_LINE, words)),
        readme: _with_line(readme, r"\| `\w+` \|.*\n", _fill(_README_LINE, words)),
    }
    _write(cache, _fill(_CACHE, words, imports=_IMPORTS_HERE))
    for path, text in lines.items():
        _write(path, text)
    return {
        cache: "the cache: its docstring, its paper and rows()",
        registry: "one line",
        readme: "one line in the table of caches",
    }


def new_package(name: str, folder: Path) -> dict[Path, str]:
    """Write an installable package with one cache, which cache-zoo finds by its entry point.

    Args:
        name: of the cache, ``lower_case_letters_and_digits``.
        folder: parent of the package's folder.

    Returns:
        The files written, each with a description.

    Raises:
        UsageError: the name is invalid or taken, or the package's folder already exists; nothing is written.
    """
    words = _words(name)
    home = folder / words["package"]
    _refuse_existing(home)
    files = {
        home / f"{words['module']}.py": (_fill(_CACHE, words, imports=_IMPORTS_ELSEWHERE), "the cache"),
        home / "pyproject.toml": (_fill(_PYPROJECT, words), "the entry point by which cache-zoo finds it"),
        home / "tests" / "test_contract.py": (_fill(_TEST, words), "runs the contract on it"),
        home / "README.md": (_fill(_PACKAGE_README, words), "how to install and use it"),
    }
    for path, (text, _) in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, text)
    return {path: what for path, (_, what) in files.items()}


def _words(name: str) -> dict[str, str]:
    """The spellings of a free name in code and in prose."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or _reserved(name):
        near = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        if not re.match(r"[a-z]", near) or _reserved(near):
            near = f"{near}_cache".lstrip("_0123456789")
        raise UsageError(f"invalid cache name '{name}': use lower-case letters, digits and _, such as '{near}'")
    require(len(name) <= _MAX_NAME, f"the name '{name}' is too long; the limit is {_MAX_NAME} characters")
    for entry in caches.entries():
        require(entry.name != name, f"cache '{name}' of {entry.origin} already exists; choose another name")
    parts = name.split("_")
    camel = "".join(part.capitalize() for part in parts)
    return {
        "name": name,
        "cls": camel if name.endswith("cache") else f"{camel}Cache",
        "title": " ".join(parts).capitalize() + ("" if name.endswith("cache") else " cache"),
        "package": f"cache-zoo-{'-'.join(parts)}",
        "module": f"cache_zoo_{name}",
    }


def _reserved(name: str) -> bool:
    """Whether Python, YAML or the command line would not read it as a name."""
    return keyword.iskeyword(name) or name in _NOT_TEXT


def _fill(template: str, words: dict[str, str], **more: str) -> str:
    return Template(template).substitute(words, **more)


def _refuse_existing(*paths: Path) -> None:
    for path in paths:
        require(not path.exists(), f"{path} already exists; choose another name")


def _with_line(path: Path, like: str, line: str) -> str:
    """The text of ``path`` with ``line`` after the last line that matches ``like``."""
    text = path.read_text(encoding="utf-8")
    matches = list(re.finditer(rf"^{like}", text, re.MULTILINE))
    require(bool(matches), f"{path} lists no caches, so there is no place for: {line.strip()}")
    end = matches[-1].end()
    return text[:end] + line + text[end:]


def _write(path: Path, text: str) -> None:
    """Write a file atomically."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
