"""The warm interpreter: it enters its own file tree, then forks a supervisor for each program.

It reads from standard input the disabled layers and, without ``namespaces``, the folder that programs write to; then
for each program its `Limits`, its source and its tests. It writes to standard output the missing layers; then for each
program ``"ready"`` and the verdict.
"""

from __future__ import annotations

import gc
import os
import signal
import sys

from . import cleanup, layers, messages, namespaces, syscalls, visible_files
from .limits import LAYERS, Limits
from .supervisor import supervise

_IN, _OUT = 0, 1


def serve() -> None:
    """Serve until the input ends."""
    os.environ.clear()
    sys.argv[:] = [""]  # hide the arguments from programs
    sys.setrecursionlimit(sys.getrecursionlimit() + 50)  # for the frames below a program's own
    visible_files.preload()
    try:
        disabled, folder = messages.read_json(_IN)
    except EOFError:
        return
    files = visible_files.find()
    missing = layers.missing(files, disabled)
    used = layers.Layers(frozenset(LAYERS) - frozenset(missing), files)
    messages.write_json(_OUT, missing)
    if "namespaces" in used.names:
        namespaces.enter(files)
        _continue_as_child()
    if sys.platform.startswith("linux"):
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # no other process of the user reads its memory
    gc.collect()
    gc.freeze()  # children share the memory
    while True:
        if folder is not None:
            cleanup.empty(folder)  # of the previous program; it may take time, so before the next one's starts
        try:
            messages.write_json(_OUT, "ready")
            limits = Limits(**messages.read_json(_IN))
        except (EOFError, OSError):
            return
        if not _run_one(used, limits, folder):
            return


def _run_one(used: layers.Layers, limits: Limits, folder: str | None) -> bool:
    """Run a program and report its verdict; False if the rest of the input is useless."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if sys.platform.startswith("linux"):
                syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
            messages.write_json(writer, supervise(used, limits, folder, _IN))
        except (OSError, ValueError) as error:
            messages.write_json(writer, {"reason": "broken", "detail": str(error)})
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)  # report only when the last process is gone; the verdict fits into the pipe
    try:
        verdict = messages.read_json(reader)
    except EOFError:
        return False
    finally:
        os.close(reader)
    messages.write_json(_OUT, verdict)
    return bool(verdict["reason"] != "broken")


def _continue_as_child() -> None:
    """Become the first process of the new PID namespace: all others in it die with this one."""
    child = os.fork()
    if child:
        os.close(_IN)
        os.waitpid(child, 0)
        os._exit(0)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
