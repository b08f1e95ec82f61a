"""One process per program: it starts the program and its judge, ends both in time and reports the verdict."""

from __future__ import annotations

import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from . import judge, messages, namespaces, program, syscalls
from .layers import Layers
from .limits import Limits

_EXIT_SECONDS = 0.5  # for a process that has closed its pipe to end


def supervise(layers: Layers, limits: Limits, parent: str | None, source: int) -> dict[str, str]:
    """Run one program against its tests.

    Both texts are read after the two processes were forked: the program's process has never held the tests.

    Args:
        layers: isolation of both processes.
        limits: of each process.
        parent: where the program's folder is made if it has no file tree of its own; the folder is left there.
        source: descriptor from which the program and the tests are read.

    Returns:
        Reason and detail of a verdict.

    Raises:
        OSError: no process, pipe or folder is available, or a layer can't be set.
    """
    if sys.platform.startswith("linux"):
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    asks, answers, tests, verdicts = (os.pipe() for _ in range(4))  # (reading end, writing end)

    def run_judge(tests: int, asks: int, answers: int, verdict: int) -> None:
        text, own = messages.read_json(tests)
        messages.write_json(verdict, judge.judge(text, own, asks, answers))

    # before the folder and the program's PID namespace are made, so that the judge is outside of both
    judging = _start(run_judge, (tests[0], asks[1], answers[0], verdicts[1]), lambda: layers.confine(limits, None))
    folder = _make_folder(layers, limits.disk, parent)

    def enter() -> None:
        os.chdir(os.path.join(folder, "run"))
        layers.confine(limits, folder)

    running = _start(program.run, (asks[0], answers[1]), enter)
    for pipe in (asks[0], *answers, tests[0], verdicts[1]):
        os.close(pipe)
    texts = messages.read(source), messages.read(source)
    start = time.monotonic()
    for pipe, text in zip((asks[1], tests[1]), texts, strict=True):
        with suppress(BrokenPipeError):  # the process is gone; the reason is found below
            messages.write(pipe, text)
        os.close(pipe)
    ready, _, _ = select.select([verdicts[0]], [], [], limits.seconds)
    reason, detail = _read_verdict(verdicts[0]) if ready else ("timeout", "")
    if reason == "gone":
        reason, detail = _why_gone(running, min(start + limits.seconds, time.monotonic() + _EXIT_SECONDS))
    out_of_time = [_end(process, limits.cpu) for process in (running, judging)]
    if reason == "crashed" and any(out_of_time):
        reason, detail = "timeout", ""
    if "namespaces" not in layers.names:
        _end_orphans()
    return {"reason": reason, "detail": detail}


def _start(action: Callable[..., None], pipes: Sequence[int], confine: Callable[[], None]) -> int:
    """Start a process that is confined, then does something with these descriptors, its only ones.

    Raises:
        OSError: it could not be confined.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            complaints, *own = _keep_only([writer, *pipes])
            try:
                if sys.platform.startswith("linux"):
                    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
                os.setsid()
                confine()
            except BaseException as error:
                os.write(complaints, (str(error) or type(error).__name__).encode("utf-8", "replace")[:300])
                raise
            os.close(complaints)
            action(*own)
        finally:
            os._exit(0)  # skips exit handlers
    os.close(writer)
    complaint = os.read(reader, 1000)
    os.close(reader)
    if complaint:
        os.waitpid(child, 0)
        raise OSError(complaint.decode("utf-8", "replace"))
    return child


def _keep_only(pipes: Sequence[int]) -> list[int]:
    """Close all other descriptors; these become 3, 4, ..., and 0, 1 and 2 lead to the null device."""
    beyond = max(pipes) + 1
    for index, pipe in enumerate(pipes):
        os.dup2(pipe, beyond + index)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    own = [os.dup2(beyond + index, 3 + index, inheritable=False) for index in range(len(pipes))]
    os.closerange(3 + len(pipes), 1024)
    return own


def _make_folder(layers: Layers, size: int, parent: str | None) -> str:
    """A new folder with an empty folder ``run`` in it, which the program may remove."""
    if "namespaces" in layers.names:
        namespaces.fresh_folder(size)
        folder = namespaces.WORK
    else:
        folder = tempfile.mkdtemp(dir=parent)
    os.mkdir(os.path.join(folder, "run"))
    return folder


def _read_verdict(pipe: int) -> judge.Result:
    try:
        reason, detail = messages.read_json(pipe)
    except EOFError:
        return "crashed", "the process of the tests ended"
    return reason, detail


def _why_gone(process: int, until: float) -> judge.Result:
    """How a process that has closed its pipe ended; it is given time to end."""
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        return "exited", ""
    while time.monotonic() < until:
        # WNOWAIT: until the process is waited for, no other process gets its id
        status = os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if status is None:
            time.sleep(0.002)
        elif status.si_code == os.CLD_EXITED:
            return "exited", f"status {status.si_status}"
        else:
            return "crashed", signal.strsignal(status.si_status) or f"signal {status.si_status}"
    return "crashed", "it closed the pipe of its answers"


def _end(process: int, cpu: int) -> bool:
    """Kill a process and its group and wait until it is gone; with it dies the PID namespace that it was first in.

    Returns:
        Whether the limit of ``cpu`` seconds had already ended it.
    """
    # macOS refuses if only the finished process itself is left
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)
    _, status, used = os.wait4(process, 0)
    killer = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    # a process that ignores SIGXCPU gets SIGKILL a second later
    return killer == signal.SIGXCPU or (killer == signal.SIGKILL and used.ru_utime + used.ru_stime >= cpu)


def _end_orphans() -> None:
    """Kill what the program started and left behind; on Linux these are children of this process by now."""
    with suppress(ChildProcessError):
        while True:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            for stat in Path("/proc").glob("[0-9]*/stat"):
                with suppress(OSError):
                    if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                        os.kill(int(stat.parent.name), signal.SIGKILL)
            time.sleep(0.001)
