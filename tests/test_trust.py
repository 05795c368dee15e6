"""Who may change a file: its owner, root, and a group only if nobody else is in it."""

from __future__ import annotations

import grp
import os
import pwd
import re
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest

from supervisor.trust import entry_problem, private_group, private_group_now

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
