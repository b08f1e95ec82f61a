"""Recorded cases: reading them, and what they recorded."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache as memoize
from functools import cached_property
from pathlib import Path
from typing import Any

from models import Transformer, load_model

KEPT = Path(__file__).parents[1] / "conformance_cases"
_SHARED = Path(__file__).resolve().parents[3] / "shared"
SHARED = (_SHARED / "conformance", _SHARED / "conformance_zoo")


@dataclass(frozen=True)
class Case:
    """One recorded case."""

    path: Path
    data: dict[str, Any] = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Case:
        return cls(path, json.loads(path.read_text()))

    @property
    def source(self) -> str:
        return self.path.parent.name

    @property
    def id(self) -> str:
        return f"{self.source}/{self.path.stem}"

    @property
    def params(self) -> dict[str, Any]:
        return self.data["params"]

    @property
    def expected(self) -> dict[str, Any]:
        return self.data["expected"]

    @property
    def batch(self) -> int:
        return self.data["batch_size"]

    @property
    def start(self) -> int:
        """First generated column of the canvas."""
        return self.data["prompt_length"]

    @property
    def length(self) -> int:
        """Columns of the canvas."""
        return self.start + self.gen_length

    @property
    def gen_length(self) -> int:
        """Generated columns of the canvas, at first if it grows."""
        length: int = self.params.get("gen_length") or self.data["gen_length"]
        return length

    @property
    def block(self) -> int:
        """Block length; some records have none, which means the whole answer."""
        return self.params.get("block_length") or self.gen_length

    @property
    def block_steps(self) -> int:
        """Forwards scheduled per block."""
        return self.params["steps"] * self.block // self.params["gen_length"]

    @property
    def prompts(self) -> list[list[int]]:
        """Prompts without padding."""
        rows = zip(self.data["prompt_ids"], self.data["prompt_lengths"], strict=True)
        return [row[len(row) - length :] for row, length in rows]

    def model(self) -> Transformer:
        return _model(self.path.parents[2] / "models" / self.data["model"])

    @property
    def dream(self) -> bool:
        """Whether row ``j - 1`` predicts token ``j``."""
        return self.model().config.shift == 1

    @cached_property
    def canvases(self) -> list[list[list[int]]]:
        """Per model call and sequence, the generated part after it."""
        calls = self.expected["trajectory"]
        return [[canvas] for canvas in calls] if self.batch == 1 else calls

    def with_expected(self, **changed: Any) -> Case:
        """This case with other expectations."""
        return Case(self.path, {**self.data, "expected": {**self.expected, **changed}})


def cases(*folders: Path) -> list[Case]:
    """All cases at or below the ``folders`` that exist, each once."""
    found: dict[str, Case] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*.json")):
            if path.parents[1].name == "cases":
                case = Case.read(path)
                found.setdefault(case.id, case)
    return list(found.values())


@memoize
def _model(folder: Path) -> Transformer:
    return load_model(folder)
