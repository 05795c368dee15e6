"""Who may change a file: its owner, root, and a group only if nobody else is in it."""

from __future__ import annotations

import grp
import os
import pwd
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from supervisor.trust import entry_problem, file_problem, private_group, private_group_now

ADA, BOB, TEAM = 1000, 1001, 2000


def user(name: str, uid: int, gid: int) -> pwd.struct_passwd:
    return pwd.struct_passwd((name, "x", uid, gid, "", "/", "/bin/sh"))


def is_private(uid: int, gid: int, users: Iterable[pwd.struct_passwd], members: dict[int, list[str]]) -> bool:
    known = {entry.pw_uid: entry for entry in users}

    def group(number: int) -> grp.struct_group:
        return grp.struct_group(("g", "x", number, members[number]))

    return private_group(uid, gid, user=known.__getitem__, group=group, users=known.values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("uid", "gid", "users", "members", "private"),
    [
        (ADA, ADA, [user("ada", ADA, ADA)], {ADA: []}, True),
        (ADA, ADA, [user("ada", ADA, ADA)], {ADA: ["ada"]}, True),
        (ADA, ADA, [user("ada", ADA, ADA)], {}, True),
        (ADA, ADA, [user("ada", ADA, ADA), user("bob", BOB, BOB)], {ADA: []}, True),
        (0, 0, [user("root", 0, 0), user("ada", ADA, ADA)], {0: []}, True),
        (0, 0, [user("root", 0, 0)], {0: ["root", "ada"]}, False),
        (ADA, ADA, [user("ada", ADA, ADA)], {ADA: ["ada", "bob"]}, False),
        (ADA, ADA, [user("ada", ADA, ADA), user("bob", BOB, ADA)], {ADA: []}, False),
        (ADA, TEAM, [user("ada", ADA, ADA)], {TEAM: ["ada"]}, False),
        (ADA, ADA, [], {ADA: []}, False),
    ],
    ids=[
        "own",
        "named",
        "no name",
        "others elsewhere",
        "root",
        "root and ada",
        "member",
        "theirs too",
        "team",
        "unknown",
    ],
)
def test_whose_group_it_is(
    uid: int, gid: int, users: list[pwd.struct_passwd], members: dict[int, list[str]], private: bool
) -> None:
    assert is_private(uid, gid, users, members) is private


@pytest.mark.parametrize(
    ("mode", "private", "problem"),
    [
        (0o775, True, None),
        (0o755, False, None),
        (0o775, False, "may be written by others in the group"),
        (0o777, True, r"may be written by others \(mode 0777\)"),
        (0o702, True, r"may be written by others \(mode 0702\)"),
    ],
)
def test_entries(tmp_path: Path, mode: int, private: bool, problem: str | None) -> None:
    asked = []

    def private_or_not(uid: int, gid: int) -> bool:
        asked.append((uid, gid))
        return private

    path = tmp_path / "x"
    path.mkdir()
    path.chmod(mode)
    found = path.stat()
    told = entry_problem(path, found, os.geteuid(), private_or_not)
    assert told is None if problem is None else told and re.search(problem, told)
    assert asked == ([(found.st_uid, found.st_gid)] if mode & 0o020 else [])


def test_it_is_looked_up_once_for_many_files(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("supervisor.trust.private_group", lambda uid, gid: not asked.append((uid, gid)))
    monkeypatch.setattr("supervisor.trust.time", SimpleNamespace(monotonic=lambda: 1e9))
    assert all(private_group_now(4711, 4711) for _ in range(1000))
    assert asked == [(4711, 4711)]
    monkeypatch.setattr("supervisor.trust.time", SimpleNamespace(monotonic=lambda: 1e9 + 20))
    assert private_group_now(4711, 4711)
    assert len(asked) == 2


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def problem_of(path: Path, uid: int | None = None) -> str | None:
    with opened(path) as fd:
        return file_problem(fd, path, os.geteuid() if uid is None else uid)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    directory = tmp_path / "of" / "ours"
    directory.mkdir(parents=True)
    path = directory / "weather.zip"
    path.write_bytes(b"x")
    path.chmod(0o644)
    return path


def test_a_file_that_only_we_can_change(archive: Path) -> None:
    assert problem_of(archive) is None


def test_a_file_that_everybody_can_change(archive: Path) -> None:
    archive.chmod(0o646)
    told = problem_of(archive)
    assert told
    assert told.startswith(f"{archive} may be written by others (mode 0646): chmod")


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_directory_above_that_everybody_can_change(archive: Path, level: int) -> None:
    above = archive.parents[level]
    above.chmod(0o777)
    assert problem_of(archive) == f"{above}, above {archive}, may be written by everybody: chmod o-w {above}"
    above.chmod(0o1777)  # as /tmp: there nobody renames what is not his
    assert problem_of(archive) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("level", [-1, 0, 1, 2])
def test_a_file_or_a_directory_of_somebody_else(archive: Path, level: int) -> None:
    path = archive if level < 0 else archive.parents[level]
    os.chown(path, 4711, 4711)
    told = problem_of(archive)
    assert told
    assert f"{path}" in told
    assert "belongs to uid 4711" in told
    os.chown(path, 0, 0)
    assert problem_of(archive) is None


def test_a_link_is_judged_by_where_it_leads(archive: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(archive)
    assert problem_of(link) is None
    archive.parent.chmod(0o777)
    assert f"{archive.parent}, above {archive}," in (problem_of(link) or "")


def test_what_is_open_is_judged_whatever_lies_there_now(archive: Path) -> None:
    archive.chmod(0o666)
    with opened(archive) as fd:
        archive.unlink()
        archive.write_bytes(b"another")
        archive.chmod(0o600)
        assert "may be written by others (mode 0666)" in (file_problem(fd, archive, os.geteuid()) or "")


def test_its_directory_goes_meanwhile(archive: Path) -> None:
    with opened(archive) as fd:
        archive.unlink()
        archive.parent.rmdir()
        assert file_problem(fd, archive, os.geteuid()) == (
            f"{archive} was moved or deleted while it was looked at; try again"
        )
