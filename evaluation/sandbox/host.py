"""The evaluation's side of the sandbox: it starts the server, hands it programs and reads what became of them."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from cache_zoo import UsageError
from cache_zoo.errors import require, suggest
from evaluation.sandbox.inside import folders, frames
from evaluation.sandbox.inside.terms import NAMES, Limits

# the package is found by its folder, and nothing else is: the sandbox has the standard library only
_BOOT = "import sys; sys.path[0] = sys.argv[1]; from inside.server import serve; del sys.path[0]; serve()"
_STARTS = 60.0  # seconds; a fraction of one, unless the machine is busy
_GRACE = 0.8  # seconds after a program's time that its keeper has to say so

_REASONS = ("passed", "failed", "exited", "timeout", "memory", "crashed")
_LONGEST = 300  # characters of a detail

DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Outcome:
    """What became of a program.

    Attributes:
        passed: it ran to its end, and so did its tests.
        reason: ``passed``; ``failed``, an exception, a failed assertion among them; ``exited``, before its end;
            ``timeout``; ``memory``; ``crashed``, killed by a signal or out of step.
        detail: what more is known, on one line: the exception with its message (the line where it has none, as a plain
            assertion), exit status, signal.
        seconds: wall-clock time.
    """

    passed: bool
    reason: str
    detail: str
    seconds: float

    @classmethod
    def of(cls, reason: str, detail: str, seconds: float) -> Outcome:
        """What became of a program that may have had a say in these texts.

        They are made printable: one line, of bounded length, in which no character moves a cursor, changes the order
        of others, is not seen or can't be written to a file.
        """
        line = " ".join(detail.split())[:_LONGEST]
        shown = "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in line)
        reason = reason if reason in _REASONS else "crashed"
        return cls(reason == "passed", reason, shown[:_LONGEST], seconds)

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


class Sandbox:
    """A place to run programs in, one after the other, each untouched by those before.

    A server is started with the first program, and again if it dies. Use it as a context manager, or call `close`; a
    forgotten one ends with this process. For several threads make several.

    Args:
        without: layers to go without, of `LAYERS`.

    Raises:
        UsageError: an unknown layer, or an operating system on which programs can't be run.
    """

    def __init__(self, without: Collection[str] = ()) -> None:
        for name in without:
            require(name in NAMES, f"unknown layer '{name}' in sandbox_disable: {suggest(name, NAMES)}")
        windows = sys.platform == "win32"
        require(not windows, "allow_code_execution: generated code is run on Linux and macOS, not on Windows")
        self._without = sorted(set(without))
        self._server: subprocess.Popen[bytes] | None = None
        self._folder: str | None = None  # where programs write if they have no tree of their own

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def run(
        self, program: str, tests: str = "", limits: Limits = DEFAULT_LIMITS, names: Collection[str] = ()
    ) -> Outcome:
        """Run a program, then its tests; it passes if both run to their end.

        The tests run in a process of their own. What they name and neither define nor find among the built-ins comes
        from the program: its functions and its data. Plain data passes as a copy, anything else as a reference that
        has no attributes, so the program can't touch how its answers are judged. An exception of the program that no
        ``except`` of the tests takes fails them. Where ``tests`` is empty there is no judge: nothing but the program's
        own word says that it ran to its end.

        Its output is thrown away, its standard input is empty, and of modules it has the standard library.

        Args:
            program: Python source.
            tests: Python source, run after it.
            limits: what it may use.
            names: what the tests take from the program even if it has the name of a built-in (``sum``).

        Raises:
            UsageError: a layer is missing that was not to be gone without, or nothing can be run here.
        """
        texts = [program.encode("utf-8", "surrogatepass"), json.dumps([tests, sorted(names)]).encode()]
        if max(map(len, texts)) > frames.MOST:
            return Outcome.of("failed", f"more than {frames.MOST} bytes of source", 0.0)
        start = time.monotonic()
        found = self._ask(texts, limits) or self._ask(texts, limits)  # a dead server is no fault of the program, once
        if found is None:
            return Outcome.of("crashed", "the server of the sandbox died twice", time.monotonic() - start)
        if found["reason"] == "broken":
            self.close()
            raise UsageError(f"allow_code_execution: no program can be run here: {found['detail']}")
        return Outcome.of(**found)

    def check(self) -> None:
        """Make sure that programs can be run at all, so that a machine's fault never becomes a model's score.

        Raises:
            UsageError: they can't.
        """
        found = self.run("def one():\n    return 1\n", "assert one() == 1")
        require(found.passed, f"allow_code_execution: no program can be run here; a simple one ended with '{found}'")

    def close(self) -> None:
        """End the server and everything that it started."""
        if (server := getattr(self, "_server", None)) is not None:
            if server.stdin is not None:
                with suppress(OSError):
                    server.stdin.close()  # at which it ends
            with suppress(subprocess.TimeoutExpired):
                server.wait(timeout=1.0)
            self._kill()
        if (folder := getattr(self, "_folder", None)) is not None:
            self._folder = None
            _remove(folder)

    def _kill(self) -> None:
        if (server := self._server) is None:
            return
        self._server = None
        if server.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        for pipe in (server.stdin, server.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _ask(self, texts: list[bytes], limits: Limits) -> dict[str, Any] | None:
        """What the server says; None: it died."""
        server = self._server or self._start()
        try:
            if not _comes(server, _STARTS):
                raise OSError("it is not ready")
            frames.read_json(_reader(server))
            start = time.monotonic()
            frames.write_json(_writer(server), asdict(limits))
            for text in texts:
                frames.write(_writer(server), text)
            if not _comes(server, limits.seconds + _GRACE):
                self._kill()
                return {"reason": "timeout", "detail": "", "seconds": time.monotonic() - start}
            return dict(frames.read_json(_reader(server)))
        except (OSError, EOFError):
            self._kill()
            return None
        except BaseException:  # an interrupt: what is said later would be taken for the next program's
            self._kill()
            raise

    def _start(self) -> subprocess.Popen[bytes]:
        """Start a server and hear which layers it misses."""
        command = [sys.executable, "-s", "-S", "-B", "-X", "utf8", "-c", _BOOT, str(Path(__file__).parent)]
        try:
            if "namespaces" in self._without and self._folder is None:
                self._folder = tempfile.mkdtemp(prefix="cache-zoo-")
            server = self._server = subprocess.Popen(
                command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={"PYTHONHASHSEED": "0"},  # the same program ends the same way
                start_new_session=True,
            )
            frames.write_json(_writer(server), [self._without, self._folder])
            if not _comes(server, _STARTS):
                raise OSError(f"no answer in {_STARTS:.0f} s")
            missing = frames.read_json(_reader(server))
        except (OSError, EOFError) as error:
            self.close()
            said = str(error) or "the interpreter ended at once"
            raise UsageError(f"allow_code_execution: no program can be run here: {said}") from error
        if not set(missing) <= set(self._without):
            self.close()
            reasons = "; ".join(f"{name} ({reason})" for name, reason in missing.items() if reason)
            raise UsageError(
                f"allow_code_execution: this machine lacks layers of the sandbox: {reasons}. docs/sandbox.md says what "
                f"each is for; sandbox_disable=[{','.join(sorted(missing))}] goes without"
            )
        return server


def run_program(
    program: str, tests: str = "", limits: Limits = DEFAULT_LIMITS, without: Collection[str] = ()
) -> Outcome:
    """`Sandbox.run` in a sandbox for this one program, which takes some 0.2 s to start."""
    with Sandbox(without) as sandbox:
        return sandbox.run(program, tests, limits)


def _remove(folder: str) -> None:
    """Remove a folder in which a process that was just killed may still write for a moment."""
    until = time.monotonic() + _GRACE
    while os.path.exists(folder):
        try:
            folders.remove(folder)
        except OSError:
            if time.monotonic() > until:
                return
            time.sleep(0.01)


def _comes(server: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether the server says something in time."""
    with selectors.DefaultSelector() as selector:
        selector.register(_reader(server), selectors.EVENT_READ)
        return bool(selector.select(seconds))


def _reader(server: subprocess.Popen[bytes]) -> int:
    assert server.stdout is not None
    return server.stdout.fileno()


def _writer(server: subprocess.Popen[bytes]) -> int:
    assert server.stdin is not None
    return server.stdin.fileno()
