"""Running generated Python programs in processes of their own, within limits.

**This is not a security boundary.** It keeps the mistakes of a model (endless loops, endless memory, floods of output,
stray files and processes) from disturbing an evaluation. A program that means harm can read and write whatever the user
can, and use the network: nothing of either is cut off. It runs in the interpreter that reports its result, so it can
also dig up the nonce and report a success that was none. Isolation from the kernel comes with a later version; until
then run only models that you trust not to attack you, or put the whole evaluation into a container.

What is there: an interpreter without the environment, without installed packages and with no open files but the pipe
for its report; a working folder that is removed afterwards; limits on address space, CPU time, file size, open files,
core dumps and new processes; a process group that is killed when the time is up, or the report is in.

What has gaps: the superuser may start processes despite the limit, and one that opens a session of its own leaves the
process group (its CPU time stays limited). On macOS the kernel does not limit address space.
"""

from __future__ import annotations

import math
import os
import secrets
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from cache_zoo import UsageError
from cache_zoo.errors import require

_RUNNER = r"""
import os, resource, sys

def limit(kind, most):
    hard = resource.getrlimit(kind)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))

def main():
    header, _, source = sys.stdin.buffer.read().partition(b"\n")
    nonce, *numbers = header.split()
    pipe, memory, cpu, size = map(int, numbers)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.set_inheritable(pipe, False)
    os.register_at_fork(after_in_child=lambda: os.close(pipe))  # only this process has something to report
    write, leave = os.write, os._exit

    def report(reason, detail=b""):
        write(pipe, b" ".join((nonce, reason, detail)))  # short enough to be written in one piece
        leave(0)

    try:
        os.environ.clear()  # the interpreter sets LC_CTYPE where there is none
        limit(resource.RLIMIT_CORE, 0)
        limit(resource.RLIMIT_CPU, cpu)
        limit(resource.RLIMIT_FSIZE, size)
        limit(resource.RLIMIT_NOFILE, 64)
        limit(resource.RLIMIT_NPROC, 0)  # counts all processes of the user, so that only none is a sensible number
        if sys.platform != "darwin":
            limit(resource.RLIMIT_AS, memory)
    except (OSError, ValueError) as error:
        report(b"broken", str(error).encode()[:300])
    module = sys.modules["program"] = type(sys)("program")  # some of the standard library looks a class's module up
    try:
        text = source.decode("utf-8", "surrogatepass")
        exec(compile(text, "<program>", "exec", dont_inherit=True), module.__dict__)
    except MemoryError:
        report(b"memory")
    except SystemExit:
        report(b"exited")
    except BaseException as error:
        said = type(error).__name__
        try:
            line = text.split("\n")[error.__traceback__.tb_next.tb_lineno - 1] if not str(error) else ""
            said = " ".join(f"{said}: {error}{line}".split())
        except BaseException:
            pass  # the error says nothing, or fails at saying it
        report(b"failed", said.encode("utf-8", "replace")[:300])
    report(b"passed")

main()
"""
_MESSAGE_BYTES = 512  # what POSIX promises to write to a pipe in one piece


@dataclass(frozen=True)
class Limits:
    """What a program may use.

    Attributes:
        seconds: wall-clock time, the start of the interpreter (some 0.03 s) included.
        memory: bytes of address space, those of the interpreter (some 20 MB) included.
        file_size: bytes of one file.
    """

    seconds: float = 5.0
    memory: int = 512 * 2**20
    file_size: int = 16 * 2**20


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Outcome:
    """What became of a program.

    Attributes:
        passed: it ran to its end.
        reason: ``passed``; ``failed``, an exception, a failed assertion among them; ``exited``, before its end;
            ``timeout``; ``memory``; ``crashed``, killed by a signal.
        detail: what more is known, on one line: the exception with its message (the line of the program where it has
            none, as a plain assertion), exit status, signal.
        seconds: wall-clock time.
    """

    passed: bool
    reason: str
    detail: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


def check_sandbox() -> None:
    """Make sure that programs can be run at all, so that a machine's fault never becomes a model's score.

    Raises:
        UsageError: they can't.
    """
    try:
        outcome = run_program("")
    except OSError as error:
        raise UsageError(f"allow_code_execution: no program can be run here: {error}") from error
    require(outcome.passed, f"allow_code_execution: no program can be run here; an empty one ended with '{outcome}'")


def run_program(program: str, limits: Limits = DEFAULT_LIMITS) -> Outcome:
    """Run a program (and the assertions at its end) in a new process; it passes if it runs to its end.

    Its output is thrown away, its standard input is empty, and of modules it has the standard library.

    Args:
        program: Python source.
        limits: what it may use.

    Raises:
        UsageError: an operating system on which this can't be done.
        OSError: the interpreter can't be started, or there is no place for temporary files.
    """
    require(sys.platform != "win32", "allow_code_execution: generated code is run on Linux and macOS, not on Windows")
    nonce = secrets.token_hex(16).encode()
    reader, writer = os.pipe()
    start = time.monotonic()
    try:
        # an abandoned process may still be writing when the folder goes; what is left then is a few temporary files
        with tempfile.TemporaryDirectory(prefix="cache-zoo-", ignore_cleanup_errors=True) as folder:
            with tempfile.TemporaryFile() as given:
                # a file, not a pipe: nobody waits for a program that does not read
                numbers = (writer, limits.memory, math.ceil(limits.seconds) + 1, limits.file_size)
                given.write(b" ".join((nonce, *(b"%d" % number for number in numbers))) + b"\n")
                given.write(program.encode("utf-8", "surrogatepass"))
                given.seek(0)
                process = _start(given, writer, folder)
            try:
                os.close(writer)
                writer = -1
                message = _first_message(reader, start + limits.seconds)
            finally:
                # before it is waited for: as long as it is not, its number belongs to no other group
                _kill_group(process)
                status = process.wait()
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)
    reason, detail = _verdict(message, nonce, status)
    return Outcome(reason == "passed", reason, detail, time.monotonic() - start)


def _start(given: IO[bytes], writer: int, folder: str) -> subprocess.Popen[bytes]:
    """The interpreter, which sets its own limits: code of ours between fork and exec might deadlock beside threads."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", _RUNNER],
        stdin=given,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env={},
        pass_fds=(writer,),
        start_new_session=True,
    )


def _first_message(reader: int, deadline: float) -> bytes | None:
    """What came first: a message; the end of the pipe, empty; or the deadline (`time.monotonic`), None."""
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        if not selector.select(max(0.0, deadline - time.monotonic())):
            return None
    return os.read(reader, _MESSAGE_BYTES)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    # macOS refuses where nobody is left but the finished process itself
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _verdict(message: bytes | None, nonce: bytes, status: int) -> tuple[str, str]:
    """Reason and detail, from the report, and without one from the exit status."""
    if message is None or status == -signal.SIGXCPU:
        return "timeout", ""
    given, _, rest = message.partition(b" ")
    if given == nonce:
        reason, _, detail = rest.decode("utf-8", "replace").partition(" ")
        if reason == "broken":
            raise UsageError(f"allow_code_execution: the limits of the sandbox can't be set here ({detail})")
        return reason, detail
    if message:
        return "crashed", "it wrote to the pipe of its report"
    if status < 0:
        return "crashed", signal.strsignal(-status) or f"signal {-status}"
    return "exited", f"status {status}"
