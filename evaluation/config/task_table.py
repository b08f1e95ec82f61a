"""The tasks of this package: each declared once, for readers of runs that must not load the scorers.

A new task is an entry here, a YAML file with its prompt in evaluation/tasks, and its functions in
`evaluation.tasks.scorers`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OwnTask:
    """Facts about a task scored by this package.

    Attributes:
        headline: metric and filter of the headline score.
        needs: the columns that scoring reads; they are saved with each answer.
        shots: few-shot examples where ``dataset.n_shot`` is not set; the same number stands in the YAML file.
        runs_code: scoring runs generated code.
    """

    headline: str
    needs: tuple[str, ...]
    shots: int = 0
    runs_code: bool = False


_HUMANEVAL = ("prompt", "entry_point", "test")
_MBPP = ("test_setup_code", "test_list")

OWN_TASKS = {
    "gsm8k": OwnTask("exact_match,flexible-extract", ("answer",), shots=5),
    "math-500": OwnTask("math_verify,none", ("answer",), shots=4),
    "math-500_instruct": OwnTask("math_verify,none", ("answer",)),
    "humaneval": OwnTask("pass@1,create_test", _HUMANEVAL, runs_code=True),
    "humaneval_instruct": OwnTask("pass@1,extract_code", _HUMANEVAL, runs_code=True),
    "mbpp": OwnTask("pass_at_1,none", _MBPP, shots=3, runs_code=True),
    "mbpp_instruct": OwnTask("pass_at_1,extract_code", _MBPP, shots=3, runs_code=True),
    "nano-gsm": OwnTask("exact_match,strict-match", ("answer",), shots=4),
    "nano-code": OwnTask("pass@1,none", ("prompt", "tests"), runs_code=True),
}
"""By the name of the task."""
