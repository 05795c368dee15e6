"""Lanes: which of the waiting runs may start next: a lane per plugin, in it a line per job. Pure; every step is O(1).

Lanes take turns, and in a lane its lines, so whoever has much to do delays nobody else by more than one of its runs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final, Generic, TypeVar

from supervisor.core.plugin import PluginId


class Standing(IntEnum):
    """Where a ticket stands; each step leads to the next, and `drop` out of the first."""

    OUT = 0
    WAITING = 1
    TAKEN = 2
    """It holds a place: of all, of its plugin's, of its job's."""
    HELD = 3
    """Only that of its job: the run has ended, and its worker is still at it."""


class Blocker(IntEnum):
    """What a waiting ticket waits for; the first that applies."""

    JOB = 0
    """Another run of its job, which `ahead_of` names."""
    WORKER = 1
    PLUGIN = 2
    """All places of its plugin are taken."""
    OVERALL = 3
    NOTHING = 4
    """Its turn."""


class Ticket:
    """A run's wish for a place. `job_limit`: so many of its job may hold one at once."""

    __slots__ = ("job_id", "job_limit", "line", "needs_worker", "plugin_id", "standing")

    def __init__(self, plugin_id: PluginId, job_id: str, *, job_limit: int = 1, needs_worker: bool = True) -> None:
        self.plugin_id = plugin_id
        self.job_id = job_id
        self.job_limit = job_limit
        self.needs_worker = needs_worker
        self.standing = Standing.OUT
        self.line: _Line[Any] | None = None


T = TypeVar("T", bound=Ticket)


class _Line(Generic[T]):
    """A job's runs, waiting and holding a place. `rotation`: where it stands while it has one that may start."""

    __slots__ = ("held", "job_id", "lane", "rotation", "turn", "waiting")

    def __init__(self, job_id: str, lane: _Lane[T]) -> None:
        self.job_id = job_id
        self.lane = lane
        self.waiting: OrderedDict[T, None] = OrderedDict()
        self.held: dict[T, None] = {}
        self.rotation: OrderedDict[_Line[T], None] | None = None
        self.turn = 0

    @property
    def first(self) -> T | None:
        return next(iter(self.waiting)) if self.waiting else None


class _Lane(Generic[T]):
    """A plugin's lines. Those that may start something take turns, without a worker and with one."""

    __slots__ = ("alone", "lines", "offered", "plugin_id", "taken", "turn", "with_worker", "worker_is_down")

    def __init__(self, plugin_id: PluginId) -> None:
        self.plugin_id = plugin_id
        self.lines: dict[str, _Line[T]] = {}
        self.alone: OrderedDict[_Line[T], None] = OrderedDict()
        self.with_worker: OrderedDict[_Line[T], None] = OrderedDict()
        self.turn = 0
        self.taken = 0
        self.offered = False
        self.worker_is_down = False

    @property
    def has_next(self) -> bool:
        return bool(self.alone or (self.with_worker and not self.worker_is_down))

    def next_line(self) -> _Line[T] | None:
        """The one that has waited for its turn for longest."""
        alone = next(iter(self.alone)) if self.alone else None
        with_worker = next(iter(self.with_worker)) if self.with_worker and not self.worker_is_down else None
        if alone is None or with_worker is None:
            return alone or with_worker
        return alone if alone.turn < with_worker.turn else with_worker


