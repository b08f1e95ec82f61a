"""One process per program: it starts the judge and the program, ends both in time and says what became of them."""

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

from . import frames, judge, kernel, namespaces, program
from .confine import Layers
from .terms import Limits

_SEES_END = 0.5  # seconds for which a process that has closed its pipe may go on ending


def keep(layers: Layers, budget: Limits, place: str | None, source: int) -> dict[str, str | float]:
    """Run one program against its tests.

    Both texts are read only after the processes that must not know them were forked: the program's process has never
    held the tests.

    Args:
        layers: what to cut the processes off with.
        budget: what each may use.
        place: where the program's folder is made, if not in a tree of its own; it is left there.
        source: descriptor from which the program and the tests are read.

    Returns:
        Reason, detail and seconds of an `Outcome`.

    Raises:
        OSError: no process, pipe or folder can be had, or a layer can't be set.
    """
    if sys.platform.startswith("linux"):
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    asks, answers, tests, verdicts = (os.pipe() for _ in range(4))  # each to read, to write

    def run_judge(tests: int, asks: int, answers: int, verdict: int) -> None:
        text, own = frames.read_json(tests)
        frames.write_json(verdict, judge.judge(text, own, asks, answers))

    # before the program's process number space is made, so that it is outside of that
    judging = _start(run_judge, (tests[0], asks[1], answers[0], verdicts[1]), lambda: layers.confine(budget, None))
    folder = _folder(layers, budget.disk, place)

    def enter() -> None:
        os.chdir(os.path.join(folder, "run"))
        layers.confine(budget, folder)

    running = _start(program.run, (asks[0], answers[1]), enter)
    for pipe in (asks[0], *answers, tests[0], verdicts[1]):
        os.close(pipe)
    texts = frames.read(source), frames.read(source)
    start = time.monotonic()
    for pipe, text in zip((asks[1], tests[1]), texts, strict=True):
        with suppress(BrokenPipeError):  # why it is gone is known below
            frames.write(pipe, text)
        os.close(pipe)
    ready, _, _ = select.select([verdicts[0]], [], [], budget.seconds)
    reason, detail = _verdict(verdicts[0]) if ready else ("timeout", "")
    if reason == "gone":
        reason, detail = _why_gone(running, min(start + budget.seconds, time.monotonic() + _SEES_END))
    out_of_time = [_end(process, budget.cpu) for process in (running, judging)]
    if reason == "crashed" and any(out_of_time):
        reason, detail = "timeout", ""
    if "namespaces" not in layers.names:
        _end_orphans()
    return {"reason": reason, "detail": detail, "seconds": time.monotonic() - start}


def _start(action: Callable[..., None], pipes: Sequence[int], confine: Callable[[], None]) -> int:
    """A process that is confined and then does something with these descriptors, its only ones.

    Raises:
        OSError: it could not be confined.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            complaints, *own = _only([writer, *pipes])
            try:
                if sys.platform.startswith("linux"):
                    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
                os.setsid()
                confine()
            except BaseException as error:
                os.write(complaints, (str(error) or type(error).__name__).encode("utf-8", "replace")[:300])
                raise
            os.close(complaints)
            action(*own)
        finally:
            os._exit(0)  # nothing that was registered for the end runs
    os.close(writer)
    complaint = os.read(reader, 1000)
    os.close(reader)
    if complaint:
        os.waitpid(child, 0)
        raise OSError(complaint.decode("utf-8", "replace"))
    return child


def _only(pipes: Sequence[int]) -> list[int]:
    """Close all descriptors but these, which become 3, 4, ...; 0, 1 and 2 lead nowhere."""
    beyond = max(pipes) + 1
    for place, pipe in enumerate(pipes):
        os.dup2(pipe, beyond + place)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for place in range(3):
        os.dup2(nowhere, place)
    own = [os.dup2(beyond + place, 3 + place, inheritable=False) for place in range(len(pipes))]
    os.closerange(3 + len(pipes), 1024)
    return own


def _folder(layers: Layers, size: int, place: str | None) -> str:
    """A new folder with an empty folder ``run`` in it, which may be removed."""
    if "namespaces" in layers.names:
        namespaces.fresh_folder(size)
        folder = namespaces.WORK
    else:
        folder = tempfile.mkdtemp(dir=place)
    os.mkdir(os.path.join(folder, "run"))
    return folder


def _verdict(pipe: int) -> judge.Verdict:
    try:
        reason, detail = frames.read_json(pipe)
    except EOFError:
        return "crashed", "the process of the tests ended"
    return reason, detail


def _why_gone(process: int, until: float) -> judge.Verdict:
    """What became of a process that has closed its pipe; it is given time to end."""
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        return "exited", ""
    while time.monotonic() < until:
        # it is waited for later: as long as it is not, its number belongs to no other process
        found = os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None:
            time.sleep(0.002)
        elif found.si_code == os.CLD_EXITED:
            return "exited", f"status {found.si_status}"
        else:
            return "crashed", signal.strsignal(found.si_status) or f"signal {found.si_status}"
    return "crashed", "it closed the pipe of its answers"


def _end(process: int, cpu: int) -> bool:
    """Kill a process and its group, and wait until it is gone; with it goes the number space that it was first in.

    Returns:
        Whether the limit of processor time, these seconds, had ended it before.
    """
    # macOS refuses where nobody is left but the finished process itself
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)
    _, status, used = os.wait4(process, 0)
    by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    # who ignores the first signal of that limit gets the second a second later
    return by == signal.SIGXCPU or (by == signal.SIGKILL and used.ru_utime + used.ru_stime >= cpu)


def _end_orphans() -> None:
    """Kill what the program started and left behind: on Linux all of that are children of this process by now."""
    with suppress(ChildProcessError):
        while True:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            for stat in Path("/proc").glob("[0-9]*/stat"):
                with suppress(OSError):
                    if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                        os.kill(int(stat.parent.name), signal.SIGKILL)
            time.sleep(0.001)
