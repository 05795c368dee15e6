"""Control groups of workers, in a part of the cgroup v2 tree that was delegated to us."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import Final

import trio

from supervisor.log import log
from supervisor.worker.limits import CONTROLLERS, cgroup_settings

SUPERVISOR: Final = "supervisor"
WORKERS: Final = "workers"
_MARK_CHARACTERS: Final = 8
_REMOVED: Final = (errno.ENOENT, errno.ENODEV)
"""A group's files are gone; ENODEV: they were open meanwhile."""
_LOOK_S: Final = 0.1
_SWEEPS: Final = 100
"""A worker cannot fork faster than we look, save on purpose."""


class Groups:
    """`workers/` below `base`, with a group for each life of a worker; `supervisor/` beside it is the daemon's own.

    Groups of ours carry our state directory's id in their name: two daemons may have been started in one place.
    """

    def __init__(self, base: Path, state_id: str, controllers: Mapping[str, str | None]) -> None:
        """`controllers`: name -> why it cannot be used, None if it can."""
        self.controllers = controllers
        self._base = base
        self._mark = state_id[:_MARK_CHARACTERS]
        self._numbers = count(1)

    def make(self, name: str, limits: Mapping[str, int]) -> Group:
        """A new group, with the limits that it can have.

        Raises:
            OSError: there can be none.
        """
        while True:
            path = self._base / WORKERS / f"{self._mark}.{name}.{next(self._numbers)}"
            try:
                path.mkdir()
            except FileExistsError:
                continue  # An earlier daemon's, that could not be removed.
            return Group(path, self._base / SUPERVISOR, refused=self._set_all(path, limits))

    def missing(self, limit: str) -> str | None:
        """Why no group can enforce this limit; None if one can."""
        controller = CONTROLLERS.get(limit)
        if controller is None:
            return "cgroups have no such limit"
        return self.controllers.get(controller, f"there is no cgroup controller {controller!r}")

    def _set_all(self, path: Path, limits: Mapping[str, int]) -> dict[str, str]:
        """Why it was refused, by limit."""
        reasons = {limit: self.missing(limit) or set_limit(path, limit, value) for limit, value in limits.items()}
        return {limit: why for limit, why in reasons.items() if why}

    async def remove_former(self, grace_s: float) -> list[int]:
        """Kill and remove the groups of an earlier daemon on this state directory; return the pids that were in them.

        Lasts at most `grace_s` seconds.
        """
        workers = self._base / WORKERS
        former = [Group(path, self._base / SUPERVISOR) for path in sorted(workers.glob(f"{self._mark}.*"))]
        pids = [pid for group in former for pid in group.pids()]
        for group in former:
            group.kill()
        with trio.move_on_after(grace_s):
            for group in former:
                await group.wait_empty()
        for group in former:
            group.remove()
        return pids


