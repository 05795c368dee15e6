"""A plugin that goes to the control socket itself, as a user who is an admin there: it is kept out every time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.cgroups import delegated_group
from tests.e2e.conftest import PATIENCE_S, Daemon, Refused, Rpc
from tests.e2e.test_containment import alive, start_in

KEY = "test.knocks"
MANIFEST = f"""
[plugin]
key = "{KEY}"
version = "1"
api_version = 1
display_name = "knocks"
description = "Tries the control socket."
author = "plugind's tests"
categories = ["automation"]
capabilities = ["jobs.schedule"]

[worker]
command = ["python", "worker.py"]
transport = "none"
start_grace_s = 0
stop_timeout_s = 1

[[jobs]]
key = "knock"
display_name = "knock"
"""
KNOCK = """
import contextlib, os, socket, sys
def knock(name):
    with socket.socket(socket.AF_UNIX) as door:
        door.settimeout(20)
        door.connect({path!r})
        heard = b""
        with contextlib.suppress(BrokenPipeError):
            door.sendall({request!r})
        with contextlib.suppress(ConnectionResetError):
            while data := door.recv(65536):
                heard += data
    with open(name + ".new", "wb") as file:
        file.write(heard)
    os.rename(name + ".new", name)
if __name__ == "__main__":
    knock(sys.argv[1])
"""
WORKER = """
import os, time
from knock import knock
knock("direct")
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while os.getppid() != {daemon}:
            time.sleep(0.001)
        os.closerange(0, 3)
        knock("grandchild")
    os._exit(0)
os.wait()
time.sleep(1000)
"""
WAITING = """
import os, sys, time
from knock import knock
if len(sys.argv) == 1:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            # At once: nobody has seen it below the worker.
            os.closerange(3, 100)
            command = [sys.executable, os.path.join({source!r}, "worker.py"), "orphan"]
            os.execve(sys.executable, command, {{}})
        os._exit(0)
    os.wait()
    time.sleep(1000)
while os.getppid() != {daemon}:
    time.sleep(0.001)
{shed}
with open("orphan.new", "w") as file:
    file.write(str(os.getpid()))
os.rename("orphan.new", "orphan")
while os.getppid() == {daemon}:
    time.sleep(0.001)
until = time.monotonic() + 20
while time.monotonic() < until:
    try:
        knock("waited")
        break
    except (ConnectionRefusedError, FileNotFoundError):
        time.sleep(0.001)
"""
"""Its orphan hides from every look, and knocks when another daemon is there."""
STOP = msgpack.packb([0, 1, "daemon.stop", []])


@pytest.fixture(params=["without a cgroup", "in a cgroup"])
def start(request: pytest.FixtureRequest, daemon: Daemon) -> Iterator[Callable[[], Rpc]]:
    if request.param == "without a cgroup":
        yield daemon.start
        return
    with delegated_group() as group:
        yield lambda: start_in(daemon, group)
        # It lives in there, and is not to be killed with the group.
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.stop()


def source(
    directory: Path, daemon: Daemon, job: str = '["python", "knock.py", "job"]', worker: str = WORKER, shed: str = ""
) -> Path:
    made = directory / "sources/knocks"
    made.mkdir(parents=True, mode=0o755)
    files = {
        "plugin.toml": f"{MANIFEST}command = {job}\n",
        "knock.py": KNOCK.format(path=str(daemon.socket), request=STOP),
        "worker.py": worker.format(daemon=daemon.pid, source=str(made), shed=shed),
    }
    for name, text in files.items():
        (made / name).write_text(text)
        (made / name).chmod(0o644)
    return made


def heard(file: Path) -> list[Any]:
    """What it was told, once it has been shown the door."""
    deadline = time.monotonic() + PATIENCE_S
    while not file.exists():
        assert time.monotonic() < deadline, f"no {file.name}"
        time.sleep(0.01)
    unpacker = msgpack.Unpacker()
    unpacker.feed(file.read_bytes())
    return list(unpacker)


def test_however_it_comes(daemon: Daemon, start: Callable[[], Rpc], tmp_path: Path) -> None:
    with start() as rpc:
        rpc.load(source(tmp_path, daemon))
        data = Path(rpc.call("plugins.get", plugin=KEY)["data_dir"])
        assert rpc.call("jobs.run", job=f"{KEY}/knock", wait=True)["state"] == "succeeded"
        for how in ("direct", "grandchild", "job"):
            [[kind, method, [error]]] = heard(data / how)
            assert (kind, method, error["name"]) == (2, "rpc.error", "PERMISSION_DENIED"), how
            assert "plugins may not use the control socket" in error["message"]
        assert not rpc.call("daemon.status")["stopping"]
        # It is nobody's request, and so not in the audit.
        assert rpc.call("audit.list", methods=["daemon.*"]) == []
    assert daemon.log.read_text().count('"connection.refused"') == 3


def hidden(rpc: Rpc) -> tuple[int, Path]:
    """The orphan's pid, once it waits, and where it writes what it hears."""
    data = Path(rpc.call("plugins.get", plugin=KEY)["data_dir"])
    deadline = time.monotonic() + PATIENCE_S
    while not (data / "orphan").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return int((data / "orphan").read_text()), data / "waited"


