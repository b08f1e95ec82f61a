"""Hostile programs: they harm the machine, outlive their time, or pass without being right."""

from __future__ import annotations

from dataclasses import dataclass

HONEST = "def f(x):\n    return x + 1\n"
TESTS = "assert f(2) == 3\nassert f(5) == 6\nassert isinstance(f(1), int) and abs(f(-4)) == 3 and len([f(1)]) == 1\n"
_WRONG = "def f(x):\n    return 0\n"


@dataclass(frozen=True)
class Attack:
    """A program that must not pass its tests.

    Attributes:
        name: as in the table of docs/sandbox.md.
        program: what it does; ``SECRET`` stands for a file of the user, ``HOME`` for the home folder.
        outcome: how the outcome begins.
        seconds: its time.
        tests: what it must not pass.
    """

    name: str
    program: str
    outcome: str
    seconds: float = 5.0
    tests: str = TESTS


def _during(body: str) -> str:
    """A function that attacks while it is tested."""
    return "def f(x):\n" + "".join(f"    {line}\n" for line in body.splitlines()) + "    return 0\n"


_ASSERTION = "failed: AssertionError: assert f(2) == 3"
_REFUSED = "failed: PermissionError: [Errno 1] Operation not permitted"
_READ_ONLY = "failed: OSError: [Errno 30] Read-only file system"
_ABSENT = "failed: FileNotFoundError: [Errno 2] No such file or directory"

