"""What an operator holds back: a job, a plugin's jobs, or all; called inside transactions and reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from supervisor.core.errors import FailedPrecondition, NotFound
from supervisor.core.job import Due, Job
from supervisor.core.plugin import PluginId
from supervisor.store.database import Transaction
from supervisor.store.job_rows import SCHEDULABLE, SELECT_JOB, job_of_id, select_jobs, unknown_job
from supervisor.store.job_sync import note_clock
from supervisor.store.schedule import MAKE_DUE, moved
from supervisor.store.tables import JobHoldRow, SchedulerRow, current

_PAUSE: Final = (
    "UPDATE job SET paused = ?, next_due_ms = NULL, next_fire_ms = NULL, updated_at_ms = ? WHERE id = ? AND paused <> ?"
)
_TAKE_OFF: Final = (
    "UPDATE job SET next_due_ms = NULL, next_fire_ms = NULL WHERE plugin_id = ? AND next_fire_ms IS NOT NULL"
)
_SCHEDULABLE: Final = f"{SELECT_JOB} WHERE {SCHEDULABLE}"
_SCOPE: Final = "SELECT count(*), min(next_fire_ms) FROM job WHERE active = 1 AND (?1 IS NULL OR plugin_id = ?1)"


@dataclass(frozen=True, slots=True)
class Held:
    at_ms: int
    uid: int | None


@dataclass(frozen=True, slots=True)
class Scope:
    """What a hold is about."""

    jobs: int
    """That are declared."""
    next_fire_ms: int | None
    """When the first of them is acted on; None: not by the clock."""


def set_paused(tx: Transaction, job: Job, *, paused: bool, due: Due | None) -> Job:
    changed = tx.execute(_PAUSE, (paused, tx.now_ms, job.id, paused)).rowcount
    now = job_of_id(job.id)
    if now is None:
        raise unknown_job(job.id)
    if not changed:
        state = "paused already" if paused else "not paused"
        raise FailedPrecondition(f"job {now.name} is {state}", job=now.name, paused=paused)
    if paused or due is None:
        return now
    # It may have been unscheduled, or its plugin paused, since the caller looked.
    for found in select_jobs(f"{_SCHEDULABLE} AND job.id = ?", (job.id,)):
        tx.execute(MAKE_DUE, moved(found, due))
        note_clock(tx, tx.now_ms)
    return job_of_id(job.id) or now


def hold_plugin(tx: Transaction, plugin_id: PluginId, uid: int | None) -> Scope:
    key = _key_of(tx, plugin_id)
    if JobHoldRow.get_or_none(JobHoldRow.plugin_id == plugin_id) is not None:
        raise FailedPrecondition(f"the jobs of plugin {key} are paused already", plugin=key, paused=True)
    JobHoldRow.insert(plugin_id=plugin_id, uid=uid, held_at_ms=tx.now_ms).execute()
    tx.execute(_TAKE_OFF, (plugin_id,))
    return scope(plugin_id)


def release_plugin(tx: Transaction, plugin_id: PluginId, due: Callable[[Job], Due | None]) -> Scope:
    key = _key_of(tx, plugin_id)
    if not JobHoldRow.delete().where(JobHoldRow.plugin_id == plugin_id).execute():
        raise FailedPrecondition(f"the jobs of plugin {key} are not paused", plugin=key, paused=False)
    jobs = select_jobs(f"{_SCHEDULABLE} AND job.plugin_id = ?", (plugin_id,))
    current.connection().executemany(MAKE_DUE, [moved(job, due(job)) for job in jobs])
    note_clock(tx, tx.now_ms)
    return scope(plugin_id)


def hold_all(tx: Transaction, uid: int | None, on_held: Callable[[int], None] | None = None) -> Scope:
    now_ms = tx.now_ms  # The clock goes on.
    _set_held(now_ms, uid, "the scheduler is paused already: `pluginctl jobs resume --all` ends it")
    if on_held is not None:
        tx.after_commit(partial(on_held, now_ms))
    return scope(None)


def release_all(tx: Transaction, on_released: Callable[[], None] | None = None) -> Scope:
    _set_held(None, None, "the scheduler is not paused")
    if on_released is not None:
        tx.after_commit(on_released)
    return scope(None)


def held() -> Held | None:
    row: Any = SchedulerRow.get_by_id(1)
    return None if row.held_at_ms is None else Held(row.held_at_ms, row.held_by_uid)


def scope(plugin_id: PluginId | None) -> Scope:
    return Scope(*current.execute_sql(_SCOPE, (plugin_id,)).fetchone())


def _set_held(at_ms: int | None, uid: int | None, refusal: str) -> None:
    same = SchedulerRow.held_at_ms.is_null(at_ms is not None)
    if not SchedulerRow.update(held_at_ms=at_ms, held_by_uid=uid).where(same).execute():
        raise FailedPrecondition(refusal, paused=at_ms is not None)


def _key_of(tx: Transaction, plugin_id: PluginId) -> str:
    row = tx.execute("SELECT key FROM plugin WHERE id = ?", (plugin_id,)).fetchone()
    if row is None:
        raise NotFound(f"there is no plugin {plugin_id!r} any more", plugin=plugin_id)
    key: str = row[0]
    return key
