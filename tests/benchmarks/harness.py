"""A daemon of its own for a benchmark, and tables of ratios."""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from client import Client
from client.errors import DaemonNotRunning

PROGRAM = ("-m", "supervisor.daemon.main")


class Daemon:
    """A real one, in a directory of its own; `start` and `stop` are what benchmarks time."""

    def __init__(self, directory: Path, program: Sequence[str] = PROGRAM) -> None:
        """`program`: what Python is to run."""
        self._program = program
        self.socket = str(directory / "control.sock")
        self._state_dir = directory / "state"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when the socket answers."""
        command = [sys.executable, *self._program, "--state-dir", str(self._state_dir)]
        with (self._state_dir.parent / "daemon.log").open("ab") as log:
            self._process = subprocess.Popen([*command, "--socket", self.socket], stderr=log)
        with Client(self.socket) as client:
            while True:
                try:
                    client.daemon.ping()
                    return
                except DaemonNotRunning:
                    if self._process.poll() is not None:
                        raise RuntimeError((self._state_dir.parent / "daemon.log").read_text()) from None
                    time.sleep(0.005)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)
            self._process = None


@contextlib.contextmanager
def daemon(program: Sequence[str] = PROGRAM) -> Iterator[Daemon]:
    with tempfile.TemporaryDirectory(prefix="plugind-bench-") as name:
        os.chmod(name, 0o700)
        one = Daemon(Path(name), program)
        one.start()
        try:
            yield one
        finally:
            one.stop()


def timed(work: object) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - started


def show(title: str, floor: tuple[str, list[float]], *rows: tuple[str, list[float]]) -> None:
    """A table: median in milliseconds, and its ratio to the floor's."""
    base = statistics.median(floor[1])
    print(f"\n{title}")
    for name, times in (floor, *rows):
        median = statistics.median(times)
        print(f"  {name:<40} {median * 1000:>10.3f} ms  {median / base:>6.2f} x floor")
