"""lm-eval's keys of metrics: ``metric,filter`` for the value, ``metric_stderr,filter`` for its standard error."""

from __future__ import annotations


def is_value(key: str) -> bool:
    """Whether it is the key of a value; others are those of standard errors and of what is no metric."""
    return "," in key and "_stderr," not in key


def is_outcome(key: str) -> bool:
    """Whether the values are words: why a program failed."""
    return key.startswith("outcome,")


def stderr_key(key: str) -> str:
    """The key of the standard error of a value."""
    metric, _, variant = key.partition(",")
    return f"{metric}_stderr,{variant}"
