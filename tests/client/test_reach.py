"""What pluginctl says where the socket cannot be reached, or the role does not suffice."""

from __future__ import annotations

import grp
import os
import pwd
import socket
from pathlib import Path
from typing import Any

import pytest

from client.cli import main as cli
from client.cli import reach
from client.errors import PermissionDenied
from tests.client.fake_daemon import FakeDaemon

ME = pwd.getpwuid(os.getuid()).pw_name
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may give a file to another group or user")


@pytest.fixture(autouse=True)
def no_units(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(reach, "SYSTEM_UNITS", (str(tmp_path / "system"),))
    monkeypatch.setattr(reach, "USER_UNITS", (str(tmp_path / "user"),))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("PLUGIND_SOCKET", raising=False)


def unit(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / reach.UNIT).touch()


@pytest.mark.parametrize(
    ("uid", "where", "way"),
    [
        (0, None, "`plugind` starts it, in the foreground"),
        (0, "system", "`systemctl start plugind` starts it"),
        (1000, "system", "`sudo systemctl start plugind` starts it"),
        (1000, "user", "`systemctl --user start plugind` starts it"),
        (1000, "config/systemd/user", "`systemctl --user start plugind` starts it"),
        (0, "config/systemd/user", "`plugind` starts it, in the foreground"),
    ],
)
def test_how_it_is_started_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uid: int, where: str | None, way: str
) -> None:
    monkeypatch.setattr("os.getuid", lambda: uid)
    if where is not None:
        unit(tmp_path / where)
    assert reach.not_running("/nowhere/s", None)[1].startswith(way)


def test_one_that_was_named_is_started_there(tmp_path: Path) -> None:
    unit(tmp_path / "system")
    assert reach.not_running("/my place/s", "/my place/s")[1].startswith(
        "`plugind --socket '/my place/s'` starts it there"
    )
    usual = reach.default_socket_path({}, 0)
    assert "systemctl start plugind" in reach.not_running(usual, usual)[1]


@pytest.mark.parametrize(
    ("argument", "variable", "where"),
    [("/x/s", "/y/s", "(--socket)"), (None, "/y/s", "(PLUGIND_SOCKET)"), (None, None, "(the default for ")],
)
def test_who_named_the_socket(
    monkeypatch: pytest.MonkeyPatch, argument: str | None, variable: str | None, where: str
) -> None:
    if variable is not None:
        monkeypatch.setenv("PLUGIND_SOCKET", variable)
    assert where in reach.not_running(argument or variable or "/d/s", argument)[0]


def test_nobody_answers_at_what_is_there(tmp_path: Path, capsys: Any) -> None:
    plain, left = tmp_path / "plain", tmp_path / "left"
    plain.touch()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(left))
    for path, why in [
        (plain, "no socket is what stands at"),
        (left, "nobody answers at"),
        ("/no/s", "there is no socket"),
    ]:
        assert cli.main(["--socket", str(path), "ping"]) == 5
        assert f"plugind is not running: {why} {path} (--socket)\n" in capsys.readouterr().err


def test_the_socket_of_the_system_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(reach, "default_socket_path", lambda *_: str(tmp_path))
    assert reach.not_running("/home/me/s", None)[1].endswith(
        f"there is a socket of the system's plugind: --socket {tmp_path}"
    )


def test_who_may_connect_and_how_to_become_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s"
    path.touch(mode=0o600)
    monkeypatch.setattr("os.access", lambda *_: True)
    said, way = reach.not_let_in(str(path), None)
    assert said.startswith(f"may not connect to {path} (")
    assert said.endswith("only root may" if ME == "root" else f"only root and {ME} may")
    assert "`socket_group` in plugind.toml" in way
    path.chmod(0o660)
    group = grp.getgrgid(path.stat().st_gid).gr_name
    said, way = reach.not_let_in(str(path), None)
    assert said.endswith(f", and members of the group {group} may")
    monkeypatch.setattr(reach, "_user_name", lambda _: "somebody")
    assert reach.not_let_in(str(path), None)[1] == f"`sudo usermod -aG {group} somebody`, then log in again"


def test_who_has_joined_has_to_log_in_again(monkeypatch: pytest.MonkeyPatch) -> None:
    group = grp.struct_group(("ops", "x", 4711, ["alice"]))
    monkeypatch.setattr("grp.getgrnam", lambda _: group)
    assert reach.join_group("ops", "alice") == "alice is in ops since this login began: log in again, or `newgrp ops`"
    assert reach.join_group("ops", "bob") == "`sudo usermod -aG ops bob`, then log in again"


@as_root
def test_a_directory_that_is_closed_is_named(tmp_path: Path) -> None:
    """As somebody else, who may not look into it."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    tmp_path.chmod(0o755)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            said = reach.not_let_in(f"{closed}/s", "x")[0]
            entered = "/".join(str(closed).split("/")[:2])
            # Where a directory above it is closed already, that one is named.
            code = (
                0 if said.startswith(f"may not look into {entered}") and "where the socket is (--socket)" in said else 2
            )
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize(
    ("details", "way"),
    [
        ({}, "try again as root or as plugind's own user"),
        ({"required": "operator", "granted_to": []}, "to `operators` in plugind.toml, and `pluginctl reload`"),
        ({"required": "admin", "granted_to": ["alice", "@no-such-group"]}, "`sudo usermod -aG no-such-group"),
        ({"required": "admin", "granted_to": "nonsense"}, "`sudo pluginctl …`"),
    ],
)
def test_how_to_come_by_a_role(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capsys: Any, details: dict[str, Any], way: str
) -> None:
    monkeypatch.setenv("PLUGIND_SOCKET", daemon.path)
    daemon.answers["plugins.load"] = PermissionDenied("needs more", **details)
    assert cli.main(["load", "acme.weather"]) == 3
    first, hint = capsys.readouterr().err.splitlines()
    assert (first, hint.startswith("hint: ")) == ("pluginctl: needs more", True)
    assert way in hint
