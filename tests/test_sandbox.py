"""Generated programs neither harm nor outlive the evaluation; the purpose of each layer."""

from __future__ import annotations

import ast
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from cache_zoo import UsageError
from evaluation.config.settings import DatasetSettings
from evaluation.sandbox import LAYERS, Limits, Sandbox, SandboxError, Verdict
from evaluation.tasks import nano_code
from evaluation.tasks.code_execution import count_outcomes
from evaluation.tasks.jsonl import read_rows
from evaluation.tasks.loading import load_task
from models.nano.data import ITEMS
from tests.attacks import HONEST, TESTS
from tests.layers import MISSING, all_layers, descendants, run_program

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="programs are not run on Windows")

ROOT = Path(__file__).resolve().parents[1]
ROWS = read_rows(ITEMS / "code" / "test.jsonl")
NOTHING = "    return None\n"
LATE = 1.0
"""Seconds by which a program may outlive its time."""


def run(sandbox: Sandbox, program: str, seconds: float = 10.0, memory: int = 512 * 2**20) -> Verdict:
    return sandbox.run(program, "", Limits(seconds=seconds, memory=memory))


def test_all_reference_bodies_pass_and_no_empty_one_does(sandbox: Sandbox) -> None:
    assert len(ROWS) == 200
    references = "\n".join(row["prompt"] + row["body"] for row in ROWS)
    stubs = "\n".join(row["prompt"] + NOTHING for row in ROWS)
    assert str(sandbox.run(references, "\n".join(row["tests"] for row in ROWS))) == "passed"
    pooled = "failed = 0\n" + "".join(
        f"try:\n    {'; '.join(row['tests'].splitlines())}\nexcept AssertionError:\n    failed += 1\n" for row in ROWS
    )
    assert str(sandbox.run(stubs, pooled + "assert failed == 200, failed")) == "passed"


def test_each_answer_is_run_on_its_own(sandbox: Sandbox) -> None:
    for row in ROWS[::10]:
        assert nano_code.execute(sandbox, row, [row["body"]]) == {"pass@1": 1.0, "outcome": "passed"}
        wrong = nano_code.execute(sandbox, row, [NOTHING])
        first = row["tests"].split("\n")[0]
        assert wrong == {"pass@1": 0.0, "outcome": f"failed: AssertionError: {first}"}


def test_outcomes_are_counted_by_reason() -> None:
    outcomes = ["failed: NameError: name 'x' is not defined", "passed", "failed: AssertionError", "timeout"]
    assert list(count_outcomes(outcomes).items()) == [("failed", 2), ("passed", 1), ("timeout", 1)]


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_can_be_switched_off(layer: str) -> None:
    with Sandbox({*MISSING, layer}) as sandbox:
        assert str(sandbox.run(HONEST, TESTS)) == "passed"
        assert str(sandbox.run("def f(x):\n    return x", TESTS)).startswith("failed: AssertionError")
        assert sandbox.run("while True: pass", TESTS, Limits(seconds=0.5)).reason == "timeout"
        assert str(sandbox.run(HONEST, TESTS)) == "passed"


