"""Who has connected, by real processes; and plugins are kept out, however they come."""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from supervisor.control import peers
from supervisor.control.peers import PluginTree, groups_of, look_at
from supervisor.core.errors import PermissionDenied, ResourceExhausted, Unauthenticated
from supervisor.worker.badge import Badge
from tests.control.visitors import stranger, visiting

RLIMIT_LOCKS = 10
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to connect as others")


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.settimeout(20)
        listener.bind(str(tmp_path / "s"))
        listener.listen(8)
        yield listener


@pytest.fixture
def path(listener: socket.socket) -> Path:
    return Path(listener.getsockname())


def accepted(listener: socket.socket) -> socket.socket:
    return listener.accept()[0]


class Old:
    """A socket of a kernel that knows no SO_PEERPIDFD, or says `number` of it."""

    def __init__(self, sock: socket.socket, number: int = errno.ENOPROTOOPT) -> None:
        self._sock = sock
        self._number = number

    def getsockopt(self, level: int, name: int, size: int, /) -> bytes:
        if name == peers._SO_PEERPIDFD:
            raise OSError(self._number, os.strerror(self._number))
        return self._sock.getsockopt(level, name, size)

    def fileno(self) -> int:
        return self._sock.fileno()


def tree(daemon_pid: int, group: str | None = None, badge: Badge | None = None) -> PluginTree:
    return PluginTree(daemon_pid, os.geteuid(), group, badge)


@pytest.mark.parametrize("make", [lambda sock: sock, Old])
def test_who_is_below_nobody_comes_in(listener: socket.socket, path: Path, make) -> None:
    with stranger() as daemon, visiting(path) as visitor, accepted(listener) as sock:
        found = look_at(make(sock), tree(daemon))
        assert found.exe == os.readlink(f"/proc/{visitor.process.pid}/exe")
    assert found == (visitor.process.pid, os.geteuid(), os.getegid(), found.groups, found.exe)
    assert found.groups >= {os.getegid()}


@pytest.mark.parametrize("make", [lambda sock: sock, Old])
@pytest.mark.parametrize("how", [["child"], ["orphan"], ["deep", "3"]], ids=lambda how: how[0])
def test_who_is_below_the_daemon_does_not(listener: socket.socket, path: Path, how: list[str], make) -> None:
    refused = pytest.raises(PermissionDenied, match="was started by a plugin, by a job or by an install")
    with visiting(path, below=how) as visitor, accepted(listener) as sock, refused:
        look_at(make(sock), tree(visitor.process.pid))


def test_what_another_daemon_left_behind_does_not(listener: socket.socket, path: Path) -> None:
    """It is below nobody now, and has what it was started with, or less."""
    badge = Badge(1 << 61, 1 << 62)
    with stranger() as daemon, visiting(path) as visitor, accepted(listener) as sock:
        resource.prlimit(visitor.process.pid, RLIMIT_LOCKS, (1 << 62, 1 << 62))
        assert look_at(sock, tree(daemon, badge=badge)).pid == visitor.process.pid
        for number in (badge.number, 5):
            resource.prlimit(visitor.process.pid, RLIMIT_LOCKS, (number, number))
            with pytest.raises(PermissionDenied, match="has a lower limit of file locks"):
                look_at(sock, tree(daemon, badge=badge))


@as_root
def test_other_users_are_not_known_by_it(listener: socket.socket, path: Path) -> None:
    with stranger() as daemon, visiting(path) as visitor, accepted(listener) as sock:
        resource.prlimit(visitor.process.pid, RLIMIT_LOCKS, (5, 5))
        assert look_at(sock, PluginTree(daemon, 4242, None, Badge(1 << 61, 1 << 62))).pid == visitor.process.pid


def test_a_chain_that_is_too_long_is_not_walked(
    listener: socket.socket, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "_MOST_ANCESTORS", 2)
    refused = pytest.raises(PermissionDenied, match="has more than 2 processes above it")
    with visiting(path, below=["deep", "2"]) as visitor, accepted(listener) as sock, refused:
        look_at(sock, tree(visitor.process.pid))


