"""The files a new cache starts from: inside a checkout of this repository, or as an installable package of its own."""

from __future__ import annotations

import keyword
import os
import re
from pathlib import Path
from string import Template

from cache_zoo.errors import UsageError, require
from cache_zoo.registry import caches

_LONGEST = 24
"""Letters of a name, so that no line that is written becomes longer than the project allows."""
_READ_OTHERWISE = {"null", "true", "false", "yes", "no", "on", "off", "inf", "nan"}
"""Words that YAML or a command line of hydra takes for something else than text."""
ROOT = Path(__file__).resolve().parent.parent

_CACHE = '''"""$title: say in one line what it does."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

$imports


class $cls(KVCache):
    """Recompute everything every ``every`` steps, and only the current block in between (authors, title, section).

    Say here what a step computes, and write down what deviates from the paper or its released code.

    Args:
        every: steps between refreshes of the whole canvas, at least 1; 1 recomputes everything always.
    """

    paper = "$title, unpublished"  # or the title and arXiv id of its paper
    exact_with: ClassVar[dict[str, Any] | None] = {"every": 1}  # what makes it recompute everything; None: nothing does

    def __init__(self, every: int = 4) -> None:
        require(every >= 1, f"cache parameter 'every' must be at least 1, not {every}")
        self.every = every

    def rows(self, step: Step) -> Tensor | None:
        if step.index % self.every == 0:
            return None  # all of them
        return step.block.roll(-step.canvas.shift, dims=1)  # row j - shift decides position j
'''

_IMPORTS_HERE = """from cache_zoo.base import KVCache
from cache_zoo.errors import require
from cache_zoo.state import Step"""

_IMPORTS_ELSEWHERE = """from cache_zoo import KVCache, Step
from cache_zoo.errors import require"""

_CONFIG = """# $title (unpublished)
name: $name
every: 4 # steps between refreshes of the whole canvas
"""

_REGISTRY_LINE = '        "$name": "cache_zoo.$name:$cls",\n'

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

# This is how cache-zoo finds it, under the name on the left.
[project.entry-points."cache_zoo.caches"]
$name = "$module:$cls"

[tool.hatch.build.targets.wheel]
only-include = ["$module.py"]

[tool.pytest.ini_options]
testpaths = ["tests"]
"""

_PACKAGE_README = """# $package

$title: say what it does, and for which paper. A cache for masked diffusion language models that is installed beside
cache-zoo, which needs no change for it.

    pip install -e '.[dev]'                # in the environment that has cache-zoo
    cache-zoo list $name
    pytest                                 # the whole contract of cache-zoo

In a checkout of cache-zoo it is then a choice like any other:

    python eval.py model=nano-llada dataset=nano-gsm dataset.size=20 cache=$name cache.every=2
    python eval.py -m model=nano-llada dataset=nano-gsm dataset.size=20 cache=none,$name
    cache-zoo table results/

