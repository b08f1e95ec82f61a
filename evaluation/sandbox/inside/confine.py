"""The layers: which of them are here, and what a process gives up before it runs code that is not ours."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass

from . import kernel, landlock, limits, namespaces, seccomp
from .library import Library
from .terms import NAMES, Limits


@dataclass(frozen=True)
class Layers:
    """The layers in use.

    Attributes:
        names: of them.
        library: files that may be read.
    """

    names: frozenset[str]
    library: Library

    def confine(self, budget: Limits, folder: str | None) -> None:
        """Cut this process off, for good.

        Args:
            budget: what it may use.
            folder: what it may write, if anything.

        Raises:
            OSError, ValueError: a layer can't be set.
        """
        limits.restrict(budget.cpu, budget.file_size)
        if "memory" in self.names:
            limits.restrict_memory(budget.memory)
        if sys.platform.startswith("linux"):
            kernel.drop_capabilities()
            kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        if "landlock" in self.names:
            # the own tree has nothing but the library
            landlock.restrict(self.library.roots if "namespaces" in self.names else self.library.parts, folder)
        if "seccomp" in self.names:
            seccomp.install(own_tree="namespaces" in self.names)


def missing(library: Library, without: list[str]) -> dict[str, str]:
    """Which layers don't work here and why; each is tried, not looked up.

    Args:
        library: what the tree would have.
        without: layers not to try; their reason is empty.
    """
    trials: dict[str, Callable[[], None]] = {
        "landlock": _try_landlock,
        "memory": _try_memory,
        "namespaces": lambda: _try_namespaces(library),
        "seccomp": _try_seccomp,
    }
    found = {name: "" if name in without else attempt(trials[name]) for name in NAMES}
    return {name: reason for name, reason in found.items() if reason is not None}


def attempt(action: Callable[[], None]) -> str | None:
    """Do something in a child; what went wrong, or None."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = ""
        try:
            action()
        except BaseException as error:
            said = str(error) or type(error).__name__
        finally:
            os.write(writer, b"+" + said.encode("utf-8", "replace")[:200])
            os._exit(0)
    os.close(writer)
    answer = os.read(reader, 1000)
    os.close(reader)
    os.waitpid(child, 0)
    return answer[1:].decode("utf-8", "replace") or None if answer else "the trial was killed"


def _try_landlock() -> None:
    landlock.version()
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    landlock.restrict([], None)
    _must_fail(lambda: os.listdir("/"), "files are not refused")


def _try_memory() -> None:
    if sys.platform == "darwin":
        raise OSError("macOS does not limit address space")
    limits.restrict_memory(2**28)
    try:
        bytearray(2**28)
    except MemoryError:
        return
    raise OSError("memory is not refused")


def _try_namespaces(library: Library) -> None:
    namespaces.enter(library)
    if reason := attempt(lambda: namespaces.fresh_folder(2**20)):
        raise OSError(reason)
    if os.path.exists("/proc"):
        raise OSError("the old tree is still there")


def _try_seccomp() -> None:
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    seccomp.install(own_tree=True)
    _must_fail(lambda: socket.socket(socket.AF_UNIX), "sockets are not refused")
    _must_fail(os.fork, "new processes are not refused")


def _must_fail(action: Callable[[], object], otherwise: str) -> None:
    try:
        action()
    except OSError:
        return
    raise OSError(otherwise)
