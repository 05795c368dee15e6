"""What holds workers together: their limits, their cgroups, and the knowledge of who is theirs."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from functools import cache
from typing import Final
from weakref import WeakValueDictionary

import trio

from supervisor.core.worker_spec import Limits
from supervisor.log import log
from supervisor.wire.results import LimitInfo, UsageInfo
from supervisor.worker.cgroup import Group, Groups
from supervisor.worker.crash import Crash, Reason
from supervisor.worker.kin import Identity, Kin, identity_of, send_signal, tracer_of
from supervisor.worker.launch import Launch
from supervisor.worker.limits import CGROUP, CONTROLLERS, WATCH, declared, killed_by_oom, without_cgroup
from supervisor.worker.procfs import ProcessStat, children, oom_kills, read_stat
from supervisor.worker.rlimits import TaskCount, TaskLimit, limit_data, limit_files, limit_files_softly
from supervisor.worker.usage import Meter
from supervisor.worker.watch import Adopted, Watch, shared_out_bytes

_NO_CGROUP: Final = "no cgroup was delegated to plugind"
_FAILED: Final = "it could not be put into a cgroup"
_KILL_ROUNDS: Final = 10
"""Who forks faster than we kill is found again when its worker's end is cleared up, where waiting is possible."""


class Containment:
    """Of all workers. Without `groups` everything works too, on what /proc tells."""

    def __init__(
        self, groups: Groups | None = None, *, kill_grace_s: float = 2.0, soft_nofile: int | None = None
    ) -> None:
        """`soft_nofile`: the soft limit of open files of workers whose manifest has none; None: our own."""
        self._groups = groups
        self._kill_grace_s = kill_grace_s
        self._soft_nofile = soft_nofile
        self._everybody = TaskCount()
        self._wards: WeakValueDictionary[int, Ward] = WeakValueDictionary()
        self._failed_before = False
        self._measuring = trio.Lock()
        self._watch = Watch(self._adopted)

    def ward(self, pid: int) -> Ward | None:
        """Of the process that was spawned last with this pid, as long as somebody holds it."""
        return self._wards.get(pid)

    async def usage(self, pids: Iterable[int]) -> dict[int, UsageInfo]:
        """What the workers with these pids use, by pid; who has ended meanwhile is left out.

        In a thread, since it takes some milliseconds for each dozen of them; however many ask, each is looked at once
        a second at most.
        """
        wards = [ward for pid in pids if (ward := self._wards.get(pid))]
        async with self._measuring:
            now = trio.current_time()
            if stale := [ward for ward in wards if ward.meter.last(now) is None]:
                await trio.to_thread.run_sync(self._measure, stale, now)
            return {ward.pid: usage for ward in wards if (usage := ward.meter.last(now))}

    def _measure(self, wards: list[Ward], now: float) -> None:
        adopted = cache(self._adopted)
        for ward in wards:
            try:
                ward.meter.renew(now, adopted)
            except OSError as error:
                # We are out of descriptors: of the others there may be something to tell.
                log.error("usage.not_seen", pid=ward.pid, error=str(error))

    def foresee(self, limits: Limits) -> list[LimitInfo]:
        """What would enforce a worker's limits if it were started now."""
        return [self._limit_info(name, value, self._missing(name)) for name, value in declared(limits).items()]

    def make_group(self, launch: Launch) -> Group | None:
        """A group for a worker that is about to be spawned; None where there can be none."""
        if self._groups is None:
            return None
        try:
            wanted = {name: value for name, value in declared(launch.limits).items() if name in CONTROLLERS}
            return self._groups.make(launch.plugin_id, wanted)
        except OSError as error:
            self._note_failure("made", error)
            return None

    @staticmethod
    def bounds(launch: Launch) -> bool:
        """Whether `enclose` has limits to set that its manifest declares."""
        return bool(declared(launch.limits))

    def enclose(self, pid: int, launch: Launch, group: Group | None) -> Ward:
        """Set the limits of a process that has just been spawned, and put it into its group.

        Raises:
            OSError: a limit cannot be set.
        """
        kin = Kin(pid, self._adopted, launch.mark)
        if group and (error := group.take_in(pid, lambda: [process.pid for process in kin.note()])):
            self._note_failure("entered", error)
            group.remove()
            group = None
        limits = []
        for name, value in declared(launch.limits).items():
            info = self._limit_info(name, value, group.refused.get(name) if group else self._missing(name) or _FAILED)
            _set_rlimit(pid, info)
            limits.append(info)
        if launch.limits.nofile is None and self._soft_nofile is not None:
            limit_files_softly(pid, self._soft_nofile)
        ward = self._wards[pid] = Ward(pid, group, limits, kin, self._everybody, self._watch, self._kill_grace_s)
        return ward

    def _missing(self, name: str) -> str | None:
        return self._groups.missing(name) if self._groups else _NO_CGROUP

    def _limit_info(self, name: str, value: int, why: str | None) -> LimitInfo:
        if name in CONTROLLERS and why is None:
            return LimitInfo(limit=name, value=value, enforced_by=CGROUP, note=None)
        return without_cgroup(name, value, why or "", root=os.geteuid() == 0)

    def _adopted(self) -> list[ProcessStat]:
        """Our own children that were not spawned as workers."""
        # In another thread, too: what is asked here of the table of wards cannot be cut in the middle.
        return [found for pid in children() if pid not in self._wards and (found := read_stat(pid))]

    def _note_failure(self, what: str, error: OSError) -> None:
        """Once: it will be the same for every worker."""
        if not self._failed_before:
            log.error(f"cgroup.not_{what}", error=str(error), so="workers run without")
        self._failed_before = True