class Group:
    """One life's processes. Nothing here raises once it is made: a group that fails is a group less."""

    def __init__(self, path: Path, outside: Path, refused: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.refused = refused or {}
        """Limits that it does not enforce, and why."""
        self._outside = outside

    def take_in(self, leader: int, everybody: Callable[[], Iterable[int]]) -> OSError | None:
        """Move a process, and those that it has started meanwhile, in here; all or none: then the reason is returned.

        `everybody` lists the pids of the worker as they are now.
        """
        try:
            self._move(leader)
            for _ in range(_SWEEPS):
                outside = set(everybody()) - set(self.pids())
                if not [pid for pid in outside if self._move(pid)]:
                    return None
        except OSError as error:
            self._let_out()
            return error
        return None

    def _move(self, pid: int) -> bool:
        """False if it has ended."""
        try:
            write(self.path / "cgroup.procs", str(pid))
        except ProcessLookupError:
            return False
        return True

    def _let_out(self) -> None:
        for pid in self.pids():
            try:
                write(self._outside / "cgroup.procs", str(pid))
            except OSError as error:
                log.error("cgroup.not_let_out", pid=pid, error=str(error))

    def pids(self) -> list[int]:
        """Living processes, those of groups that the worker made in here included."""
        found: list[int] = []
        for directory in self._all():
            try:
                found += map(int, (directory / "cgroup.procs").read_bytes().split())
            except OSError as error:
                # ENODEV: removed meanwhile. EOPNOTSUPP: a threaded group, whose processes its parent lists.
                if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
                    log.error("cgroup.not_read", group=str(directory), error=str(error))
        return found

    def _all(self) -> list[Path]:
        """This directory and those below it, the deepest first."""
        return [Path(directory) for directory, _, _ in os.walk(self.path, topdown=False)]

    def kill(self) -> bool:
        """SIGKILL to all of it, at once; False if that could not be done."""
        try:
            write(self.path / "cgroup.kill", "1")
        except OSError as error:
            if error.errno in _REMOVED:
                return True  # Nobody is in it.
            log.error("cgroup.not_killed", group=str(self.path), error=str(error))
            return False
        return True

    async def end(self) -> None:
        """Kill all of it and return when nobody lives in it; it may have to be tried again."""
        # Nothing tells that we have descriptors again.
        while not self.kill():  # noqa: ASYNC110
            await trio.sleep(_LOOK_S)
        await self.wait_empty()

    async def wait_empty(self) -> None:
        """Return when nobody lives in it; zombies do not count."""
        await trio.lowlevel.checkpoint()
        while self._is_populated():
            try:
                await self._wait_told_empty()
            except OSError as error:
                if error.errno not in _REMOVED:
                    log.warning("cgroup.not_watched", group=str(self.path), error=str(error))
                await trio.sleep(_LOOK_S)

    async def _wait_told_empty(self) -> None:
        # The kernel tells of a change by POLLPRI, which trio does not wait for: an epoll of its own does, and can be
        # waited for in turn.
        with (self.path / "cgroup.events").open("rb") as events, select.epoll() as changes:
            changes.register(events, select.EPOLLPRI)
            while self._says_populated(events.read()):
                await trio.lowlevel.wait_readable(changes.fileno())
                changes.poll(0)
                events.seek(0)

    def _is_populated(self) -> bool:
        try:
            return self._says_populated((self.path / "cgroup.events").read_bytes())
        except OSError as error:
            # That we have no descriptor left to look with says nothing of it.
            return error.errno not in _REMOVED

    def _says_populated(self, events: bytes) -> bool:
        return b"populated 1" in events

    def memory_events(self) -> dict[str, int]:
        """Counts by name; empty without a memory controller."""
        return self._numbers("memory.events")

    def cpu_s(self) -> float | None:
        """Seconds of processor time that all who ever were in it have used."""
        used_us = self._numbers("cpu.stat").get("usage_usec")
        return None if used_us is None else used_us / 1e6

    def _numbers(self, file: str) -> dict[str, int]:
        try:
            lines = (self.path / file).read_text().splitlines()
        except OSError:
            return {}  # No such controller, or no group any more.
        return {name: int(value) for name, value in map(str.split, lines)}

    def remove(self) -> None:
        """Forget it; one that is not empty stays, and is in nobody's way."""
        try:
            for directory in self._all():
                directory.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("cgroup.not_removed", group=str(self.path), error=str(error))


def set_limit(group: Path, limit: str, value: int) -> str | None:
    """Write it into the group's files; return why it is not enforced, None if it is."""
    for setting in cgroup_settings(limit, value):
        try:
            write(group / setting.file, setting.text)
        except OSError as error:
            if setting.needed:
                return f"{setting.file} was refused: {error.strerror}"
            log.debug("cgroup.setting_refused", file=setting.file, error=str(error))
    return None


def write(path: Path, text: str) -> None:
    """Into a file of a group.

    Raises:
        OSError: it is not there, or the kernel refused.
    """
    # Not created where it is missing: the kernel calls that EACCES, and a made-up tree would get a file too many.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
