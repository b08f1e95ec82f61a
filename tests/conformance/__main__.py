"""``python -m tests.conformance [folder ...]``: replay and report."""

from __future__ import annotations

import sys
import warnings
from collections import Counter, defaultdict
from pathlib import Path

import torch

from tests.conformance.case import KEPT, SHARED, cases
from tests.conformance.known import KNOWN, judge

HEADINGS = {
    "exact": "exact",
    "named": "named differences",
    "unexplained": "unexplained",
    "not replayed": "not replayed yet",
}
"""What a verdict's status is called."""


def main(arguments: list[str]) -> int:
    """Replay and print a count per source; the status is 1 if anything is unexplained or nothing was found."""
    found = cases(*[Path(argument) for argument in arguments] or [KEPT, *SHARED])
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    texts: dict[str, Counter[str]] = defaultdict(Counter)
    for case in found:
        verdict = judge(case)
        counts[case.source][verdict.status] += 1
        texts[verdict.status][verdict.text] += 1
        if verdict.status == "unexplained":
            print(f"{case.id}: {verdict.text}", flush=True)
    reasons = {known.name: known.why for known in KNOWN}
    for status in ("named", "not replayed"):
        print(f"\n{HEADINGS[status]}:")
        for text, number in sorted(texts[status].items()):
            print(f"{number:>5}  {text}" + (f": {reasons[text]}" if text in reasons else ""))
    total = sum(counts.values(), Counter[str]())
    print("\n" + _line("source", ["cases", *HEADINGS.values()]))
    for source, count in [*sorted(counts.items()), ("total", total)]:
        print(_line(source, [str(count.total()), *(str(count[status]) for status in HEADINGS)]))
    return 1 if total["unexplained"] or not found else 0


def _line(name: str, columns: list[str]) -> str:
    widths = [len(heading) + 2 for heading in ("cases", *HEADINGS.values())]
    return f"{name:<22}" + "".join(f"{text:>{width}}" for text, width in zip(columns, widths, strict=True))


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", ".*needs blocks")  # some cases have one block, as recorded
    sys.exit(main(sys.argv[1:]))