@pytest.mark.parametrize("number", [None, errno.ESRCH, errno.EINVAL, errno.ENOPROTOOPT])
def test_who_has_gone_cannot_say_who_it_was(listener: socket.socket, path: Path, number: int | None) -> None:
    with visiting(path):
        pass
    with accepted(listener) as sock, stranger() as daemon, pytest.raises(Unauthenticated, match="has gone"):
        look_at(sock if number is None else Old(sock, number), tree(daemon))


def test_who_goes_while_we_look_is_refused(
    listener: socket.socket, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pid may be another's by then."""
    with stranger() as daemon, visiting(path) as visitor, accepted(listener) as sock:
        look = peers._program

        def then_it_ends(pid: int) -> str | None:
            visitor.process.kill()
            visitor.process.wait()
            return look(os.getpid())

        monkeypatch.setattr(peers, "_program", then_it_ends)
        with pytest.raises(Unauthenticated, match="has gone"):
            look_at(sock, tree(daemon))


def test_without_descriptors_nobody_comes_in(listener: socket.socket, path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with stranger() as daemon, visiting(path), accepted(listener) as sock:
        with pytest.raises(ResourceExhausted, match="Too many open files"):
            look_at(Old(sock, errno.EMFILE), tree(daemon))
        for _ in range(3):
            look_at(sock, tree(daemon))
    assert len(os.listdir("/proc/self/fd")) == before


def walked(monkeypatch: pytest.MonkeyPatch, *processes: tuple[int, int, int], signal_error: OSError | None = None):
    """What is thought of pid 10 of another user, where these (pid, ppid, start) are all that there is to be seen."""
    seen = {pid: SimpleNamespace(pid=pid, ppid=ppid, start_ticks=start) for pid, ppid, start in processes}
    monkeypatch.setattr(peers, "read_stat", seen.get)

    def kill(pid: int, number: int) -> None:
        assert number == 0
        if signal_error:
            raise signal_error

    monkeypatch.setattr(peers.os, "kill", kill)
    return PluginTree(7, 1000, None).why_in(10, 1001)


def test_ancestors_that_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    assert walked(monkeypatch) is None
    assert walked(monkeypatch, (10, 9, 5), (9, 1, 4)) is None
    assert walked(monkeypatch, (10, 9, 5), signal_error=PermissionError(errno.EPERM, "")) is None
    assert "hides itself" in (walked(monkeypatch, (10, 9, 5)) or "")
    # It ends whenever it is looked at, and never has its child another parent.
    assert "changes its parents" in (walked(monkeypatch, (10, 9, 5), signal_error=ProcessLookupError()) or "")
    # Who is younger than its child has the pid of its parent, and is another.
    assert "changes its parents" in (walked(monkeypatch, (10, 9, 5), (9, 1, 6)) or "")
    assert "was started by" in (walked(monkeypatch, (10, 9, 5), (9, 7, 5)) or "")


def test_our_own_user_must_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "read_stat", lambda pid: None)
    with pytest.raises(Unauthenticated, match="hides itself"):
        PluginTree(7, 1000, None).why_in(10, 1000)


def test_the_daemon_itself_comes_in(listener: socket.socket, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        with accepted(listener) as sock:
            assert look_at(sock, tree(os.getpid())).pid == os.getpid()


def test_the_control_group_of_a_worker(listener: socket.socket, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stranger() as daemon, visiting(path) as visitor, accepted(listener) as sock:
        groups = Path(f"/proc/{visitor.process.pid}/cgroup").read_text().splitlines()
        own = next((line.removeprefix("0::") for line in groups if line.startswith("0::")), None)
        if own is None:
            pytest.skip("there is no cgroup v2 here")
        parent = own.rpartition("/")[0]
        with pytest.raises(PermissionDenied, match="control group of a plugin"):
            look_at(sock, tree(daemon, parent))
        assert look_at(sock, tree(daemon, f"{own}/workers")).pid == visitor.process.pid


@as_root
@pytest.mark.parametrize("count", [0, 1, 256, 257, 3000])
def test_groups_however_many(listener: socket.socket, path: Path, count: int) -> None:
    groups = range(5000, 5000 + count)
    with visiting(path, uid=0, gid=4321, groups=groups), accepted(listener) as sock, stranger() as daemon:
        assert groups_of(sock) == frozenset(groups)
        assert look_at(sock, tree(daemon)).groups == {4321, *groups}
