"""``cache-zoo list`` shows what can be chosen: caches, suffix rules, stores and decoding strategies."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from cache_zoo.arguments import positional, read
from cache_zoo.errors import DONE, refusing, require_choice

if TYPE_CHECKING:
    from cache_zoo.info import Info


@dataclass(frozen=True)
class ListOptions:
    """Show what can be chosen, with papers, parameters and properties; that of installed packages included.

    Attributes:
        names: only these, with a line per parameter.
        kind: caches, suffixes, stores, strategies or all.
        json: everything as JSON.
    """

    names: list[str] = positional([])
    kind: Literal["all", "caches", "suffixes", "stores", "strategies"] = "all"
    json: bool = False


class _Kind(NamedTuple):
    """What is chosen in one place, and how it is spelled there."""

    one: str
    spelling: str
    infos: Sequence[Info]


@refusing
def main() -> int:
    """Print what can be chosen and return the exit status."""
    options = read(ListOptions, "cache-zoo list")
    kinds = {name: kind for name, kind in _kinds().items() if options.kind in ("all", name)}
    known = {info.name for kind in kinds.values() for info in kind.infos}
    for name in options.names:
        require_choice("name" if len(kinds) > 1 else next(iter(kinds.values())).one, name, known)
    shown = {name: _chosen(kind, options.names) for name, kind in kinds.items()}
    for kind in shown.values():
        for info in kind.infos:
            if info.error is not None:
                print(
                    f"warning: {kind.one} '{info.name}' of {info.origin} can't be used: {info.error}", file=sys.stderr
                )
    if options.json:
        found = [{"kind": kind.one, **info.as_dict()} for kind in shown.values() for info in kind.infos]
        print(json.dumps(found, indent=2, default=str))
        return DONE
    print("\n\n".join(_lines(shown, explain=bool(options.names))))
    return DONE


def _kinds() -> dict[str, _Kind]:
    from cache_zoo.info import describe_all, describe_class, describe_entries  # imports torch, which --help needs not
    from cache_zoo.registry import suffixes
    from cache_zoo.stores import STORES
    from generation.strategies.registry import strategies

    own = describe_entries(strategies, without=["options"])
    stores = [describe_class(name, cls, without=["canvas"]) for name, cls in STORES.items()]
    return {
        "caches": _Kind("cache", "cache=NAME cache.PARAMETER=VALUE", describe_all()),
        "suffixes": _Kind("suffix", "suffix=NAME suffix.PARAMETER=VALUE", describe_entries(suffixes)),
        "stores": _Kind("store", "store=NAME", stores),
        "strategies": _Kind(
            "strategy", "generation=NAME (generate: generation.strategy=NAME) generation.PARAMETER=VALUE", own
        ),
    }


def _chosen(kind: _Kind, names: Sequence[str]) -> _Kind:
    return kind._replace(infos=[info for info in kind.infos if info.name in names]) if names else kind


def _lines(kinds: Mapping[str, _Kind], explain: bool) -> list[str]:
    """A heading for each kind of which something is shown, then its entries."""
    width = min(max(shutil.get_terminal_size((100, 24)).columns, 40), 120)
    lines = []
    for name, kind in kinds.items():
        if kind.infos:
            lines.append(f"{name.upper()}: {kind.spelling}")
            lines += [_entry(info, width, explain) for info in kind.infos]
    return lines


def _entry(info: Info, width: int, explain: bool) -> str:
    """One entry of the list, in lines of at most ``width``."""
    paper = " ".join([info.paper, *(url for url in info.urls if url not in info.paper)])
    rows = [("broken", info.error)] if info.error is not None else [("paper", paper)] if paper else []
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
