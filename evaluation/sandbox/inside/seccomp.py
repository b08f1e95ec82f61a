"""Layer ``seccomp``: no new processes, threads or programs, no sockets, no access to other processes.

Calls that reach beyond a program and that it does not need fail with EPERM. Calls newer than this list fail with
ENOSYS, as on an old kernel. `install` raises OSError if the kernel refuses the filter.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from . import syscalls

# by purpose: calls with their numbers on x86_64 and aarch64; -: no such call
_REFUSED = {
    "processes and threads": "fork 57 -, vfork 58 -, clone 56 220, execve 59 221, execveat 322 281",
    "other processes": """
        ptrace 101 117, process_vm_readv 310 270, process_vm_writev 311 271, kcmp 312 272, pidfd_open 434 434,
        pidfd_getfd 438 438, pidfd_send_signal 424 424, process_madvise 440 440, process_mrelease 448 448,
        rt_sigqueueinfo 129 138, rt_tgsigqueueinfo 297 240, setpriority 141 140, ioprio_set 251 30,
        sched_setscheduler 144 119, sched_setparam 142 118, sched_setattr 314 274, sched_setaffinity 203 122,
        migrate_pages 256 238, move_pages 279 239
    """,
    "network; memory and messages that outlive a process or escape its limits": """
        socket 41 198, socketpair 53 199, memfd_create 319 279, memfd_secret 447 447, shmget 29 194,
        shmat 30 196, shmctl 31 195, msgget 68 186, msgsnd 69 189, msgrcv 70 188, msgctl 71 187, semget 64 190,
        semop 65 193, semtimedop 220 192, semctl 66 191, mq_open 240 180, mq_unlink 241 181
    """,
    "memory moved into pipes": "vmsplice 278 75, splice 275 76, tee 276 77, sendfile 40 71",
    "kernel memory that no limit counts": """
        io_setup 206 0, io_submit 209 2, modify_ldt 154 -, seccomp 317 277, landlock_create_ruleset 444 444,
        landlock_add_rule 445 445, landlock_restrict_self 446 446, setxattr 188 5, lsetxattr 189 6,
        fsetxattr 190 7, removexattr 197 14, lremovexattr 198 15, fremovexattr 199 16
    """,
    "watching files that others use": """
        inotify_init 253 -, inotify_init1 294 26, inotify_add_watch 254 27, fanotify_init 300 262,
        fanotify_mark 301 263
    """,
    "frequent targets of attacks on the kernel": """
        userfaultfd 323 282, bpf 321 280, perf_event_open 298 241, io_uring_setup 425 425,
        io_uring_enter 426 426, io_uring_register 427 427, keyctl 250 219, add_key 248 217, request_key 249 218
    """,
    "the tree": """
        unshare 272 97, setns 308 268, chroot 161 51, pivot_root 155 41, mount 165 40, umount2 166 39,
        open_tree 428 428, move_mount 429 429, fsopen 430 430, fsconfig 431 431, fsmount 432 432,
        fspick 433 433, mount_setattr 442 442, name_to_handle_at 303 264, open_by_handle_at 304 265,
        mknod 133 -, mknodat 259 33
    """,
    "the machine": """
        sync 162 81, syncfs 306 267, quotactl 179 60, quotactl_fd 443 443, personality 135 92, swapon 167 224,
        swapoff 168 225, reboot 169 142, kexec_load 246 104, init_module 175 105, finit_module 313 273,
        delete_module 176 106, syslog 103 116, acct 163 89
    """,
}
# Without a read-only tree of its own, a program could change its user's files this way: Landlock allows it
# (truncate only before version 3).
_REFUSED_OUTSIDE_A_TREE = """
    chmod 90 -, fchmod 91 52, fchmodat 268 53, chown 92 -, fchown 93 55, lchown 94 -, fchownat 260 54,
    utime 132 -, utimes 235 -, utimensat 280 88, futimesat 261 -, truncate 76 45
