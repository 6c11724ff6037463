#!/usr/bin/env python3
"""Runs a command under a profile of deploy/docker: `under_seccomp.py PROFILE COMMAND…`.

It does what a container engine does with the profile, by the same library. A name that the library does not know ends it.
"""

import ctypes
import json
import os
import sys

ALLOW = 0x7FFF0000
ERRNO = 0x00050000
MASKED_EQ = 7
UNKNOWN = -1


class Comparison(ctypes.Structure):
    _fields_ = [("index", ctypes.c_uint), ("op", ctypes.c_int), ("value", ctypes.c_uint64), ("two", ctypes.c_uint64)]


def action(rule, name="action", number="errnoRet"):
    return {"SCMP_ACT_ALLOW": ALLOW, "SCMP_ACT_ERRNO": ERRNO | rule.get(number, 1)}[rule[name]]


def install(profile):
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(Comparison)]
    library.seccomp_load.argtypes = [ctypes.c_void_p]
    filter = library.seccomp_init(ctypes.c_uint32(action(profile, "defaultAction", "defaultErrnoRet")))
    for rule in profile["syscalls"]:
        operations = {"SCMP_CMP_MASKED_EQ": MASKED_EQ}
        arguments = [Comparison(one["index"], operations[one["op"]], one["value"], one["valueTwo"]) for one in rule.get("args", [])]
        for name in rule["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number == UNKNOWN:
                sys.exit(f"{name} is no system call")
            # Those that this architecture does not have are numbered below zero, and are for others.
            if number < 0:
                continue
            failed = library.seccomp_rule_add_array(
                filter, action(rule), number, len(arguments), (Comparison * len(arguments))(*arguments))
            if failed:
                sys.exit(f"{name}: {os.strerror(-failed)}")
    failed = library.seccomp_load(filter)
    if failed:
        sys.exit(f"the filter cannot be loaded: {os.strerror(-failed)}")


with open(sys.argv[1]) as file:
    install(json.load(file))
os.execvp(sys.argv[2], sys.argv[2:])
