"""Jobs follow their manifest: what is declared becomes rows; called inside transactions and reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from supervisor.core.job import Due, Job
from supervisor.core.manifest import JobSpec
from supervisor.core.plugin import PluginId, PluginKey
from supervisor.store.database import Transaction
from supervisor.store.ids import sorted_ids
from supervisor.store.job_rows import SELECT_JOB, dump_spec, select_jobs
from supervisor.store.run_rows import json_list
from supervisor.store.tables import JobHoldRow, JobSyncRow, current

FirstDue = Callable[[JobSpec, Job | None], tuple[Due | None, str]]
"""A spec as declared now and the job as stored, if it was -> when it is due next, and its timing. Pure."""

_INSERT: Final = (
    "INSERT INTO job (id, plugin_id, key, spec, active, paused, next_due_ms, next_fire_ms, timing, created_at_ms,"
    " updated_at_ms) VALUES (?, ?, ?, ?, 1, 0, ?, ?, ?, ?, ?)"
)
_UPDATE: Final = (
    "UPDATE job SET spec = ?, active = 1, next_due_ms = ?, next_fire_ms = ?, served_from_ms = ?, timing = ?,"
    " updated_at_ms = ? WHERE id = ?"
)
_GONE: Final = (
    "UPDATE job SET active = 0, next_due_ms = NULL, next_fire_ms = NULL, updated_at_ms = ?"
    " WHERE id IN (SELECT value FROM json_each(?))"
)
# By the few retries there are, not by the job's or plugin's history.
_DROP_RETRIES_OF_JOBS: Final = (
    "UPDATE job_run INDEXED BY job_run_retry SET retry_at_ms = NULL"
    " WHERE retry_at_ms IS NOT NULL AND job_id IN (SELECT value FROM json_each(?))"
)
_DROP_RETRIES: Final = (
    "UPDATE job_run INDEXED BY job_run_retry SET retry_at_ms = NULL WHERE retry_at_ms IS NOT NULL AND plugin_id = ?"
)
_UNSCHEDULE: Final = (
    "UPDATE job SET next_due_ms = NULL, next_fire_ms = NULL WHERE plugin_id = ? AND next_fire_ms IS NOT NULL"
)
_DEACTIVATE: Final = (
    "UPDATE job SET next_due_ms = NULL, next_fire_ms = NULL, active = 0, updated_at_ms = ?"
    " WHERE plugin_id = ? AND active = 1"
)
# Nothing is written where nothing changed: no fsync.
_SYNCED: Final = (
    "INSERT INTO job_sync (plugin_id, source) VALUES (?, ?)"
    " ON CONFLICT (plugin_id) DO UPDATE SET source = excluded.source WHERE source <> excluded.source"
)
# Due times are computed here too: a clock before this instant was turned back.
_CLOCK: Final = "UPDATE scheduler SET clock_ms = ?1 WHERE clock_ms < ?1"


def sync(
    tx: Transaction,
    plugin_id: PluginId,
    plugin_key: PluginKey,
    specs: Sequence[JobSpec],
    first_due: FirstDue,
    source: str,
) -> list[Job]:
    """See `JobStore.sync`."""
    stored = {job.key: job for job in select_jobs(f"{SELECT_JOB} WHERE job.plugin_id = ?", (plugin_id,))}
    held = JobHoldRow.get_or_none(JobHoldRow.plugin_id == plugin_id) is not None
    ids = iter(sorted_ids(len(specs)))
    added: list[Job] = []
    changed: list[Job] = []
    declared: list[Job] = []
    for spec in specs:
        before = stored.pop(spec.key, None)
        due, timing = first_due(spec, before)
        if before is None:
            job = _new(next(ids), plugin_id, plugin_key, spec, None if held else due, timing, held=held)
            added.append(job)
        else:
            job = _again(before, spec, None if held or before.paused else due, timing)
            if job != before:
                changed.append(job)
        declared.append(job)
    _put(added, changed, tx.now_ms)
    _drop(tx, [job.id for job in stored.values() if job.active])
    tx.execute(_SYNCED, (plugin_id, source))
    if added or changed:
        note_clock(tx, tx.now_ms)
    return declared


def note_clock(tx: Transaction, now_ms: int) -> None:
    """Due times were computed at that instant."""
    tx.execute(_CLOCK, (now_ms,))


def sources() -> dict[PluginId, str]:
    rows: Any = JobSyncRow.select(JobSyncRow.plugin_id, JobSyncRow.source).tuples()
    return {PluginId(plugin_id): source for plugin_id, source in rows}


def unschedule(tx: Transaction, plugin_id: PluginId, *, declared: bool) -> None:
    if declared:
        tx.execute(_UNSCHEDULE, (plugin_id,))
    else:
        tx.execute(_DEACTIVATE, (tx.now_ms, plugin_id))
    tx.execute(_DROP_RETRIES, (plugin_id,))
    tx.execute("DELETE FROM job_sync WHERE plugin_id = ?", (plugin_id,))


def served_from(job: Job, due: Due | None) -> int | None:
    """What `served_from_ms` is once the job is due at `due` without a claim: due times that nobody served may lie
    between, so what is served begins anew with it."""
    skips = due is not None and due.due_ms != job.next_due_ms
    if skips and due is not None and job.last_due_ms is not None and due.due_ms > job.last_due_ms:
        return None
    return job.served_from_ms


def _new(
    job_id: str,
    plugin_id: PluginId,
    plugin_key: PluginKey,
    spec: JobSpec,
    due: Due | None,
    timing: str,
    *,
    held: bool,
) -> Job:
    return Job(
        id=job_id,
        plugin_id=plugin_id,
        plugin_key=plugin_key,
        key=spec.key,
        spec=spec,
        active=True,
        paused=False,
        plugin_paused=held,
        next_due_ms=None if due is None else due.due_ms,
        next_fire_ms=None if due is None else due.fire_ms,
        last_due_ms=None,
        timing=timing,
    )


def _again(before: Job, spec: JobSpec, due: Due | None, timing: str) -> Job:
    return replace(
        before,
        spec=spec,
        active=True,
        next_due_ms=None if due is None else due.due_ms,
        next_fire_ms=None if due is None else due.fire_ms,
        # By another timing other times were served.
        served_from_ms=served_from(before, due) if timing == before.timing else None,
        timing=timing,
        damaged=None,
    )


def _put(added: Sequence[Job], changed: Sequence[Job], now_ms: int) -> None:
    driver = current.connection()  # peewee has no executemany, and a manifest may declare a thousand jobs
    driver.executemany(_INSERT, (_inserted(job, now_ms) for job in added))
    driver.executemany(_UPDATE, (_updated(job, now_ms) for job in changed))


def _inserted(job: Job, now_ms: int) -> tuple[Any, ...]:
    due = (job.next_due_ms, job.next_fire_ms)
    return (job.id, job.plugin_id, job.key, dump_spec(job.spec), *due, job.timing, now_ms, now_ms)


def _updated(job: Job, now_ms: int) -> tuple[Any, ...]:
    due = (job.next_due_ms, job.next_fire_ms, job.served_from_ms)
    return (dump_spec(job.spec), *due, job.timing, now_ms, job.id)


def _drop(tx: Transaction, job_ids: Sequence[str]) -> None:
    if job_ids:
        gone = json_list(job_ids)
        tx.execute(_GONE, (tx.now_ms, gone))
        tx.execute(_DROP_RETRIES_OF_JOBS, (gone,))
