"""Binding the socket: what is stale is replaced, whatever else is there is left alone."""

from __future__ import annotations

import errno
import grp
import os
import socket
import stat
from pathlib import Path

import pytest

from supervisor.control.listen import bound_socket
from supervisor.core.errors import AlreadyExists, FailedPrecondition


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


def refused(path: Path, error: type[Exception], match: str) -> None:
    before = path.lstat()
    with pytest.raises(error, match=match), bound_socket(path):
        pass
    assert path.lstat()[:7] == before[:7]  # Without the times: that somebody knocked is seen in them.
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".")] == []


def stale(path: Path, kind: int = socket.SOCK_STREAM) -> None:
    with socket.socket(socket.AF_UNIX, kind) as left:
        left.bind(str(path))


def test_it_answers_is_private_and_goes(path: Path) -> None:
    with bound_socket(path) as listener:
        assert stat.S_IMODE(path.lstat().st_mode) == 0o600
        assert not listener.get_inheritable()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            listener.accept()[0].close()
        assert list(path.parent.iterdir()) == [path]
    assert list(path.parent.iterdir()) == []


def test_its_directory_is_made(tmp_path: Path) -> None:
    with bound_socket(tmp_path / "a/b/control.sock"):
        assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) & 0o022 == 0


def test_a_stale_one_is_replaced(path: Path) -> None:
    stale(path)
    with bound_socket(path) as listener, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        listener.accept()[0].close()


def test_a_live_one_is_refused(path: Path) -> None:
    with bound_socket(path) as listener:
        refused(path, AlreadyExists, "another daemon answers")
        listener.accept()[0].close()


def test_one_too_busy_to_answer_is_alive(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(path))
        busy.listen(0)
        clients = []
        for _ in range(4):
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            clients.append(client)
            client.connect_ex(str(path))
        try:
            refused(path, AlreadyExists, "living process")
        finally:
            for client in clients:
                client.close()


def test_another_kind_of_socket_in_use_is_refused(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        refused(path, AlreadyExists, "living process")


@pytest.mark.parametrize("what", ["file", "directory", "link to a socket", "dangling link"])
def test_what_is_no_socket_is_refused(path: Path, what: str) -> None:
    target = path.with_name("target")
    match what:
        case "file":
            path.write_text("mine")
        case "directory":
            path.mkdir()
        case "link to a socket":
            stale(target)
            path.symlink_to(target)
        case _:
            path.symlink_to(target)
    refused(path, FailedPrecondition, "no socket")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_somebody_elses_is_refused(path: Path) -> None:
    stale(path)
    os.chown(path, 1234, 1234)
    refused(path, FailedPrecondition, "uid 1234")


def test_a_directory_for_everybody_is_refused(path: Path) -> None:
    path.parent.chmod(0o777)
    with pytest.raises(FailedPrecondition, match="chmod go-w"), bound_socket(path):
        pass
    path.parent.chmod(0o1777)
    with bound_socket(path):
        pass


def test_at_the_end_only_ours_is_removed(path: Path) -> None:
    with bound_socket(path):
        path.unlink()
        stale(path)
        theirs = path.lstat()
    assert path.lstat() == theirs
    path.unlink()
    with bound_socket(path):
        path.unlink()
    assert not path.exists()


def test_a_path_that_is_too_long_is_told(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="--socket"), bound_socket(tmp_path / ("x" * 120)):
        pass


def test_a_group_may_connect_and_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    group = 4711 if os.geteuid() == 0 else os.getegid()
    with bound_socket(path, str(group)):
        found = path.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_gid, found.st_uid) == (0o660, group, os.geteuid())


def test_a_group_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    own = next((group for group in grp.getgrall() if group.gr_gid in {os.getegid(), *os.getgroups()}), None)
    if own is None:
        pytest.skip("we are in no group that has a name")
    with bound_socket(path, own.gr_name):
        assert path.stat().st_gid == own.gr_gid


@pytest.mark.parametrize("group", ["no-such-group-here", "4294967295", "9999999999"])
def test_a_group_that_is_not_there(tmp_path: Path, group: str) -> None:
    with (
        pytest.raises(FailedPrecondition, match=rf"there is no group '{group}' here: make it \(groupadd {group}\)"),
        bound_socket(tmp_path / "control.sock", group),
    ):
        pytest.fail("it listens")
    assert list(tmp_path.iterdir()) == []


def test_a_group_that_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    with (
        pytest.raises(FailedPrecondition, match="is no member of group 4711, and so cannot give it the socket"),
        bound_socket(tmp_path / "control.sock", "4711"),
    ):
        pytest.fail("it listens")
    assert list(tmp_path.iterdir()) == []