class Ward:
    """One worker's processes, from its spawn to its end."""

    def __init__(
        self,
        leader: int,
        group: Group | None,
        limits: list[LimitInfo],
        kin: Kin,
        everybody: TaskCount,
        watch: Watch,
        kill_grace_s: float,
    ) -> None:
        self.limits = limits
        self.killed: list[Identity] = []
        """What had left the worker's process group, outlived it, and was killed by the end of its cgroup."""
        self.pid = leader
        self._group = group
        self._kin = kin
        self._watch = watch
        self._kill_grace_s = kill_grace_s
        self._watched = {info["limit"]: info["value"] for info in limits if info["enforced_by"] == WATCH}
        self._tasks = TaskLimit(self._watched["pids"], everybody) if "pids" in self._watched else None
        self.meter = Meter(self._peek, lambda: group.cpu_s() if group else None)
        self._memory_mb = next((info["value"] for info in limits if info["limit"] == "memory_mb"), None)
        self._oom_kills = None if group and group.memory_events() else oom_kills()
        self._oom: Crash | None = None
        if self._tasks:
            self._tasks.renew(self.look())

    def look(self, adopted: Adopted | None = None) -> list[ProcessStat]:
        """Its living processes. `adopted`: see `Kin.look`."""
        return self._kin.look(adopted) if self._group is None else _living(self._group)

    def _peek(self, adopted: Adopted | None) -> list[ProcessStat]:
        """The same, for a thread."""
        return self._kin.peek(adopted) if self._group is None else _living(self._group)

    async def pss_bytes(self) -> int:
        """The dear number: the kernel goes through all the memory for it, and we do not wait."""
        return await trio.to_thread.run_sync(lambda: shared_out_bytes(self._peek(None)), abandon_on_cancel=True)

    def note(self) -> None:
        """Who is below it, as long as it lives and that can be told; where a group knows that anyway, nothing."""
        if self._group is None:
            self._kin.note()

    def kill(self) -> None:
        """SIGKILL to every process."""
        if self._group:
            self._group.kill()
            return
        dead: set[Identity] = set()
        for _ in range(_KILL_ROUNDS):
            living = {identity_of(process) for process in self._kin.look()} - dead
            for identity in living:
                send_signal(identity, signal.SIGKILL)
            if not living:
                return
            dead |= living

    def kill_tracer(self) -> None:
        """SIGKILL to who traces the leader, if it is the worker's own, or nobody's."""
        tracer = tracer_of(self.pid)
        if tracer and self._kin.answers_for(tracer):
            send_signal(identity_of(tracer), signal.SIGKILL)

    async def wait_breach(self) -> Crash:
        """Return when a limit has been exceeded that only we watch."""
        looked = self._tasks.renew if self._tasks else lambda _: None
        return await self._watch.wait_breach(self._watched, self.look, looked)

    async def clear(self) -> None:
        """The leader is gone: end what is left of the group, and the group. Shielded; lasts `kill_grace_s` at most."""
        if self._group is None:
            return
        self.killed += [identity_of(process) for process in self._look_once_more() if process.pgid != self.pid]
        with trio.move_on_after(self._kill_grace_s, shield=True) as patience:
            await self._group.end()
        if patience.cancelled_caught:
            log.error("stray.survived", pids=self._group.pids())
        self._oom = killed_by_oom(self._group.memory_events(), self._memory_mb)
        self._group.remove()

    def _look_once_more(self) -> list[ProcessStat]:
        try:
            return self.look()
        except OSError as error:
            # We are out of descriptors. They are killed all the same, and not named.
            log.error("stray.not_seen", pid=self.pid, error=str(error))
            return []

    @property
    def mark(self) -> bytes | None:
        """NAME=value in the environment that its processes were started with, and no others."""
        return self._kin.mark

    def strays(self) -> list[Identity]:
        """Who is known to be the worker's, and still lives, out of reach of a signal to its process group."""
        return self._kin.strays()

    def post_mortem(self, *, ours: bool) -> Crash | None:
        """Why it was killed by SIGKILL, where the kernel knows; `ours`: we have sent one."""
        if self._oom or ours or self._oom_kills is None or (oom_kills() or 0) <= self._oom_kills:
            return self._oom
        why = "was killed by SIGKILL, and the kernel's out-of-memory killer was at work meanwhile"
        return Crash(Reason.OUT_OF_MEMORY, why)


def _living(group: Group) -> list[ProcessStat]:
    found = (read_stat(pid) for pid in group.pids())
    return [process for process in found if process and not process.is_dead]


def _set_rlimit(pid: int, info: LimitInfo) -> None:
    if info["limit"] == "nofile":
        info["note"] = limit_files(pid, info["value"])
    elif info["limit"] == "memory_mb" and info["enforced_by"] == WATCH:
        limit_data(pid, info["value"])
