"""The layers of isolation: which of them work here, and how a process enters them before it runs untrusted code."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass

from . import landlock, namespaces, rlimits, seccomp, syscalls
from .limits import LAYERS, Limits
from .visible_files import VisibleFiles


@dataclass(frozen=True)
class Layers:
    """The names of the layers in use, and the files that may be read."""

    names: frozenset[str]
    files: VisibleFiles

    def confine(self, limits: Limits, folder: str | None) -> None:
        """Isolate this process for good; it may write to ``folder`` only.

        Raises:
            OSError, ValueError: a layer could not be set.
        """
        rlimits.restrict(limits.cpu, limits.file_size)
        if "memory" in self.names:
            rlimits.restrict_memory(limits.memory)
        if sys.platform.startswith("linux"):
            syscalls.drop_capabilities()
            syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        own_tree = "namespaces" in self.names
        if "landlock" in self.names:
            # a tree of its own has nothing but these files
            landlock.restrict(self.files.roots if own_tree else self.files.parts, folder)
        if "seccomp" in self.names:
            seccomp.install(own_tree)


def missing(files: VisibleFiles, disabled: list[str]) -> dict[str, str]:
    """The layers that don't work here, each tried, with the reason; that of ``disabled`` ones is empty."""
    trials: dict[str, Callable[[], None]] = {
        "landlock": _try_landlock,
        "memory": _try_memory,
        "namespaces": lambda: _try_namespaces(files),
        "seccomp": _try_seccomp,
    }
    reasons = {name: "" if name in disabled else attempt(trials[name]) for name in LAYERS}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def attempt(action: Callable[[], None]) -> str | None:
    """Do something in a child process: what went wrong, or None."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        reason = ""
        try:
            action()
        except BaseException as error:
            reason = str(error) or type(error).__name__
        finally:
            os.write(writer, b"+" + reason.encode("utf-8", "replace")[:200])
            os._exit(0)
    os.close(writer)
    answer = os.read(reader, 1000)
    os.close(reader)
    os.waitpid(child, 0)
    return answer[1:].decode("utf-8", "replace") or None if answer else "the trial was killed"


def _try_landlock() -> None:
    landlock.version()
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    landlock.restrict([], None)
    _must_fail(lambda: os.listdir("/"), "files are not refused")


def _try_memory() -> None:
    if sys.platform == "darwin":
        raise OSError("macOS does not limit address space")
    rlimits.restrict_memory(2**28)
    try:
        bytearray(2**28)
    except MemoryError:
        return
    raise OSError("memory is not refused")


def _try_namespaces(files: VisibleFiles) -> None:
    namespaces.enter(files)
    if reason := attempt(lambda: namespaces.fresh_folder(2**20)):
        raise OSError(reason)
    if os.path.exists("/proc"):
        raise OSError("the old tree is still there")


def _try_seccomp() -> None:
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    seccomp.install(own_tree=True)
    _must_fail(lambda: socket.socket(socket.AF_UNIX), "sockets are not refused")
    _must_fail(os.fork, "new processes are not refused")


def _must_fail(action: Callable[[], object], otherwise: str) -> None:
    try:
        action()
    except OSError:
        return
    raise OSError(otherwise)
