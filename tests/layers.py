"""Shared by tests of the sandbox: the layers that this machine lacks; tests that need them are skipped."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path

import pytest

from evaluation.sandbox import Sandbox, SandboxError, Verdict


def run_program(program: str, tests: str = "", disable: Collection[str] = ()) -> Verdict:
    """Run a program in a new sandbox."""
    with Sandbox(disable) as sandbox:
        return sandbox.run(program, tests)


def _missing() -> list[str]:
    if sys.platform == "win32":
        return []
    try:
        run_program("")
    except SandboxError as error:
        if not error.missing:
            raise
        return error.missing
    return []


MISSING = _missing()
REASON = f"this machine lacks layers of the sandbox: {', '.join(MISSING)}"

all_layers = pytest.mark.skipif(bool(MISSING), reason=REASON)


def descendants(process: int) -> set[int]:
    """Processes that a process started, directly or not."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has just ended
    found = {process}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {process}
