"""`transport = "none"`: programs that know nothing of plugind, from their readiness to their end."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import PATIENCE_S, ROOT, Daemon, Refused, Rpc

Make = Callable[..., Path]
KEY = "test.any"
MANIFEST = """
[plugin]
key = "{key}"
version = "1"
api_version = 1
display_name = "any"
description = "A program that knows nothing of plugind."
author = "plugind's tests"
categories = ["automation"]

[worker]
transport = "none"
"""
# What comes up late, and leaves a mark when it does: whoever takes it for up before has not waited.
LATE = """
import os, signal, socket, sys, time
time.sleep(0.3)
def mark():
    open("mark", "w").close()
"""
WAIT = "\nsignal.pause()\n"
PROBES = {
    "tcp": (
        "mark(); s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
        "s.bind(('127.0.0.1', {port})); s.listen()",
        "tcp = {port}",
    ),
    "unix": (
        "mark(); os.mkdir('run'); s = socket.socket(socket.AF_UNIX); s.bind('run/s'); s.listen()",
        'unix = "run/s"',
    ),
    "command": ("mark(); open('up', 'w').close()", 'command = ["python", "check.py", "up"]'),
    "line": ("mark(); print('12:00 Ready to accept connections', flush=True)", 'line = "Ready to accept"'),
    "notify": (
        "mark(); s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "s.sendto(b'READY=1', '\\0' + os.environ['NOTIFY_SOCKET'][1:])",
        "notify = true",
    ),
}
CHECK = "import os, sys\nsys.exit(not os.path.exists(sys.argv[1]))\n"
# Ends as it is told by the file `end`, and takes that away, so that the next one lives.
ENDS = """
import os, signal, sys, time
while not os.path.exists("end"):
    time.sleep(0.01)
with open("end") as file:
    how = int(file.read())
os.remove("end")
if how < 0:
    os.kill(os.getpid(), -how)
sys.exit(how)
"""


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A package with `main.py`, and whatever more its [worker] is to have."""

    def make(
        code: str,
        worker: str = "",
        *,
        key: str = KEY,
        command: list[str] | None = None,
        start_timeout_s: float = 15,
        stop_timeout_s: float = 5,
        **files: str,
    ) -> Path:
        package = tmp_path / "sources" / key
        package.mkdir(parents=True, mode=0o755)
        words = json.dumps(command or ["python", "main.py"])
        times = f"start_timeout_s = {start_timeout_s}\nstop_timeout_s = {stop_timeout_s}\n"
        (package / "plugin.toml").write_text(f"{MANIFEST.format(key=key)}command = {words}\n{times}{worker}")
        for name, text in {"main": code, **files}.items():
            (package / f"{name}.py").write_text(text)
        for path in [package.parent, package]:
            path.chmod(0o755)
        for path in package.iterdir():
            path.chmod(0o644)
        return package

    return make


