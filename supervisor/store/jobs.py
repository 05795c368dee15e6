"""JobStore: rows <-> Job. What the manifests declare, what an operator paused, and when each job is due next."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from supervisor.core.errors import FailedPrecondition, NotFound
from supervisor.core.job import Job, RunState
from supervisor.core.manifest import JobSpec
from supervisor.core.plugin import PluginId, PluginKey
from supervisor.store.database import Database, Transaction
from supervisor.store.tables import current

FirstDue = Callable[[JobSpec, Job | None], int | None]
"""A spec as declared now and the job as stored, if it was -> when it is due next, in UTC ms. Pure."""

_COLUMNS: Final = (
    "job.id, job.plugin_id, plugin.key, job.key, job.spec, job.active, job.paused, job.next_due_ms, job.last_due_ms"
)
_JOBS: Final = f"SELECT {_COLUMNS} FROM job JOIN plugin ON plugin.id = job.plugin_id"  # noqa: S608 - constants only
# The run that was made last, scheduled or by hand.
_LIST: Final = (
    f"SELECT {_COLUMNS}, last.state, COALESCE(last.started_ms, last.created_ms)"  # noqa: S608 - constants only
    " FROM job JOIN plugin ON plugin.id = job.plugin_id LEFT JOIN job_run AS last ON last.rowid ="
    " (SELECT rowid FROM job_run WHERE job_id = job.id ORDER BY created_ms DESC, rowid DESC LIMIT 1)"
    " WHERE (?1 IS NULL OR job.plugin_id = ?1) AND job.active >= ?2 ORDER BY plugin.key, job.key"
)
_INSERT: Final = (
    "INSERT INTO job (id, plugin_id, key, spec, active, paused, next_due_ms, last_due_ms, created_at_ms, updated_at_ms)"
    " VALUES (?, ?, ?, ?, 1, 0, ?, NULL, ?, ?)"
)
_UPDATE: Final = "UPDATE job SET spec = ?, active = 1, next_due_ms = ?, updated_at_ms = ? WHERE id = ?"
_GONE: Final = "UPDATE job SET active = 0, next_due_ms = NULL, updated_at_ms = ? WHERE id = ?"
_UNSCHEDULE: Final = "UPDATE job SET next_due_ms = NULL WHERE plugin_id = ? AND next_due_ms IS NOT NULL"
_DEACTIVATE: Final = (
    "UPDATE job SET next_due_ms = NULL, active = 0, updated_at_ms = ? WHERE plugin_id = ? AND active = 1"
)
_MOVE: Final = "UPDATE job SET next_due_ms = ? WHERE id = ? AND next_due_ms = ? AND active = 1 AND paused = 0"
_PAUSE: Final = "UPDATE job SET paused = ?, next_due_ms = ?, updated_at_ms = ? WHERE id = ? AND paused <> ?"
_MAX_NAME: Final = 201
"""Characters of a plugin's key, the slash and a job's key."""
_SHOWN_NAME: Final = 100
_SPEC_FIELDS: Final = frozenset(f.name for f in fields(JobSpec))


@dataclass(frozen=True, slots=True)
class ListedJob:
    job: Job
    last: tuple[RunState, int] | None
    """As `JobStore.last_run`."""


class JobStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def sync(
        self, plugin_id: PluginId, plugin_key: PluginKey, specs: Sequence[JobSpec], first_due: FirstDue
    ) -> list[Job]:
        """Make the plugin's jobs those of `specs`, in one transaction, and return them in that order.

        What is gone keeps its history and is not active; it comes back with it. An operator's pause stays.
        """

        def work(tx: Transaction) -> list[Job]:
            stored = {job.key: job for job in _read(f"{_JOBS} WHERE job.plugin_id = ?", plugin_id)}
            declared = [_put(tx, plugin_id, plugin_key, spec, stored.pop(spec.key, None), first_due) for spec in specs]
            for gone in stored.values():
                if gone.active:
                    tx.execute(_GONE, (tx.now_ms, gone.id))
            return declared

        return await self._database.transact(work)

    async def unschedule(self, plugin_id: PluginId, *, declared: bool) -> None:
        """No job of the plugin is due any more. `declared`: its manifest is still in force, so they stay active."""

        def work(tx: Transaction) -> None:
            if declared:
                tx.execute(_UNSCHEDULE, (plugin_id,))
            else:
                tx.execute(_DEACTIVATE, (tx.now_ms, plugin_id))

        await self._database.transact(work)

    async def move(self, moves: Sequence[tuple[Job, int]]) -> frozenset[str]:
        """Make each job due at another time, unless it has changed meanwhile; the ids of those that moved."""

        def work(tx: Transaction) -> frozenset[str]:
            return frozenset(
                job.id for job, due_ms in moves if tx.execute(_MOVE, (due_ms, job.id, job.next_due_ms)).rowcount
            )

        return await self._database.transact(work)

    async def set_paused(self, job: Job, *, paused: bool, next_due_ms: int | None) -> Job:
        """Pause or resume, and say when it is due next.

        Raises:
            FailedPrecondition: it is so already.
            NotFound: the job is gone.
        """

        def work(tx: Transaction) -> Job:
            changed = tx.execute(_PAUSE, (paused, next_due_ms, tx.now_ms, job.id, paused)).rowcount
            after = _one(f"{_JOBS} WHERE job.id = ?", job.id)
            if after is None:
                raise _unknown(job.id)
            if not changed:
                name = f"{job.plugin_key}/{job.key}"
                state = "paused already" if paused else "not paused"
                raise FailedPrecondition(f"job {name} is {state}", job=name, paused=paused)
            return after

        return await self._database.transact(work)

    async def get(self, name: str) -> Job:
        """A job by `<plugin>/<key>`, where the plugin is named by key or id, or by its own id.

        Raises:
            NotFound: there is none of this name; the message says how to write one.
        """
        found = await self.find(name)
        if found is None:
            raise _unknown(name)
        return found

    async def find(self, name: str) -> Job | None:
        """As `get`, with None for what is not there."""
        if len(name) > _MAX_NAME:
            return None
        plugin, slash, key = name.partition("/")
        if not slash:
            return await self._database.read(lambda: _one(f"{_JOBS} WHERE job.id = ?", name))
        where = "WHERE (plugin.key = ? OR plugin.id = ?) AND job.key = ?"
        return await self._database.read(lambda: _one(f"{_JOBS} {where}", plugin, plugin, key))

    async def list(self, plugin_id: PluginId | None = None, *, include_inactive: bool = False) -> list[ListedJob]:
        """Jobs of one plugin or of all, by name, each with its last run."""

        def work() -> list[ListedJob]:
            rows = current.execute_sql(_LIST, (plugin_id, 0 if include_inactive else 1)).fetchall()
            return [ListedJob(_job(row[:-2]), (RunState(row[-2]), row[-1]) if row[-2] else None) for row in rows]

        return await self._database.read(work)

    async def last_run(self, job_id: str) -> tuple[RunState, int] | None:
        """State of the run that was made last, and when it started, or was made if it never did."""

        def work() -> tuple[RunState, int] | None:
            row = current.execute_sql(
                "SELECT state, COALESCE(started_ms, created_ms) FROM job_run WHERE job_id = ?"
                " ORDER BY created_ms DESC, rowid DESC LIMIT 1",
                (job_id,),
            ).fetchone()
            return (RunState(row[0]), row[1]) if row else None

        return await self._database.read(work)


def _put(
    tx: Transaction,
    plugin_id: PluginId,
    plugin_key: PluginKey,
    spec: JobSpec,
    stored: Job | None,
    first_due: FirstDue,
) -> Job:
    next_due_ms = first_due(spec, stored)
    now_ms = tx.now_ms
    if stored is None:
        job = Job(
            id=str(uuid.uuid4()),
            plugin_id=plugin_id,
            plugin_key=plugin_key,
            key=spec.key,
            spec=spec,
            active=True,
            paused=False,
            next_due_ms=next_due_ms,
            last_due_ms=None,
        )
        tx.execute(_INSERT, (job.id, plugin_id, spec.key, _dump(spec), next_due_ms, now_ms, now_ms))
        return job
    job = Job(
        id=stored.id,
        plugin_id=plugin_id,
        plugin_key=plugin_key,
        key=spec.key,
        spec=spec,
        active=True,
        paused=stored.paused,
        next_due_ms=next_due_ms,
        last_due_ms=stored.last_due_ms,
    )
    if job != stored:  # nothing changed on most starts: no write, no fsync
        tx.execute(_UPDATE, (_dump(spec), next_due_ms, now_ms, job.id))
    return job


def _one(sql: str, *parameters: str) -> Job | None:
    return next(iter(_read(sql, *parameters)), None)


def _read(sql: str, *parameters: str) -> Iterable[Job]:
    return [_job(row) for row in current.execute_sql(sql, parameters).fetchall()]


def _job(row: Sequence[Any]) -> Job:
    id_, plugin_id, plugin_key, key, spec, active, paused, next_due_ms, last_due_ms = row
    return Job(
        id=id_,
        plugin_id=plugin_id,
        plugin_key=plugin_key,
        key=key,
        spec=_load(json.loads(spec)),
        active=bool(active),
        paused=bool(paused),
        next_due_ms=next_due_ms,
        last_due_ms=last_due_ms,
    )


def _dump(spec: JobSpec) -> str:
    return json.dumps(asdict(spec), ensure_ascii=False, separators=(",", ":"))


def _load(table: Mapping[str, Any]) -> JobSpec:
    """What a later version stored beside the fields we know is left out."""
    return JobSpec(**{name: value for name, value in table.items() if name in _SPEC_FIELDS})


def _unknown(name: str) -> NotFound:
    shown = name if len(name) <= _MAX_NAME else name[:_SHOWN_NAME] + "…"
    return NotFound(f"there is no job {shown!r}; name it <plugin>/<key> as `pluginctl jobs list` shows it", job=shown)