"""
_KILL, _TKILL, _TGKILL, _PRLIMIT = (62, 129), (200, 130), (234, 131), (302, 261)
_PRCTL, _FCNTL, _CLONE3 = (157, 167), (72, 25), (435, 435)
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX = 8, 10, 15  # whom and how the kernel signals
_F_SETLEASE, _F_NOTIFY, _F_SETPIPE_SZ = 1024, 1026, 1031
_IOCTL = (16, 29)
_HARMLESS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FION?CLEX
_NEWEST = 451

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_LOAD, _EQUAL, _GREATER, _RETURN = 0x20, 0x15, 0x25, 0x06  # BPF operations on 32-bit words
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in the description of a call
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_REFUSE, _UNKNOWN = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
_MODE_FILTER = 2


def install(own_tree: bool) -> None:
    """Refuse these calls to this process for good; ``own_tree``: the layer ``namespaces`` is in use.

    Needs `syscalls.PR_SET_NO_NEW_PRIVS`.
    """
    machine = syscalls.machine()
    code = b"".join(_program(machine, own_tree))
    held = ctypes.create_string_buffer(code, len(code))
    described = struct.pack("@HP", len(code) // 8, ctypes.addressof(held))
    syscalls.prctl(syscalls.PR_SET_SECCOMP, _MODE_FILTER, ctypes.create_string_buffer(described, len(described)))


def _program(machine: str, own_tree: bool) -> list[bytes]:
    column = ("x86_64", "aarch64").index(machine)
    code = [
        _step(_LOAD, _ARCH),
        _step(_EQUAL, _AUDIT_ARCH[machine], 1, 0),
        _step(_RETURN, _KILL_PROCESS),
        _step(_LOAD, _NUMBER),
        _step(_GREATER, _NEWEST, 0, 1),  # includes x32, whose numbers start at 2**30
        _step(_RETURN, _UNKNOWN),
        *_if_equal(_CLONE3[column], [_step(_RETURN, _UNKNOWN)]),  # the C library then tries clone
    ]
    for number in refused_calls(column, own_tree):
        code += _if_equal(number, [_step(_RETURN, _REFUSE)])
    own = os.getpid()
    for call, argument, values, then, other in (
        (_KILL, 0, (own,), _ALLOW, _REFUSE),
        (_TKILL, 0, (own,), _ALLOW, _REFUSE),
        (_TGKILL, 0, (own,), _ALLOW, _REFUSE),
        (_PRLIMIT, 0, (0, own), _ALLOW, _REFUSE),
        (_PRCTL, 0, (syscalls.PR_SET_PDEATHSIG,), _REFUSE, _ALLOW),  # it must die with its supervisor
        (_FCNTL, 1, (_F_SETOWN, _F_SETSIG, _F_SETOWN_EX, _F_SETLEASE, _F_NOTIFY, _F_SETPIPE_SZ), _REFUSE, _ALLOW),
        (_IOCTL, 1, _HARMLESS, _ALLOW, _REFUSE),  # others change files that are open for reading
    ):
        body = [_step(_LOAD, _ARGUMENTS + 8 * argument)]
        for value in values:
            body += _if_equal(value, [_step(_RETURN, then)])
        code += _if_equal(call[column], [*body, _step(_RETURN, other)])
    return [*code, _step(_RETURN, _ALLOW)]


def refused_calls(column: int, own_tree: bool) -> list[int]:
    """Numbers of the refused calls; ``column`` 0 is x86_64, 1 is aarch64."""
    calls = ",".join([*_REFUSED.values(), *([] if own_tree else [_REFUSED_OUTSIDE_A_TREE])])
    numbers = [call.split()[1 + column] for call in calls.split(",")]
    return [int(number) for number in numbers if number != "-"]


def _if_equal(value: int, body: list[bytes]) -> list[bytes]:
    """``body``, which returns, if the loaded word is ``value``."""
    return [_step(_EQUAL, value, 0, len(body)), *body]


def _step(operation: int, value: int, on_true: int = 0, on_false: int = 0) -> bytes:
    return struct.pack("=HBBI", operation, on_true, on_false, value)
