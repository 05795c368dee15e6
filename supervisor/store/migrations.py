"""Migrations: the schema as numbered steps, each in one transaction together with the note that it was done.

Steps that were ever released are never edited: a change of the schema is a new step. Run again, or killed between two
steps, the rest is simply still to do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from supervisor.core.errors import FailedPrecondition


@dataclass(frozen=True, slots=True)
class Step:
    number: int
    name: str
    statements: tuple[str, ...]


_FIRST: Final = (
    """CREATE TABLE plugin (
        id TEXT PRIMARY KEY NOT NULL,
        key TEXT NOT NULL UNIQUE,
        version TEXT NOT NULL,
        status TEXT NOT NULL,
        manifest TEXT NOT NULL,
        package_dir TEXT NOT NULL,
        install_order INTEGER NOT NULL UNIQUE,
        last_error TEXT,
        disable_reason TEXT,
        recoverable INTEGER NOT NULL DEFAULT 0,
        installed_at_ms INTEGER NOT NULL,
        updated_at_ms INTEGER NOT NULL)""",
    """CREATE TABLE approval (
        id INTEGER PRIMARY KEY,
        plugin_id TEXT NOT NULL REFERENCES plugin (id) ON DELETE CASCADE,
        capability TEXT NOT NULL,
        uid INTEGER,
        approved_at_ms INTEGER NOT NULL,
        UNIQUE (plugin_id, capability))""",
    """CREATE TABLE config (
        plugin_id TEXT PRIMARY KEY NOT NULL REFERENCES plugin (id) ON DELETE CASCADE,
        data BLOB NOT NULL,
        updated_at_ms INTEGER NOT NULL)""",
    """CREATE TABLE job (
        id TEXT PRIMARY KEY NOT NULL,
        plugin_id TEXT NOT NULL REFERENCES plugin (id) ON DELETE CASCADE,
        key TEXT NOT NULL,
        spec TEXT NOT NULL,
        active INTEGER NOT NULL,
        paused INTEGER NOT NULL DEFAULT 0,
        next_due_ms INTEGER,
        last_due_ms INTEGER,
        created_at_ms INTEGER NOT NULL,
        updated_at_ms INTEGER NOT NULL,
        UNIQUE (plugin_id, key))""",
    """CREATE TABLE job_run (
        id TEXT PRIMARY KEY NOT NULL,
        job_id TEXT NOT NULL REFERENCES job (id) ON DELETE CASCADE,
        plugin_id TEXT NOT NULL,
        plugin_key TEXT NOT NULL,
        job_key TEXT NOT NULL,
        "trigger" TEXT NOT NULL,
        state TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        due_ms INTEGER NOT NULL,
        created_ms INTEGER NOT NULL,
        started_ms INTEGER,
        finished_ms INTEGER,
        error TEXT,
        result BLOB)""",
    # The claim: one run for each due time, whoever asks and however often.
    """CREATE UNIQUE INDEX job_run_claim ON job_run (job_id, due_ms) WHERE "trigger" IN ('schedule', 'catch_up')""",
    "CREATE INDEX job_run_of_job ON job_run (job_id, created_ms)",
    "CREATE INDEX job_run_of_plugin ON job_run (plugin_id, created_ms)",
    "CREATE INDEX job_run_open ON job_run (state) WHERE state IN ('queued', 'running')",
    # No foreign key: events outlive their plugins. AUTOINCREMENT: a seq is never given twice.
    """CREATE TABLE event (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        at_ms INTEGER NOT NULL,
        type TEXT NOT NULL,
        plugin_id TEXT NOT NULL,
        plugin_key TEXT NOT NULL,
        data BLOB NOT NULL)""",
    "CREATE INDEX event_of_plugin ON event (plugin_id, seq)",
    """CREATE TABLE plugin_state (
        plugin_id TEXT NOT NULL REFERENCES plugin (id) ON DELETE CASCADE,
        key TEXT NOT NULL,
        value BLOB NOT NULL,
        size INTEGER NOT NULL,
        updated_at_ms INTEGER NOT NULL,
        PRIMARY KEY (plugin_id, key))""",
    # Kept with every change, so that the quota costs the same however much is stored.
    """CREATE TABLE plugin_state_usage (
        plugin_id TEXT PRIMARY KEY NOT NULL REFERENCES plugin (id) ON DELETE CASCADE,
        size INTEGER NOT NULL)""",
    """CREATE TABLE client_request (
        uid INTEGER NOT NULL,
        request_id TEXT NOT NULL,
        method TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('begun', 'done')),
        outcome BLOB,
        created_at_ms INTEGER NOT NULL,
        PRIMARY KEY (uid, request_id)) WITHOUT ROWID""",
    "CREATE INDEX client_request_age ON client_request (created_at_ms)",
    # No foreign key: a process of a plugin that is gone must still be found and ended.
    """CREATE TABLE worker_process (
        plugin_id TEXT NOT NULL,
        pid INTEGER NOT NULL,
        start_ticks INTEGER NOT NULL,
        boot_id TEXT NOT NULL,
        PRIMARY KEY (plugin_id, pid)) WITHOUT ROWID""",
)

# NULL: noted before there were digests; any params are taken for the same.
_REQUEST_DIGEST: Final = ("ALTER TABLE client_request ADD COLUMN digest BLOB",)

_VERSIONS: Final = (
    "ALTER TABLE plugin ADD COLUMN editable TEXT",
    "ALTER TABLE plugin ADD COLUMN staged_dir TEXT",
    "ALTER TABLE plugin ADD COLUMN probation_until_ms INTEGER",
    # files NULL: stored before files were recorded one by one; they are at the next start.
    """CREATE TABLE plugin_version (
        package_dir TEXT PRIMARY KEY NOT NULL,
        plugin_id TEXT NOT NULL REFERENCES plugin (id) ON DELETE CASCADE,
        manifest TEXT NOT NULL,
        digest TEXT NOT NULL,
        files BLOB,
        source TEXT NOT NULL,
        editable TEXT,
        previous_dir TEXT,
        stored_at_ms INTEGER NOT NULL,
        activated_at_ms INTEGER)""",
    "CREATE INDEX plugin_version_of_plugin ON plugin_version (plugin_id)",
    """INSERT INTO plugin_version (package_dir, plugin_id, manifest, digest, source, stored_at_ms, activated_at_ms)
        SELECT package_dir, id, manifest, '', '', installed_at_ms, installed_at_ms FROM plugin
        WHERE status <> 'uninstalled'""",
    # What is about to be done to files: begun before it, ended with the rows that say so. No foreign key: it outlives
    # the plugin whose files it removes.
    """CREATE TABLE intent (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL CHECK (kind IN ('add', 'remove')),
        plugin_key TEXT NOT NULL,
        package_dirs TEXT NOT NULL,
        data INTEGER NOT NULL DEFAULT 0,
        begun_at_ms INTEGER NOT NULL)""",
)

_CONFIGS: Final = (
    "ALTER TABLE config ADD COLUMN revision INTEGER NOT NULL DEFAULT 1",
    "ALTER TABLE config ADD COLUMN uid INTEGER",
    # Every configuration that was, the present one too. good: a worker has taken it.
    """CREATE TABLE config_revision (
        plugin_id TEXT NOT NULL REFERENCES plugin (id) ON DELETE CASCADE,
        revision INTEGER NOT NULL,
        data BLOB NOT NULL,
        uid INTEGER,
        good INTEGER NOT NULL DEFAULT 0,
        set_at_ms INTEGER NOT NULL,
        PRIMARY KEY (plugin_id, revision)) WITHOUT ROWID""",
    """INSERT INTO config_revision (plugin_id, revision, data, set_at_ms)
        SELECT plugin_id, 1, data, updated_at_ms FROM config""",
    # For compare-and-set: counted over all keys of a plugin, so that a key deleted and set again is another.
    "ALTER TABLE plugin_state ADD COLUMN revision INTEGER NOT NULL DEFAULT 1",
    "ALTER TABLE plugin_state_usage ADD COLUMN revision INTEGER NOT NULL DEFAULT 1",
)

# An upgrade from where a version came from asks the same index; without its password, which is not kept.
_INDEXES: Final = (
    "ALTER TABLE plugin_version ADD COLUMN index_url TEXT",
    "ALTER TABLE plugin_version ADD COLUMN find_links TEXT NOT NULL DEFAULT '[]'",
)

_JOBS: Final = (
    "ALTER TABLE job ADD COLUMN next_fire_ms INTEGER",
    "ALTER TABLE job ADD COLUMN served_from_ms INTEGER",
    "ALTER TABLE job ADD COLUMN timing TEXT NOT NULL DEFAULT ''",
    # Claims are told by their rows, and rows are deleted: the largest due time of these.
    "ALTER TABLE job ADD COLUMN trimmed_to_ms INTEGER NOT NULL DEFAULT 0",
    "UPDATE job SET next_fire_ms = next_due_ms",
    # The schedule itself: the scheduler keeps nothing in memory but the time of the first entry.
    "CREATE INDEX job_fire ON job (next_fire_ms) WHERE next_fire_ms IS NOT NULL",
    "ALTER TABLE job_run ADD COLUMN times INTEGER NOT NULL DEFAULT 1",
    "ALTER TABLE job_run ADD COLUMN retry_at_ms INTEGER",
    "ALTER TABLE job_run ADD COLUMN exit_code INTEGER",
    "ALTER TABLE job_run ADD COLUMN params BLOB",
    "CREATE INDEX job_run_retry ON job_run (retry_at_ms) WHERE retry_at_ms IS NOT NULL",
    # The attempts at one due time, of the few that were tried again.
    "CREATE INDEX job_run_tried ON job_run (job_id, due_ms) WHERE attempt > 1",
    "DROP INDEX job_run_open",
    "CREATE INDEX job_run_open ON job_run (job_id) WHERE state IN ('queued', 'running')",
    # For pages of all history, and for its end. Those of a plugin are found through its jobs: each index of a run is a
    # page to write, and a thousand may be due at once.
    "CREATE INDEX job_run_age ON job_run (created_ms)",
    "DROP INDEX job_run_of_plugin",
    # What the jobs of a plugin were made from: the same again is no work at the start.
    """CREATE TABLE job_sync (
        plugin_id TEXT PRIMARY KEY NOT NULL REFERENCES plugin (id) ON DELETE CASCADE,
        source TEXT NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE job_hold (
        plugin_id TEXT PRIMARY KEY NOT NULL REFERENCES plugin (id) ON DELETE CASCADE,
        uid INTEGER,
        held_at_ms INTEGER NOT NULL) WITHOUT ROWID""",
    # One row. `clock_ms` is the latest instant at which anything was claimed or declared: a clock before it was turned
    # back.
    """CREATE TABLE scheduler (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        clock_ms INTEGER NOT NULL DEFAULT 0,
        held_at_ms INTEGER,
        held_by_uid INTEGER,
        zones TEXT NOT NULL DEFAULT '{}')""",
    # The scheduler of before got at least as far as to the latest claim.
    "INSERT INTO scheduler (id, clock_ms) VALUES (1, COALESCE((SELECT max(last_due_ms) FROM job), 0))",
)

_AUDIT: Final = (
    # Who changed what. `result` is NULL until the change has ended.
    """CREATE TABLE audit (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        at_ms INTEGER NOT NULL,
        uid INTEGER NOT NULL,
        pid INTEGER NOT NULL,
        exe TEXT,
        client TEXT,
        role TEXT NOT NULL,
        method TEXT NOT NULL,
        target TEXT,
        result TEXT,
        message TEXT,
        request_id TEXT,
        duration_ms INTEGER)""",
    # What was under way is looked for at each start.
    "CREATE INDEX audit_open ON audit (seq) WHERE result IS NULL",
    # The job that an event is about, as <plugin>/<key>; older events are found by no job.
    "ALTER TABLE event ADD COLUMN job TEXT",
)

STEPS: Final[tuple[Step, ...]] = (
    Step(1, "first schema", _FIRST),
    Step(2, "digest of a request's params", _REQUEST_DIGEST),
    Step(3, "versions of plugins, and intents", _VERSIONS),
    Step(4, "revisions of configurations and of state", _CONFIGS),
    Step(5, "indexes that versions came from", _INDEXES),
    Step(6, "jobs: the schedule in the database, retries, holds", _JOBS),
    Step(7, "audit, and the jobs of events", _AUDIT),
)


def stored_version(connection: sqlite3.Connection) -> int:
    """Number of the newest step the database has; 0 for an empty one.

    Raises:
        FailedPrecondition: there are tables, but not ours.
    """
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if "schema_version" not in tables:
        if tables:
            raise FailedPrecondition(
                f"it belongs to some other program: it has the table {min(tables)!r} and no schema_version",
            )
        return 0
    (newest,) = connection.execute("SELECT max(number) FROM schema_version").fetchone()
    return newest or 0


def check_not_newer(stored: int, steps: Sequence[Step] = STEPS) -> None:
    """Refuse a database that a newer program has written.

    Raises:
        FailedPrecondition: details: stored_version, known_version.
    """
    known = steps[-1].number
    if stored > known:
        raise FailedPrecondition(
            f"its schema has version {stored} and this plugind knows versions up to {known}: "
            "run the newer plugind again, or restore a backup made by this one",
            stored_version=stored,
            known_version=known,
        )


def migrate(connection: sqlite3.Connection, now_ms: int, steps: Sequence[Step] = STEPS) -> None:
    """Bring the database to the newest step; `connection` is in autocommit mode.

    Raises:
        FailedPrecondition: it is newer than `steps`, or not ours.
    """
    stored = stored_version(connection)
    check_not_newer(stored, steps)
    for step in steps:
        if step.number > stored:
            _apply(connection, step, now_ms)


def _apply(connection: sqlite3.Connection, step: Step, now_ms: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_version"
            " (number INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at_ms INTEGER NOT NULL)",
        )
        for statement in step.statements:
            connection.execute(statement)
        connection.execute("INSERT INTO schema_version VALUES (?, ?, ?)", (step.number, step.name, now_ms))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
