import fcntl
import os
import re
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

from supervisor.daemon.systemd import (
    Notifier,
    SystemdEnvironment,
    SystemdError,
    take_environment,
    take_listener,
    watchdog,
)


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """(socket that plays systemd, NOTIFY_SOCKET)."""
    name = str(tmp_path / "n") if request.param == "path" else f"@plugind-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0"))
        sock.settimeout(5)
        yield sock, name


def test_what_is_told(manager):
    sock, name = manager
    notifier = Notifier(name)

    def told(sent: bool) -> list[str]:
        assert sent
        return sock.recv(4096).decode().split("\n")

    assert told(notifier.ready("3 plugins\nSTOPPING=1")) == ["READY=1", "STATUS=3 plugins STOPPING=1"]
    assert told(notifier.status("x")) == ["STATUS=x"]
    assert told(notifier.stopping()) == ["STOPPING=1"]
    assert told(notifier.ping()) == ["WATCHDOG=1"]
    assert told(notifier.extend_timeout(1.5)) == ["EXTEND_TIMEOUT_USEC=1500000"]
    reloading, since = told(notifier.reloading())
    assert reloading == "RELOADING=1"
    assert (
        0 < int(since.removeprefix("MONOTONIC_USEC=")) <= int(Path("/proc/uptime").read_text().split(".")[0] + "999999")
    )


def test_nobody_to_tell():
    assert not Notifier(None).ready()


@pytest.mark.parametrize("address", ["/nonexistent/socket", "@nobody-listens-here", "/" + "x" * 200])
def test_a_deaf_manager_is_logged_once_and_nothing_is_raised(address, monkeypatch):
    seen = []
    monkeypatch.setattr("supervisor.daemon.systemd.log.__class__.warning", lambda *a, **fields: seen.append(fields))
    notifier = Notifier(address)
    assert not notifier.ready()
    assert not notifier.ping()
    (fields,) = seen
    assert fields["address"] == address


async def test_a_full_queue_holds_up_nobody_and_loses_nothing(manager):
    sock, name = manager
    sock.setblocking(False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as crowd:
        crowd.setblocking(False)
        crowd.connect(name.replace("@", "\0"))
        while select.select([], [crowd], [], 0)[1]:
            crowd.send(b"X=1")
    notifier, began = Notifier(name), time.monotonic()
    for _ in range(3):
        assert not notifier.reloading()
        assert not notifier.ready("4 plugins")
        assert not notifier.ping()
    assert not notifier.stopping("draining")
    assert not notifier.extend_timeout(1)
    assert not notifier.extend_timeout(2)
    assert time.monotonic() - began < 0.2
    told = []
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(notifier.run)
            while not told or told[-1] != "EXTEND_TIMEOUT_USEC=2000000":
                await trio.lowlevel.wait_readable(sock)
                told.append(sock.recv(4096).decode())
            nursery.cancel_scope.cancel()
    told = [text.split("MONO")[0].rstrip("\n") for text in told if text != "X=1"]
    assert told == [
        "RELOADING=1",
        "READY=1\nSTATUS=4 plugins",
        "WATCHDOG=1",
        "STOPPING=1\nSTATUS=draining",
        "EXTEND_TIMEOUT_USEC=2000000",
    ]
    assert notifier.ping(), "and then all goes at once again"


async def test_a_manager_that_goes_away_with_a_full_queue(tmp_path, monkeypatch):
    failed = trio.Event()
    monkeypatch.setattr("supervisor.daemon.systemd.log.__class__.warning", lambda *a, **fields: failed.set())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "n"))
        notifier = Notifier(str(tmp_path / "n"))
        while notifier.ping():
            pass
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(notifier.run)
            await failed.wait()
            nursery.cancel_scope.cancel()
    assert not notifier.ping()


def test_variables_are_taken_out():
    environ = {
        "NOTIFY_SOCKET": "@x",
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": "7",
        "LISTEN_PID": "8",
        "LISTEN_FDS": "1",
        "LISTEN_FDNAMES": "control",
        "CREDENTIALS_DIRECTORY": "/run/credentials/plugind",
        "PATH": "/bin",
    }
    assert take_environment(environ, pid=7) == SystemdEnvironment(
        notify_socket="@x",
        watchdog_s=30.0,
        listen_fds=(),  # meant for pid 8
        credentials_directory=Path("/run/credentials/plugind"),
    )
    assert environ == {"PATH": "/bin"}
    assert take_environment({"WATCHDOG_USEC": "5", "WATCHDOG_PID": "8"}, pid=7) == SystemdEnvironment()


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"WATCHDOG_USEC": "soon"}, "WATCHDOG_USEC='soon'"),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "-1"}, "LISTEN_FDS='-1'"),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "99999"}, "from 0 to 1024"),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "1000"}, "descriptor .* is not open"),
    ],
)
def test_nonsense_is_refused(environ, message):
    # In a child: these descriptors are other people's in this process.
    code = (
        "import sys; from supervisor.daemon.systemd import *\n"
        "try: take_environment(eval(sys.argv[1]), pid=7)\nexcept SystemdError as e: print(e)"
    )
    assert re.search(message, subprocess.check_output([sys.executable, "-c", code, repr(environ)], text=True))


