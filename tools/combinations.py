"""What goes together: cache, suffix rule, store and way of decoding, combined and run on tiny random models.

``python -m tools.combinations`` runs the combinations and writes docs/combinations.md. Each works, or is refused with a
`UsageError`; anything else is an error.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from cache_zoo import UsageError, caches, make_cache, make_suffix
from cache_zoo.arguments import spelled
from cache_zoo.registry import Registry, suffixes
from cache_zoo.stores import STORES
from evaluation.config.identity import BASELINE
from evaluation.report.markdown import table_text
from generation import GenerationOptions, generate, stream
from generation.options import incompatibility
from generation.strategies.registry import strategies
from generation.testing import DECODERS, FAMILIES, GEN_LENGTH, PROMPT_LENGTHS, tiny_model, tiny_prompts

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "combinations.md"
_SEED, _WINDOW = 3, 3
"""Of all runs; and columns behind a block, so few that a suffix rule drops some of the short canvas."""


def _built_in(registry: Registry) -> list[str]:
    return [entry.name for entry in registry.entries() if entry.package is None]


def _decodings() -> dict[str, dict[str, Any]]:
    """Options by name: those of the contract, and the strategies that it lacks, with their defaults.

    Where the contract commits one token per forward, two are committed here, which takes half the time, unless the
    strategy has a rule of its own.
    """
    contract = {name: options for name, options in DECODERS.items() if "suffix" not in options}
    named = {str(options.get("strategy", GenerationOptions.strategy)) for options in contract.values()}
    others = [name for name in _built_in(strategies) if name not in named]
    found = {**contract, **{name: {"strategy": name, "block_length": 4} for name in others}}
    for name, options in found.items():
        found[name] = _faster({key: value for key, value in options.items() if key != "seed"})
    return found


def _faster(options: dict[str, Any]) -> dict[str, Any]:
    """``options`` with two tokens per forward, where these go together."""
    faster = {"num_transfer_tokens": 2, **options}
    try:
        GenerationOptions.make(gen_length=GEN_LENGTH, **faster)
    except UsageError:  # a schedule or a rule of the strategy says how many
        return options
    return faster


CACHES, SUFFIXES, FORMATS = _built_in(caches), _built_in(suffixes), list(STORES)
DECODINGS = _decodings()


@dataclass(frozen=True)
class Combination:
    """One combination; ``decoding`` is a key of `DECODINGS`."""

    cache: str
    suffix: str = BASELINE["suffix"]
    store: str = BASELINE["store"]
    decoding: str = next(iter(DECODINGS))
    family: str = FAMILIES[0]

    @property
    def options(self) -> dict[str, Any]:
        """Of `generation.generate`."""
        return {"gen_length": GEN_LENGTH, **DECODINGS[self.decoding]}

    @property
    def method(self) -> dict[str, Any]:
        """New cache and suffix rule, and the store."""
        narrow = {key: _WINDOW for key in suffixes.parameters(self.suffix) if key == "window"}
        suffix = make_suffix(self.suffix, **narrow)
        return {"cache": make_cache(self.cache), "suffix": suffix, "store": self.store}

    def run(self) -> None:
        """Raise unless it is refused, or a padded batch decodes all of what its sequences decode alone."""
        if refusal(self):
            return
        model, prompts = tiny_model(self.family), tiny_prompts()
        together = generate(model, prompts, **self.method, seed=_SEED, **self.options)
        number = PROMPT_LENGTHS.index(min(PROMPT_LENGTHS))  # the most padding
        alone = generate(model, [prompts[number]], **self.method, seed=_SEED + number, **self.options)
        _require(torch.equal(alone.tokens[0], together.tokens[number]), f"sequence {number} differs alone")
        _require(alone.nfe == together.forwards[number], f"sequence {number} takes other forwards alone")
        masked = bool((together.tokens == model.config.mask_id).any())
        _require(not masked or "stop_until_eos" in self.options, "positions are left masked")
        _require(0 < together.counts.compute_ratio <= 1, f"the compute ratio is {together.counts.compute_ratio}")

    def __str__(self) -> str:
        return f"cache={self.cache} suffix={self.suffix} store={self.store} {self.decoding} ({self.family})"


@cache
def refusal(one: Combination) -> str | None:
    """Why a combination is refused, at the latest in its first forward; None if it runs."""
    useless = incompatibility(make_cache(one.cache), GenerationOptions.make(**one.options))
    try:
        with _without_warning(useless):
            next(stream(tiny_model(one.family), tiny_prompts(), **one.method, seed=_SEED, **one.options))
    except UsageError as error:
        return str(error)
    return useless


def by_decoding() -> list[list[Combination]]:
    """A line per cache, a column per way of decoding; families in turn."""
    return [
        [Combination(cache, decoding=name, family=_turn(FAMILIES, i + j)) for j, name in enumerate(DECODINGS)]
        for i, cache in enumerate(CACHES)
    ]


def by_method() -> list[list[Combination]]:
    """A line per cache, a column per suffix rule and store, with the first decoding that the cache accepts."""
    columns = [(suffix, store) for suffix in SUFFIXES for store in FORMATS]
    lines = []
    for i, line in enumerate(by_decoding()):
        first = next((one for one in line if refusal(one) is None), line[0])
        lines.append(
            [
                replace(first, suffix=suffix, store=store, family=_turn(FAMILIES, i + j))
                for j, (suffix, store) in enumerate(columns)
            ]
        )
    return lines


def mixed() -> list[Combination]:
    """Those of `by_decoding` with suffix rules, stores and families in turn: each pair of choices meets."""
    lines = enumerate(by_decoding())
    return [
        replace(
            one,
            suffix=_turn(SUFFIXES, i + j),
            store=_turn(FORMATS, i + j // len(SUFFIXES)),
            family=_turn(FAMILIES, i + j + 1),
        )
        for i, line in lines
        for j, one in enumerate(line)
    ]


def all_runs() -> list[Combination]:
    """What is run to the end."""
    return list(dict.fromkeys([*(one for line in by_method() for one in line), *mixed()]))


def failures(combinations: Sequence[Combination]) -> Iterator[str]:
    """Run combinations; each that fails, with the error."""
    for one in combinations:
        try:
            one.run()
        except Exception as error:
            yield f"{one}: {type(error).__name__}: {error}"


def unexplained() -> Iterator[str]:
    """Combinations that are refused for a reason that the tables do not have."""
    shown = {refusal(one) for line in [*by_decoding(), *by_method()] for one in line}
    return (f"{one} is refused: {reason}" for one in all_runs() if (reason := refusal(one)) not in shown)


def document() -> str:
    """The text of docs/combinations.md; runs the first forward of each cell."""
    reasons: dict[str, int] = {}

    def cell(one: Combination) -> str:
        reason = refusal(one)
        return "yes" if reason is None else f"no ({reasons.setdefault(reason, len(reasons) + 1)})"

    decodings = _table(list(DECODINGS), by_decoding(), cell)
    titles = [f"{suffix}, {store}" for suffix in SUFFIXES for store in FORMATS]
    methods = _table(titles, by_method(), cell)
    options = "\n".join(f"- `{name}`: {_as_text(given)}" for name, given in DECODINGS.items())
    numbered = "\n".join(f"{number}. {reason}" for reason, number in reasons.items())
    return _TEXT.format(
        decodings=decodings,
        methods=methods,
        options=options,
        reasons=numbered,
        runs=len(all_runs()),
        length=GEN_LENGTH,
        window=_WINDOW,
    )


_TEXT = """\
# What goes together

