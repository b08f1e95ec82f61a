"""For tasks whose answers are generated and kept, but not scored."""

from __future__ import annotations

from typing import Any


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """No metrics: a score that was not measured is missing, never zero."""
    return {}


def reason(task: str) -> str:
    """Why a task whose answers are programs has no score yet, for the summary of a run."""
    return (
        f"{task} is generated and kept; its score takes running generated code: "
        "give allow_code_execution=true, or run evaluation.report.rescore later"
    )
