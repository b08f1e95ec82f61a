"""Digests of the published questions: ``python -m benchmarks.references FOLDER`` writes them into the package.

FOLDER holds ``gsm8k/test.jsonl``, ``math500/test.jsonl``, ``humaneval/test.jsonl`` and ``mbpp/test.jsonl``; the items
of the embedded models are in the package.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache_zoo.arguments import positional, read
from cache_zoo.errors import refusing
from evaluation.storage.files import write_text
from evaluation.tasks.jsonl import read_rows
from evaluation.tasks.published_data import FILE, row_digest
from evaluation.tasks.scorers import SCORERS
from models.nano.data import ITEMS

_FOLDERS = {"gsm8k": "gsm8k", "math-500": "math500", "humaneval": "humaneval", "mbpp": "mbpp"}


def digests(folder: Path) -> dict[str, dict[str, Any]]:
    """What ``published_data.json`` holds.

    Raises:
        UsageError: a file is missing or damaged.
    """
    files = {name: folder / place / "test.jsonl" for name, place in _FOLDERS.items()}
    files |= {f"nano-{place}": ITEMS / place / "test.jsonl" for place in ("gsm", "code")}
    found = {}
    for name, file in files.items():
        rows = read_rows(file, SCORERS[name].columns)
        lines = "\n".join(json.dumps(row, sort_keys=True) for row in rows)
        found[name] = {
            "sha256": hashlib.sha256(lines.encode()).hexdigest(),
            "rows": [row_digest(row, SCORERS[name].needs) for row in rows],
        }
    return found


@dataclass(frozen=True)
class ReferencesOptions:
    """Write the digests of the published questions into the package.

    Attributes:
        folder: of the published files.
    """

    folder: Path = positional()


@refusing
def main() -> int:
    """Write the file; 0 done, 2 unusable input."""
    folder = read(ReferencesOptions, "python -m benchmarks.references").folder
    write_text(FILE, json.dumps(digests(folder), indent=0) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
