"""Run <-> its row, and how a run ends; called inside transactions and reads."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

from supervisor.core.errors import InvalidParams, NotFound
from supervisor.core.event import RunFinished
from supervisor.core.job import RUN_STEPS, OpenRun, Run, RunEnd, RunOutcome, RunState, Trigger
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
_REPLACED: Final = ("id", '"trigger"', "state", "created_ms", "finished_ms", "error", "times")
RUN_WIDTH: Final = 18
"""How many columns of a row are the run's, where others follow."""
SELECT_RUN: Final = f"SELECT {RUN_COLUMNS} FROM job_run"  # noqa: S608 - constants only
# The order is that of RUN_COLUMNS. A due time that has its row already is left alone; but one that was missed, and that
# comes again since the clock was turned back, is run after all; that row is the newest.
INSERT_RUN: Final = (
    f"INSERT INTO job_run ({RUN_COLUMNS.replace('job_run.', '')}) VALUES ({', '.join('?' * RUN_WIDTH)})"  # noqa: S608
    " ON CONFLICT (job_id, due_ms) WHERE \"trigger\" IN ('schedule', 'catch_up') DO UPDATE SET"
    f" rowid = (SELECT max(rowid) + 1 FROM job_run), {', '.join(f'{name} = excluded.{name}' for name in _REPLACED)}"
    " WHERE job_run.state = 'missed' AND excluded.state = 'queued'"
)
CAUGHT_UP: Final = (
    "(job_run.\"trigger\" = 'catch_up' OR (job_run.\"trigger\" = 'retry' AND EXISTS (SELECT 1 FROM job_run AS first"
    " INDEXED BY job_run_claim WHERE first.job_id = job_run.job_id AND first.due_ms = job_run.due_ms"
    " AND first.\"trigger\" IN ('schedule', 'catch_up') AND first.\"trigger\" = 'catch_up')))"
)
"""Of a run: see `OpenRun.caught_up`."""
# From the jobs to their runs, however many others are open.
_OPEN_OF: Final = (
    f"SELECT job_run.job_id, job_run.id, job_run.state, {CAUGHT_UP} FROM json_each(?) AS due"  # noqa: S608 - constants
    " CROSS JOIN job_run INDEXED BY job_run_open ON job_run.job_id = due.value"
    " WHERE job_run.state IN ('queued', 'running') ORDER BY job_run.created_ms, job_run.rowid"
)
# By the primary key's index. Whatever continues `name` sorts before it with the last character there is.
_BEGINNING: Final = "SELECT id FROM job_run WHERE id > ? AND id < ? || char(1114111) ORDER BY id LIMIT ?"
_TRIGGERS: Final = {str(trigger): trigger for trigger in Trigger}
_STATES: Final = {str(state): state for state in RunState}


_STATES_OF: Final = (
    "SELECT job_run.id, job_run.state, job_run.started_ms FROM json_each(?) AS ended"
    " CROSS JOIN job_run ON job_run.id = ended.value"
)
_FINISH: Final = (
    "UPDATE job_run SET state = ?, finished_ms = ?, error = ?, result = ?, exit_code = ?, retry_at_ms = ? WHERE id = ?"
)


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
    """Write the rows, and return those that were written: without those whose due time had its row before."""
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
    found: dict[str, list[OpenRun]] = {}
    for job_id, run_id, state, caught_up in current.execute_sql(_OPEN_OF, (json_list(job_ids),)).fetchall():
        found.setdefault(job_id, []).append(OpenRun(run_id, _STATES[state], caught_up == 1))
    return {job_id: tuple(runs) for job_id, runs in found.items()}


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
    return run.id in finish_runs(tx, [RunEnd(run, outcome, retry_at_ms)])


def finish_runs(tx: Transaction, ends: Sequence[RunEnd]) -> frozenset[str]:
    """The same for many; the ids of those that end by this."""
    now_ms = tx.now_ms
    found = tx.execute(_STATES_OF, (json_list([end.run.id for end in ends]),)).fetchall()
    before = {row[0]: (_STATES[row[1]], row[2]) for row in found}
    rows, events = [], []
    for end in ends:
        run, outcome = end.run, end.outcome
        state, started_ms = before.get(run.id, (outcome.state, None))
        # What was read here still holds: there is one writer.
        if outcome.state not in RUN_STEPS[state]:
            continue
        before[run.id] = outcome.state, started_ms
        error = None if outcome.error is None else outcome.error[:MAX_ERROR_CHARS]
        result = _pack_result(outcome.result)
        rows.append((str(outcome.state), now_ms, error, result, outcome.exit_code, end.retry_at_ms, run.id))
        # The wall clock may have been turned back since the start.
        took_ms = None if started_ms is None else max(0, now_ms - started_ms)
        events.append(_ended(run, outcome.state, error, took_ms))
    current.connection().executemany(_FINISH, rows)
    tx.record_all(events)
    return frozenset(row[-1] for row in rows)


def record_unstarted(tx: Transaction, runs: Iterable[Run]) -> None:
    """The events of rows that were written as ends: skipped or missed."""
    tx.record_all([_ended(run, run.state, run.error, None) for run in runs])


def unknown_run(run_id: str) -> NotFound:
    shown = run_id if len(run_id) <= _MAX_NAME else run_id[:_MAX_NAME] + "…"
    short = f"the beginning of a run's id has {LEAST_NAME} characters or more; " if len(run_id) < LEAST_NAME else ""
    return NotFound(f"there is no run {shown!r}; {short}`pluginctl runs list` shows the runs there are", run=shown)


def _ended(run: Run, state: RunState, error: str | None, duration_ms: int | None) -> RunFinished:
    return RunFinished(**said_of(run), state=str(state), error=error, duration_ms=duration_ms)


def said_of(run: Run) -> dict[str, Any]:
    """The fields of every event of a run."""
    return {
        "plugin_id": run.plugin_id,
        "plugin_key": run.plugin_key,
        "job": run.job_key,
        "run_id": run.id,
        "trigger": str(run.trigger),
        "attempt": run.attempt,
        "due_ms": run.due_ms,
    }


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