def inherited(sock: socket.socket) -> SystemdEnvironment:
    return SystemdEnvironment(listen_fds=(os.dup(sock.fileno()),))


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_the_listener_moves_out_of_the_way(tmp_path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        sock.listen()
        environment = inherited(sock)
        listener = take_listener(environment)
        assert listener is not None
        assert not is_open(environment.listen_fds[0])
        with listener, socket.socket(socket.AF_UNIX) as client:
            assert listener.fileno() >= 10
            assert fcntl.fcntl(listener.fileno(), fcntl.F_GETFD) & fcntl.FD_CLOEXEC
            client.connect(str(tmp_path / "s"))
            listener.accept()[0].close()


def test_no_listener_was_passed():
    assert take_listener(SystemdEnvironment()) is None


def unsuitable():
    tcp = socket.socket()
    tcp.bind(("127.0.0.1", 0))
    tcp.listen()
    yield tcp, "AF_INET"
    yield socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), "SOCK_DGRAM"
    yield socket.socket(socket.AF_UNIX), "not listening"


def test_unsuitable_sockets_are_refused_and_closed():
    for sock, message in unsuitable():
        environment = inherited(sock)
        with sock, pytest.raises(SystemdError, match=message):
            take_listener(environment)
        assert not is_open(environment.listen_fds[0])


def test_a_file_is_no_socket(tmp_path):
    fd = os.open(tmp_path / "f", os.O_CREAT | os.O_RDWR)
    with pytest.raises(SystemdError, match="is no socket"):
        take_listener(SystemdEnvironment(listen_fds=(fd,)))
    assert not is_open(fd)


def test_two_listeners_are_refused():
    with socket.socket(socket.AF_UNIX) as a, pytest.raises(SystemdError, match="passed 2 sockets"):
        take_listener(SystemdEnvironment(listen_fds=(os.dup(a.fileno()), os.dup(a.fileno()))))


def test_inherited_descriptors_reach_no_child():
    code = (
        "import os, subprocess; from supervisor.daemon.systemd import *\n"
        "e = take_environment(); s = take_listener(e)\n"
        "print(e.listen_fds, s.fileno() >= 10, os.path.exists('/proc/self/fd/3'))\n"
        "sh = ['sh', '-c', 'echo $LISTEN_FDS$NOTIFY_SOCKET; ls /proc/self/fd']\n"
        "print(subprocess.check_output(sh, close_fds=False))"
    )
    manager = (
        "import os, sys; os.dup2(int(sys.argv[2]), 3); os.close(int(sys.argv[2]))\n"
        "os.environ |= {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1', 'NOTIFY_SOCKET': '@x'}\n"
        "os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])"
    )
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"\0plugind-test-{os.getpid()}-listen")
        sock.listen()
        args = [sys.executable, "-c", manager, code, str(sock.fileno())]
        out = subprocess.check_output(args, pass_fds=[sock.fileno()], text=True).splitlines()
    assert out[0] == "(3,) True False"
    empty, *fds = out[1].removeprefix("b'").split("\\n")[:-1]
    assert empty == ""
    assert fds == ["0", "1", "2", "3"]  # 3 is the directory that ls reads


class Pings(Notifier):
    def __init__(self) -> None:
        super().__init__(None)
        self.times: list[float] = []

    def ping(self) -> bool:
        self.times.append(trio.current_time())
        return True


async def test_pings_thrice_per_interval(autojump_clock):
    notifier, began = Pings(), trio.current_time()
    with trio.move_on_after(30.5):
        await watchdog(notifier, 30, trio.lowlevel.checkpoint)
    assert notifier.times == [began, began + 10, began + 20, began + 30]


async def test_no_ping_while_the_check_fails_or_hangs(autojump_clock):
    notifier, began, calls = Pings(), trio.current_time(), 0

    async def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            await trio.sleep_forever()
        if calls == 3:
            raise OSError("disk")

    with trio.move_on_after(45):
        await watchdog(notifier, 30, check)
    assert notifier.times == [began, began + 30, began + 40]
    assert calls == 5
