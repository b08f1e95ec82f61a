"""Generated programs: what passes and what does not, and that nothing they do outlives or disturbs the evaluation."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from cache_zoo import UsageError
from evaluation import sandbox
from evaluation.data import read_rows
from evaluation.sandbox import Limits, Outcome, run_program
from evaluation.settings import DatasetSettings
from evaluation.tasks.execution import count_outcomes, process_results
from evaluation.tasks.loading import load_task
from models.nano.data import ITEMS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="programs are not run on Windows")

ROWS = read_rows(ITEMS / "code" / "test.jsonl")
NOTHING = "    return None\n"


def run(program: str, seconds: float = 10.0, memory: int = 512 * 2**20) -> Outcome:
    return run_program(program, Limits(seconds, memory))


def test_all_reference_bodies_pass_and_no_empty_one_does() -> None:
    references = [row["prompt"] + row["body"] + "\n" + row["tests"] for row in ROWS]
    stubs = [row["prompt"] + NOTHING + "\n" + row["tests"] for row in ROWS]
    assert len(references) == 200
    assert str(run("\n".join(references))) == "passed"
    pooled = (
        f"failed = 0\nfor stub in {stubs!r}:\n"
        "    try:\n        exec(stub, {})\n    except AssertionError:\n        failed += 1\n"
    )
    assert str(run(pooled + "assert failed == 200, failed")) == "passed"


def test_each_answer_is_run_on_its_own() -> None:
    for row in ROWS[::10]:
        assert process_results(row, [row["body"]]) == {"pass@1": 1.0, "outcome": "passed"}
        wrong = process_results(row, [NOTHING])
        first = row["tests"].split("\n")[0]
        assert wrong == {"pass@1": 0.0, "outcome": f"failed: AssertionError: {first}"}


def test_outcomes_are_counted_by_reason() -> None:
    outcomes = ["failed: NameError: name 'x' is not defined", "passed", "failed: AssertionError", "timeout"]
    assert list(count_outcomes(outcomes).items()) == [("failed", 2), ("passed", 1), ("timeout", 1)]


@pytest.mark.parametrize(
    ("program", "outcome"),
    [
        ("", "passed"),
        ("import collections, dataclasses, functools, heapq, itertools, json, math, re, typing", "passed"),
        ("assert 1 == 2, 'one is\\nnot two'", "failed: AssertionError: one is not two"),
        ("def f(:\n", "failed: SyntaxError: invalid syntax (<program>, line 1)"),
        ("x = '\0'", "failed: "),
        ("x = '\ud800'", "failed: UnicodeEncodeError: "),
        ("import torch", "failed: ModuleNotFoundError: No module named 'torch'"),
        ("input()", "failed: EOFError: EOF when reading a line"),
        ("def f():\n    f()\nf()", "failed: RecursionError: "),
        ("class E(Exception):\n    def __str__(self):\n        raise self\nraise E", "failed: E"),
        ("raise Exception('x' * 10**6)", "failed: Exception: xxx"),
        ("raise KeyboardInterrupt", "failed: KeyboardInterrupt"),
        ("import os\nos.kill(os.getpid(), 11)", "crashed: Segmentation fault"),
        ("import os, signal\nos.kill(os.getpid(), max(signal.valid_signals()) - 1)", "crashed: "),
        ("x = [0] * 10**10", "memory"),
    ],
)
def test_an_outcome_says_why(program: str, outcome: str) -> None:
    found = run(program)
    assert str(found).startswith(outcome)
    assert found.passed == (outcome == "passed")
    assert "\n" not in found.detail
    assert len(found.detail) <= 300


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import sys\nsys.exit(0)", "exited"),
        ("raise SystemExit", "exited"),
        ("import os\nos._exit(0)", "exited"),
        ("import os\nprint('passed')\nos.write(1, b'passed')\nos._exit(0)", "exited"),
        (
            "import os\nfor fd in range(3, 64):\n    try:\n        os.write(fd, b'passed')\n    except OSError: pass",
            "crashed",
        ),
        ("import os\nos.closerange(0, 64)\nwhile True: pass", "crashed"),
    ],
)
def test_leaving_before_the_asserts_does_not_pass(program: str, reason: str) -> None:
    outcome = run(program + "\nassert False\n")
    assert (outcome.passed, outcome.reason) == (False, reason)


def test_a_forked_child_has_nothing_to_report() -> None:
    assert not run("import os\nif os.fork():\n    os._exit(0)\n").passed


def test_an_endless_loop_that_ignores_signals_ends_in_time() -> None:
    start = time.monotonic()
    outcome = run(
        "import signal\n"
        "for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:\n"
        "    signal.signal(number, signal.SIG_IGN)\n"
        "while True:\n"
        "    try:\n        while True: pass\n"
        "    except BaseException: pass\n",
        seconds=0.5,
    )
    assert outcome.reason == "timeout"
    assert 0.5 <= outcome.seconds <= time.monotonic() - start < 1.5


@pytest.mark.parametrize("end", ["", "while True: pass\n", "os._exit(0)\n"])
def test_a_forked_child_does_not_outlive_the_program(end: str, tmp_path: Path) -> None:
    born, survived = tmp_path / "born", tmp_path / "survived"
    outcome = run(
        "import os, time\n"
        "if os.fork() == 0:\n"
        f"    open({str(born)!r}, 'w').close()\n"
        "    time.sleep(1.0)\n"
        f"    open({str(survived)!r}, 'w').close()\n"
        "    os._exit(0)\n"
        f"while not os.path.exists({str(born)!r}): time.sleep(0.01)\n" + end,
        seconds=0.7,
    )
    if os.geteuid() == 0:  # others can't fork at all
        assert born.exists()
    else:
        assert outcome.reason == "failed"
    time.sleep(1.1)
    assert not survived.exists()


@pytest.mark.skipif(sys.platform == "darwin", reason="the kernel does not limit address space")
def test_a_memory_bomb_bursts_inside() -> None:
    start = time.monotonic()
    assert run("x = 'x'\nwhile True: x += x\n", memory=128 * 2**20).reason == "memory"
    assert run("x = []\nwhile True: x.append(bytearray(2**20))\n", memory=128 * 2**20).reason == "memory"
    assert time.monotonic() - start < 10


def test_a_flood_of_output_neither_blocks_nor_is_kept() -> None:
    outcome = run("import sys\nfor _ in range(100): print('x' * 10**6); sys.stderr.write('x' * 10**6)\n")
    assert str(outcome) == "passed"


def test_files_stay_small() -> None:
    assert "File too large" in run("open('big', 'wb').write(bytes(2**26))").detail


def test_the_working_folder_is_new_empty_and_gone_afterwards(tmp_path: Path) -> None:
    note = tmp_path / "note"
    outcome = run(
        "import os\nassert os.listdir() == []\n"
        f"open({str(note)!r}, 'w').write(os.getcwd())\n"
        "os.mkdir('kept')\nopen('kept/file', 'w').write('x')\nos.chmod('kept', 0)\n"
    )
    assert str(outcome) == "passed"
    assert note.read_text() != os.getcwd()
    assert not Path(note.read_text()).exists()
    assert run("import os\nos.rmdir(os.getcwd())\n").passed


def test_nothing_is_inherited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SECRET", "1")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with (tmp_path / "secret.py").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        outcome = run(
            "import os\nassert dict(os.environ) == {}, dict(os.environ)\n"
            "try:\n    import secret\nexcept ImportError: pass\nelse: assert False\n"
            f"try:\n    os.fstat({file.fileno()})\nexcept OSError: pass\nelse: assert False\n"
        )
    assert str(outcome) == "passed"


def test_where_nothing_can_run_no_score_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    for executable, message in ((shutil.which("false"), "an empty one ended with 'exited"), ("/no/python", "No such")):
        monkeypatch.setattr(sandbox.sys, "executable", executable)
        with pytest.raises(UsageError, match=f"no program can be run here.*{message}"):
            load_task(DatasetSettings("nano-code", None, None, None, None), seed=1, execute=True)
    monkeypatch.setattr(sandbox.sys, "platform", "win32")
    with pytest.raises(UsageError, match="not on Windows"):
        run_program("")
