"""Attacks on the machine: memory outside the limits, files, kernel."""

from __future__ import annotations

from tests.attacks import Attack

_WRONG = "def f(x):\n    return 0\n"
_ASSERTION = "failed: AssertionError: assert f(2) == 3"
_REFUSED = "failed: PermissionError: [Errno 1] Operation not permitted"
_DENIED = "failed: PermissionError: [Errno 13] Permission denied"
_ABSENT = "failed: FileNotFoundError: [Errno 2] No such file or directory"
_FULL = "failed: OSError: [Errno 28] No space left on device"
_MANY = "failed: OSError: [Errno 24] Too many open files"
_NONE = "failed: OSError: [Errno 12] Cannot allocate memory"

_CALL = (
    "import ctypes, mmap, os, platform\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    "def call(x86, arm, *a):\n"
    "    number = x86 if platform.machine() == 'x86_64' else arm\n"
    "    given = [ctypes.c_long(x) if isinstance(x, int) else x for x in (number, *a)]\n"
    "    if libc.syscall(*given) == -1:\n"
    "        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))\n"
)

# memory outside of any address space

_VMSPLICE = (
    "class Part(ctypes.Structure): _fields_ = [('at', ctypes.c_void_p), ('size', ctypes.c_size_t)]\n"
    "kept = []\n"
    "while True:\n"
    "    kept.append(os.pipe())\n"
    "    memory = mmap.mmap(-1, 2**25)\n"
    "    memory.write(bytes([1]) * 2**25)\n"
    "    at = ctypes.addressof(ctypes.c_char.from_buffer(memory))\n"
    "    for n in range(16):\n"
    "        call(278, 75, kept[-1][1], ctypes.byref(Part(at + n * 2**21, 2**21)), 1, 0)\n"
    "    libc.munmap(ctypes.c_void_p(at), ctypes.c_size_t(2**25))\n"
)
_FILE = "import os\nfd = os.open('a', os.O_RDWR | os.O_CREAT)\nos.write(fd, bytes(2**16))\nr, w = os.pipe()\n"

MEMORY = [
    Attack("vmsplice into pipes", _CALL + _VMSPLICE, _REFUSED),
    Attack("splice of a file into pipes", _FILE + "os.splice(fd, w, 2**16, offset_src=0)\n", _REFUSED),
    Attack("sendfile into a pipe", _FILE + "os.sendfile(w, fd, 0, 2**16)\n", _REFUSED),
    Attack("tee between pipes", _CALL + "(r, w), (s, x) = os.pipe(), os.pipe()\ncall(276, 77, r, x, 1, 2)\n", _REFUSED),
    Attack("larger pipes", "import fcntl, os\nfcntl.fcntl(os.pipe()[1], 1031, 2**20)\n", _REFUSED),
    Attack(
        "many full pipes",
        "import os\nkept = []\nwhile True:\n    kept.append(os.pipe())\n    os.set_blocking(kept[-1][1], False)\n"
        "    try:\n        while True: os.write(kept[-1][1], bytes(2**16))\n    except BlockingIOError: pass\n",
        _MANY,
    ),
    Attack("memfd_create", "import os\nos.memfd_create('a')\n", _REFUSED),
    Attack("memfd_secret", _CALL + "call(447, 447, 0)\n", _REFUSED),
    Attack("System V shared memory", _CALL + "call(29, 194, 0, 2**28, 0o1600)\n", _REFUSED),
    Attack("a System V message queue", _CALL + "call(68, 186, 0, 0o1600)\n", _REFUSED),
    Attack("removing others' shared memory", _CALL + "for n in range(99): call(31, 195, n, 0, None)\n", _REFUSED),
    Attack("removing others' semaphores", _CALL + "for n in range(99): call(66, 191, n, 0, 0, None)\n", _REFUSED),
    Attack(
        "a large shared mapping",
        "import mmap\nkept = []\n"
        "while True:\n    kept.append(mmap.mmap(-1, 2**24))\n    kept[-1].write(bytes(2**24))\n",
        _NONE,
    ),
    Attack(
        "a mapping made twice",
        _CALL + "m = mmap.mmap(-1, 2**28)\nlibc.mremap.restype = ctypes.c_void_p\n"
        "at = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(m)))\n"
        "libc.mremap(at, ctypes.c_size_t(0), ctypes.c_size_t(2**28), 1)\nbytearray(2**28)\n",
        "memory",
    ),
    Attack(
        "huge pages",
        "import mmap\nmmap.mmap(-1, 2**21, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000)\n",
        _NONE,
    ),
    Attack(
        "locked memory",
        _CALL + "m = mmap.mmap(-1, 2**24)\nat = ctypes.addressof(ctypes.c_char.from_buffer(m))\n"
        "call(149, 228, at, 2**24)\n",
        _REFUSED,
    ),
    Attack(
        "deleted files kept open",
        "kept = []\nimport os\nfor n in range(40):\n"
        "    kept.append(open('a', 'wb', buffering=0))\n    os.remove('a')\n    kept[-1].write(bytes(2**23))\n"
        "    assert kept[-1].tell() == 2**23, 'no space left'\n",
        "failed: ",
    ),
    Attack("many empty files", "for n in range(10**5):\n    open(str(n), 'w').close()\n", _FULL),
    Attack("deep folders", "import os\nwhile True:\n    os.mkdir('d' * 200)\n    os.chdir('d' * 200)\n", _FULL),
    Attack("many links", "import os\nfor n in range(10**5):\n    os.symlink('x' * 1000, str(n))\n", _FULL),
    Attack(
        "extended attributes",
        "import os\nopen('a', 'w').close()\nfor n in range(10**5):\n    os.setxattr('a', f'user.{n}', bytes(60000))\n",
        _REFUSED,
    ),
    # memory of the kernel
    Attack("many descriptors", "import select\nkept = []\nwhile True: kept.append(select.epoll())\n", _MANY),
    Attack(
        "many timers",
        _CALL + "number = ctypes.create_string_buffer(8)\nwhile True: call(222, 107, 1, None, number)\n",
        "failed: BlockingIOError: [Errno 11] Resource temporarily unavailable",
    ),
    Attack("asynchronous I/O", _CALL + "call(206, 0, 60000, ctypes.create_string_buffer(8))\n", _REFUSED),
    Attack("io_uring", _CALL + "call(425, 425, 8, ctypes.create_string_buffer(200))\n", _REFUSED),
    Attack("more seccomp filters", _CALL + "call(317, 277, 1, 0, None)\n", _REFUSED),
    Attack("more Landlock rules", _CALL + "call(444, 444, ctypes.create_string_buffer(16), 16, 0)\n", _REFUSED),
    Attack("userfaultfd", _CALL + "call(323, 282, 0)\n", _REFUSED),
    Attack(
        "system calls newer than the filter",
        _CALL + "call(462, 462, 0, 0, 0)\n",
        "failed: OSError: [Errno 38] Function not implemented",
    ),
]

