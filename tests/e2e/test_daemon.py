"""The daemon whole: plugins come and go, processes are killed, the daemon is killed, stopped, started again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import PATIENCE_S, PLUGIND, ROOT, Daemon, Refused

Copy = Callable[[str], Path]
GOOD = "test.good"
# LISTEN_PID is to be the pid of the program, which only the program itself knows before it is run.
# Puts the listening socket on fd 3, as systemd does, in the child: in this process the number is somebody else's.
SHIM = """
import os, sys
os.dup2({fd}, 3)
os.set_inheritable(3, True)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[1], sys.argv[1:])
"""

# What an entrypoint does that starts another program beside plugind, and becomes plugind.
SIDECAR = """
import os, subprocess, sys
code = "sleep 600 >&- & echo $$ $!; wait"
beside = subprocess.Popen(["sh", "-c", code], stdout=subprocess.PIPE)
print(beside.stdout.readline().decode(), end="", flush=True)
os.execv(sys.argv[1], sys.argv[1:])
"""
EXECUTED = True


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_plugin_from_install_to_removal_and_back(daemon: Daemon, plugin: Copy) -> None:
    source = plugin("good")
    with daemon.start() as rpc:
        installed = rpc.call("plugins.install", source=str(source))
        assert (installed["key"], installed["status"], installed["pid"]) == (GOOD, "installed", None)
        loaded = rpc.call("plugins.load", plugin=GOOD)
        assert (loaded["status"], loaded["phase"]) == ("ready", "running")
        echoed = rpc.call("plugins.call", plugin=GOOD, method="echo", params={"value": [1, "zwei", b"3", None]})
        assert echoed == {"result": [1, "zwei", b"3", None]}
        run = rpc.call("jobs.run", job=f"{GOOD}/tick", wait=True)
        assert (run["state"], run["result"]["pid"]) == ("succeeded", loaded["pid"])
        assert rpc.call("plugins.health", plugin=GOOD)["healthy"] is True
        disabled = rpc.call("plugins.disable", plugin=GOOD, reason="tea")
        assert (disabled["status"], disabled["phase"], disabled["pid"]) == ("disabled", "stopped", None)
        assert gone(loaded["pid"])
        with pytest.raises(Refused, match=r"INVALID_TRANSITION.*test\.good.*disabled"):
            rpc.call("plugins.disable", plugin=GOOD)
        rpc.call("plugins.unload", plugin=GOOD)
        assert rpc.call("plugins.list") == []
        again = rpc.load(source)
        assert (again["id"], again["status"]) == (installed["id"], "ready")
        assert [run["state"] for run in rpc.call("jobs.runs", job=f"{GOOD}/tick")] == ["succeeded"]
        rpc.call("plugins.unload", plugin=GOOD, remove_data=True)
        assert list((daemon.state / "packages").iterdir()) == list((daemon.state / "data").iterdir()) == []
        told = [event["type"].removeprefix("plugin.") for event in rpc.call("events.list", limit=1000)["events"]]
        load = ["status_changed", "worker_started", "loaded", "enabled"]
        assert told == [
            *["installed", "status_changed", *load, "job.run_started", "job.run_succeeded"],
            *["status_changed", "worker_stopped", "disabled", "status_changed", "unloaded"],
            *["installed", "status_changed", *load, "worker_stopped", "status_changed", "unloaded"],
        ]


def test_a_killed_worker_is_restarted(daemon: Daemon, plugin: Copy) -> None:
    with daemon.start() as rpc:
        first = rpc.load(plugin("good"))
        os.kill(first["pid"], signal.SIGKILL)
        second = rpc.up(GOOD, not_pid=first["pid"])
        assert (second["status"], second["restarts"]) == ("ready", 1)
        [crash] = rpc.call("events.list", types=["plugin.worker_crashed"])["events"]
        assert (crash["data"]["signal"], crash["data"]["pid"]) == (9, first["pid"])
        with pytest.raises(Refused, match="PLUGIN_CRASHED"):
            rpc.call("plugins.call", plugin=GOOD, method="crash")
        assert rpc.up(GOOD, not_pid=second["pid"])["restarts"] == 2


def test_a_worker_that_never_comes_up_is_an_error_with_its_last_words(daemon: Daemon, plugin: Copy) -> None:
    with daemon.start() as rpc:
        key = rpc.install(plugin("exits_before_handshake"))
        with pytest.raises(Refused, match="ACTIVATION_FAILED") as caught:
            rpc.call("plugins.load", plugin=key)
        assert caught.value.data["exit_code"] == 3
        seen = rpc.call("plugins.get", plugin=key)
        assert (seen["status"], "last words: giving up" in seen["last_error"]) == ("error", True)


def test_a_killed_daemon_leaves_nothing_that_its_next_start_does_not_mend(daemon: Daemon, plugin: Copy) -> None:
    with daemon.start() as rpc:
        names = ("good", "slow_job", "ignores_sigterm", "plain_program")
        loaded = [rpc.load(plugin(name)) for name in names]
        rpc.call("plugins.install", source=str(plugin("never_answers")))
        run = rpc.call("jobs.run", job="test.slow-job/slow")
        running = rpc.call("jobs.runs", job="test.slow-job/slow")[0]
        assert running["id"] == run["id"]
        daemon.kill()
    stubborn = loaded[2]["pid"]
    assert not gone(stubborn)
    with daemon.start() as rpc:
        for former in loaded:
            now = rpc.up(former["key"])
            assert now["pid"] != former["pid"]
            assert gone(former["pid"]), former["key"]
        assert rpc.call("plugins.get", plugin="test.never-answers")["status"] == "installed"
        [run] = rpc.call("jobs.runs", job="test.slow-job/slow")
        assert run["state"] == "interrupted"
        assert len(daemon.processes()) == len(loaded)
        assert daemon.stop() == 0
    with sqlite3.connect(daemon.state / "plugind.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database.close()


def test_a_second_daemon_says_who_is_there(daemon: Daemon) -> None:
    with daemon.start() as rpc:
        command = [*PLUGIND, *daemon.arguments(), "--socket", str(daemon.socket) + "2"]
        second = subprocess.run(command, env=daemon.environment(), capture_output=True, timeout=PATIENCE_S, cwd=ROOT)
        assert second.returncode == 3
        assert f"(pid {daemon.pid}," in second.stderr.decode()
        command = [*PLUGIND, *daemon.arguments(), "--state-dir", str(daemon.state) + "2"]
        third = subprocess.run(command, env=daemon.environment(), capture_output=True, timeout=PATIENCE_S, cwd=ROOT)
        assert third.returncode == 3
        assert "another daemon answers" in third.stderr.decode()
        assert not Path(f"{daemon.state}2").exists()
        assert rpc.call("daemon.ping")["pong"] is True


def test_a_copy_of_the_state_directory_is_no_claim_to_its_workers(daemon: Daemon, plugin: Copy, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    second = Daemon(tmp_path / "second")
    try:
        with daemon.start() as rpc:
            worker = rpc.load(plugin("plain_program"))
            shutil.copytree(daemon.state, second.state)
            with second.start() as other:
                assert other.up(worker["key"])["pid"] != worker["pid"]
                assert second.stop() == 0
            seen = rpc.call("plugins.get", plugin=worker["key"])
            assert (seen["phase"], seen["pid"], seen["restarts"]) == ("running", worker["pid"], 0)
        assert "leftover.signalled" not in second.log.read_text()
    finally:
        second.close()


def test_a_sidecar_of_the_entrypoint_outlives_the_daemon(daemon: Daemon, plugin: Copy) -> None:
    """And so does what it orphans, which comes to the daemon as the orphans of plugins do."""
    with daemon.start(shim=SIDECAR) as rpc:
        sidecar, below = map(int, daemon.log.read_text().split(maxsplit=2)[:2])
        worker = rpc.load(plugin("plain_program"))["pid"]
        os.kill(sidecar, signal.SIGKILL)
        while Path(f"/proc/{sidecar}").exists():
            rpc.call("daemon.ping")
        assert parent_of(below) == daemon.pid
        assert daemon.stop() == 0
    try:
        assert gone(worker)
        assert not gone(below)
    finally:
        os.kill(below, signal.SIGKILL)


def test_sigterm_drains(daemon: Daemon, plugin: Copy) -> None:
    with daemon.start() as rpc:
        rpc.load(plugin("good"))
        call = rpc.send("plugins.call", plugin=GOOD, method="sleep", params={"s": 0.5})
        waiting = rpc.send("plugins.wait", plugin=GOOD, status="disabled", timeout_s=100)
        rpc.call("daemon.ping")
        began = time.monotonic()
        daemon.signal(signal.SIGTERM)
        with pytest.raises(Refused, match="UNAVAILABLE"):
            rpc.answer(waiting)
        assert rpc.answer(call)["result"] == pytest.approx(0.5, abs=0.3)
        assert daemon.wait() == 0
        assert time.monotonic() - began < 4
        assert not daemon.socket.exists()
    assert "STOPPING=1" in daemon.read_notifications()


def test_a_second_sigterm_hurries(daemon: Daemon, plugin: Copy) -> None:
    source = plugin("ignores_sigterm")
    manifest = source / "plugin.toml"
    manifest.write_text(manifest.read_text().replace("stop_timeout_s = 0.3", "stop_timeout_s = 60"))
    with daemon.start() as rpc:
        worker = rpc.load(source)["pid"]
        daemon.signal(signal.SIGTERM)
        daemon.wait_notified("STOPPING=1")
        began = time.monotonic()
        # Those that come within a second of the first are its echo.
        while not gone(daemon.pid) and time.monotonic() < began + 4:
            daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
        assert 0.7 < time.monotonic() - began < 4
        assert gone(worker)
    with sqlite3.connect(daemon.state / "plugind.db") as database:
        told = [type_ for (type_,) in database.execute("SELECT type FROM event WHERE type LIKE 'plugin.worker%'")]
    database.close()
    assert told == ["plugin.worker_started", "plugin.worker_stopped"]


def test_the_service_manager_is_told(daemon: Daemon) -> None:
    with daemon.start(WATCHDOG_USEC="300000"):
        daemon.wait_notified("WATCHDOG=1")
        daemon.wait_notified("WATCHDOG=1")
        daemon.signal(signal.SIGTERM)
        daemon.wait_notified("STOPPING=1")
        assert daemon.wait() == 0
    order = [line.partition("=")[0] for text in daemon.notifications for line in text.splitlines()]
    assert order.index("READY") < order.index("WATCHDOG") < order.index("STOPPING")


def test_a_socket_from_systemd_and_what_a_worker_has_open(daemon: Daemon, plugin: Copy) -> None:
    unit_path = daemon.socket.with_name("unit.sock")
    daemon.socket.symlink_to(unit_path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(unit_path))
    listener.listen()
    with listener:
        fd = listener.fileno()
        rpc = daemon.start(shim=SHIM.format(fd=fd), pass_fds=(fd,), LISTEN_FDS="1")
    with rpc:
        assert rpc.call("daemon.info")["socket"] == str(unit_path)  # not where the settings would have had it
        # Not one of the SDK's, which opens more by itself.
        pid = rpc.load(plugin("ignores_shutdown"))["pid"]
        assert sorted(map(int, os.listdir(f"/proc/{pid}/fd"))) == [0, 1, 2, 3]
        assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
        environment = Path(f"/proc/{pid}/environ").read_text()
        assert not [name for name in ("LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_") if name in environment]
        assert daemon.stop() == 0
    assert stat.S_ISSOCK(unit_path.lstat().st_mode), "it belongs to the socket unit"


def test_what_a_worker_has_open_otherwise(daemon: Daemon, plugin: Copy) -> None:
    with daemon.start() as rpc:
        for name, expected in (("ignores_shutdown", [0, 1, 2, 3]), ("plain_program", [0, 1, 2])):
            pid = rpc.load(plugin(name))["pid"]
            assert sorted(map(int, os.listdir(f"/proc/{pid}/fd"))) == expected


def test_sighup_reloads(daemon: Daemon) -> None:
    with daemon.start() as rpc:
        config = Path(daemon.arguments()[1])
        config.write_text(config.read_text() + 'log_level = "debug"\nrun_limit = 7\n')
        daemon.signal(signal.SIGHUP)
        daemon.wait_notified("RELOADING=1")
        daemon.wait_notified("READY=1")
        assert '"need_restart": ["run_limit"]' in daemon.log.read_text()
        config.write_text("drain_s = 'soon'\n")
        daemon.signal(signal.SIGHUP)
        daemon.wait_notified("RELOADING=1")
        daemon.wait_notified("READY=1")
        assert "settings.not_reloaded" in daemon.log.read_text()
        assert rpc.call("daemon.ping")["pong"] is True


def test_stopped_over_the_socket(daemon: Daemon, plugin: Copy) -> None:
    with daemon.start() as rpc:
        worker = rpc.load(plugin("plain_program"))["pid"]
        assert rpc.call("daemon.stop") == {"ok": True}
        assert daemon.wait() == 0
        assert gone(worker)


def test_subscribers_resume_over_a_restart_of_the_daemon(daemon: Daemon, plugin: Copy) -> None:
    with daemon.start() as rpc:
        rpc.load(plugin("good"))
        last = rpc.call("daemon.status")["last_seq"]
        daemon.kill()
    with daemon.start() as rpc:
        rpc.up(GOOD)
        rpc.call("events.subscribe", after_seq=last - 2)
        newest = rpc.call("events.list", limit=1)["last_seq"]
        while len(rpc.events) < newest - last + 2:
            rpc.call("daemon.ping")
        assert [e[2][0]["event"]["seq"] for e in rpc.events] == list(range(last - 1, newest + 1))


def test_check_prints_the_settings(daemon: Daemon) -> None:
    done = subprocess.run(
        [*PLUGIND, "--check", *daemon.arguments()], env=daemon.environment(), capture_output=True, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["state_dir"] == str(daemon.state)
    assert not daemon.state.exists()


def test_check_warns(daemon: Daemon) -> None:
    environment = daemon.environment(PLUGIND_DRAIN="3")
    command = [*PLUGIND, "--check", *daemon.arguments()]
    done = subprocess.run(command, env=environment, capture_output=True, cwd=ROOT)
    assert done.returncode == 0
    assert json.loads(done.stdout)["drain_s"] == 2
    assert "PLUGIND_DRAIN is no setting" in done.stderr.decode()


def test_ctrl_c_at_any_instant_of_the_start_is_quiet(daemon: Daemon) -> None:
    """Python's own start is not ours: the shim says when it is over."""
    shim = (
        "import sys; print('here', flush=True); from supervisor.daemon.main import main; sys.exit(main(sys.argv[1:]))"
    )
    for delay_s in (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.6):
        command = [sys.executable, "-c", shim, *daemon.arguments(), "--log-level", "error"]
        process = subprocess.Popen(
            command, env=daemon.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"here\n"
            try:
                process.wait(delay_s)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=PATIENCE_S)
        assert errors == b""
        assert process.returncode in (0, 130)


def test_wrong_settings_are_all_told(daemon: Daemon) -> None:
    Path(daemon.arguments()[1]).write_text("drain_s = 'soon'\nrun_limt = 3\n")
    environment = daemon.environment(PLUGIND_LOG_LEVEL="loud")
    command = [*PLUGIND, *daemon.arguments(), "--timezone", "Mars/Olympus"]
    for more in ([], ["--check"]):
        done = subprocess.run([*command, *more], env=environment, capture_output=True, cwd=ROOT)
        assert done.returncode == 2
        told = done.stderr.decode()
        assert "4 problems" in told
        for name in ("drain_s", "run_limit", "PLUGIND_LOG_LEVEL", "--timezone"):
            assert name in told
