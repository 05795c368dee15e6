"""Whether only root and we ourselves can change what is at a path, the way sshd looks at its files (StrictModes)."""

from __future__ import annotations

import functools
import grp
import os
import pwd
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

_REMEMBERED_S: Final = 10.0
"""A package has thousands of files of one owner; who is added to a group meanwhile is seen soon enough."""


def private_group(
    uid: int,
    gid: int,
    *,
    user: Callable[[int], pwd.struct_passwd] = pwd.getpwuid,
    group: Callable[[int], grp.struct_group] = grp.getgrgid,
    users: Callable[[], Iterable[pwd.struct_passwd]] = pwd.getpwall,
) -> bool:
    """Whether group `gid` is `uid`'s own and nobody else is in it, as most distributions make one for every user.

    Where that is so the usual umask is 002, and a group's write permission gives nothing to anybody else. Users
    that a directory service (LDAP) knows and does not enumerate are seen only where the group names them.
    """
    try:
        owner = user(uid)
    except KeyError:
        return False
    if owner.pw_gid != gid:
        return False
    try:
        members = group(gid).gr_mem
    except KeyError:
        members = []  # It has no name, so nobody was put into it.
    if any(member != owner.pw_name for member in members):
        return False
    return all(entry.pw_uid == uid for entry in users() if entry.pw_gid == gid)


def private_group_now(uid: int, gid: int) -> bool:
    """`private_group`, looked up at most every few seconds."""
    return _private_group(uid, gid, int(time.monotonic() / _REMEMBERED_S))


@functools.lru_cache(maxsize=16)
def _private_group(uid: int, gid: int, _period: int) -> bool:
    return private_group(uid, gid)


def entry_problem(
    path: Path,
    found: os.stat_result,
    uid: int,
    is_private: Callable[[int, int], bool] = private_group_now,
) -> str | None:
    """Why what was found at `path` may be changed by others than root and `uid`, with the way out; or None."""
    if found.st_uid not in (0, uid):
        return (
            f"{path} belongs to {user_name(found.st_uid)}, who could change it; "
            f"make it your own: chown -R {user_name(uid)} {path}"
        )
    shared = found.st_mode & stat.S_IWGRP and not is_private(found.st_uid, found.st_gid)
    if shared or found.st_mode & stat.S_IWOTH:
        who = "others" if found.st_mode & stat.S_IWOTH else f"others in the group {group_name(found.st_gid)}"
        return f"{path} may be written by {who} (mode {stat.S_IMODE(found.st_mode):04o}): chmod -R go-w {path}"
    return None


def file_problem(fd: int, path: Path, uid: int) -> str | None:
    """Why the file that is open at `fd`, named `path` by whoever asked for it, may be changed or replaced by others.

    Its owner and mode come from the descriptor, the directories are those that lead to it now (a symbolic link is
    followed when it is opened, and its end is what counts): whatever is renamed afterwards, we read what we checked.
    """
    if problem := entry_problem(path, os.fstat(fd), uid):
        return problem
    try:
        return parents_problem(Path(os.readlink(f"/proc/self/fd/{fd}")), uid)
    except FileNotFoundError:
        return f"{path} was moved or deleted while it was looked at; try again"


def parents_problem(path: Path, uid: int) -> str | None:
    """The same for the directories above `path` (absolute, symlinks resolved): who may rename there, may replace us.

    A group's write permission is let pass here: /var/log, for one, belongs to a group in some distributions.
    """
    for parent in path.parents:
        found = parent.lstat()
        if found.st_uid not in (0, uid):
            return f"{parent}, above {path}, belongs to {user_name(found.st_uid)}, who could replace what is below"
        if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
            return f"{parent}, above {path}, may be written by everybody: chmod o-w {parent}"
    return None


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"gid {gid}"