`make combinations` writes this page: it runs the combinations on tiny random models of both families, three prompts of
different lengths in one batch, {length} tokens. *yes*: it runs, and each sequence decodes what it decodes alone. *no*:
it is refused before it runs, for the reason below; `eval.py` then ends with exit status 2, a sweep skips the cell.

## Caches and ways of decoding

With all columns and the native store.

{decodings}

The ways of decoding are those of the contract (`generation/testing.py`), and the other strategies:

{options}

## Caches, suffix rules and stores

Decoded by the first of these ways that the cache accepts. Suffix rules have `window={window}`; all other parameters are
the defaults.

{methods}

## Reasons

{reasons}

## What was run

{runs} combinations were run to the end: all of the second table, and each cell of the first one with suffix rules,
stores and families in turn, so that any two choices meet. That is a sample of all that can be combined. A refusal
follows from two choices, a cache and another one, and the tables have all of these; the sample was refused for no other
reason.
"""


def _table(titles: list[str], lines: list[list[Combination]], cell: Callable[[Combination], str]) -> str:
    return table_text(["cache", *titles], ([f"`{line[0].cache}`", *map(cell, line)] for line in lines))


def _as_text(options: dict[str, Any]) -> str:
    return "`" + " ".join(f"{key}={spelled(value)}" for key, value in options.items()) + "`"


def _turn(choices: Sequence[str], number: int) -> str:
    return choices[number % len(choices)]


@contextmanager
def _without_warning(message: str | None) -> Iterator[None]:
    """All warnings are errors but the one with this text."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if message is not None:
            warnings.filterwarnings("ignore", re.escape(message), UserWarning)
        yield


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def main() -> int:
    """Run everything and write the document; print what failed and return the exit status."""
    torch.set_num_threads(1)  # tiny products are slower on several
    failed = 0
    for failure in chain(failures(all_runs()), unexplained()):
        failed += 1
        print(failure, file=sys.stderr)
    DOCUMENT.write_text(document(), encoding="utf-8")
    print(f"{len(all_runs())} combinations, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
