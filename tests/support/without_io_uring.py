"""Runs a command under a seccomp filter that refuses io_uring, as the default profiles of container engines do.

And epoll_pwait2, as those do that are older than it. With --enter as its first argument, only that a ring is used.
"""

import ctypes
import os
import platform
import struct
import sys

PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, EPERM = 0x7FFF0000, 0x00050001
# io_uring_setup, _enter and _register, epoll_pwait2: the same numbers on x86-64 and on AArch64.
ENTER = 426
REFUSED = (425, ENTER, 427, 441)

if sys.argv[1] == "--enter":
    REFUSED = (ENTER,)
    del sys.argv[1]

assert platform.machine() in ("x86_64", "aarch64"), platform.machine()


def instruction(code: int, jump_true: int, jump_false: int, value: int) -> bytes:
    return struct.pack("HBBI", code, jump_true, jump_false, value)


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


code = instruction(LOAD, 0, 0, 0)
for number, call in enumerate(REFUSED):
    code += instruction(JUMP_EQUAL, len(REFUSED) - number, 0, call)
code += instruction(RETURN, 0, 0, ALLOW)
code += instruction(RETURN, 0, 0, EPERM)

libc = ctypes.CDLL(None, use_errno=True)
program = Program(len(code) // 8, code)
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
    sys.exit(f"no_new_privs: {os.strerror(ctypes.get_errno())}")
if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
    sys.exit(f"seccomp: {os.strerror(ctypes.get_errno())}")
os.execv(sys.argv[1], sys.argv[1:])
