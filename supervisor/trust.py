"""Whether only root and we ourselves can change what is at a path, the way sshd looks at its files (StrictModes)."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path


def entry_problem(path: Path, found: os.stat_result, uid: int) -> str | None:
    """Why what was found at `path` may be changed by others than root and `uid`, with the way out; or None."""
    if found.st_uid not in (0, uid):
        return (
            f"{path} belongs to {user_name(found.st_uid)}, who could change it; "
            f"make it your own: chown -R {user_name(uid)} {path}"
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{path} may be written by others (mode {stat.S_IMODE(found.st_mode):04o}): chmod -R go-w {path}"
    return None


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
