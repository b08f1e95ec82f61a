"""``cache-zoo list`` shows the caches, ``cache-zoo new NAME`` starts one."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cache_zoo.arguments import positional, read
from cache_zoo.errors import DONE, refusing, require

if TYPE_CHECKING:
    from cache_zoo.info import CacheInfo


@dataclass(frozen=True)
class ListOptions:
    """Show the caches with their papers, parameters and properties, those of installed packages included.

    Attributes:
        names: only these caches, with a line per parameter.
        json: everything as JSON.
    """

    names: list[str] = positional([])
    json: bool = False


@dataclass(frozen=True)
class NewOptions:
    """Write the files of a new cache, which works and keeps the contract at once. Nothing is overwritten.

    Attributes:
        name: of the cache: small letters, digits and _.
        package: write an installable package instead of files in this checkout.
        into: parent folder of the package; needs package=true (default: the current folder).
    """

    name: str = positional()
    package: bool = False
    into: Path | None = None


@refusing
def list_main() -> int:
    """Print the caches and return the exit status."""
    options = read(ListOptions, "cache-zoo list")
    from cache_zoo.info import describe, describe_all  # imports torch, which --help does not need

    infos = [describe(name) for name in options.names] if options.names else describe_all()
    for info in infos:
        if info.error is not None:
            print(f"warning: cache '{info.name}' of {info.origin} can't be used: {info.error}", file=sys.stderr)
    if options.json:
        print(json.dumps([info.as_dict() for info in infos], indent=2, default=str))
        return DONE
    width = min(max(shutil.get_terminal_size((100, 24)).columns, 40), 120)
    print("\n\n".join(_entry(info, width, explain=bool(options.names)) for info in infos))
    return DONE


@refusing
def new_main() -> int:
    """Write the files of a cache and return the exit status."""
    options = read(NewOptions, "cache-zoo new")
    require(options.package or options.into is None, "into= is the folder of a package; it needs package=true")
    from cache_zoo.scaffold import ROOT, new_cache, new_package

    base = (options.into or Path()) if options.package else ROOT
    written = new_package(options.name, base) if options.package else new_cache(options.name)
    width = max(len(str(path.relative_to(base))) for path in written)
    for path, what in written.items():
        print(f"{path.relative_to(base)!s:{width}}  {what}")
    if options.package:
        home = next(iter(written)).parent
        print(f"\nnext: pip install -e '{home}[dev]'")
        print(f"      python -m pytest {home}\n      cache-zoo list {options.name}")
    else:
        print(
            f"\nnext: python -m pytest tests/test_contract.py -k {options.name}\n"
            f"      python eval.py -m model=nano-llada dataset=nano-gsm dataset.size=20 cache=none,{options.name}\n"
            "and CONTRIBUTING.md, from its second step on"
        )
    return DONE


def _entry(info: CacheInfo, width: int, explain: bool) -> str:
    """One cache in the list, in lines of at most ``width``."""
    paper = " ".join([info.paper, *(url for url in info.urls if url not in info.paper)])
    rows = [("paper", paper) if info.error is None else ("broken", info.error)]
    if info.parameters:
        rows.append(("parameters", " ".join(map(str, info.parameters))))
    if explain:
        rows += [("", f"{parameter.name}: {parameter.text or 'not documented'}") for parameter in info.parameters]
    if info.capabilities:
        rows.append(("properties", "; ".join(info.capabilities)))
    if info.package is not None:
        rows.append(("package", info.origin))
    lines = [info.name, *textwrap.wrap(info.summary, width, initial_indent="  ", subsequent_indent="  ")]
    for label, text in rows:
        wrapper = textwrap.TextWrapper(
            width, initial_indent=f"  {label:12}", subsequent_indent=" " * (14 if label else 16)
        )
        wrapper.break_long_words = wrapper.break_on_hyphens = False  # keeps addresses whole
        lines += wrapper.wrap(text)
    return "\n".join(lines)
