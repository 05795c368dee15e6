"""JobStore: rows <-> Job. What the manifests declare, what an operator paused, and when each job is due next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from supervisor.core.job import Due, Job, RunState
from supervisor.core.manifest import JobSpec
from supervisor.core.plugin import PluginId, PluginKey
from supervisor.store import holds, job_sync, schedule
from supervisor.store.database import Database, Transaction
from supervisor.store.holds import Held, Scope
from supervisor.store.job_rows import (
    JOB_COLUMNS,
    MAX_NAME,
    SELECT_JOB,
    head_ms,
    job_of_id,
    read_job,
    select_jobs,
    unknown_job,
)
from supervisor.store.job_sync import FirstDue
from supervisor.store.schedule import KEEP, Keep, Replan, Replanned
from supervisor.store.tables import current

__all__ = ["KEEP", "FirstDue", "Held", "JobStore", "Keep", "ListedJob", "Replan", "Replanned", "Scope"]

# The run that was made last, scheduled or by hand.
# From plugin to plugin by their keys' index, and on by that of their jobs: a page costs what it holds.
_LIST = (
    f"SELECT {JOB_COLUMNS}, last.state, COALESCE(last.started_ms, last.created_ms) FROM plugin"  # noqa: S608
    " CROSS JOIN job ON job.plugin_id = plugin.id LEFT JOIN job_hold ON job_hold.plugin_id = job.plugin_id"
    " LEFT JOIN job_run AS last ON last.rowid ="
    " (SELECT rowid FROM job_run WHERE job_id = job.id ORDER BY created_ms DESC, rowid DESC LIMIT 1)"
    " WHERE (?1 IS NULL OR plugin.id = ?1) AND job.active >= ?2 AND plugin.key >= ?3"
    " AND (plugin.key > ?3 OR job.key > ?4) ORDER BY plugin.key, job.key LIMIT ?5"
)
_LAST_RUN = (
    "SELECT state, COALESCE(started_ms, created_ms) FROM job_run WHERE job_id = ?"
    " ORDER BY created_ms DESC, rowid DESC LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class ListedJob:
    job: Job
    last: tuple[RunState, int] | None
    """As `JobStore.last_run`."""


class JobStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    # What is declared

    async def sync(
        self,
        plugin_id: PluginId,
        plugin_key: PluginKey,
        specs: Sequence[JobSpec],
        first_due: FirstDue,
        *,
        source: str,
    ) -> list[Job]:
        """Make the plugin's jobs those of `specs`, in one transaction, and return them in that order.

        What is gone keeps its history, is not active and not tried again; it comes back with it. An operator's pause
        stays, and what is paused is not due whatever `first_due` says. `source` is what they were made from; see
        `sources`.
        """

        def work(tx: Transaction) -> list[Job]:
            return job_sync.sync(tx, plugin_id, plugin_key, specs, first_due, source)

        return await self._database.transact(work)

    async def sources(self) -> dict[PluginId, str]:
        """What the jobs of each plugin were made from at its last sync; none for one that was unscheduled since."""
        return await self._database.read(job_sync.sources)

    async def unschedule(self, plugin_id: PluginId, *, declared: bool) -> None:
        """No job of the plugin is due any more, and none tried again; its next way into ready is a sync.

        `declared`: its manifest is still in force, so they stay active.
        """
        await self._database.transact(lambda tx: job_sync.unschedule(tx, plugin_id, declared=declared))

    # The schedule

    async def head(self) -> int | None:
        """When the first job or retry is acted on, in UTC ms; None: none is, or the scheduler is held.

        Retries of paused jobs do not count: they wait.
        """
        return await self._database.read(head_ms)

    async def next_of(self, plugin_id: PluginId | None, until_ms: int | None, limit: int) -> list[Job]:
        """Jobs of one plugin or of all that are acted on next, not later than `until_ms`, in that order."""
        return await self._database.read(lambda: schedule.next_of(plugin_id, until_ms, limit))

    async def replan(self, after_rowid: int, now_ms: int, decide: Replan, *, limit: int = 1_000) -> Replanned:
        """Ask anew when jobs are due: the next `limit` of them, beginning with 0 and then with what was returned.

        Asked is for all that may be due by the clock, due now or not; KEEP leaves one as it is. A `trimmed_to_ms` of
        these jobs more than a day ahead becomes now: the clock had been wrong.
        """
        return await self._database.transact(lambda tx: schedule.replan(tx, after_rowid, now_ms, decide, limit))

    async def pull_retries(self, latest_ms: int, *, limit: int = 1_000) -> int:
        """Pending retries that are later become due at `latest_ms`: `limit` of them; how many there were."""
        return await self._database.transact(lambda tx: schedule.pull_retries(tx, latest_ms, limit))

    async def due_at_start(self, now_ms: int, is_on_start: Callable[[JobSpec], bool]) -> int:
        """Make the jobs of ready plugins due now that run at the daemon's start (@reboot), and say how many.

        `is_on_start` is asked about those whose text mentions it; pure.
        """
        return await self._database.transact(lambda tx: schedule.due_at_start(tx, now_ms, is_on_start))

    async def clock_ms(self) -> int:
        """The latest instant at which anything was claimed or declared; 0: never. A clock before it was turned back."""
        return await self._database.read(schedule.clock_ms)

    async def set_clock_ms(self, now_ms: int) -> None:
        """That the clock was turned back has been dealt with: this is the latest instant from now on."""
        await self._database.transact(lambda tx: schedule.set_clock_ms(tx, now_ms))

    async def zones(self) -> dict[str, str]:
        """Fingerprints of the time zones' rules, as `set_zones` stored them."""
        return await self._database.read(schedule.zones)

    async def set_zones(self, zones: Mapping[str, str]) -> None:
        """Store the fingerprints. Where one is another than it was, `sources` are void: every plugin needs a sync."""
        await self._database.transact(lambda tx: schedule.set_zones(tx, zones))

    # What an operator holds back

    async def set_paused(self, job: Job, *, paused: bool, due: Due | None) -> Job:
        """Pause or resume, and say when it is due next; it is not while its plugin is paused or not ready.

        Raises:
            FailedPrecondition: it is so already.
            NotFound: the job is gone.
        """
        return await self._database.transact(lambda tx: holds.set_paused(tx, job, paused=paused, due=due))

    async def hold_plugin(self, plugin_id: PluginId, uid: int | None) -> Scope:
        """Take all jobs of the plugin off the schedule, those that it declares later too.

        Raises:
            FailedPrecondition: they are already.
            NotFound: there is no such plugin.
        """
        return await self._database.transact(lambda tx: holds.hold_plugin(tx, plugin_id, uid))

    async def release_plugin(self, plugin_id: PluginId, due: Callable[[Job], Due | None]) -> Scope:
        """Put the plugin's jobs back on the schedule, save those paused by themselves; `due` is pure.

        Raises:
            FailedPrecondition: they are not held.
            NotFound: there is no such plugin.
        """
        return await self._database.transact(lambda tx: holds.release_plugin(tx, plugin_id, due))

    async def hold_all(self, uid: int | None, on_held: Callable[[int], None] | None = None) -> Scope:
        """Nothing is claimed by the clock any more, retries neither, until `release_all`.

        `on_held` gets since when, in the trio thread, in the commit's own step; so is `on_released` below called.

        Raises:
            FailedPrecondition: it is so already.
        """
        return await self._database.transact(lambda tx: holds.hold_all(tx, uid, on_held))

    async def release_all(self, on_released: Callable[[], None] | None = None) -> Scope:
        """What is overdue by now is claimed at once: move on first, by `replan`, what is not to be made up for.

        Raises:
            FailedPrecondition: it is not held.
        """
        return await self._database.transact(lambda tx: holds.release_all(tx, on_released))

    async def held(self) -> Held | None:
        """Who holds the scheduler, and since when; None: nobody does."""
        return await self._database.read(holds.held)

    async def scope(self, plugin_id: PluginId | None = None) -> Scope:
        """How many jobs one plugin or all of them declare, and when the first of them is acted on."""
        return await self._database.read(lambda: holds.scope(plugin_id))

    # Finding

    async def get(self, name: str) -> Job:
        """A job by `<plugin>/<key>`, where the plugin is named by key or id, or by its own id.

        Raises:
            NotFound: there is none of this name; the message says how to write one.
        """
        found = await self.find(name)
        if found is None:
            raise unknown_job(name)
        return found

    async def find(self, name: str) -> Job | None:
        """As `get`, with None for what is not there."""
        if len(name) > MAX_NAME:
            return None
        plugin, slash, key = name.partition("/")
        if not slash:
            return await self._database.read(lambda: job_of_id(name))
        where = "WHERE (plugin.key = ? OR plugin.id = ?) AND job.key = ?"
        found = await self._database.read(lambda: select_jobs(f"{SELECT_JOB} {where}", (plugin, plugin, key)))
        return found[0] if found else None

    async def list(
        self,
        plugin_id: PluginId | None = None,
        *,
        include_inactive: bool = False,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[ListedJob]:
        """Jobs of one plugin or of all, by name, each with its last run: those after the name `after`."""
        plugin_key, _, key = (after or "").partition("/")
        parameters = (plugin_id, 0 if include_inactive else 1, plugin_key, key, -1 if limit is None else limit)

        def work() -> list[ListedJob]:
            rows = current.execute_sql(_LIST, parameters).fetchall()
            return [ListedJob(read_job(row), (RunState(row[-2]), row[-1]) if row[-2] else None) for row in rows]

        return await self._database.read(work)

    async def last_run(self, job_id: str) -> tuple[RunState, int] | None:
        """State of the run that was made last, and when it started, or was made if it never did."""

        def work() -> tuple[RunState, int] | None:
            row = current.execute_sql(_LAST_RUN, (job_id,)).fetchone()
            return (RunState(row[0]), row[1]) if row else None

        return await self._database.read(work)
