"""The warm interpreter. It makes its own tree, then forks a keeper for each program that it is told of.

It reads, on its standard input: the layers to go without, and a folder for what programs write if ``namespaces`` is one
of them; then for each program its `Limits`, itself and its tests.
It writes, on its standard output: the layers that are missing; then for each program that it is ready for it, and what
became of it.
"""

from __future__ import annotations

import gc
import os
import signal
import sys

from . import confine, folders, frames, kernel, library, namespaces
from .confine import Layers
from .keeper import keep
from .terms import NAMES, Limits

_IN, _OUT = 0, 1


def serve() -> None:
    """Serve until the input ends."""
    os.environ.clear()
    sys.argv[:] = [""]  # a program that looks finds no arguments
    sys.setrecursionlimit(sys.getrecursionlimit() + 50)  # for what is below a program's own frames
    library.load()
    try:
        without, folder = frames.read_json(_IN)
    except EOFError:
        return
    found = library.find()
    missing = confine.missing(found, without)
    layers = Layers(frozenset(NAMES) - frozenset(missing), found)
    frames.write_json(_OUT, missing)
    if "namespaces" in layers.names:
        namespaces.enter(found)
        _go_on_as_child()
    if sys.platform.startswith("linux"):
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)  # no other process of the user reads its memory
    gc.collect()
    gc.freeze()  # so that children share the memory
    while True:
        if folder is not None:
            folders.empty(folder)  # of what the program before has left; that may take time, which is no program's
        try:
            frames.write_json(_OUT, "ready")
            budget = Limits(**frames.read_json(_IN))
        except (EOFError, OSError):
            return
        if not _keep(layers, budget, folder):
            return


def _keep(layers: Layers, budget: Limits, folder: str | None) -> bool:
    """Have a program run and say what became of it; False where the rest of the input is of no use."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if sys.platform.startswith("linux"):
                kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
            frames.write_json(writer, keep(layers, budget, folder, _IN))
        except (OSError, ValueError) as error:
            frames.write_json(writer, {"reason": "broken", "detail": str(error), "seconds": 0.0})
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)  # so that nobody is told before the last process is gone; what it says is short
    try:
        outcome = frames.read_json(reader)
    except EOFError:
        return False
    finally:
        os.close(reader)
    frames.write_json(_OUT, outcome)
    return bool(outcome["reason"] != "broken")


def _go_on_as_child() -> None:
    """Become the first process of the new number space: all others in it die with this one."""
    child = os.fork()
    if child:
        os.close(_IN)
        os.waitpid(child, 0)
        os._exit(0)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
