"""pluginctl doctor: each thing that may be wrong, and what is said to do about it."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from client.cli import doctor_checks as checks
from client.cli import doctor_daemon as told
from client.cli import doctor_settings, doctor_systemd
from client.cli import main as cli
from client.cli.doctor_finding import Finding, megabytes
from client.errors import PermissionDenied, Unauthenticated
from tests.client import samples
from tests.client.fake_daemon import FakeDaemon

GIGA = 1024**3
HELLO: Any = {"version": "0.1.0", "protocol": 1, "role": "admin", "uid": 0}
Doctor = Callable[[], tuple[int, list[Finding]]]


@pytest.fixture
def doctor(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> Doctor:
    """On a machine without systemd, where nobody has settings."""
    monkeypatch.setenv("PLUGIND_SOCKET", daemon.path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PLUGIND_CONFIG", raising=False)
    monkeypatch.setattr("client.cli.doctor_systemd.RUNS_HERE", "/nonexistent")
    info, hello = daemon.answers["daemon.info"], daemon.answers["rpc.hello"]
    daemon.answers["daemon.info"] = {**info, "uid": os.getuid(), "state_dir": str(tmp_path)}
    daemon.answers["daemon.status"]["warnings"] = []
    daemon.answers["rpc.hello"] = {**hello, **HELLO}

    def run() -> tuple[int, list[Finding]]:
        code = cli.main(["doctor", "--json"])
        out = capsys.readouterr()
        assert out.err == ""
        return code, [Finding(**found) for found in json.loads(out.out)]

    return run


def wrong(found: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.check, finding.state) for finding in found if finding.state != "ok"]


def test_where_all_is_well(doctor: Doctor, capsys: Any) -> None:
    code, found = doctor()
    assert (code, wrong(found)) == (0, [])
    assert {"python", "packages", "systemd", "socket", "answer", "role", "database", "disk of state", "clock"} <= {
        finding.check for finding in found
    }
    assert cli.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "all is well"
    assert all(line.startswith("ok  ") for line in lines[:-2])


def test_warnings_are_no_failure(doctor: Doctor, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["daemon.status"]["warnings"] = ["the disk \x1b[2Jis slow"]
    daemon.answers["daemon.status"]["jobs_held_since_ms"] = samples.NOW
    code, found = doctor()
    assert (code, wrong(found)) == (0, [("plugind", "warning"), ("jobs", "warning")])
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "0 problems, 2 warnings"
    assert "→ `pluginctl jobs resume --all`" in out
    assert "\x1b" not in out


def test_a_daemon_that_is_down(doctor: Doctor, daemon: FakeDaemon) -> None:
    daemon.stop()
    code, found = doctor()
    assert code == 1
    [problem] = [finding for finding in found if finding.state == "problem"]
    assert problem.check == "answer"
    assert {"settings", "state_dir", "database", "time zones"} <= {finding.check for finding in found}
    os.unlink(daemon.path)
    code, found = doctor()
    assert (code, wrong(found)) == (1, [("socket", "problem")])


def test_who_has_no_role(doctor: Doctor, daemon: FakeDaemon) -> None:
    daemon.answers["rpc.hello"] = {**HELLO, "server": "fake", "role": "none", "uid": 7}
    daemon.answers["daemon.info"] = daemon.answers["daemon.status"] = PermissionDenied("uid 7 has no role")
    code, found = doctor()
    assert code == 1
    assert {"role", "plugind"} == {finding.check for finding in found if finding.state == "problem"}


def test_one_answer_that_fails_does_not_end_it(doctor: Doctor, daemon: FakeDaemon) -> None:
    daemon.answers["plugins.list"] = Unauthenticated("not for you")
    code, found = doctor()
    assert (code, wrong(found)) == (1, [("plugins", "problem")])
    assert found[-1].check == "clock"


def test_an_older_daemon(doctor: Doctor, daemon: FakeDaemon) -> None:
    del daemon.answers["daemon.info"]["resources"], daemon.answers["daemon.info"]["config_file"]
    daemon.answers["rpc.hello"]["version"] = "0.0.9"
    code, found = doctor()
    assert (code, wrong(found)) == (0, [("version", "warning"), ("resources", "warning")])


def test_a_settings_file_with_problems(doctor: Doctor, daemon: FakeDaemon, tmp_path: Path) -> None:
    file = tmp_path / "plugind.toml"
    file.write_text("drain_s = -1\nnonsense = 2\n")
    daemon.answers["daemon.info"]["config_file"] = str(file)
    code, found = doctor()
    assert (code, wrong(found)) == (1, [("settings", "problem")] * 2)
    file.write_text("")
    file.chmod(0o666)
    code, found = doctor()
    assert (code, wrong(found)) == (1, [("config_file", "problem")])
    [problem] = [finding for finding in found if finding.state == "problem"]
    assert problem.remedy == f"`chmod -R go-w {file}`"


def test_settings_of_one_who_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = tmp_path / "system.toml"
    monkeypatch.setattr(doctor_settings, "_SYSTEM", str(system))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("PLUGIND_CONFIG", raising=False)
    found, values = doctor_settings.settings(None, 12345)
    assert [finding.state for finding in found] == ["ok"]
    assert values["drain_s"] == 20
    system.touch()
    [_, finding] = doctor_settings.settings(None, 12345)[0]
    assert (finding.state, finding.remedy) == ("warning", f"PLUGIND_CONFIG={system}, if it is meant")


# The socket and other files


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Path]:
    with socket.socket(socket.AF_UNIX) as sock:
        path = tmp_path / "s.sock"
        sock.bind(str(path))
        path.chmod(0o600)
        yield path


def test_the_socket(listening: Path) -> None:
    assert checks.socket_file(str(listening), None).state == "ok"
    listening.chmod(0o666)
    found = checks.socket_file(str(listening), None)
    assert (found.state, "everybody may connect" in found.text) == ("warning", True)
    listening.parent.chmod(0o777)
    found = checks.socket_file(str(listening), None)
    assert (found.state, found.remedy) == ("problem", f"`chmod o-w {listening.parent}`")
    listening.parent.chmod(0o700)


def test_what_is_no_socket(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        found = checks.socket_file(str(path), "x")
        assert (found.state, "plugind is not running" in found.text) == ("problem", True)
        assert "starts it" in found.remedy


def test_permissions(tmp_path: Path) -> None:
    uid = os.getuid()
    assert checks.permissions("it", str(tmp_path), uid).state == "ok"
    assert "is not there yet" in checks.permissions("it", str(tmp_path / "no"), uid).text
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    found = checks.permissions("it", str(tmp_path / "open"), uid)
    assert (found.state, found.remedy) == ("problem", f"`chmod -R go-w {tmp_path}/open`")
    assert "chmod" not in found.text
    if uid != 0:
        return  # What belongs to root is well for everybody.
    os.chown(tmp_path / "open", 12345, -1)
    found = checks.permissions("it", str(tmp_path / "open"), uid)
    assert (found.state, found.remedy) == ("problem", f"`chown -R root {tmp_path}/open`")


@pytest.mark.parametrize(
    ("free", "total", "state"),
    [
        (50 * GIGA, 100 * GIGA, "ok"),
        (GIGA, 100 * GIGA, "ok"),
        (GIGA // 10, 100 * GIGA, "warning"),
        (GIGA // 100, 100 * GIGA, "problem"),
        (GIGA // 100, GIGA // 10, "ok"),  # a small disk
    ],
)
def test_disks(free: int, total: int, state: str) -> None:
    found = checks.disk("disk", free, total)
    assert found is not None
    assert found.state == state
    assert checks.disk("disk", None, None) is None


# Python, time


def test_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [finding.state for finding in checks.packages()] == ["ok"]
    assert [finding.state for finding in checks.packages("no-such-distribution")] == ["warning"]
    lines = ["trio<0.1", "no-such-one", "neither; extra == 'x'", f"msgpack=={metadata.version('msgpack')}"]
    monkeypatch.setattr(checks.metadata, "requires", lambda _: lines)
    first, second = checks.packages()
    assert "<0.1 is required" in first.text
    assert second.text == "no-such-one is not installed"
    assert (first.state, sys.executable in first.remedy) == ("problem", True)


def test_an_old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.python().state == "ok"
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    assert checks.python().state == "problem"


def test_time_zones(monkeypatch: pytest.MonkeyPatch) -> None:
    [found] = checks.time_zones({"UTC", "Europe/Berlin"})
    assert found.state == "ok"
    [found] = checks.time_zones({"UTC", "Mars/Olympus"})
    assert (found.state, "Mars/Olympus" in found.text) == ("problem", True)
    monkeypatch.setattr("zoneinfo.TZPATH", ())
    [found] = checks.time_zones({"UTC"})
    assert found.text.startswith("tzdata ")

    def nothing(_: str) -> str:
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(checks.metadata, "version", nothing)
    [found] = checks.time_zones(set())
    assert found.state == "problem"


def test_the_clock() -> None:
    assert checks.clock().state == "ok"
    assert checks.clock(now_s=86_400.0).state == "problem"


# What the daemon tells


def info(**changes: Any) -> Any:
    given = samples.answers()["daemon.info"]
    return {**given, "resources": {**given["resources"], **changes}}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"database_bytes": None}, [("database", "problem")]),
        ({"wal_bytes": GIGA}, [("database", "warning")]),
        ({"open_files": None}, [("descriptors", "problem")]),
        ({"open_files": 1000}, [("descriptors", "warning")]),
        ({"max_files": None}, []),
        ({"state_free_bytes": None}, [("disk of state", "warning")]),
        ({"log_free_bytes": 1}, [("disk of logs", "problem")]),
        ({"cgroup": False, "controllers": {}}, [("sandbox", "warning")]),
        ({"controllers": {"cpu": "", "pids": "is not available here"}}, [("sandbox", "warning")]),
    ],
)
def test_its_resources(changes: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    status = {**samples.answers()["daemon.status"], "warnings": []}
    found = list(told.process(info(**changes), status))  # type: ignore[arg-type]
    assert wrong(found) == expected
    assert all(finding.remedy for finding in found if finding.state != "ok")


def test_a_daemon_that_stops() -> None:
    status = {**samples.answers()["daemon.status"], "warnings": [], "stopping": True}
    assert wrong(list(told.process(info(), status))) == [("plugind", "warning")]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "state", "remedy"),
    [
        ({"status": "error", "phase": "stopped"}, "problem", "`pluginctl logs acme.weather`"),
        ({"status": "upgrade_pending", "phase": "stopped"}, "warning", "`pluginctl approve acme.weather`"),
        ({"phase": "backoff"}, "warning", "`pluginctl logs acme.weather`"),
        ({"phase": "stopped", "held": True}, "warning", "`pluginctl start acme.weather`"),
        ({"phase": "stopped", "waiting_for": ["acme.db"]}, "warning", "`pluginctl status acme.db`"),
        ({"status": "disabled", "phase": "stopped"}, "ok", ""),
    ],
)
def test_plugins(changes: dict[str, Any], state: str, remedy: str) -> None:
    plugins: Any = [samples.plugin(**changes)]
    [found] = told.plugins(plugins)
    assert found.state == state
    assert found.remedy.startswith(remedy)


def test_limits_that_nothing_enforces() -> None:
    loose = {"limit": "cpu_percent", "value": 50, "enforced_by": "nothing", "note": None}
    tight = {"limit": "pids", "value": 50, "enforced_by": "cgroup", "note": None}
    plugins: Any = [samples.details(limits=[loose, tight]), samples.details(limits=[tight])]
    [found] = told.limits(plugins)
    assert found.text == "acme.weather: nothing enforces cpu_percent"


def test_jobs() -> None:
    jobs: Any = [samples.job(), samples.job(held_by="job")]
    assert told.jobs(jobs, None).text == "2 jobs, 1 of them paused"
    assert told.jobs(jobs, samples.NOW).state == "warning"


def test_sizes() -> None:
    assert [megabytes(size) for size in (0, 3 * 1024**2, 24 * 1024**2, 3 * GIGA)] == [
        "0.0 MB",
        "3.0 MB",
        "24 MB",
        "3.0 GB",
    ]


# systemd

UNIT = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "SubState": "running",
    "UnitFileState": "enabled",
    "Result": "success",
    "NeedDaemonReload": "no",
    "Delegate": "yes",
    "NRestarts": "0",
}
ACTIVE = {"LoadState": "loaded", "ActiveState": "active"}


@pytest.mark.parametrize(
    ("service", "listener", "states"),
    [
        ({}, ACTIVE, []),
        ({"LoadState": "not-found"}, {}, ["warning"]),
        ({"ActiveState": "failed", "SubState": "failed", "Result": "exit-code"}, ACTIVE, ["problem"]),
        ({"ActiveState": "inactive", "SubState": "dead"}, ACTIVE, ["warning"]),
        ({"UnitFileState": "disabled"}, ACTIVE, ["warning"]),
        ({"NeedDaemonReload": "yes"}, ACTIVE, ["warning"]),
        ({"Delegate": "no"}, ACTIVE, ["warning"]),
        ({}, {"LoadState": "not-found"}, []),
        ({}, {"LoadState": "loaded", "ActiveState": "inactive"}, ["warning"]),
    ],
)
def test_units(service: dict[str, str], listener: dict[str, str], states: list[str]) -> None:
    found = list(doctor_systemd.judged({**UNIT, **service}, listener))
    assert [finding.state for finding in found if finding.state != "ok"] == states
    assert all(finding.remedy for finding in found if finding.state != "ok")


@pytest.mark.parametrize("synchronized", ["yes", "no"])
def test_what_systemctl_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synchronized: str) -> None:
    lines = "\n".join(f"{name}={value}" for name, value in UNIT.items())
    for name, text in (("systemctl", lines), ("timedatectl", f"NTPSynchronized={synchronized}")):
        (tmp_path / name).write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(doctor_systemd, "RUNS_HERE", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = list(doctor_systemd.units(own=False))
    assert wrong(found) == [("clock", "warning")] * (synchronized == "no")
    (tmp_path / "systemctl").write_text("#!/bin/sh\nexit 1\n")
    assert wrong(list(doctor_systemd.units(own=True))) == [("systemd", "warning")]
