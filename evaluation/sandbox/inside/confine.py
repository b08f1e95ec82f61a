"""The layers: which of them are here, and what a process gives up before it runs code that is not ours."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass

from . import kernel, landlock, limits, namespaces, seccomp
from .terms import NAMES, Limits


@dataclass(frozen=True)
class Layers:
    """The layers in use.

    Attributes:
        names: of them.
        readable: absolute paths of the standard library and what it needs.
    """

    names: frozenset[str]
    readable: list[str]

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
            landlock.restrict(self.readable, folder)
        if "seccomp" in self.names:
            seccomp.install(own_tree="namespaces" in self.names)


def missing(readable: list[str], without: list[str]) -> dict[str, str]:
    """Which layers don't work here and why; each is tried, not looked up.

    Args:
        readable: what the tree would have.
        without: layers not to try; their reason is empty.
    """
    trials: dict[str, Callable[[], None]] = {
        "landlock": _try_landlock,
        "memory": _try_memory,
        "namespaces": lambda: _try_namespaces(readable),
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


def library() -> list[str]:
    """What the interpreter reads: standard library, shared libraries, two devices."""
    base = sys.base_prefix
    wanted = {"/usr", "/lib", "/lib64", f"{base}/lib", f"{base}/{sys.platlibdir}", "/etc/ld.so.cache"}
    wanted |= {os.devnull, "/dev/urandom"} | {path for path in sys.path if path}
    try:
        with open("/proc/self/maps", encoding="utf-8") as file:
            mapped = [line.split(maxsplit=5)[5].strip() for line in file if line.count("/")]
        wanted |= {os.path.dirname(path) for path in mapped if ".so" in os.path.basename(path)}
    except OSError:
        pass  # not everywhere
    wanted |= {os.path.realpath(path) for path in wanted}
    return sorted(path for path in wanted if os.path.isabs(path) and path != "/" and os.path.exists(path))


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


def _try_namespaces(readable: list[str]) -> None:
    namespaces.enter(readable)
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
