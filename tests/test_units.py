"""The unit files: systemd finds nothing to complain of, and the hardening does not get worse."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parent.parent / "systemd"
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")


def analyze(*args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ANALYZE), *args], env={**os.environ, **environ}, text=True, timeout=60,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip


def stand_in(tmp_path: Path, name: str, as_name: str) -> str:
    """A copy whose program exists on this machine."""
    lines = (UNITS / name).read_text().splitlines()
    assert name.endswith(".socket") or "ExecStart=/opt/plugind/bin/plugind" in lines
    copy = tmp_path / as_name
    copy.write_text("\n".join("ExecStart=/bin/true" if li.startswith("ExecStart=") else li for li in lines) + "\n")
    return str(copy)


@needs_systemd
def test_the_system_units_verify(tmp_path):
    units = [stand_in(tmp_path, name, name) for name in ("plugind.service", "plugind.socket")]
    done = analyze("verify", "--man=no", *units)
    assert (done.returncode, done.stdout) == (0, "")


@needs_systemd
def test_the_user_unit_verifies(tmp_path):
    unit = stand_in(tmp_path, "plugind-user.service", "plugind.service")
    done = analyze("verify", "--user", "--man=no", unit, XDG_RUNTIME_DIR=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "")


@needs_systemd
def test_the_service_is_hardened():
    done = analyze("security", "--offline=yes", "--threshold=16", "--no-pager", str(UNITS / "plugind.service"))
    assert done.returncode == 0, done.stdout
    assert "Overall exposure level" in done.stdout


def settings_of(name: str) -> list[str]:
    return [line for line in (UNITS / name).read_text().splitlines() if line and not line.startswith(("#", "["))]


@pytest.mark.parametrize("name", ["plugind.service", "plugind-user.service"])
def test_what_must_not_be_set(name):
    lines = settings_of(name)
    for bad in ("PrivateUsers=yes", "ProtectControlGroups=yes", "Type=notify-reload", "ConfigurationDirectory="):
        assert not [line for line in lines if line.startswith(bad)]
    assert "RuntimeDirectory=plugind" not in lines
    for needed in ("Type=notify", "KillMode=mixed", "OOMPolicy=continue", "WatchdogSec=30", "NotifyAccess=main"):
        assert needed in lines


def test_the_service_reads_the_settings_of_the_system():
    assert "Environment=CONFIGURATION_DIRECTORY=/etc/plugind" in settings_of("plugind.service")


def test_the_socket_is_where_clients_look_for_it():
    from supervisor.wire.address import default_socket_path

    assert f"ListenStream={default_socket_path({}, 0)}" in settings_of("plugind.socket")


def test_the_stop_leaves_time_for_the_drain(tmp_path):
    from supervisor.daemon.settings import load_settings

    default = load_settings({}, {"HOME": str(tmp_path)}, 1000)
    needed = default.drain_s + default.term_grace_s + default.kill_grace_s
    (line,) = [line for line in settings_of("plugind.service") if line.startswith("TimeoutStopSec=")]
    assert int(line.removeprefix("TimeoutStopSec=")) > needed


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not installed")
def test_sysusers_can_be_read(tmp_path):
    run("systemd-sysusers", tmp_path, "plugind.sysusers")
    assert "plugind-clients:" in (tmp_path / "etc/group").read_text()


@pytest.mark.skipif(shutil.which("systemd-tmpfiles") is None, reason="systemd-tmpfiles is not installed")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the directories are given to others")
def test_tmpfiles_can_be_read(tmp_path):
    run("systemd-sysusers", tmp_path, "plugind.sysusers")
    run("systemd-tmpfiles", tmp_path, "--create", "plugind.tmpfiles")
    assert (tmp_path / "etc/plugind").is_dir()


def run(tool, root, *arguments):
    (root / "etc").mkdir(exist_ok=True)
    *options, file = arguments
    done = subprocess.run(
        [tool, f"--root={root}", *options, str(UNITS / file)], text=True, capture_output=True, check=False
    )
    assert (done.returncode, "Failed" in done.stderr) == (0, False), done.stderr