def test_an_orphan_that_hid_and_outlived_the_daemon_is_ended(daemon: Daemon, tmp_path: Path) -> None:
    with daemon.start() as rpc:
        rpc.load(source(tmp_path, daemon, worker=WAITING))
        pid, answer = hidden(rpc)
        assert alive(pid)
        daemon.kill()
    with daemon.start():
        assert not alive(pid)
        assert not answer.exists()


def test_one_that_cannot_be_told_for_ours_is_kept_out(daemon: Daemon, tmp_path: Path) -> None:
    """It has changed what it is known by, as far as the kernel lets it."""
    shed = "import resource; resource.setrlimit(10, (77, 77))"
    with daemon.start() as rpc:
        rpc.load(source(tmp_path, daemon, worker=WAITING, shed=shed))
        pid, answer = hidden(rpc)
        daemon.kill()
    with daemon.start() as rpc:
        [[kind, method, [error]]] = heard(answer)
        assert (kind, method, error["name"]) == (2, "rpc.error", "PERMISSION_DENIED")
        assert f"process {pid} has a lower limit of file locks" in error["message"]
        assert not rpc.call("daemon.status")["stopping"]


def config(daemon: Daemon, text: str) -> None:
    """Its settings file, with this instead of what was put there before."""
    file = Path(daemon.arguments()[1])
    own, _, _ = file.read_text().partition("# more\n")
    file.write_text(f"{own}# more\n{text}\n")


def test_settings_are_read_anew_over_the_socket(daemon: Daemon) -> None:
    with daemon.start() as rpc:
        daemon.read_notifications()
        config(daemon, 'log_level = "debug"\ntimezone = "Europe/Berlin"\noperators = ["no-such-user-here"]')
        found = rpc.call("daemon.reload")
        assert (found["changed"], found["need_restart"]) == (["log_level", "operators"], ["timezone"])
        warning, unreachable = found["warnings"]
        assert "no-such-user-here" in warning
        assert "until socket_group names a group" in unreachable
        assert warning in rpc.call("daemon.status")["warnings"]
        settings = rpc.call("daemon.settings")
        assert (settings["log_level"], settings["timezone"]) == ("debug", "UTC")
        daemon.wait_notified("RELOADING=1")
        daemon.wait_notified("READY=1")
        config(daemon, 'log_level = "loud"\nadmins = ["a b"]')
        with pytest.raises(Refused) as caught:
            rpc.call("daemon.reload")
        assert caught.value.name == "INVALID_PARAMS"
        assert len(caught.value.data["problems"]) == 2
        assert rpc.call("daemon.settings") == settings
        daemon.wait_notified("READY=1")
        # The same by a signal, which nobody hears the answer of.
        daemon.signal(signal.SIGHUP)
        daemon.wait_notified("RELOADING=1")
        daemon.wait_notified("READY=1")
        assert "settings.not_reloaded" in daemon.log.read_text()
        assert [(e["method"], e["result"]) for e in rpc.call("audit.list")] == [
            ("daemon.reload", "INVALID_PARAMS"),
            ("daemon.reload", "ok"),
        ]


def test_the_last_change_of_all_ends_well(daemon: Daemon) -> None:
    with daemon.start() as rpc:
        rpc.call("daemon.stop")
        assert daemon.wait() == 0
    with daemon.start() as rpc:
        [stop] = rpc.call("audit.list")
        assert (stop["method"], stop["result"]) == ("daemon.stop", "ok")
        assert (stop["uid"], stop["pid"]) == (os.getuid(), os.getpid())
        assert (stop["exe"], stop["client"]) == (os.readlink("/proc/self/exe"), "e2e")


def test_a_change_that_the_daemon_did_not_survive_was_cut_short(daemon: Daemon, tmp_path: Path) -> None:
    with daemon.start() as rpc:
        rpc.load(source(tmp_path, daemon, job='["sleep", "1000"]'))
        rpc.send("jobs.run", job=f"{KEY}/knock", wait=True)
        with Rpc(daemon.socket) as other:
            deadline = time.monotonic() + PATIENCE_S
            while not other.call("audit.list", result="under_way", target=KEY):
                assert time.monotonic() < deadline
                time.sleep(0.01)
        daemon.kill()
    with daemon.start() as rpc:
        found = [(entry["method"], entry["result"]) for entry in rpc.call("audit.list")]
        assert found == [("jobs.run", "cut_short"), ("plugins.load", "ok"), ("plugins.install", "ok")]