@pytest.fixture
def port() -> int:
    """Free a moment ago."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        number: int = taken.getsockname()[1]
        return number


def data_dir(daemon: Daemon, key: str = KEY) -> Path:
    return daemon.state / "data" / key


def tell_to_end(daemon: Daemon, key: str, how: int) -> None:
    new = data_dir(daemon, key) / "new"
    new.write_text(str(how))
    new.rename(data_dir(daemon, key) / "end")


def events(rpc: Rpc, type_: str, key: str = KEY) -> list[Any]:
    found = rpc.call("events.list", types=[f"plugin.{type_}"], plugins=[key])
    return [event["data"] for event in found["events"]]


def load_all(rpc: Rpc, sources: list[Path]) -> list[Any]:
    """Beside each other, as they would start at boot."""
    keys = [rpc.install(source) for source in sources]
    for key in keys:
        rpc.send("plugins.load", plugin=key)
    return [rpc.up(key) for key in keys]


def pluginctl(daemon: Daemon, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "client.cli.main", *arguments],
        env=daemon.environment(PLUGIND_SOCKET=str(daemon.socket)),
        capture_output=True,
        timeout=PATIENCE_S,
        cwd=ROOT,
        check=True,
    )
    return done.stdout.decode()


def messages(rpc: Rpc) -> list[str]:
    return [line["message"] for line in rpc.call("logs.read", plugin=KEY)]


def test_each_is_up_when_its_probe_says_so(daemon: Daemon, make: Make, port: int) -> None:
    sources = [
        make(
            LATE + code.replace("{port}", str(port)) + WAIT,
            f"[worker.ready]\ninterval_s = 0.02\n{ready.format(port=port)}\n",
            key=kind,
            check=CHECK,
        )
        for kind, (code, ready) in PROBES.items()
    ]
    with daemon.start() as rpc:
        for kind, loaded in zip(PROBES, load_all(rpc, sources), strict=True):
            assert (data_dir(daemon, kind) / "mark").exists(), kind
            assert (loaded["status"], loaded["phase"]) == ("ready", "running")
            assert len(events(rpc, "worker_started", kind)) == 1
        assert len(daemon.processes()) == len(PROBES)
        for kind in PROBES:
            rpc.call("plugins.disable", plugin=kind)
            [stopped] = events(rpc, "worker_stopped", kind)
            assert (stopped["stage"], stopped["signal"]) == ("term", 15)


def test_a_server_that_python_brings_along(daemon: Daemon, make: Make, port: int) -> None:
    command = ["python", "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    source = make("", f"ready = {{ tcp = {port} }}\n", command=command)
    with daemon.start() as rpc:
        rpc.load(source)
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as browser:
            browser.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert browser.recv(100).startswith(b"HTTP/1.0 200 OK")


def test_what_never_gets_ready_is_an_error_that_says_why(daemon: Daemon, make: Make, port: int) -> None:
    source = make("import time\ntime.sleep(1000)", f"ready = {{ tcp = {port} }}\n", start_timeout_s=0.5)
    why = (
        f"was not ready: its port 127.0.0.1:{port} did not accept a connection within 0.5 s (last: connection refused)"
    )
    with daemon.start() as rpc:
        rpc.install(source)
        with pytest.raises(Refused, match="ACTIVATION_FAILED") as caught:
            rpc.call("plugins.load", plugin=KEY)
        assert why in str(caught.value)
        seen = rpc.call("plugins.get", plugin=KEY)
        assert (seen["status"], seen["phase"], why in seen["last_error"]) == ("error", "stopped", True)
        [crash] = events(rpc, "worker_crashed")
        assert (crash["reason"], crash["cause"]) == ("not_ready", why)
        assert why in " ".join(pluginctl(daemon, "status", KEY).split())
        assert daemon.processes() == []


# policy, success_exit_codes, how it ends (a signal where below 0), how that is shown
CONTENT = {
    "a": ("on_failure", "[0]", 0, "exited with code 0"),
    "b": ("never", "[0]", 0, "exited with code 0"),
    "c": ("on_failure", "[0, 3]", 3, "exited with code 3"),
    "d": ("never", "[3]", 3, "exited with code 3"),
}
RESTARTED = {
    "e": ("always", "[0]", 0, "exited with code 0"),
    "f": ("always", "[0]", 3, "exited with code 3"),
    "g": ("on_failure", "[0]", 3, "exited with code 3"),
    "h": ("on_failure", "[3]", 0, "exited with code 0"),
    "i": ("on_failure", "[0]", -9, "was killed by SIGKILL"),
}
LEFT_AT_THAT = {
    "j": ("never", "[0]", 3, "exited with code 3"),
    "k": ("never", "[0]", -9, "was killed by SIGKILL"),
    "l": ("never", "[3]", 0, "exited with code 0"),
}
Cases = dict[str, tuple[str, str, int, str]]


def load_and_end(daemon: Daemon, rpc: Rpc, make: Make, cases: Cases) -> dict[str, int]:
    """Their pids, by key."""
    sources = []
    for key, (policy, codes, *_) in cases.items():
        restart = f'restart = {{ policy = "{policy}", backoff_s = 0.05 }}'
        worker = f"start_grace_s = 0.1\nsuccess_exit_codes = {codes}\n{restart}\n"
        sources.append(make(ENDS, worker, key=key))
    pids = {loaded["key"]: loaded["pid"] for loaded in load_all(rpc, sources)}
    for key, (_, _, how, _) in cases.items():
        tell_to_end(daemon, key, how)
    return pids


def test_a_program_that_ends_well_has_finished(daemon: Daemon, make: Make) -> None:
    with daemon.start() as rpc:
        pids = load_and_end(daemon, rpc, make, CONTENT)
        for key, (_, _, how, shown) in CONTENT.items():
            seen = rpc.call("plugins.wait", plugin=key, phase="stopped", timeout_s=PATIENCE_S)
            assert (seen["status"], seen["pid"], seen["restarts"], seen["last_error"]) == ("ready", None, 0, None), key
            assert seen["summary"].startswith(f"Finished ({shown})")
            [stopped] = events(rpc, "worker_stopped", key)
            assert (stopped["stage"], stopped["exit_code"], stopped["pid"]) == ("exit", how, pids[key])
            assert events(rpc, "worker_crashed", key) == []
            assert f"Finished ({shown})" in " ".join(pluginctl(daemon, "status", key).split())
            # Started again by hand, it runs again.
            assert rpc.call("plugins.start", plugin=key)["pid"] not in {None, pids[key]}


def test_a_program_that_has_finished_before_it_counted_as_up(daemon: Daemon, make: Make) -> None:
    """Nothing is to be waited for after it: whoever loads it is told that all is well."""
    source = make("print('done')", 'start_grace_s = 10\nrestart = { policy = "never" }\n')
    with daemon.start() as rpc:
        loaded = rpc.load(source)
        assert (loaded["status"], loaded["phase"], loaded["restarts"]) == ("ready", "stopped", 0)
        assert loaded["summary"].startswith("Finished (exited with code 0)")
        assert messages(rpc) == ["done"]
        assert events(rpc, "worker_crashed") == []


def test_an_end_that_the_policy_answers_with_another_start(daemon: Daemon, make: Make) -> None:
    with daemon.start() as rpc:
        pids = load_and_end(daemon, rpc, make, RESTARTED)
        for key, (_, _, how, shown) in RESTARTED.items():
            second = rpc.up(key, not_pid=pids[key])
            assert (second["status"], second["restarts"]) == ("ready", 1), key
            [crash] = events(rpc, "worker_crashed", key)
            assert crash["cause"].startswith(shown)
            assert (crash["exit_code"], crash["signal"]) == ((how, None) if how >= 0 else (None, -how))
            assert crash["restart_in_s"] is not None


def test_a_failure_that_the_policy_leaves_at_that(daemon: Daemon, make: Make) -> None:
    with daemon.start() as rpc:
        load_and_end(daemon, rpc, make, LEFT_AT_THAT)
        for key, (*_, shown) in LEFT_AT_THAT.items():
            seen = rpc.call("plugins.wait", plugin=key, status="error", timeout_s=PATIENCE_S)
            assert (seen["phase"], seen["restarts"], shown in seen["last_error"]) == ("stopped", 0, True), key
            [crash] = events(rpc, "worker_crashed", key)
            assert crash["restart_in_s"] is None
            assert len(events(rpc, "error", key)) == 1
            assert seen["next_recovery_in_s"] is None, "it would be tried again by itself"


def test_a_signal_of_its_own_choice_stops_it(daemon: Daemon, make: Make) -> None:
    code = """
import signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def leave(*_):
    print("bye", flush=True)
    sys.exit(0)
signal.signal(signal.SIGINT, leave)
print("up", flush=True)
while True:
    signal.pause()
"""
    source = make(code, 'stop_signal = "SIGINT"\nready = { line = "up" }\n')
    with daemon.start() as rpc:
        rpc.load(source)
        rpc.call("plugins.disable", plugin=KEY)
        [stopped] = events(rpc, "worker_stopped")
        assert (stopped["stage"], stopped["exit_code"]) == ("term", 0)
        assert messages(rpc) == ["up", "bye"]


STOPPABLE = """
import os, signal, sys, time
print("up", flush=True)
while not os.path.exists("stop"):
    time.sleep(0.01)
sys.exit(0)
"""


def stop(daemon: Daemon, rpc: Rpc, source: Path) -> Any:
    """What is told of the stopping of a loaded plugin."""
    rpc.load(source)
    rpc.call("plugins.disable", plugin=KEY)
    assert daemon.processes() == []
    [stopped] = events(rpc, "worker_stopped")
    return stopped


def test_a_stop_command(daemon: Daemon, make: Make) -> None:
    asks = "open('stop', 'w').close()\n"
    source = make(STOPPABLE, 'ready = { line = "up" }\nstop_command = ["python", "ask.py"]\n', ask=asks)
    with daemon.start() as rpc:
        stopped = stop(daemon, rpc, source)
        assert (stopped["stage"], stopped["exit_code"]) == ("command", 0)


def test_a_stop_command_that_fails_gives_way_to_a_signal(daemon: Daemon, make: Make) -> None:
    asks = "import sys\nsys.exit('there is nobody to ask')\n"
    source = make(STOPPABLE, 'ready = { line = "up" }\nstop_command = ["python", "ask.py"]\n', ask=asks)
    with daemon.start() as rpc:
        began = time.monotonic()
        stopped = stop(daemon, rpc, source)
        assert (stopped["stage"], stopped["signal"]) == ("term", 15)
        assert "the stop command exited with code 1: there is nobody to ask" in messages(rpc)
        assert time.monotonic() - began < 5, "stop_timeout_s was waited for, though nobody had been asked"


def test_a_stop_command_that_hangs_is_killed_and_gives_way_to_a_signal(daemon: Daemon, make: Make) -> None:
    asks = "import os, time\nopen('asker', 'w').write(str(os.getpid()))\ntime.sleep(1000)\n"
    worker = 'ready = { line = "up" }\nstop_command = ["python", "ask.py"]\n'
    source = make(STOPPABLE, worker, stop_timeout_s=1, ask=asks)
    with daemon.start() as rpc:
        stopped = stop(daemon, rpc, source)
        assert (stopped["stage"], stopped["signal"]) == ("term", 15)
        asker = int((data_dir(daemon) / "asker").read_text())
        with pytest.raises(ProcessLookupError):
            os.kill(asker, 0)
        assert "the stop command did not end within 1 s" in messages(rpc)
