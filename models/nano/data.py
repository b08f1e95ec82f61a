"""The frozen test items of the embedded tasks; ``python -m models.nano.data`` writes them again."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

from models.nano.code import function
from models.nano.gsm import problem

ITEMS = Path(__file__).parent / "items"
GSM_SIZE, CODE_SIZE = 500, 200
_SEED = "cache-zoo test items"


def write_items(folder: Path = ITEMS) -> None:
    """Write ``gsm/test.jsonl``, ``gsm/train.jsonl`` (examples for prompts) and ``code/test.jsonl``."""
    random = Random(_SEED)
    problems = list({p.question: p for p in (problem(random) for _ in range(4 * GSM_SIZE))}.values())
    rows = [{"question": p.question, "answer": p.answer} for p in problems[: GSM_SIZE + 40]]
    _write(folder / "gsm" / "test.jsonl", rows[:GSM_SIZE])
    _write(folder / "gsm" / "train.jsonl", rows[GSM_SIZE:])
    functions = list({f.prompt: f for f in (function(random) for _ in range(20 * CODE_SIZE))}.values())
    _write(folder / "code" / "test.jsonl", [asdict(f) for f in functions[:CODE_SIZE]])


@lru_cache(maxsize=1)
def held_out() -> frozenset[str]:
    """Questions and prompts excluded from training."""
    questions = [row["question"] for split in ("test", "train") for row in _read(ITEMS / "gsm" / f"{split}.jsonl")]
    return frozenset(questions + [row["prompt"] for row in _read(ITEMS / "code" / "test.jsonl")])


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    write_items()
