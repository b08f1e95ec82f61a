"""A process that has imported the slow libraries and forks a copy of itself for each program to run.

Importing torch and lm-eval takes seconds, which dozens of tests would pay for. Only third-party libraries are imported
here: the project's own modules are imported anew by each program. `tests.processes` is the client.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import multiprocessing.process
import multiprocessing.util
import os
import runpy
import select
import signal
import socket
import sys
import threading
from typing import Any, NoReturn

LIBRARIES = (
    "torch torch.utils.data transformers tokenizers safetensors.torch datasets accelerate lm_eval.evaluator "
    "lm_eval.tasks lm_eval.api.model hydra hydra.main omegaconf pandas scipy.stats sympy math_verify pydantic "
    "jinja2 rich.live pytest pip"
).split()


def serve(listening: socket.socket, alive: int) -> dict[str, Any]:
    """Fork for every request until ``alive`` is closed. Returns the request, in each of the processes forked."""
    poll = select.poll()
    poll.register(listening, select.POLLIN)
    poll.register(alive, select.POLLIN)
    children: dict[int, tuple[int, socket.socket]] = {}
    while True:
        for ready, _ in poll.poll():
            if ready == alive:
                os._exit(0)
            if ready in children:
                pid, connection = children.pop(ready)
                poll.unregister(ready)
                os.close(ready)
                answer = json.dumps({"status": os.waitpid(pid, 0)[1]})
                with contextlib.suppress(OSError):  # its client is gone
                    connection.sendall(answer.encode() + b"\n")
                connection.close()
                continue
            connection, _ = listening.accept()
            message, descriptors, _, _ = socket.recv_fds(connection, 1 << 20, 3)
            while not message.endswith(b"\n"):
                message += connection.recv(1 << 20)
            pid = os.fork()
            if pid == 0:
                for file in (listening, *(other for _, other in children.values())):
                    file.close()
                for number in (alive, *children):
                    os.close(number)
                request: dict[str, Any] = json.loads(message)
                become(request, descriptors)
                connection.sendall(json.dumps({"pid": os.getpid()}).encode() + b"\n")
                connection.close()
                return request
            for number in descriptors:
                os.close(number)
            watched = os.pidfd_open(pid)
            children[watched] = pid, connection
            poll.register(watched, select.POLLIN)


def become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Give this process the environment, folder and streams of the request."""
    if request["start_new_session"]:
        os.setsid()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    # the default, since a shell's background jobs ignore interrupts
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    multiprocessing.process.ORIGINAL_DIR = request["cwd"]  # type: ignore[attr-defined]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        stream.reconfigure(
            line_buffering=number == 2 or stream.isatty(),
            errors="backslashreplace" if number == 2 else "strict",
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    path = [entry for entry in request["environment"].get("PYTHONPATH", "").split(os.pathsep) if entry]
    sys.path[:1] = path
    importlib.invalidate_caches()


def spawn_by_fork(_: object, arguments: list[Any], descriptors: tuple[int, ...]) -> int:
    """For `multiprocessing`: a process that runs ``python -c code`` with these files open, and imports little anew."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        kept = {0, 1, 2, *descriptors}
        for number in map(int, os.listdir("/proc/self/fd")):
            if number not in kept:
                with contextlib.suppress(OSError):  # the folder listed is closed
                    os.close(number)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        atexit._clear()
        given = [os.fsdecode(argument) for argument in arguments]
        run_and_exit(given[given.index("-c") :])
    finally:
        os._exit(1)


def run_and_exit(arguments: list[str]) -> NoReturn:
    """Do what ``python *arguments`` does, with its exit status, but for the half second it takes to free all memory."""
    status = 1
    try:
        try:
            execute(arguments)
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
        except BaseException as error:
            sys.excepthook(*sys.exc_info())
            if isinstance(error, KeyboardInterrupt):
                status = -signal.SIGINT
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                try:
                    stream.flush()
                except OSError:
                    status = 120
        if status == -signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        os._exit(status & 0xFF)


def execute(arguments: list[str]) -> None:
    """Run the program as the main module."""
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        sys.path.insert(0, "")
        exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = arguments
        sys.path.insert(0, os.path.dirname(os.path.abspath(arguments[0])))
        runpy.run_path(arguments[0], run_name="__main__")


def main() -> None:
    """Import, serve, and in each forked process run what was asked for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listening, alive = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    request = serve(listening, alive)
    if not request["cold_workers"]:
        multiprocessing.util.spawnv_passfds = spawn_by_fork  # type: ignore[assignment]
    run_and_exit(request["arguments"])


if __name__ == "__main__":
    main()