@all_layers
def test_a_missing_layer_is_refused_unless_that_is_accepted() -> None:
    program = """
import os, sys
sys.path[:0] = ["evaluation/sandbox", "."]
from inside import syscalls
user = os.geteuid()
syscalls.unshare(0x10000000)  # a user namespace in which there can't be others, as in many containers
open("/proc/self/uid_map", "w").write(f"0 {user} 1")
open("/proc/sys/user/max_user_namespaces", "w").write("0")
from evaluation.sandbox import Sandbox, SandboxError
try:
    Sandbox().run("")
except SandboxError as error:
    print(error, error.missing)
print(Sandbox(["namespaces"]).run(""))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    refusal, accepted = done.stdout.splitlines()
    assert "lacks layers of the sandbox: namespaces ([Errno 28] No space left on device)" in refusal, done.stderr
    assert refusal.endswith("['namespaces']")
    assert accepted == "passed"


@all_layers
def test_files_are_out_of_reach_by_landlock_alone(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    with Sandbox(["namespaces"]) as sandbox:
        for attempt in ("open(S).read()", "open(S, 'w')", "os.listdir('/root')", "open('/proc/self/environ')",
                        "os.chmod(S, 0)", "os.utime(S)", "os.truncate(S, 0)", "os.remove(S)", "open(S + '2', 'w')",
                        "os.kill(os.getppid(), 0)", "os.rename(S, 'mine')", "os.symlink('x', S + '3')"):  # fmt: skip
            outcome = run(sandbox, f"import os\nS = {str(secret)!r}\n{attempt}\n")
            assert str(outcome).startswith("failed: PermissionError: "), (attempt, outcome)
        assert str(run(sandbox, "open('own', 'w').write('x')\nassert open('own').read() == 'x'")) == "passed"
    assert list(tmp_path.iterdir()) == [secret]
    assert secret.read_text() == "secret"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells what is left")
@pytest.mark.parametrize("without", [["seccomp"], ["namespaces", "seccomp"]], ids=" ".join)
def test_a_daemon_does_not_outlive_its_program(without: list[str]) -> None:
    with Sandbox({*MISSING, *without}) as sandbox:
        program = (
            "import os, time\n"
            "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(60)\n    os._exit(0)\n"
        )
        outcome = run(sandbox, program, seconds=2.0)
        if os.geteuid() == 0:  # others can't fork at all
            assert outcome.passed
        else:
            assert outcome.reason == "failed"
        assert sandbox._server is not None
        assert len(descendants(sandbox._server.pid)) <= 1


@pytest.mark.skipif("memory" in MISSING, reason="the layer 'memory' is missing: address space")
def test_a_memory_bomb_bursts_inside(sandbox: Sandbox) -> None:
    start = time.monotonic()
    assert run(sandbox, "x = 'x'\nwhile True: x += x\n", memory=128 * 2**20).reason == "memory"
    assert run(sandbox, "x = []\nwhile True: x.append(bytearray(2**20))\n", memory=128 * 2**20).reason == "memory"
    assert time.monotonic() - start < 10


def test_a_flood_of_output_neither_blocks_nor_is_kept(sandbox: Sandbox) -> None:
    flood = "import sys\nfor _ in range(100): print('x' * 10**6); sys.stderr.write('x' * 10**6)\n"
    assert str(run(sandbox, flood)) == "passed"


def test_files_stay_small(sandbox: Sandbox) -> None:
    assert "File too large" in run(sandbox, "open('big', 'wb').write(bytes(2**26))").detail


@pytest.mark.skipif("namespaces" in MISSING, reason="the layer 'namespaces' is missing: all files together")
def test_all_files_together_stay_small(sandbox: Sandbox) -> None:
    program = "for n in range(60):\n    open(str(n), 'wb').write(bytes(2**23))\n"
    assert "No space left" in run(sandbox, program).detail
    assert "No space left" in run(sandbox, "for n in range(10000):\n    open(str(n), 'wb').close()\n").detail


def test_the_working_folder_is_new_and_empty(sandbox: Sandbox) -> None:
    program = "import os\nassert os.listdir() == []\nos.mkdir('kept')\nopen('kept/file', 'w').write('x')\n"
    assert str(run(sandbox, program)) == "passed"
    assert str(run(sandbox, program + "os.remove('kept/file')\nos.rmdir('kept')\nos.rmdir(os.getcwd())")) == "passed"
    assert str(run(sandbox, program)) == "passed"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files that no other process uses."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_no_folder_is_left(temporary: Path) -> None:
    with Sandbox({*MISSING, "namespaces"}) as sandbox:
        assert str(run(sandbox, "import os\nos.mkdir('kept')\nopen('kept/file', 'w').write('x')")) == "passed"
    assert list(temporary.iterdir()) == []


DEEP = """
import ast
import os
for n in range(1200):
    os.mkdir("d" * 200)
    open("file", "w").close()
    os.symlink("/", "link")
    os.chdir("d" * 200)
