"""Programs in new processes, forked from one that has imported torch and lm-eval (`tests.fork_server`).

A process that is started here looks like ``python *arguments``: arguments, environment, folder, files, session and exit
status. `run_cold` is a true start of the interpreter, for tests of what happens then.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from subprocess import CompletedProcess
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
ADDRESS = "CACHE_ZOO_TESTS_FORK_SERVER"
"""Environment variable with the server's address: the processes of pytest-xdist share one."""
_IMPORTED = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
"""What libraries read from the environment as they are imported."""


def environment(**changes: str) -> dict[str, str]:
    """That of this process, with this checkout on the path, one thread and no network."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **_IMPORTED, **changes}


def start_server() -> None:
    """Start the server unless it runs. It ends with this process, and imports its libraries while tests run."""
    if ADDRESS in os.environ:
        return
    folder = Path(tempfile.mkdtemp())
    address = folder / "socket"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(address))
        listening.listen(64)
        alive, ours = os.pipe()
        command = [sys.executable, str(ROOT / "tests" / "fork_server.py"), str(listening.fileno()), str(alive)]
        variables = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
        server = subprocess.Popen(
            command, cwd="/", env=variables, stdin=subprocess.DEVNULL, pass_fds=(listening.fileno(), alive)
        )
    os.close(alive)
    os.environ[ADDRESS] = str(address)

    def stop() -> None:
        os.close(ours)
        server.wait()
        shutil.rmtree(folder)

    atexit.register(stop)


class Process:
    """A started program. Standard output and error go to files, so it never waits for a reader.

    Args:
        arguments: as after ``python``.
        cwd: folder to run in.
        env: the whole environment.
        stdin: a file to read from; nothing otherwise.
        terminal: the file that stands for all three streams.
        start_new_session: make it the leader of a process group.
        cold_workers: start its `multiprocessing` workers by a true start of the interpreter.

    Attributes:
        returncode: exit status, negative for a signal; None until `wait` or `poll` finds it.
        out, err: standard output and error, once it has ended.
    """

    def __init__(
        self,
        arguments: list[str],
        *,
        cwd: Path | str = ROOT,
        env: Mapping[str, str] | None = None,
        stdin: IO[bytes] | None = None,
        terminal: int | None = None,
        start_new_session: bool = False,
        cold_workers: bool = False,
    ) -> None:
        variables = dict(environment() if env is None else env)
        assert variables.items() >= _IMPORTED.items(), "use `run_cold` for programs in another environment"
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self.returncode: int | None = None
        self.pid, self.out, self.err = 0, "", ""
        start_server()
        request = {
            "arguments": arguments,
            "cwd": str(cwd),
            "environment": variables,
            "start_new_session": start_new_session,
            "cold_workers": cold_workers,
        }
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(os.environ[ADDRESS])
        with open(os.devnull, "rb") as nothing:
            files = [terminal] * 3 if terminal is not None else [stdin or nothing, self._out, self._err]
            numbers = [file if isinstance(file, int) else file.fileno() for file in files]
            message = json.dumps(request).encode() + b"\n"
            sent = socket.send_fds(self._connection, [message], numbers)
            self._connection.sendall(message[sent:])
        self._received = b""
        self.pid = int(self._answer(240)["pid"])

    def _answer(self, timeout: float | None) -> dict[str, Any]:
        """The server's next line."""
        while b"\n" not in self._received:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            part = self._connection.recv(4096)
            assert part, "the fork server died"
            self._received += part
        line, _, self._received = self._received.partition(b"\n")
        return dict(json.loads(line))

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.send_signal(signal.SIGKILL)
        self.wait()

    def poll(self) -> int | None:
        """Exit status, negative for a signal, or None if it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = 240) -> int:
        """Exit status, negative for a signal; raises `subprocess.TimeoutExpired`."""
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(self._answer(timeout)["status"])
            self._connection.close()
            self.out, self.err = _content(self._out), _content(self._err)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    with file:
        return file.read().decode().replace("\r\n", "\n")


def run(arguments: list[str], **options: Any) -> CompletedProcess[str]:
    """Like `subprocess.run` with captured output, of ``python *arguments``; the options are those of `Process`."""
    with Process(arguments, **options) as process:
        code = process.wait()
    return CompletedProcess(arguments, code, process.out, process.err)


def run_cold(arguments: list[str], **options: Any) -> CompletedProcess[str]:
    """The same with a new interpreter."""
    options = {"cwd": ROOT, "env": environment(), "timeout": 240, **options}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, **options)
