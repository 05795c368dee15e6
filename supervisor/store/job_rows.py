"""Job <-> its row; called inside transactions and reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from supervisor.core.errors import NotFound
from supervisor.core.job import Job
from supervisor.core.manifest import JobSpec
from supervisor.core.stored_jobs import spec_from_table, spec_to_table
from supervisor.store.tables import current

JOB_COLUMNS: Final = (
    "job.id, job.plugin_id, plugin.key, job.key, job.spec, job.active, job.paused, job_hold.plugin_id IS NOT NULL,"
    " job.next_due_ms, job.next_fire_ms, job.last_due_ms, job.served_from_ms, job.timing, job.trimmed_to_ms"
)
JOB_WIDTH: Final = 14
"""How many columns of a row are the job's, where others follow."""
JOIN_PLUGIN: Final = "JOIN plugin ON plugin.id = job.plugin_id LEFT JOIN job_hold ON job_hold.plugin_id = job.plugin_id"
SELECT_JOB: Final = f"SELECT {JOB_COLUMNS} FROM job {JOIN_PLUGIN}"  # noqa: S608 - constants only
SCHEDULABLE: Final = (
    "job.active = 1 AND job.paused = 0 AND plugin.status = 'ready'"
    " AND NOT EXISTS (SELECT 1 FROM job_hold WHERE plugin_id = job.plugin_id)"
)
"""Of a job joined with its plugin: it may be due by the clock."""
HEAD: Final = (
    "SELECT min(at_ms) FROM (SELECT min(next_fire_ms) AS at_ms FROM job WHERE next_fire_ms IS NOT NULL"
    " UNION ALL SELECT * FROM (SELECT run.retry_at_ms FROM job_run AS run INDEXED BY job_run_retry"
    " CROSS JOIN job ON job.id = run.job_id LEFT JOIN job_hold ON job_hold.plugin_id = job.plugin_id"
    " WHERE run.retry_at_ms IS NOT NULL AND job.paused = 0 AND job_hold.plugin_id IS NULL"
    " ORDER BY run.retry_at_ms LIMIT 1))"
    " WHERE (SELECT held_at_ms FROM scheduler) IS NULL"
)
_SPECS_KEPT: Final = 4096
_SHOWN_NAME: Final = 100
MAX_NAME: Final = 201
"""Characters of a plugin's key, the slash and a job's key."""
_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def read_job(row: Sequence[Any]) -> Job:
    """Of JOB_COLUMNS, in their order. One row that is damaged is `damaged`, and the others can be read."""
    spec, damaged = _spec_of(row)
    return Job(
        id=row[0],
        plugin_id=row[1],
        plugin_key=row[2],
        key=row[3],
        spec=spec,
        active=row[5] == 1,
        paused=row[6] == 1,
        plugin_paused=row[7] == 1,
        next_due_ms=row[8],
        next_fire_ms=row[9],
        last_due_ms=row[10],
        served_from_ms=row[11],
        timing=row[12],
        trimmed_to_ms=row[13],
        damaged=damaged,
    )


def _spec_of(row: Sequence[Any]) -> tuple[JobSpec, str | None]:
    try:
        return load_spec(row[4]), None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        why = f"what is stored of it cannot be read ({error}); disable and enable the plugin to declare it anew"
        return JobSpec(key=row[3], display_name=row[3]), why


def select_jobs(sql: str, parameters: tuple[Any, ...] = ()) -> list[Job]:
    return [read_job(row) for row in current.execute_sql(sql, parameters).fetchall()]


def job_of_id(job_id: str) -> Job | None:
    return next(iter(select_jobs(f"{SELECT_JOB} WHERE job.id = ?", (job_id,))), None)


def head_ms() -> int | None:
    """When the first job or retry is acted on; None: none is, or the scheduler is held."""
    found: int | None = current.execute_sql(HEAD).fetchone()[0]
    return found


def dump_spec(spec: JobSpec) -> str:
    return _encode(spec_to_table(spec))


@lru_cache(_SPECS_KEPT)
def load_spec(text: str) -> JobSpec:
    """Kept for those that are due again and again; the same text is the same object."""
    return spec_from_table(json.loads(text))


def unknown_job(name: str) -> NotFound:
    shown = name if len(name) <= MAX_NAME else name[:_SHOWN_NAME] + "…"
    return NotFound(f"there is no job {shown!r}; name it <plugin>/<key> as `pluginctl jobs list` shows it", job=shown)