def f(x):
    return x + 1
"""


@pytest.mark.parametrize("without", [[], ["namespaces"]], ids=["own tree", "none"])
def test_folders_of_any_depth_go(without: list[str], temporary: Path) -> None:
    with Sandbox({*MISSING, *without}) as sandbox:
        assert str(sandbox.run(DEEP, TESTS)) == "passed"
        assert str(sandbox.run("import os\nos.mkdir('locked', 0)")) == "passed"
        assert str(sandbox.run("import os\nassert os.listdir('..') == ['run'] and not os.listdir()")) == "passed"
    assert list(temporary.iterdir()) == []


def test_a_killed_server_leaves_no_folder(temporary: Path) -> None:
    with Sandbox({*MISSING, "namespaces"}) as sandbox:
        assert sandbox.run("open('a', 'w').close()\nwhile True: pass", "", Limits(seconds=0.5)).reason == "timeout"
        assert sandbox._server is not None
        sandbox._server.kill()
        assert str(sandbox.run(HONEST, TESTS)) == "passed"
        sandbox._server.kill()
    assert list(temporary.iterdir()) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere no layer holds files off")
@pytest.mark.parametrize("without", [[], ["landlock"], ["namespaces"]], ids=["all layers", "namespaces", "landlock"])
def test_installed_packages_are_out_of_sight(without: list[str]) -> None:
    if not set(MISSING) <= set(without):
        pytest.skip(f"this machine lacks {MISSING}")
    here = [
        str(ROOT),
        str(ITEMS),
        str(Path(pytest.__file__).parent),
        str(Path(pytest.__file__)),
        "/etc",
        "/proc/1/environ",
    ]
    program = (
        "import os, sys\nlibrary = os.path.dirname(os.__file__)\n"
        f"for path in {here!r} + [library + '/site-packages', sys.prefix, '/tmp']:\n"
        "    try:\n        found = os.listdir(path) if os.path.isdir(path) else open(path).read()\n"
        "    except OSError:\n        continue\n"
        "    assert not found or path == sys.prefix and found in (['lib'], ['lib64']), (path, found)\n"
        "import json, email.message, xml.etree.ElementTree, sqlite3, ssl, unittest.mock, asyncio, encodings.koi8_r\n"
    )
    with Sandbox(without) as sandbox:
        assert str(run(sandbox, program)) == "passed"


def test_nothing_is_inherited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SECRET", "1")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with (tmp_path / "secret.py").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        outcome = run_program(
            "import os, sys\nassert dict(os.environ) == {}, dict(os.environ)\n"
            "try:\n    import secret\nexcept ImportError: pass\nelse: assert False\n"
            "held = []\n"
            "for fd in range(256):\n"
            "    try:\n        os.fstat(fd)\n    except OSError: continue\n"
            "    held.append(fd)\n"
            "assert held == [0, 1, 2, 4, 5], held\n",
            disable=MISSING,
        )
    assert str(outcome) == "passed"


def test_the_same_program_ends_the_same_way() -> None:
    program = "import random\nraise Exception(hash('a'), random.random(), list(set('abcdef')))"
    first, second = (str(run_program(program, disable=MISSING)) for _ in range(2))
    assert first.startswith("failed: Exception: (")
    assert first == second


def test_a_dead_server_costs_nothing_but_time(sandbox: Sandbox) -> None:
    assert sandbox.run(HONEST, TESTS).passed
    assert sandbox._server is not None
    sandbox._server.kill()
    assert str(sandbox.run(HONEST, TESTS)) == "passed"


IGNORES = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\n"


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        ("while True: pass", TESTS),
        pytest.param(IGNORES + "while True: pass", TESTS, marks=pytest.mark.slow),
        pytest.param(IGNORES + "def f(x):\n    while True: pass", TESTS, marks=pytest.mark.slow),
        pytest.param(HONEST, "while f(1): pass", marks=pytest.mark.slow),
        pytest.param("x = 1", "while True: pass", marks=pytest.mark.slow),
        ("x = 1", IGNORES + "while True: pass"),
    ],
)
def test_processor_time_ends_a_loop(sandbox: Sandbox, program: str, tests: str) -> None:
    assert str(sandbox.run(program, tests, Limits(cpu=1, seconds=60.0))) == "timeout"


@pytest.mark.slow
def test_processor_time_ends_a_loop_of_the_tests_always(sandbox: Sandbox) -> None:
    outcomes = {str(sandbox.run("x = 1", "while True: pass", Limits(cpu=1, seconds=60.0))) for _ in range(15)}
    assert outcomes == {"timeout"}


def test_waiting_for_the_processor_counts_less_than_using_it(sandbox: Sandbox) -> None:
    program = "import time\ntime.sleep(1.5)\n" + HONEST
    assert str(sandbox.run(program, TESTS, Limits(cpu=1, seconds=60.0))) == "passed"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells what there is")
def test_a_stuck_server_is_replaced() -> None:
    with Sandbox(MISSING) as sandbox:
        assert sandbox.run(HONEST, TESTS).passed
        assert sandbox._server is not None
        ready = sandbox._server.stdout
        assert ready is not None
        assert select.select([ready], [], [], 30)[0], "it says that it is ready for the next program"
        for process in {sandbox._server.pid, *descendants(sandbox._server.pid)}:
            os.kill(process, signal.SIGSTOP)
        start = time.monotonic()
        assert sandbox.run(HONEST, TESTS, Limits(seconds=0.5)).reason == "timeout"
        assert time.monotonic() - start < 0.5 + 2 * LATE
        assert str(sandbox.run(HONEST, TESTS)) == "passed"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells what is left")
def test_a_closed_sandbox_leaves_no_process() -> None:
    with Sandbox(MISSING) as sandbox:
        assert sandbox.run(HONEST, TESTS).passed
        server = sandbox._server
        assert server is not None
        started = descendants(server.pid) | {server.pid}
    time.sleep(0.2)
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]


def test_a_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    made = Sandbox(MISSING)
    assert made.run(HONEST, TESTS).passed
    server = made._server
    assert server is not None
    assert server.stdin is not None
    server.stdin.close()  # as the end of the process does
    assert server.wait(timeout=5) is not None
    made.close()


def test_it_runs_beside_threads() -> None:
    outcomes: list[Verdict] = []
    threads = [
        threading.Thread(target=lambda: outcomes.append(run_program(HONEST, TESTS, disable=MISSING))) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [outcome.passed for outcome in outcomes] == [True, True]


def test_where_nothing_can_run_no_score_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    for executable, message in (
        (shutil.which("false"), "the interpreter ended at once|Broken pipe"),
        ("/no/python", "No such"),
    ):
        monkeypatch.setattr(sys, "executable", executable)
        with pytest.raises(UsageError, match=f"no program can run here.*({message})"):
            load_task(DatasetSettings("nano-code", None, None, None, None), seed=1, sandbox=Sandbox())
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SandboxError, match="not on Windows"):
        run_program("")


def test_unknown_layers_are_refused() -> None:
    with pytest.raises(SandboxError, match=r"unknown layer 'landlok'.*landlock"):
        run_program("", disable=["landlok"])


def test_the_sandbox_imports_the_standard_library_only() -> None:
    for file in (ROOT / "evaluation" / "sandbox").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [str(node.module).removeprefix("evaluation.sandbox")]
            assert {name.partition(".")[0] for name in names} <= {"", *sys.stdlib_module_names}, file
