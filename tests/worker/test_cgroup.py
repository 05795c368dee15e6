"""Groups in a made-up tree, where any file can be missing or refused; the real kernel is in test_in_cgroup.py."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import trio
import trio.testing

from supervisor.worker import cgroup
from supervisor.worker.cgroup import Group, Groups, set_limit

ALL: dict[str, str | None] = {"memory": None, "pids": None, "cpu": None}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "supervisor").mkdir()
    (tmp_path / "workers").mkdir()
    (tmp_path / "supervisor/cgroup.procs").touch()
    return tmp_path


def files(directory: Path, *names: str) -> Path:
    directory.mkdir(exist_ok=True)
    for name in names:
        (directory / name).touch()
    return directory


def test_limits_are_written(tmp_path: Path) -> None:
    names = ("memory.max", "memory.oom.group", "memory.swap.max", "pids.max", "cpu.max")
    group = files(tmp_path / "g", *names)
    for limit, value in {"memory_mb": 50, "pids": 20, "cpu_percent": 150}.items():
        assert set_limit(group, limit, value) is None
    assert {name: (group / name).read_text() for name in names} == {
        "memory.max": "52428800",
        "memory.oom.group": "1",
        "memory.swap.max": "0",
        "pids.max": "20",
        "cpu.max": "150000 100000",
    }


def test_what_only_rounds_it_off_may_be_missing(tmp_path: Path) -> None:
    group = files(tmp_path / "g", "memory.max")
    assert set_limit(group, "memory_mb", 50) is None
    assert [path.name for path in group.iterdir()] == ["memory.max"]


def test_a_limit_whose_file_is_missing_is_not_enforced(tmp_path: Path) -> None:
    assert set_limit(files(tmp_path / "g"), "pids", 20) == "pids.max was refused: No such file or directory"


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EACCES, errno.EINVAL])
def test_a_limit_that_is_refused_is_not_enforced(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, text: str) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(cgroup, "write", refuse)
    assert set_limit(tmp_path, "memory_mb", 50) == f"memory.max was refused: {os.strerror(number)}"


def test_each_life_has_a_group_of_its_own(base: Path) -> None:
    groups = Groups(base, "0123456789abcdef", ALL)
    (base / "workers/01234567.p.2").mkdir()  # An earlier daemon's, that could not be removed.
    assert [groups.make("p", {}).path.name for _ in range(3)] == ["01234567.p.1", "01234567.p.3", "01234567.p.4"]


def test_a_group_says_what_it_does_not_enforce(base: Path) -> None:
    groups = Groups(base, "s" * 32, {"memory": None, "pids": "is not available here"})
    group = groups.make("p", {"memory_mb": 5, "pids": 5, "cpu_percent": 5})
    assert group.refused == {
        "memory_mb": "memory.max was refused: No such file or directory",
        "pids": "is not available here",
        "cpu_percent": "there is no cgroup controller 'cpu'",
    }


def test_no_group_can_be_made(base: Path) -> None:
    (base / "workers").rmdir()
    with pytest.raises(FileNotFoundError):
        Groups(base, "s" * 32, ALL).make("p", {})


def test_all_of_a_worker_moves_in_or_none(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, str]] = []
    members = base / "g/cgroup.procs"
    files(base / "g", "cgroup.procs")

    def write(path: Path, text: str) -> None:
        if text == "13":
            raise ProcessLookupError
        if text == "14":
            raise PermissionError(errno.EACCES, "Permission denied")
        written.append((path.parent.name, text))
        if path == members:
            members.write_text(members.read_text() + f"{text}\n")

    monkeypatch.setattr(cgroup, "write", write)
    group = Group(base / "g", base / "supervisor")
    living = [[10, 11], [10, 11, 12, 13], [10, 11, 12]]
    assert group.take_in(10, lambda: living.pop(0)) is None
    assert written == [("g", "10"), ("g", "11"), ("g", "12")]
    assert living == []
    assert group.take_in(13, list) is None  # It has ended by now, which is no fault of the group.
    members.write_text("")
    written.clear()
    error = group.take_in(10, lambda: [10, 14])
    assert isinstance(error, PermissionError)
    assert written == [("g", "10"), ("supervisor", "10")]


async def test_a_group_that_is_gone_is_no_error(tmp_path: Path) -> None:
    group = Group(tmp_path / "gone", tmp_path)
    group.kill()
    with trio.fail_after(5):
        await group.wait_empty()
    group.remove()
    assert (group.pids(), group.memory_events(), group.cpu_s()) == ([], {}, None)
    assert isinstance(group.take_in(1, list), FileNotFoundError)


def test_numbers_of_a_group(tmp_path: Path) -> None:
    group = Group(files(tmp_path / "g"), tmp_path)
    (group.path / "memory.events").write_text("low 0\nhigh 0\nmax 21\noom 1\noom_kill 2\noom_group_kill 1\n")
    (group.path / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1\n")
    assert group.memory_events()["oom_kill"] == 2
    assert group.cpu_s() == 1.5


def test_processes_of_groups_inside_count(tmp_path: Path) -> None:
    outer = files(tmp_path / "g", "cgroup.procs")
    (outer / "cgroup.procs").write_text("1\n2\n")
    (files(outer / "inner", "cgroup.procs") / "cgroup.procs").write_text("3\n")
    assert sorted(Group(outer, tmp_path).pids()) == [1, 2, 3]


async def test_without_descriptors_its_end_is_tried_again(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = files(tmp_path / "g", "cgroup.kill", "cgroup.events")
    (directory / "cgroup.events").write_text("populated 1\n")
    group, refusals = Group(directory, tmp_path), [3]
    real = os.open

    def scarce(path: object, flags: int, *more: object, **options: object) -> int:
        if refusals[0]:
            refusals[0] -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        (directory / "cgroup.events").write_text("populated 0\n")
        return real(path, flags, *more, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr("supervisor.worker.cgroup.os.open", scarce)
    with trio.fail_after(2):
        await group.end()
    assert (directory / "cgroup.kill").read_text() == "1"
    assert trio.current_time() == pytest.approx(0.3)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENODEV])
async def test_waiting_for_its_end_raises_nothing(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    directory = files(tmp_path / "g", "cgroup.events")
    (directory / "cgroup.events").write_text("populated 1\n")
    tries = 0

    def refuse() -> None:
        nonlocal tries
        tries += 1
        if tries == 3:
            (directory / "cgroup.events").unlink()
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("supervisor.worker.cgroup.select.epoll", refuse)
    with trio.fail_after(2):
        await Group(directory, tmp_path).wait_empty()
    assert tries == 3
