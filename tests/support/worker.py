#!/usr/bin/env python3
"""Makes one thread of a process hang, or the next call with which it waits for events fail. x86-64 only.

usage: worker.py hold|fail PID THREAD-NAME
It says "done" once that is so; a thread that hangs goes on when standard input ends.
"""
import ctypes
import os
import sys

SEIZE, INTERRUPT, DETACH, SYSCALL, PEEKUSER, POKEUSER, SETOPTIONS = 0x4206, 0x4207, 17, 24, 3, 6, 0x4200
WALL, GOOD, RAX, ORIG_RAX = 0x40000000, 0x80 | 5, 10 * 8, 15 * 8
CALLS = {232, 281, 426, 441}  # epoll_wait, epoll_pwait, io_uring_enter, epoll_pwait2
EBADF = 9

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def ptrace(request, tid, address=0, data=0):
    ctypes.set_errno(0)
    result = libc.ptrace(request, tid, address, data)
    if ctypes.get_errno():
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


how, pid, name = sys.argv[1:]
for tid in map(int, os.listdir(f"/proc/{pid}/task")):
    if open(f"/proc/{pid}/task/{tid}/comm").read().strip() == name:
        break
else:
    sys.exit(f"process {pid} has no thread {name}")

ptrace(SEIZE, tid, 0, 1)  # system calls are told from signals
ptrace(INTERRUPT, tid)
os.waitpid(tid, WALL)
if how == "hold":
    print("done", flush=True)
    sys.stdin.read()
else:
    entered = False
    while True:
        ptrace(SYSCALL, tid)
        _, status = os.waitpid(tid, WALL)
        if os.WSTOPSIG(status) != GOOD & 0xFF:
            continue
        entered = not entered
        if not entered and ptrace(PEEKUSER, tid, ORIG_RAX) in CALLS:
            ptrace(POKEUSER, tid, RAX, -EBADF & (1 << 64) - 1)
            break
    print("done", flush=True)
ptrace(DETACH, tid)
