#!/usr/bin/env python3
"""Does what systemd does for a service with sockets: listens, and runs a program with the sockets from descriptor 3 on.

usage: activate.py BACKLOG ADDRESS:PORT[,ADDRESS:PORT...] PROGRAM ARGUMENT...
In the arguments {0}, {1}, ... stand for the addresses that came of it.
"""
import fcntl
import os
import socket
import sys

backlog, addresses, *command = sys.argv[1:]
sockets = []
for address in filter(None, addresses.split(",")):
    host, port = address.rsplit(":", 1)
    listening = socket.socket()
    listening.bind((host, int(port)))
    listening.listen(int(backlog))
    sockets.append(listening)
names = ["%s:%d" % listening.getsockname() for listening in sockets]
# First out of the way of where they are to be.
high = [fcntl.fcntl(listening, fcntl.F_DUPFD, 100) for listening in sockets]
for number, fd in enumerate(high):
    os.dup2(fd, 3 + number)
os.closerange(3 + len(high), 200)
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = str(len(high))
os.environ["LISTEN_FDNAMES"] = ":".join("tidecast" for _ in high)
os.execv(command[0], [argument.format(*names) for argument in command])
