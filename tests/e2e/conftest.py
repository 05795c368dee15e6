"""The real daemon as a process of its own, and a blocking client of few words."""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.e2e.fork_server import Forked, ForkServer

ROOT = Path(__file__).parents[2]
PLUGINS = ROOT / "tests/plugins"
EXAMPLES = ROOT / "supervisor/daemon/examples"
PLUGIND = [sys.executable, "-m", "supervisor.daemon.main"]
PATIENCE_S = 20.0


class Refused(Exception):
    """The daemon's error map."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['name']}: {error['message']}")
        self.name, self.data = error["name"], error["data"]


class Rpc:
    """One connection; notifications are kept in `events`."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE_S)
        self._socket.connect(str(path))
        self._unpacker = msgpack.Unpacker()
        self._id = 0
        self.events: list[Any] = []
        self.call("rpc.hello", client="e2e")

    def __enter__(self) -> Rpc:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, method: str, /, **params: Any) -> int:
        self._id += 1
        self._socket.sendall(msgpack.packb([0, self._id, method, [params] if params else []]))
        return self._id

    def answer(self, id_: int) -> Any:
        while True:
            for message in self._unpacker:
                if message[0] == 2:
                    self.events.append(message)
                elif message[1] == id_:
                    if message[2] is not None:
                        raise Refused(message[2])
                    return message[3]
            data = self._socket.recv(65536)
            if not data:
                raise EOFError("the daemon hung up")
            self._unpacker.feed(data)

    def call(self, method: str, /, **params: Any) -> Any:
        return self.answer(self.send(method, **params))

    def up(self, key: str, *, not_pid: int | None = None) -> Any:
        """Wait until its worker runs, under another pid than `not_pid`."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            seen = self.call("plugins.wait", plugin=key, phase="running", timeout_s=PATIENCE_S)
            if seen["pid"] != not_pid:
                return seen
            assert time.monotonic() < deadline
            time.sleep(0.01)  # The old one is still there, and on its way out.

    def install(self, source: Path) -> str:
        key: str = self.call("plugins.install", source=str(source))["key"]
        return key

    def load(self, source: Path) -> Any:
        return self.call("plugins.load", plugin=self.install(source))


class Daemon:
    """Its files are below `directory`; `start` returns when it is ready. `forks`: who starts it; None: as users do."""

    def __init__(self, directory: Path, forks: ForkServer | None = None) -> None:
        self.state = directory / "state"
        self.socket = directory / "control.sock"
        self.log = directory / "plugind.log"
        self.process: subprocess.Popen[bytes] | Forked | None = None
        self._forks = forks
        self.notifications: list[str] = []
        self._config = directory / "plugind.toml"
        self._config.write_text("drain_s = 2\nterm_grace_s = 0.4\nkill_grace_s = 1\n")
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(directory / "notify.sock"))
        self._notify_path = str(directory / "notify.sock")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def arguments(self) -> list[str]:
        return ["--config", str(self._config), "--state-dir", str(self.state), "--socket", str(self.socket)]

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PLUGIND_")}
        return kept | {"NOTIFY_SOCKET": self._notify_path} | more

    def start(self, *, shim: str | None = None, pass_fds: tuple[int, ...] = (), **environment: str) -> Rpc:
        with self.log.open("ab") as log:
            if self._forks and shim is None and not pass_fds:
                self.process = self._fork(self._forks, log.fileno(), environment)
            else:
                self.process = self._execute(shim, log.fileno(), pass_fds, environment)
        self.wait_notified("READY=1")
        return Rpc(self.socket)

    def _fork(self, forks: ForkServer, log: int, environment: dict[str, str]) -> Forked:
        with open(os.devnull) as nothing:
            arguments = [*self.arguments(), "--log-format", "json"]
            return forks.start(arguments, self.environment(**environment), ROOT, nothing.fileno(), log)

    def _execute(
        self, shim: str | None, log: int, pass_fds: tuple[int, ...], environment: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        program = PLUGIND if shim is None else [sys.executable, "-c", shim, *PLUGIND]
        return subprocess.Popen(
            [*program, *self.arguments(), "--log-format", "json"],
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=ROOT,
            pass_fds=pass_fds,
        )

    def wait_notified(self, what: str) -> None:
        """Read notifications until one has the line `what`."""
        deadline = time.monotonic() + PATIENCE_S
        with selectors.DefaultSelector() as selector:
            selector.register(self._notify, selectors.EVENT_READ)
            while True:
                if selector.select(0.2):
                    self.notifications.append(self._notify.recv(4096).decode())
                    if what in self.notifications[-1].splitlines():
                        return
                ended = self.process is not None and self.process.poll() is not None
                if ended or time.monotonic() > deadline:
                    raise AssertionError(f"no {what}; the log:\n{self.log.read_text()}")

    def read_notifications(self) -> str:
        """All that have arrived so far."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._notify, selectors.EVENT_READ)
            while selector.select(0):
                self.notifications.append(self._notify.recv(4096).decode())
        return "\n".join(self.notifications)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(PATIENCE_S)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait()

    def processes(self) -> list[int]:
        """Living ones that carry the id of this daemon's state directory."""
        file = self.state / "state_id"
        if not file.exists():
            return []  # It never came so far.
        mark = f"PLUGIND_STATE_ID={file.read_text().split()[0]}".encode()
        return [pid for pid in pids() if mark in environ_of(pid)]

    def close(self) -> None:
        """End it, and what it may have left; a survivor of a daemon that ended by itself is a failure."""
        alive = self.process is not None and self.process.poll() is None
        if alive:
            self.stop()
        survivors = self.processes()
        for pid in survivors:
            os.kill(pid, signal.SIGKILL)
        self._notify.close()
        assert not survivors, f"the daemon left {survivors}; its log:\n{self.log.read_text()}"


def pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def environ_of(pid: int) -> list[bytes]:
    """Empty for those that are gone, or zombies."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer]:
    server = ForkServer()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def daemon(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """Started as users do in the modules that say EXECUTED = True; elsewhere by fork, which takes half as long."""
    executed = getattr(request.module, "EXECUTED", False)
    daemon = Daemon(tmp_path, None if executed else request.getfixturevalue("forks"))
    try:
        yield daemon
    finally:
        daemon.close()


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[[str], Path]:
    """A copy of one of the tests' plugins, or of an example, that only we may write."""

    def copy(name: str) -> Path:
        source = next(root / name for root in (PLUGINS, EXAMPLES) if (root / name).is_dir())
        target = tmp_path / "sources" / name
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        for path in [target, *target.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        target.parent.chmod(0o755)
        return target

    return copy