ATTACKS = [
    # the machine
    Attack("a few forks", "import os\nfor _ in range(3): os.fork()\n" + _WRONG, _REFUSED),
    Attack("fork bomb", "import os\nwhile True:\n    os.fork()\n", _REFUSED),
    Attack(
        "fork bomb that catches errors",
        "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError: pass\n",
        "timeout",
        1.0,
    ),
    Attack("other program", "import subprocess\nsubprocess.run(['/bin/true'])\n" + _WRONG, _REFUSED),
    Attack("exec", "import os\nos.execv('/bin/true', ['true'])\n", _REFUSED),
    Attack(
        "threads that keep running",
        "import threading\nthreading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()\n" + _WRONG,
        "failed: RuntimeError: can't start new thread",
    ),
    Attack("memory bomb", "x = []\nwhile True: x.append(bytearray(2**20))\n", "memory"),
    Attack("memory bomb during the tests", _during("y = 'x'\nwhile True: y += y"), "memory"),
    Attack(
        "endless loop that ignores signals",
        "import signal\n"
        "for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:\n"
        "    signal.signal(number, signal.SIG_IGN)\n"
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass\n",
        "timeout",
        1.0,
    ),
    Attack("endless loop during the tests", _during("while True: pass"), "timeout", 1.0),
    Attack("long sleep", "import time\ntime.sleep(1000)\n", "timeout", 1.0),
    Attack(
        "SIGSTOP to itself",
        "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\nwhile True: pass\n",
        "timeout",
        1.0,
    ),
    Attack("endless work in C code", "import re\nre.match('(a+)+$', 'a' * 60 + 'b')\n" + _WRONG, "timeout", 1.0),
    Attack(
        "a result that the judge compares forever",
        "def f(x):\n    return {n * (2**61 - 1) for n in range(40_000)}\n",  # equal hashes
        "timeout",
        1.0,
    ),
    Attack(
        "a daemon",
        "import os\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        while True: pass\n",
        _REFUSED,
    ),
    Attack(
        "disabling the parent-death signal",
        "import ctypes\nassert ctypes.CDLL(None).prctl(1, 0) == 0, 'refused'\n" + _WRONG,
        "failed: AssertionError: refused",
    ),
    Attack("1 GB file", "open('big', 'wb').write(bytes(2**28) * 4)\n" + _WRONG, "memory"),
    Attack(
        "1 GB file in parts",
        "with open('big', 'wb') as file:\n    for _ in range(1024): file.write(bytes(2**20))\n" + _WRONG,
        "failed: OSError: [Errno 27] File too large",
    ),
    Attack(
        "1 GB in many files",
        "for n in range(128):\n    open(str(n), 'wb').write(bytes(2**23))\n" + _WRONG,
        "failed: OSError: [Errno 28] No space left on device",
    ),
    Attack(
        "sparse file of 1 TB",
        "open('big', 'wb').truncate(2**40)\n" + _WRONG,
        "failed: OSError: [Errno 27] File too large",
    ),
    Attack("flood of output", "while True: print('x' * 10**6)\n", "timeout", 1.0),
    Attack("flood of results", _during("return 'x' * 10**8"), "failed: ValueError: the result is too long"),
    Attack(
        "raising the limits",
        "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (2**40, 2**40))\n" + _WRONG,
        "failed: ValueError: not allowed to raise maximum limit",
    ),
    # files
    Attack("reading the home folder", "import os\nprint(os.listdir('HOME'))\n" + _WRONG, "failed: "),
    Attack("reading /home", "import os\nprint(os.listdir('/home'))\n" + _WRONG, _ABSENT),
    Attack("reading the accounts", "print(open('/etc/passwd').read())\n" + _WRONG, _ABSENT),
    Attack("reading a file of the user", "print(open('SECRET').read())\n" + _WRONG, _ABSENT),
    Attack(
        "reading /proc of the parent",
        "import os\nprint(open(f'/proc/{os.getppid()}/environ').read())\n" + _WRONG,
        _ABSENT,
    ),
    Attack("reading its own memory file", "print(open('/proc/self/mem', 'rb').read(1))\n" + _WRONG, _ABSENT),
    Attack("writing outside", "open('SECRET', 'w').write('x')\n" + _WRONG, _ABSENT),
    Attack(
        "writing into the root",
        "open('/x', 'w').write('x')\n" + _WRONG,
        _READ_ONLY,
    ),
    Attack(
        "writing into the library",
        "import os\nopen(os.path.dirname(os.__file__) + '/evil.py', 'w').write('x')\n" + _WRONG,
        _READ_ONLY,
    ),
    Attack(
        "changing rights in the library",
        "import os\nos.chmod(os.__file__, 0)\n" + _WRONG,
        _READ_ONLY,
    ),
    Attack("deleting the working folder", "import os\nos.rmdir(os.getcwd())\n" + _WRONG, _ASSERTION),
    Attack(
        "deleting folders of the user",
        "import shutil\nshutil.rmtree('SECRET/..', ignore_errors=True)\n" + _WRONG,
        _ASSERTION,
    ),
    Attack(
        "mounting",
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "if libc.mount(b'none', b'/usr', b'tmpfs', 0, None): raise OSError(ctypes.get_errno(), os.strerror(1))\n",
        _REFUSED,
    ),
    Attack(
        "new namespaces",
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "if libc.unshare(0x10000000): raise OSError(ctypes.get_errno(), os.strerror(1))\n",
        _REFUSED,
    ),
    # network and other processes
    Attack("internet socket", "import socket\nsocket.socket(socket.AF_INET)\n" + _WRONG, _REFUSED),
    Attack("local socket", "import socket\nsocket.socket(socket.AF_UNIX)\n" + _WRONG, _REFUSED),
    Attack(
        "fetching a page",
        "import urllib.request\nurllib.request.urlopen('http://127.0.0.1')\n" + _WRONG,
        "failed: URLError: <urlopen error [Errno 1] Operation not permitted>",
    ),
    Attack("signals to everything", "import os\nos.kill(-1, 0)\n" + _WRONG, _REFUSED),
    Attack("killing the parent", "import os\nos.kill(os.getppid(), 9)\n" + _WRONG, _REFUSED),
    Attack(
        "tracing another process",
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "if libc.ptrace(16, 1, 0, 0): raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))\n" + _WRONG,
        _REFUSED,
    ),
    # the verdict
    Attack("os._exit(0) before the tests", "import os\nos._exit(0)\n", "exited: status 0"),
    Attack("sys.exit(0) before the tests", "import sys\nsys.exit(0)\n", "exited"),
    Attack("os._exit(0) during the tests", _during("import os\nos._exit(0)"), "exited: status 0"),
    Attack("sys.exit(0) during the tests", _during("import sys\nsys.exit(0)"), "exited"),
    Attack(
        "a BaseException during the tests", "class E(BaseException): pass\n" + _during("raise E"), "failed: E: raise E"
    ),
    Attack(
        "GeneratorExit during the tests", _during("raise GeneratorExit"), "failed: GeneratorExit: raise GeneratorExit"
    ),
    Attack("killing itself", "import os\nos.kill(os.getpid(), 9)\n" + _WRONG, _ASSERTION),
    Attack("printing the success marker", "print('passed')\nprint('OK')\n" + _WRONG, _ASSERTION),
    Attack(
        "a result that equals everything",
        "class E(int):\n    __eq__ = __ge__ = __lt__ = lambda a, b: True\n    __hash__ = None\n"
        "def f(x):\n    return E()\n",
        _ASSERTION,
    ),
    Attack(
        "an object that equals everything",
        "class E:\n    __eq__ = lambda a, b: True\ndef f(x):\n    return E()\n",
        _ASSERTION,
    ),
    Attack(
        "patched built-ins",
        "import builtins\n"
        "for name in ('isinstance', 'abs', 'all', 'any', 'len', 'print', 'compile', 'exec', 'sorted'):\n"
        "    setattr(builtins, name, lambda *a, **k: True)\n" + _WRONG,
        "exited: status 0",
    ),
    Attack(
        "patched AssertionError",
        "import builtins\nclass E(BaseException):\n    pass\nbuiltins.AssertionError = E\n" + _WRONG,
        _ASSERTION,
    ),
    Attack(
        "shadowing the tests' built-ins",
        "def isinstance(*a): return True\ndef abs(x): return 3\ndef len(x): return 1\ndef f(x):\n"
        "    return {2: 3, 5: 6}.get(x, 'wrong')\n",
        "failed: AssertionError: assert isinstance(f(1), int)",
    ),
    Attack(
        "poisoned modules",
        "import sys\nfor name in ('math', 'json', 'random', 'os', 'inside.messages', 'inside.serialize'):\n"
        "    sys.modules[name] = None\n" + _WRONG,
        _ASSERTION,
    ),
    Attack(
        "tracing the interpreter",
        "import sys\ndef trace(*a):\n    return trace\nsys.settrace(trace)\nsys.setprofile(trace)\n" + _WRONG,
        _ASSERTION,
    ),
    Attack(
        "exit handlers",
        "import atexit, os\natexit.register(os._exit, 0)\n" + _WRONG + "import gc\ngc.callbacks.append(lambda *a: 0)\n",
        _ASSERTION,
    ),
    Attack(
        "searching the frames for the tests",
        "import gc, sys\n"
        "def f(x):\n"
        "    frame, seen = sys._getframe(), []\n"
        "    while frame:\n"
        "        seen += [repr(frame.f_locals), repr(frame.f_globals)]\n"
        "        frame = frame.f_back\n"
        "    seen += [o for o in gc.get_objects() if isinstance(o, str)]\n"
        "    marker = 'assert ' + 'f(2)'\n"
        "    return 3 if any(marker in text for text in seen) else 0\n",
        _ASSERTION,
    ),
    Attack(
        "searching the memory for the tests",
        "import ctypes, gc\n"
        "def f(x):\n"
        "    marker = b'assert ' + b'f(2)'\n"
        "    for o in gc.get_objects():\n"
        "        try:\n            found = marker in ctypes.string_at(id(o), o.__sizeof__())\n"
        "        except Exception: continue\n"
        "        if found: return 3\n"
        "    return 0\n",
        _ASSERTION,
    ),
    Attack("closing all descriptors", "import os\nos.closerange(0, 1024)\n" + _WRONG, "exited: status 0"),
    Attack(
        "closing all descriptors and continuing",
        "import os\nos.closerange(0, 1024)\nwhile True: pass\n",
        "crashed: it closed the pipe of its answers",
    ),
    Attack(
        "writing to all descriptors",
        'import os\nfor fd in range(1024):\n    try: os.write(fd, b\'["passed", ""]\' * 9)\n    except OSError: pass\n'
        + _WRONG,
        "crashed: it wrote to the pipe of its answers",
    ),
    Attack(
        "forged messages to all descriptors",
        "import json, os\n"
        "for message in (['loaded'], ['names', {'f': ['function']}], ['passed', ''], ['returned', True, None]):\n"
        "    text = json.dumps(message).encode()\n"
        "    for fd in range(1024):\n"
        "        try: os.write(fd, len(text).to_bytes(8, 'big') + text)\n        except OSError: pass\n" + _WRONG,
        "crashed: it wrote to the pipe of its answers",
    ),
    Attack(
        "impossible data",
        "import os\n"
        'for text in (b\'["loaded"]\', b\'["names", {"f": ["value", {"set": [[1]]}]}]\'):\n'
        "    os.write(5, len(text).to_bytes(8, 'big') + text)\n" + _WRONG,
        "crashed: it wrote to the pipe of its answers",
    ),
    Attack(
        "a forged module",
        "import sys\nclass M(type(sys)): pass\nf = M('antigravity')\n",
        "failed: NameError: name 'f' is not defined",
    ),
]