| parameter | default | |
|---|---|---|
| `every` | 4 | steps between refreshes of the whole canvas |
"""

_TEST = '''"""The whole contract of cache-zoo: batched equals one by one, counters equal a hand count, and more."""

import pytest

from generation.testing import Check, checks


@pytest.mark.parametrize("check", checks("$name", {"every": 2}), ids=str)
def test_it_keeps_the_contract(check: Check) -> None:
    check()
'''


def new_cache(name: str, root: Path = ROOT) -> dict[Path, str]:
    """Add a cache to a checkout: its file, its YAML, its line in the registry and its line in the README.

    Args:
        name: of the cache, ``small_letters_and_digits``.
        root: of the checkout.

    Returns:
        The files written, each with a word on what is in it.

    Raises:
        UsageError: the name can't be used, or ``root`` is no checkout; nothing was written then.
    """
    words = _words(name)
    readme, registry = root / "README.md", root / "cache_zoo" / "registry.py"
    require(
        readme.is_file() and (root / "configs" / "cache").is_dir(),
        f"{root} is no checkout of the repository but an installed package; package=true makes a package of your own",
    )
    cache, config = root / "cache_zoo" / f"{name}.py", root / "configs" / "cache" / f"{name}.yaml"
    _refuse_existing(cache, config)
    lines = {
        registry: _with_line(registry, r'        "\w+": "cache_zoo\.\w+:\w+",\n', _fill(_REGISTRY_LINE, words)),
        readme: _with_line(readme, r"\| `\w+` \|.*\n", _fill(_README_LINE, words)),
    }
    _write(cache, _fill(_CACHE, words, imports=_IMPORTS_HERE))
    _write(config, _fill(_CONFIG, words))
    for path, text in lines.items():
        _write(path, text)
    return {
        cache: "the cache: its docstring, its paper and rows()",
        config: "its parameters with their defaults",
        registry: "one line",
        readme: "one line in the table of caches",
    }


def new_package(name: str, folder: Path) -> dict[Path, str]:
    """Write an installable package with one cache, which cache-zoo finds by its entry point.

    Args:
        name: of the cache, ``small_letters_and_digits``.
        folder: where the folder of the package goes.

    Returns:
        The files written, each with a word on what is in it.

    Raises:
        UsageError: the name can't be used, or the folder of the package is there already; nothing was written then.
    """
    words = _words(name)
    home = folder / words["package"]
    _refuse_existing(home)
    files = {
        home / f"{words['module']}.py": (_fill(_CACHE, words, imports=_IMPORTS_ELSEWHERE), "the cache"),
        home / "pyproject.toml": (_fill(_PYPROJECT, words), "the entry point, by which cache-zoo finds it"),
        home / "tests" / "test_contract.py": (_fill(_TEST, words), "runs the whole contract on it"),
        home / "README.md": (_fill(_PACKAGE_README, words), "how to install and use it"),
    }
    for path, (text, _) in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, text)
    return {path: what for path, (_, what) in files.items()}


def _words(name: str) -> dict[str, str]:
    """What the name is called in code and in prose, once it is known to be free."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or _taken(name):
        near = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        if not re.match(r"[a-z]", near) or _taken(near):
            near = f"{near}_cache".lstrip("_0123456789")
        raise UsageError(f"'{name}' can't be the name of a cache: small letters, digits and _, such as '{near}'")
    require(len(name) <= _LONGEST, f"the name '{name}' is too long; {_LONGEST} characters must do")
    for entry in caches.entries():
        require(entry.name != name, f"there is a cache '{name}' already, of {entry.origin}; choose another name")
    parts = name.split("_")
    camel = "".join(part.capitalize() for part in parts)
    return {
        "name": name,
        "cls": camel if name.endswith("cache") else f"{camel}Cache",
        "title": " ".join(parts).capitalize() + ("" if name.endswith("cache") else " cache"),
        "package": f"cache-zoo-{'-'.join(parts)}",
        "module": f"cache_zoo_{name}",
    }


def _taken(name: str) -> bool:
    """Whether Python, YAML or the command line would read something else than the name."""
    return keyword.iskeyword(name) or name in _READ_OTHERWISE


def _fill(template: str, words: dict[str, str], **more: str) -> str:
    return Template(template).substitute(words, **more)


def _refuse_existing(*paths: Path) -> None:
    for path in paths:
        require(not path.exists(), f"{path} is there already, and nothing is overwritten; choose another name")


def _with_line(path: Path, like: str, line: str) -> str:
    """The text of ``path`` with ``line`` behind the last line of the form ``like``."""
    text = path.read_text(encoding="utf-8")
    found = list(re.finditer(rf"^{like}", text, re.MULTILINE))
    require(bool(found), f"{path} has no lines of caches any more, behind which to put: {line.strip()}")
    end = found[-1].end()
    return text[:end] + line + text[end:]


def _write(path: Path, text: str) -> None:
    """Write a file in one step."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
