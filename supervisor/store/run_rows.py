"""Run <-> its row, and how a run ends; called inside transactions and reads."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any, Final

from supervisor.core.errors import InvalidParams, NotFound
from supervisor.core.event import RunFinished
from supervisor.core.job import RUN_STEPS, TERMINAL, OpenRun, Run, RunOutcome, RunState, Trigger
from supervisor.store.database import Transaction
from supervisor.store.tables import current, pack, unpack
from supervisor.wire.codec import profile_problem

MAX_RESULT_BYTES: Final = 64 * 1024
_MAX_DEPTH: Final = 12
"""Of a result: inside a list of runs it is to stay within what may be sent."""
MAX_ERROR_CHARS: Final = 8_000
LEAST_NAME: Final = 4
"""Characters of a run's id that may stand for it."""
_SHOWN_IDS: Final = 3
_MAX_NAME: Final = 100
"""Of a run id in a message: it is whatever somebody asked for."""

RUN_COLUMNS: Final = ", ".join(
    f"job_run.{name}"
    for name in (
        *("id", "job_id", "plugin_id", "plugin_key", "job_key", '"trigger"', "state", "attempt", "due_ms"),
        *("created_ms", "started_ms", "finished_ms", "error", "result", "exit_code", "params", "times", "retry_at_ms"),
    )
)
RUN_WIDTH: Final = 18
"""How many columns of a row are the run's, where others follow."""
SELECT_RUN: Final = f"SELECT {RUN_COLUMNS} FROM job_run"  # noqa: S608 - constants only
# The order is that of RUN_COLUMNS. A due time that has its row already is left alone.
INSERT_RUN: Final = (
    f"INSERT INTO job_run ({RUN_COLUMNS.replace('job_run.', '')}) VALUES ({', '.join('?' * RUN_WIDTH)})"  # noqa: S608
    " ON CONFLICT (job_id, due_ms) WHERE \"trigger\" IN ('schedule', 'catch_up') DO NOTHING"
)
# From the jobs to their runs, however many others are open.
_OPEN_OF: Final = (
    "SELECT job_run.job_id, job_run.id, job_run.state FROM json_each(?) AS due"
    " CROSS JOIN job_run INDEXED BY job_run_open ON job_run.job_id = due.value"
    " WHERE job_run.state IN ('queued', 'running') ORDER BY job_run.created_ms, job_run.rowid"
)
# By the primary key's index. Whatever continues `name` sorts before it with the last character there is.
_BEGINNING: Final = "SELECT id FROM job_run WHERE id > ? AND id < ? || char(1114111) ORDER BY id LIMIT ?"
_SOURCES: Final = {
    end: tuple(str(state) for state, steps in RUN_STEPS.items() if end in steps) for end in TERMINAL - {RunState.MISSED}
}
_TRIGGERS: Final = {str(trigger): trigger for trigger in Trigger}
_STATES: Final = {str(state): state for state in RunState}


def _finish_sql(end: RunState) -> str:
    sources = ", ".join(f"'{state}'" for state in _SOURCES[end])
    return (
        "UPDATE job_run SET state = ?, finished_ms = ?, error = ?, result = ?, exit_code = ?, retry_at_ms = ?"  # noqa: S608
        f" WHERE id = ? AND state IN ({sources}) RETURNING started_ms"
    )


_FINISH: Final = {end: _finish_sql(end) for end in _SOURCES}


def read_run(row: Sequence[Any]) -> Run:
    """Of RUN_COLUMNS, in their order."""
    return Run(
        id=row[0],
        job_id=row[1],
        plugin_id=row[2],
        plugin_key=row[3],
        job_key=row[4],
        trigger=_TRIGGERS[row[5]],
        state=_STATES[row[6]],
        attempt=row[7],
        due_ms=row[8],
        created_ms=row[9],
        started_ms=row[10],
        finished_ms=row[11],
        error=row[12],
        result=None if row[13] is None else unpack(row[13]),
        exit_code=row[14],
        params=None if row[15] is None else unpack(row[15]),
        times=row[16],
        retry_at_ms=row[17],
    )


def run_row(run: Run) -> tuple[Any, ...]:
    """A row of INSERT_RUN, for a run that has no result yet."""
    return (
        run.id,
        run.job_id,
        run.plugin_id,
        run.plugin_key,
        run.job_key,
        str(run.trigger),
        str(run.state),
        run.attempt,
        run.due_ms,
        run.created_ms,
        run.started_ms,
        run.finished_ms,
        run.error,
        None,
        None,
        None if run.params is None else pack(run.params),
        run.times,
        None,
    )


