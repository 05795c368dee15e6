"""Which part of the cgroup v2 tree is ours, if any; and make it ready for workers. Detected, never assumed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.log import log
from supervisor.worker.cgroup import SUPERVISOR, WORKERS, Groups, write
from supervisor.worker.limits import CONTROLLERS

_OCTAL = re.compile(r"\\([0-7]{3})")
_XATTRS: Final = ("user.delegate", "trusted.delegate")
"""Set by systemd to 1 for Delegate=; the second is for root alone to see."""


@dataclass(frozen=True, slots=True)
class Mount:
    """`root` is the group that is seen at `point`."""

    point: Path
    root: str


class NotDelegated(Exception):
    """There is no cgroup for us to use; the message says why."""


def cgroup2_mounts(mountinfo: str) -> list[Mount]:
    """From /proc/<pid>/mountinfo. Hybrid hosts mount it below /sys/fs/cgroup, containers bind a part of it."""
    mounts = []
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if separator and after.startswith("cgroup2 ") and len(fields) >= 6:
            mounts.append(Mount(point=Path(_unescaped(fields[4])), root=_unescaped(fields[3])))
    return mounts


def own_group(cgroup: str) -> str | None:
    """Our group in the v2 tree, from /proc/<pid>/cgroup; None if there is none, or it has been removed."""
    line = next((line for line in cgroup.splitlines() if line.startswith("0::/")), None)
    return None if line is None or line.endswith(" (deleted)") else line.removeprefix("0::")


def workers_group(proc: Path = Path("/proc")) -> str | None:
    """Where the groups of workers are, named as /proc/<pid>/cgroup names them: beside ours, the leaf; None: we are in
    no such leaf."""
    parent, _, leaf = (own_group((proc / "self/cgroup").read_text()) or "").rpartition("/")
    return f"{parent}/{WORKERS}" if leaf == SUPERVISOR else None


def directories(mounts: list[Mount], group: str) -> list[Path]:
    """Where the group is seen; one that is outside of what is mounted is not."""
    found = []
    for mount in mounts:
        root = mount.root.rstrip("/")
        if group == root or group.startswith(f"{root}/"):
            inside = group.removeprefix(root).lstrip("/")
            # `/..` is what a group outside of the cgroup namespace is called.
            if ".." not in Path(inside).parts:
                found.append(mount.point / inside)
    return found


def is_delegated(directory: Path) -> bool:
    """Whether systemd, or whoever else made the group, has said that what is below it is ours."""
    for name in _XATTRS:
        try:
            if os.getxattr(directory, name) == b"1":
                return True
        except OSError:
            continue  # Not there, or not for us to see: not said to us.
    return False


def find_delegated(proc: Path = Path("/proc"), delegated: Callable[[Path], bool] = is_delegated) -> Path:
    """The directory of the group that was delegated to us: ours, or the one above if somebody put us into the leaf.

    Raises:
        NotDelegated: there is none.
    """
    mounts = cgroup2_mounts((proc / "self/mountinfo").read_text())
    if not mounts:
        raise NotDelegated("no cgroup v2 file system is mounted")
    group = own_group((proc / "self/cgroup").read_text())
    here = next((path for path in directories(mounts, group) if _is_ours(path)), None) if group else None
    if here is None:
        raise NotDelegated("our own cgroup is not to be seen in a mounted cgroup v2 file system")
    base = next((path for path in _bases(here) if delegated(path)), None)
    if base is None:
        raise NotDelegated("our cgroup was not delegated to us (in a systemd unit, Delegate= does that)")
    if not os.access(base, os.W_OK | os.X_OK) or not os.access(base / "cgroup.procs", os.W_OK):
        raise NotDelegated(f"{base} is not ours to write to")
    return base


def _is_ours(directory: Path) -> bool:
    """Another file system may be mounted over it, or the path be that of another namespace."""
    try:
        return str(os.getpid()) in (directory / "cgroup.procs").read_text().split()
    except OSError:
        return False


def _bases(here: Path) -> list[Path]:
    # systemd's DelegateSubgroup=, or a daemon that was executed anew.
    return [here, here.parent] if here.name == SUPERVISOR else [here]


def prepare_groups(state_id: str, find: Callable[[], Path] = find_delegated) -> Groups | None:
    """Find our part of the tree, move ourselves into a leaf of it and have controllers enabled for the workers' groups.

    None if there is none, or it cannot be used: then all works without. Either is logged.
    """
    try:
        base = find()
        groups = Groups(base, state_id, _prepare(base))
    except (NotDelegated, OSError) as error:
        log.info("containment.ready", cgroup=None, enforced="rlimits, and a look every second", why=str(error))
        return None
    enforced = [name for name, why in groups.controllers.items() if why is None]
    refused = "; ".join(f"{name}: {why}" for name, why in groups.controllers.items() if why)
    log.info("containment.ready", cgroup=str(base), enforced=", ".join(["kill", *enforced]), not_enforced=refused)
    return groups


def _prepare(base: Path) -> dict[str, str | None]:
    """Controller -> why it cannot be used; None if it can.

    Raises:
        NotDelegated: groups here cannot be killed as a whole.
        OSError: we may not do what has to be done.
    """
    for name in (SUPERVISOR, WORKERS):
        (base / name).mkdir(exist_ok=True)
    if not (base / WORKERS / "cgroup.kill").exists():
        raise NotDelegated("the kernel is older than 5.14: it has no cgroup.kill")
    # A group that hands controllers down has no processes of its own.
    write(base / SUPERVISOR / "cgroup.procs", str(os.getpid()))
    available = (base / "cgroup.controllers").read_text().split()
    return {
        name: _enable(base, name) if name in available else "is not available here" for name in CONTROLLERS.values()
    }


def _enable(base: Path, controller: str) -> str | None:
    for directory in (base, base / WORKERS):
        try:
            write(directory / "cgroup.subtree_control", f"+{controller}")
        except OSError as error:
            return f"cannot be enabled in {directory}: {error.strerror}"
    return None


def _unescaped(text: str) -> str:
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), text)
