"""Daemons by fork from one process that has imported everything: half a second less for each of hundreds of starts.

Run as a program it is that process. It gets a request a packet over the socket that is its stdin: {argv, env, cwd} with
two descriptors (stdin; stdout and stderr). It answers {pid}, and tells {pid, code} when that one has ended.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

_MAX_PACKET = 1 << 20
_MOST_FDS = 1024


class ForkServer:
    """One a test process; it ends with it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        self._codes: dict[int, int] = {}
        with theirs:
            # It returns at once: the server is nobody's child, so that tests which look at ours see none.
            command = [sys.executable, "-m", "tests.e2e.fork_server"]
            subprocess.run(command, stdin=theirs, cwd=Path(__file__).parents[2], check=True)

    def start(self, argv: list[str], env: dict[str, str], cwd: Path, stdin: int, output: int) -> Forked:
        request = json.dumps({"argv": argv, "env": env, "cwd": str(cwd)}).encode()
        with self._lock:
            socket.send_fds(self._socket, [request], [stdin, output])
            while (told := self._told(None)) is not None:
                if "code" not in told:
                    return Forked(told["pid"], self)
        raise EOFError("the fork server has ended")

    def code(self, pid: int, timeout_s: float) -> int | None:
        """The exit code as `subprocess` has it; None: it goes on."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            while pid not in self._codes and self._told(max(0.0, deadline - time.monotonic())):
                pass
            return self._codes.get(pid)

    def close(self) -> None:
        self._socket.close()

    def _told(self, timeout_s: float | None) -> dict[str, Any] | None:
        """The next packet; None: none came in time."""
        self._socket.settimeout(timeout_s)
        try:
            packet = self._socket.recv(_MAX_PACKET)
        except (TimeoutError, BlockingIOError):
            return None
        if not packet:
            raise EOFError("the fork server has ended")
        told: dict[str, Any] = json.loads(packet)
        if "code" in told:
            self._codes[told["pid"]] = told["code"]
        return told


class Forked:
    """As much of `subprocess.Popen` as the tests use."""

    def __init__(self, pid: int, server: ForkServer) -> None:
        self.pid = pid
        self._server = server

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        return self._server.code(self.pid, 0.0)

    def wait(self, timeout: float) -> int:
        code = self._server.code(self.pid, timeout)
        if code is None:
            raise subprocess.TimeoutExpired([f"forked {self.pid}"], timeout)
        return code


def _serve(control: socket.socket) -> None:
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is control:
                packet, fds, _, _ = socket.recv_fds(control, _MAX_PACKET, 2)
                if not packet:
                    return
                pid = _fork(json.loads(packet), fds)
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
                control.send(json.dumps({"pid": pid}).encode())
            else:
                selector.unregister(key.fileobj)
                os.close(key.fd)
                _, status = os.waitpid(key.data, 0)
                control.send(json.dumps({"pid": key.data, "code": os.waitstatus_to_exitcode(status)}).encode())


def _fork(request: dict[str, Any], fds: list[int]) -> int:
    pid = os.fork()
    if pid == 0:
        _become(request, fds)
    for fd in fds:
        os.close(fd)
    return pid


def _become(request: dict[str, Any], fds: list[int]) -> None:
    code = 1
    try:
        for number, fd in enumerate((fds[0], fds[1], fds[1])):
            os.dup2(fd, number)
        os.closerange(3, _MOST_FDS)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        code = main(request["argv"])
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 1
    except BaseException:  # noqa: BLE001 - told as the interpreter would, and this process ends here
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    if os.fork():
        os._exit(0)
    import supervisor.daemon.app
    import supervisor.daemon.command  # noqa: F401
    from supervisor.daemon.main import main

    with socket.socket(fileno=os.dup(0)) as own:
        _serve(own)
