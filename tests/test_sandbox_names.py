"""Tasks that ask for a function with the name of a built-in are about the program's function."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from evaluation.sandbox import Sandbox
from evaluation.tasks import humaneval, nano_code
from tests.layers import all_layers

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="programs are not run on Windows")


@all_layers
def test_no_file_is_cut_short_by_its_name(tmp_path: Path) -> None:
    """Landlock has this from its third version."""
    file = tmp_path / "file"
    file.write_text("text")
    with Sandbox(["namespaces", "landlock"]) as sandbox:
        outcome = sandbox.run(f"import os\nos.truncate({str(file)!r}, 0)\n")
    assert str(outcome).startswith("failed: PermissionError: [Errno 1]")
    assert file.read_text() == "text"


@pytest.mark.parametrize(("body", "score"), [("    return x[-1]\n", 1.0), ("    return 0\n", 0.0)])
def test_the_function_of_the_program_is_judged_whatever_its_name(sandbox: Sandbox, body: str, score: float) -> None:
    prompt, tests = "def max(x):\n", "assert max([1, 2]) == 2\n"
    assert nano_code.execute(sandbox, {"prompt": prompt, "tests": tests}, [body])["pass@1"] == score
    check = "def check(candidate):\n    assert candidate([1, 2]) == 2\n"
    doc = {"prompt": prompt, "entry_point": "max", "test": check, "task_id": "0"}
    assert humaneval.execute(sandbox, doc, [prompt + body])["pass@1"] == score