# files

_SEARCH = (
    "import os\nfound = []\n"
    "for top in ('/', os.path.dirname(os.__file__), '/usr', '/usr/lib', '/usr/local', '/root', '/home', '/tmp'):\n"
    "    for folder, folders, files in os.walk(top):\n"
    "        for path in (os.path.join(folder, name) for name in files if name.endswith(ENDS)):\n"
    "            try:\n                found += [path] if open(path, 'rb').read(1) else []\n"
    "            except OSError: pass\n"
    "assert not found, found[:3]\n" + _WRONG
)

FILES = [
    Attack("searching for answers", _SEARCH.replace("ENDS", "('.jsonl', '.json', '.gz', '.parquet')"), _ASSERTION),
    Attack("searching for programs", _SEARCH.replace("ENDS", "('sitecustomize.py', '.pth', '.so.6')"), _ASSERTION),
    Attack(
        "searching the installed packages",
        "import os, sysconfig\nfor kind in ('purelib', 'platlib', 'scripts', 'data'):\n"
        "    place = sysconfig.get_path(kind)\n"
        "    for name in ('site-packages', 'dist-packages', 'torch', 'models', 'evaluation', 'cache_zoo'):\n"
        "        for path in (place, os.path.join(place, name)):\n"
        "            found = os.listdir(path) if os.path.isdir(path) and 'packages' in path else []\n"
        "            assert not found, (path, found[:3])\n" + _WRONG,
        _ASSERTION,
    ),
    Attack(
        "importing this package",
        "import sys\nsys.path += [p + '/site-packages' for p in sys.path] + ['/app', '/src', '.']\n"
        "import models.nano.data\n",
        "failed: ModuleNotFoundError: No module named 'models'",
    ),
    Attack(
        "reading the sandbox's own source",
        "import inspect, sys\nmodule = sys.modules['inside.judge']\ninspect.getsource(module)\n",
        "failed: ",
    ),
    Attack(
        "reading the interpreter's configuration",
        "import os, sys\nopen(os.path.join(sys.prefix, 'pyvenv.cfg'))\n",
        _ABSENT,
    ),
    Attack(
        "climbing out of the library's folder",
        "import os\nos.chdir(os.path.dirname(os.__file__))\nprint(os.listdir('../../..'))\n",
        _DENIED,
    ),
    Attack("reading another process", "open('/proc/1/cmdline').read()\n", _ABSENT),
    Attack("reading the mount table", "open('/proc/self/mountinfo').read()\n", _ABSENT),
    Attack(
        "unmounting what hides files",
        _CALL + "call(166, 39, os.__file__[:-5].encode() + b'site-packages', 2)\n",
        _REFUSED,
    ),
    Attack("creating a device", "import os\nos.mknod('disk', 0o60666, os.makedev(8, 0))\n", _REFUSED),
    Attack("a lease on the library", "import fcntl, os\nfcntl.fcntl(os.open(os.__file__, 0), 1024, 0)\n", _REFUSED),
    Attack("directory notifications", "import fcntl, os\nfcntl.fcntl(os.open('.', 0), 1026, 4)\n", _REFUSED),
    Attack("inotify", _CALL + "call(294, 26, 0)\n", _REFUSED),
    Attack("fanotify", _CALL + "call(300, 262, 0, 0)\n", _REFUSED),
    Attack(
        "changing flags of a library file",
        "import array, fcntl, os\nflags = array.array('l', [0x40])\nfd = os.open(os.__file__, os.O_RDONLY)\n"
        "fcntl.ioctl(fd, 0x40086602, flags)\n",
        _REFUSED,
    ),
    Attack("sync of all disks", _CALL + "call(306, 267, os.open('.', 0))\n", _REFUSED),
    Attack("file signals", "import fcntl, os\nfcntl.fcntl(os.pipe()[0], 10, 9)\n", _REFUSED),
]

ATTACKS = [*MEMORY, *FILES]
