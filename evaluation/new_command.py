"""``cache-zoo new NAME`` writes the files of a new cache or decoding strategy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cache_zoo.arguments import positional, read
from cache_zoo.errors import DONE, refusing, require


@dataclass(frozen=True)
class NewOptions:
    """Write the files of a new cache or strategy, which works and keeps the contract at once. Nothing is overwritten.

    Attributes:
        name: of the cache or strategy: small letters, digits and _.
        package: write an installable package instead of files in this checkout.
        strategy: write an installable package with a decoding strategy instead of a cache.
        into: parent folder of the package (default: the current folder).
    """

    name: str = positional()
    package: bool = False
    strategy: bool = False
    into: Path | None = None


@refusing
def main() -> int:
    """Write the files and return the exit status."""
    options = read(NewOptions, "cache-zoo new")
    package = options.package or options.strategy
    require(package or options.into is None, "into= is the folder of a package; it needs package=true")
    from cache_zoo.registry import caches  # imports torch, which --help does not need
    from cache_zoo.scaffold import ROOT, new_cache, new_package
    from generation.strategies.registry import strategies

    base = (options.into or Path()) if package else ROOT
    registry = strategies if options.strategy else caches
    written = new_package(options.name, base, registry) if package else new_cache(options.name)
    width = max(len(str(path.relative_to(base))) for path in written)
    for path, what in written.items():
        print(f"{path.relative_to(base)!s:{width}}  {what}")
    if package:
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
