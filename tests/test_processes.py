"""A forked program behaves like one that the interpreter starts."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.processes import ROOT, Process, environment, run, run_cold

PROGRAMS = {
    "output": "import sys; print('out'); print('err', file=sys.stderr)",
    "place": "import os, sys; print(os.getcwd(), sys.argv, os.environ['PYTHONPATH'], __name__)",
    "files": "import os; print(len(os.listdir('/proc/self/fd')))",
    "status": "raise SystemExit(7)",
    "message": "raise SystemExit('why')",
    "at exit": "import atexit; atexit.register(print, 'bye'); print(end='no newline')",
    "killed": "import os; os.kill(os.getpid(), 9)",
    "terminated": "import os; os.kill(os.getpid(), 15)",
    "workers": "import multiprocessing\n"
    "context = multiprocessing.get_context('spawn')\n"
    "process = context.Process(target=print, args=('of a worker',)); process.start(); process.join()\n"
    "print(process.exitcode)",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_forked_program_does_what_a_started_one_does(name: str, tmp_path: Path) -> None:
    forked, started = (call(["-c", PROGRAMS[name], "a", "b c"], cwd=tmp_path) for call in (run, run_cold))
    assert (forked.returncode, forked.stdout, forked.stderr) == (started.returncode, started.stdout, started.stderr)


def test_an_exception_ends_it_with_a_traceback() -> None:
    for program, code, last in (("1/0", 1, "ZeroDivisionError: division by zero"), ("raise KeyboardInterrupt", -2, "")):
        forked = run(["-c", program])
        assert forked.returncode == code
        assert forked.stderr.startswith("Traceback (most recent call last):\n")
        assert forked.stderr.splitlines()[-1].startswith(last or "KeyboardInterrupt")


def test_modules_and_files_are_run_as_main(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("import beside, sys; print(beside.__name__, __name__, sys.argv[1:])")
    (tmp_path / "beside.py").touch()
    for arguments in (["program.py", "a"], ["-m", "program", "a"]):
        assert run(arguments, cwd=tmp_path).stdout == "beside __main__ ['a']\n"
    assert run(["-c", "import cache_zoo; print(cache_zoo.__file__)"]).stdout == f"{ROOT}/cache_zoo/__init__.py\n"


def test_an_interrupt_reaches_it_also_where_pytest_ignores_interrupts() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as the background jobs of a shell do
    try:
        done = run(["-c", "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"])
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.stdout == "True\n"


def test_a_group_of_processes_is_killed() -> None:
    with Process(["-c", "import os, time; os.fork(); time.sleep(600)"], start_new_session=True) as process:
        assert os.getpgid(process.pid) == process.pid != os.getpgid(0)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.1)
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL


def test_another_environment_needs_a_true_start() -> None:
    with pytest.raises(AssertionError, match="run_cold"):
        run(["-c", ""], env=environment(OMP_NUM_THREADS="2"))