class Lanes(Generic[T]):
    """`is_up` tells whether a plugin's worker takes calls. Where runs wait for one that does not, `on_down` is told,
    once until `worker_is_up`; it must not call back."""

    def __init__(
        self,
        *,
        limit: int,
        limit_per_plugin: int,
        is_up: Callable[[PluginId], bool],
        on_down: Callable[[PluginId], None],
    ) -> None:
        self.limit: Final = limit
        self.limit_per_plugin: Final = limit_per_plugin
        self.taken = 0
        self.waiting = 0
        self._is_up = is_up
        self._on_down = on_down
        self._lanes: dict[PluginId, _Lane[T]] = {}
        self._turns: OrderedDict[_Lane[T], None] = OrderedDict()

    def __len__(self) -> int:
        """Plugins that have runs waiting or holding a place."""
        return len(self._lanes)

    @property
    def crowded(self) -> bool:
        """More wait than there are places left for all."""
        return self.waiting > self.limit - self.taken

    def add(self, ticket: T) -> None:
        """Wait at the end of its job's line."""
        line = self._line_for(ticket)
        line.waiting[ticket] = None
        self._wait(ticket, line)

    def put_back(self, ticket: T) -> None:
        """What was taken has not started after all: it waits again, in front of its job's line."""
        line = self._line_for(ticket)
        self._give_back(line.lane)
        del line.held[ticket]
        line.waiting[ticket] = None
        line.waiting.move_to_end(ticket, last=False)
        self._wait(ticket, line)

    def take(self) -> T | None:
        """The next that may start, which holds its places from now on."""
        while self._turns and self.taken < self.limit:
            lane, _ = self._turns.popitem(last=False)
            lane.offered = False
            line = lane.next_line()
            if line is not None and line.rotation is lane.with_worker and not self._is_up(lane.plugin_id):
                lane.worker_is_down = True
                self._on_down(lane.plugin_id)
                line = lane.next_line()
            if line is not None:
                return self._take_first(line)
        return None

    def drop(self, ticket: T) -> bool:
        """Wait no longer; False if it does not wait."""
        if ticket.standing is not Standing.WAITING:
            return False
        line = self._line_for(ticket)
        del line.waiting[ticket]
        self.waiting -= 1
        self._part(ticket, line)
        return True

    def leave(self, ticket: T) -> None:
        """The run has ended: what it took is free, but for its job's place."""
        ticket.standing = Standing.HELD
        self._give_back(self._line_for(ticket).lane)

    def let_go(self, ticket: T) -> None:
        """Nobody is at the run any more; after `leave`."""
        line = self._line_for(ticket)
        del line.held[ticket]
        self._part(ticket, line)

    def worker_is_up(self, plugin_id: PluginId) -> None:
        """Look again whether its worker takes calls."""
        lane = self._lanes.get(plugin_id)
        if lane is not None:
            lane.worker_is_down = False
            self._look_at_lane(lane)

    def waiting_for_worker(self, plugin_id: PluginId) -> list[T]:
        """All runs of the plugin that wait and need a worker, whatever else they wait for."""
        lane = self._lanes.get(plugin_id)
        lines = lane.lines.values() if lane else ()
        return [ticket for line in lines for ticket in line.waiting if ticket.needs_worker]

    def blocker(self, ticket: T) -> Blocker:
        """What a waiting ticket waits for."""
        line = self._line_for(ticket)
        lane = line.lane
        if len(line.held) >= ticket.job_limit or line.first is not ticket:
            return Blocker.JOB
        if ticket.needs_worker and not self._is_up(lane.plugin_id):
            return Blocker.WORKER
        if lane.taken >= self.limit_per_plugin:
            return Blocker.PLUGIN
        return Blocker.OVERALL if self.taken >= self.limit else Blocker.NOTHING

    def ahead_of(self, ticket: T) -> T | None:
        """The run of its job that holds a place for longest or, failing that, is first in line; None: itself is."""
        line = self._line_for(ticket)
        ahead = next(iter(line.held), None) or line.first
        return None if ahead is ticket else ahead

    def _line_for(self, ticket: T) -> _Line[T]:
        if ticket.line is not None:
            return ticket.line
        lane = self._lanes.get(ticket.plugin_id)
        if lane is None:
            lane = self._lanes[ticket.plugin_id] = _Lane(ticket.plugin_id)
        line = lane.lines.get(ticket.job_id)
        if line is None:
            line = lane.lines[ticket.job_id] = _Line(ticket.job_id, lane)
        ticket.line = line
        return line

    def _wait(self, ticket: T, line: _Line[T]) -> None:
        ticket.standing = Standing.WAITING
        self.waiting += 1
        self._look_at_line(line)

    def _give_back(self, lane: _Lane[T]) -> None:
        self.taken -= 1
        lane.taken -= 1
        self._look_at_lane(lane)

    def _take_first(self, line: _Line[T]) -> T:
        ticket, _ = line.waiting.popitem(last=False)
        line.held[ticket] = None
        ticket.standing = Standing.TAKEN
        self.waiting -= 1
        self.taken += 1
        line.lane.taken += 1
        # Whatever else there is comes behind the others.
        self._remove(line)
        self._look_at_line(line)
        return ticket

    def _part(self, ticket: T, line: _Line[T]) -> None:
        ticket.standing, ticket.line = Standing.OUT, None
        self._look_at_line(line)
        lane = line.lane
        if not line.waiting and not line.held:
            del lane.lines[line.job_id]
            if not lane.lines:
                del self._lanes[lane.plugin_id]

    def _look_at_line(self, line: _Line[T]) -> None:
        """Have it stand where it belongs: in a rotation if its first run may start, as far as its job goes."""
        lane, first, belongs = line.lane, line.first, None
        if first is not None and len(line.held) < first.job_limit:
            belongs = lane.with_worker if first.needs_worker else lane.alone
        if line.rotation is not belongs:
            self._remove(line)
            if belongs is not None:
                lane.turn += 1
                line.turn, line.rotation = lane.turn, belongs
                belongs[line] = None
        self._look_at_lane(lane)

    def _remove(self, line: _Line[T]) -> None:
        if line.rotation is not None:
            del line.rotation[line]
            line.rotation = None

    def _look_at_lane(self, lane: _Lane[T]) -> None:
        may_start = lane.taken < self.limit_per_plugin and lane.has_next
        if may_start is lane.offered:
            return
        lane.offered = may_start
        if may_start:
            self._turns[lane] = None
        else:
            del self._turns[lane]