def insert_runs(runs: Sequence[Run]) -> list[Run]:
    """Write the rows, and return those that were written: without them whose due time had its row before."""
    if not runs:
        return []
    # The driver's own: peewee has no executemany, and there may be a thousand.
    written = current.connection().executemany(INSERT_RUN, map(run_row, runs)).rowcount
    if written == len(runs):
        return list(runs)
    there = ids_among("SELECT id FROM job_run WHERE id IN (SELECT value FROM json_each(?))", [run.id for run in runs])
    return [run for run in runs if run.id in there]


def ids_among(sql: str, ids: Sequence[str]) -> frozenset[str]:
    return frozenset(row[0] for row in current.execute_sql(sql, (json_list(ids),)).fetchall())


def json_list(ids: Collection[str]) -> str:
    """For `json_each`. Ids are UUIDs or somebody's text from a row: encoded in any case."""
    return json.dumps(list(ids))


def open_runs(job_ids: Collection[str]) -> dict[str, tuple[OpenRun, ...]]:
    """Runs that have not ended, the oldest first, of those of the jobs that have any."""
    found: dict[str, tuple[OpenRun, ...]] = {}
    for job_id, run_id, state in current.execute_sql(_OPEN_OF, (json_list(job_ids),)).fetchall():
        found[job_id] = (*found.get(job_id, ()), OpenRun(run_id, _STATES[state]))
    return found


def find_run(run_id: str) -> Run | None:
    row = current.execute_sql(f"{SELECT_RUN} WHERE job_run.id = ?", (run_id,)).fetchone()
    return None if row is None else read_run(row)


def run_named(name: str) -> Run:
    """See `RunStore.named`."""
    run = find_run(name)
    if run is not None:
        return run
    if not LEAST_NAME <= len(name) <= _MAX_NAME:
        raise unknown_run(name)
    ids = [row[0] for row in current.execute_sql(_BEGINNING, (name, name, _SHOWN_IDS)).fetchall()]
    if len(ids) > 1:
        raise InvalidParams(f"several runs begin with {name!r}: {', '.join(ids)}; write more of it", run=name, runs=ids)
    found = find_run(ids[0]) if ids else None
    if found is None:
        raise unknown_run(name)
    return found


def finish_run(tx: Transaction, run: Run, outcome: RunOutcome, *, retry_at_ms: int | None = None) -> bool:
    """Row and event of a run's end; False if its state does not lead there: it has ended already, and that stays."""
    now_ms = tx.now_ms
    error = None if outcome.error is None else outcome.error[:MAX_ERROR_CHARS]
    row = (str(outcome.state), now_ms, error, _pack_result(outcome.result), outcome.exit_code, retry_at_ms, run.id)
    found = tx.execute(_FINISH[outcome.state], row).fetchone()
    if found is None:
        return False
    # The wall clock may have been turned back since the start.
    duration_ms = None if found[0] is None else max(0, now_ms - found[0])
    tx.record(_ended(run, outcome.state, error, duration_ms))
    return True


def record_unstarted(tx: Transaction, run: Run) -> None:
    """The event of a row that was written as an end: skipped or missed."""
    tx.record(_ended(run, run.state, run.error, None))


def unknown_run(run_id: str) -> NotFound:
    shown = run_id if len(run_id) <= _MAX_NAME else run_id[:_MAX_NAME] + "…"
    return NotFound(f"there is no run {shown!r}; `pluginctl runs list` shows the runs there are", run=shown)


def _ended(run: Run, state: RunState, error: str | None, duration_ms: int | None) -> RunFinished:
    return RunFinished(
        plugin_id=run.plugin_id,
        plugin_key=run.plugin_key,
        job=run.job_key,
        run_id=run.id,
        trigger=str(run.trigger),
        attempt=run.attempt,
        due_ms=run.due_ms,
        state=str(state),
        error=error,
        duration_ms=duration_ms,
    )


def _pack_result(result: Any) -> bytes | None:
    """A result that cannot be kept never costs the run its end: a note of what it was is kept instead."""
    if result is None:
        return None
    if problem := profile_problem([result], _MAX_DEPTH):
        return pack({"omitted": f"the result cannot be shown: {problem}"})
    try:
        packed = pack(result)
    except (ValueError, TypeError, OverflowError) as error:
        return pack({"omitted": f"the result cannot be stored: {error}"[:500]})
    if len(packed) > MAX_RESULT_BYTES:
        return pack({"omitted": f"the result has {len(packed)} bytes; at most {MAX_RESULT_BYTES} are kept"})
    return packed
