"""The caller's side of the sandbox: start the server, send it programs, read their verdicts."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from .inside import cleanup, messages
from .inside.limits import LAYERS, Limits

# sys.path holds the standard library and, for this one import, the folder of the package
_BOOT = "import sys; sys.path[0] = sys.argv[1]; from inside.server import serve; del sys.path[0]; serve()"
START_SECONDS = 60.0  # a fraction of a second unless the machine is busy
GRACE_SECONDS = 0.8  # after a program's time, for its supervisor to report

_REASONS = ("passed", "failed", "exited", "timeout", "memory", "crashed")
_MAX_DETAIL = 300  # characters

DEFAULT_LIMITS = Limits()


class SandboxError(Exception):
    """The sandbox can't be used, or does not work on this machine because of the ``missing`` layers."""

    def __init__(self, message: str, missing: Collection[str] = ()) -> None:
        super().__init__(message)
        self.missing = sorted(missing)


@dataclass(frozen=True)
class Verdict:
    """How a program ended.

    Attributes:
        reason: ``passed``; ``failed`` (an exception, failed assertions included); ``exited`` (before its end);
            ``timeout``; ``memory``; ``crashed`` (killed by a signal, or it broke the protocol).
        detail: one line: the exception and its message (its source line if it has none), exit status or signal.
    """

    reason: str
    detail: str

    @property
    def passed(self) -> bool:
        """Whether the program and its tests ran to their end."""
        return self.reason == "passed"

    @classmethod
    def of(cls, reason: str, detail: str) -> Verdict:
        """A verdict from texts that the program may have influenced.

        They become one printable line of bounded length, free of control, bidirectional, invisible and unencodable
        characters.
        """
        line = " ".join(detail.split())[:_MAX_DETAIL]
        printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in line)
        return cls(reason if reason in _REASONS else "crashed", printable[:_MAX_DETAIL])

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


class Sandbox:
    """Runs programs one after the other, each isolated from those before.

    The first program starts a server, which is restarted if it dies. Use the sandbox as a context manager or call
    `close`; otherwise it ends with this process. Each thread needs a sandbox of its own.

    Args:
        disable: layers to run without, of `LAYERS`.
    """

    def __init__(self, disable: Collection[str] = ()) -> None:
        self._disabled = sorted(set(disable))
        self._server: subprocess.Popen[bytes] | None = None
        self._folder: str | None = None  # where programs write without a file tree of their own

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def run(
        self, program: str, tests: str = "", limits: Limits = DEFAULT_LIMITS, names: Collection[str] = ()
    ) -> Verdict:
        """Run a program, then its tests; it passes if both run to their end.

        The tests run in a process of their own. Names that they neither define nor find among the built-ins come from
        the program: its functions and its data. Plain data is copied; anything else becomes a proxy without
        attributes, so the program can't influence the comparisons. An exception of the program fails the tests unless
        one of their ``except`` clauses takes it. With empty ``tests`` there is no judge: the program alone says whether
        it ran to its end.

        The program's output is discarded, its standard input is empty, and it can import the standard library only.

        Args:
            program: Python source.
            tests: Python source, run after it.
            limits: resource limits.
            names: names of built-ins that the tests take from the program (``sum``).

        Raises:
            SandboxError: a layer is unknown, or missing and not disabled; or nothing can run here.
        """
        texts = [program.encode("utf-8", "surrogatepass"), json.dumps([tests, sorted(names)]).encode()]
        if max(map(len, texts)) > messages.MAX_BYTES:
            return Verdict.of("failed", f"more than {messages.MAX_BYTES} bytes of source")
        reply = self._send(texts, limits) or self._send(texts, limits)  # once more: the program may not be to blame
        if reply is None:
            return Verdict.of("crashed", "the server of the sandbox died twice")
        if reply["reason"] == "broken":
            self.close()
            raise _unusable(reply["detail"])
        return Verdict.of(**reply)

    def check(self) -> None:
        """Make sure that programs can run at all, before a machine's fault becomes a model's score.

        Raises:
            SandboxError: they can't.
        """
        verdict = self.run("def one():\n    return 1\n", "assert one() == 1")
        if not verdict.passed:
            raise _unusable(f"a simple one ended with '{verdict}'")

    def close(self) -> None:
        """End the server and everything that it started."""
        if (server := getattr(self, "_server", None)) is not None:
            if server.stdin is not None:
                with suppress(OSError):
                    server.stdin.close()  # tells the server to end
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

    def _send(self, texts: list[bytes], limits: Limits) -> dict[str, str] | None:
        """The server's reply; None if it died."""
        server = self._server or self._start()
        try:
            if not _has_reply(server, START_SECONDS):
                raise OSError("it is not ready")
            messages.read_json(_reader(server))
            messages.write_json(_writer(server), asdict(limits))
            for text in texts:
                messages.write(_writer(server), text)
            if not _has_reply(server, limits.seconds + GRACE_SECONDS):
                self._kill()
                return {"reason": "timeout", "detail": ""}
            return dict(messages.read_json(_reader(server)))
        except (OSError, EOFError):
            self._kill()
            return None
        except BaseException:  # an interrupt: the next program would get this one's reply
            self._kill()
            raise

    def _start(self) -> subprocess.Popen[bytes]:
        """Start a server and read which layers are missing."""
        if unknown := sorted(set(self._disabled) - set(LAYERS)):
            raise SandboxError(f"unknown layer '{unknown[0]}'; the layers are {', '.join(LAYERS)}")
        if sys.platform == "win32":
            raise SandboxError("generated code runs on Linux and macOS, not on Windows")
        command = [sys.executable, "-s", "-S", "-B", "-X", "utf8", "-c", _BOOT, str(Path(__file__).parent)]
        try:
            if "namespaces" in self._disabled and self._folder is None:
                self._folder = tempfile.mkdtemp(prefix="code-sandbox-")
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
            messages.write_json(_writer(server), [self._disabled, self._folder])
            if not _has_reply(server, START_SECONDS):
                raise OSError(f"no answer in {START_SECONDS:.0f} s")
            missing: Mapping[str, str] = messages.read_json(_reader(server))
        except (OSError, EOFError) as error:
            self.close()
            raise _unusable(str(error) or "the interpreter ended at once") from error
        if not set(missing) <= set(self._disabled):
            self.close()
            reasons = "; ".join(f"{name} ({reason})" for name, reason in missing.items() if reason)
            raise SandboxError(f"this machine lacks layers of the sandbox: {reasons}", missing)
        return server


def _unusable(reason: str) -> SandboxError:
    return SandboxError(f"no program can run here: {reason}")


def _remove(folder: str) -> None:
    """Remove a folder that a process just killed may still write to for a moment."""
    until = time.monotonic() + GRACE_SECONDS
    while os.path.exists(folder):
        try:
            cleanup.remove(folder)
        except OSError:
            if time.monotonic() > until:
                return
            time.sleep(0.01)


def _has_reply(server: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether the server replies in time."""
    with selectors.DefaultSelector() as selector:
        selector.register(_reader(server), selectors.EVENT_READ)
        return bool(selector.select(seconds))


def _reader(server: subprocess.Popen[bytes]) -> int:
    assert server.stdout is not None
    return server.stdout.fileno()


def _writer(server: subprocess.Popen[bytes]) -> int:
    assert server.stdin is not None
    return server.stdin.fileno()
