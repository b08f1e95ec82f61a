"""``cache-zoo list`` shows the caches, ``cache-zoo new NAME`` begins one."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from cache_zoo.arguments import Parser
from cache_zoo.errors import refusing, require

if TYPE_CHECKING:
    from cache_zoo.info import CacheInfo

_LIST = "caches with their papers, parameters and capabilities, those of installed packages included"
_NEW = "the files of a new cache, which works and keeps the contract from the start"


@refusing
def main() -> int:
    """Do what the command line asks for, and return the exit status."""
    parser = Parser(prog="cache-zoo", description="Show the caches, or begin a new one.")
    commands = parser.add_subparsers(dest="command", required=True)
    shown = commands.add_parser("list", help=_LIST, description=f"Show {_LIST}.")
    shown.add_argument("names", nargs="*", metavar="NAME", help="only these, with what each parameter means")
    shown.add_argument("--json", action="store_true", help="everything there is to say, as JSON")
    new = commands.add_parser("new", help=_NEW, description=f"Write {_NEW}. Nothing is overwritten.")
    new.add_argument("name", help="of the cache: small letters, digits and _")
    new.add_argument(
        "--package",
        action="store_true",
        help="an installable package of its own, instead of files in this checkout of the repository",
    )
    new.add_argument("--into", type=Path, metavar="FOLDER", help="where the package goes (here)")
    arguments = parser.parse_args()
    try:
        if arguments.command == "list":
            _list(arguments.names, arguments.json)
        else:
            require(arguments.package or arguments.into is None, "--into is where a package goes; it needs --package")
            _new(arguments.name, (arguments.into or Path()) if arguments.package else None)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is not written when Python ends
        return 1
    return 0


def _list(names: list[str], as_json: bool) -> None:
    from cache_zoo.info import describe, describe_all  # with torch, which --help does without

    infos = [describe(name) for name in names] if names else describe_all()
    for info in infos:
        if info.error is not None:
            print(f"warning: cache '{info.name}' of {info.origin} can't be used: {info.error}", file=sys.stderr)
    if as_json:
        print(json.dumps([info.as_dict() for info in infos], indent=2, default=str))
        return
    width = min(max(shutil.get_terminal_size((100, 24)).columns, 40), 120)
    print("\n\n".join(_entry(info, width, explain=bool(names)) for info in infos))


def _entry(info: CacheInfo, width: int, explain: bool) -> str:
    """What the list says of one cache, in lines of at most ``width``."""
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
        wrapper.break_long_words = wrapper.break_on_hyphens = False  # addresses and values can be copied
        lines += wrapper.wrap(text)
    return "\n".join(lines)


def _new(name: str, into: Path | None) -> None:
    from cache_zoo.scaffold import ROOT, new_cache, new_package

    written = new_cache(name) if into is None else new_package(name, into)
    base = ROOT if into is None else into
    width = max(len(str(path.relative_to(base))) for path in written)
    for path, what in written.items():
        print(f"{path.relative_to(base)!s:{width}}  {what}")
    if into is None:
        print(
            f"\nnext: python -m pytest tests/test_contract.py -k {name}\n"
            f"      python eval.py -m model=nano-llada dataset=nano-gsm dataset.size=20 cache=none,{name}\n"
            "and CONTRIBUTING.md, from its second step on"
        )
    else:
        home = next(iter(written)).parent
        print(f"\nnext: pip install -e '{home}[dev]'")
        print(f"      python -m pytest {home}\n      cache-zoo list {name}")


if __name__ == "__main__":
    sys.exit(main())
