"""Processes that connect to a socket: as somebody else, or from below a process that plays the daemon."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_CONNECT = """
import os, socket, sys
path, channel, uid, gid, groups = sys.argv[1:]
channel = socket.socket(fileno=int(channel))
if uid:
    os.setgroups([int(each) for each in groups.split(",") if each])
    os.setgid(int(gid))
    os.setuid(int(uid))
connection = socket.socket(socket.AF_UNIX)
connection.connect(path)
socket.send_fds(channel, [b"!"], [connection.fileno()])
channel.recv(1)
"""
"""Hands the connection over, and lives until nobody listens any more: who connects is known by its process."""

BELOW = """
import ctypes, os, sys
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
how, rest = sys.argv[1], sys.argv[2:]
if os.fork() == 0:
    if how == "orphan":
        os.setsid()
        if os.fork():
            os._exit(0)
    elif how == "deep":
        for _ in range(int(rest.pop(0))):
            if os.fork():
                os.wait()
                os._exit(0)
    os.execv(sys.executable, [sys.executable, "-IS", "-c", *rest])
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
"""
"""Plays the daemon: the subreaper of all below it."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """`connection` is the client's end."""

    process: subprocess.Popen[bytes]
    connection: socket.socket


@contextmanager
def visiting(
    path: Path,
    *,
    uid: int | None = None,
    gid: int = 0,
    groups: Sequence[int] = (),
    below: Sequence[str] = (),
) -> Iterator[Visitor]:
    """Connect to `path` as `uid`, or as ourselves. `below`: as what kind of descendant of `process`."""
    ours, theirs = socket.socketpair()
    identity = ["", "", ""] if uid is None else [str(uid), str(gid), ",".join(map(str, groups))]
    arguments = [_CONNECT, str(path), str(theirs.fileno()), *identity]
    if below:
        arguments = [BELOW, *below, *arguments]
    # As ourselves: only we may be able to read this interpreter.
    process = subprocess.Popen([sys.executable, "-IS", "-c", *arguments], pass_fds=[theirs.fileno()])
    theirs.close()
    try:
        ours.settimeout(20)
        data, [fd], _, _ = socket.recv_fds(ours, 1, 1)
        assert data == b"!"
        with socket.socket(fileno=fd) as connection:
            yield Visitor(process, connection)
    finally:
        ours.close()
        process.wait(20)


@contextmanager
def stranger() -> Iterator[int]:
    """The pid of a process that nobody is below of."""
    with subprocess.Popen(
        [sys.executable, "-IS", "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    ) as process:
        yield process.pid
