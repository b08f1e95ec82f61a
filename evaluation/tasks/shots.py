"""Examples in the prompt that do not come from the data: the fixed ones that everybody uses.

``shots/README.md`` says where they are from and under which licences.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent / "shots"


def minerva() -> list[dict[str, Any]]:
    """Four worked problems with ``problem`` and ``solution``."""
    return _read("minerva.jsonl")


def mbpp() -> list[dict[str, Any]]:
    """Three problems with ``text``, ``code`` and ``test_list``."""
    return _read("mbpp.jsonl")


def _read(name: str) -> list[dict[str, Any]]:
    lines = (_FOLDER / name).read_text(encoding="utf-8").split("\n")
    return [{**json.loads(line), "is_fewshot": True} for line in lines if line]
