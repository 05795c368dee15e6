from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.core.errors import FailedPrecondition
from supervisor.core.job import Job, RunState
from supervisor.core.manifest import JobSpec
from supervisor.core.plugin import PluginId, PluginKey
from supervisor.store.job_rows import SELECT_JOB, read_job
from supervisor.store.migrations import STEPS, Step, check_not_newer, migrate, stored_version
from supervisor.store.run_rows import SELECT_RUN, read_run

ONE = Step(1, "one", ("CREATE TABLE a (x)", "INSERT INTO a VALUES (1)"))
TWO = Step(2, "two", ("CREATE TABLE b (x)", "INSERT INTO b SELECT x FROM a"))
BROKEN = Step(2, "two", ("CREATE TABLE b (x)", "INSERT INTO nowhere VALUES (1)"))


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "test.db", isolation_level=None)) as connection:
        yield connection


def tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


def test_steps_are_numbered_from_one_without_holes() -> None:
    assert [step.number for step in STEPS] == list(range(1, len(STEPS) + 1))
    assert len({step.name for step in STEPS}) == len(STEPS)


def test_an_empty_database_gets_every_step_and_again_is_harmless(connection: sqlite3.Connection) -> None:
    assert stored_version(connection) == 0
    for now_ms in (1, 2):
        migrate(connection, now_ms, [ONE, TWO])
        assert connection.execute("SELECT x FROM b").fetchall() == [(1,)]
        assert connection.execute("SELECT * FROM schema_version").fetchall() == [(1, "one", 1), (2, "two", 1)]


def test_only_what_is_missing_is_done(connection: sqlite3.Connection) -> None:
    migrate(connection, 1, [ONE])
    assert stored_version(connection) == 1
    migrate(connection, 2, [ONE, TWO])
    assert connection.execute("SELECT * FROM schema_version").fetchall() == [(1, "one", 1), (2, "two", 2)]


def test_a_step_that_fails_leaves_the_ones_before_and_nothing_of_itself(connection: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        migrate(connection, 1, [ONE, BROKEN])
    assert tables(connection) == {"schema_version", "a"}
    migrate(connection, 2, [ONE, TWO])
    assert stored_version(connection) == 2


def test_killed_inside_a_step_nothing_of_it_is_there(connection: sqlite3.Connection, tmp_path: Path) -> None:
    migrate(connection, 1, [ONE])
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(TWO.statements[0])
    connection.close()
    with closing(sqlite3.connect(tmp_path / "test.db", isolation_level=None)) as again:
        assert stored_version(again) == 1
        migrate(again, 2, [ONE, TWO])
        assert again.execute("SELECT x FROM b").fetchall() == [(1,)]


def test_newer_is_refused_before_anything_is_done(connection: sqlite3.Connection) -> None:
    migrate(connection, 1, [ONE, TWO])
    with pytest.raises(FailedPrecondition, match=r"version 2 .* up to 1"):
        migrate(connection, 2, [ONE])
    check_not_newer(2, [ONE, TWO])


def test_the_real_schema_has_its_tables_and_indexes(connection: sqlite3.Connection) -> None:
    migrate(connection, 1)
    assert tables(connection) - {"sqlite_sequence"} == {
        "schema_version",
        "plugin",
        "approval",
        "config",
        "job",
        "job_run",
        "event",
        "plugin_state",
        "plugin_state_usage",
        "client_request",
        "worker_process",
        "plugin_version",
        "intent",
        "config_revision",
        "job_sync",
        "job_hold",
        "scheduler",
        "audit",
    }
    assert connection.execute("SELECT * FROM scheduler").fetchall() == [(1, 0, None, None, "{}")]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_one_run_for_each_due_time(connection: sqlite3.Connection) -> None:
    migrate(connection, 1)
    insert = (
        "INSERT INTO job_run (id, job_id, plugin_id, plugin_key, job_key, trigger, state, attempt, due_ms, created_ms)"
        " VALUES (?, 'j', 'p', 'k', 'jk', ?, 'queued', 1, ?, 0)"
    )
    connection.execute(insert, ("1", "schedule", 1000))
    connection.execute(insert, ("2", "manual", 1000))
    connection.execute(insert, ("3", "manual", 1000))
    connection.execute(insert, ("4", "schedule", 2000))
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        connection.execute(insert, ("5", "catch_up", 1000))


def test_a_sequence_number_is_never_given_twice(connection: sqlite3.Connection) -> None:
    migrate(connection, 1)
    insert = "INSERT INTO event (at_ms, type, plugin_id, plugin_key, data) VALUES (0, 't', 'p', 'k', x'80')"
    assert [connection.execute(insert).lastrowid for _ in range(3)] == [1, 2, 3]
    connection.execute("DELETE FROM event")
    assert connection.execute(insert).lastrowid == 4


def test_a_database_of_before_versions_gets_one_for_each_installed_plugin(connection: sqlite3.Connection) -> None:
    migrate(connection, 1, STEPS[:2])
    plugin = "INSERT INTO plugin VALUES (?, ?, '1.0', ?, '{}', ?, ?, NULL, NULL, 0, 5, 6)"
    connection.execute(plugin, ("id-1", "acme.one", "ready", "acme.one/1.0-000000000000", 1))
    connection.execute(plugin, ("id-2", "acme.two", "uninstalled", "acme.two/1.0-000000000000", 2))
    connection.execute("INSERT INTO config VALUES ('id-1', x'80', 7)")
    connection.execute("INSERT INTO plugin_state VALUES ('id-1', 'k', x'01', 1, 8)")
    migrate(connection, 2)
    found = connection.execute("SELECT package_dir, plugin_id, manifest, files, activated_at_ms FROM plugin_version")
    assert found.fetchall() == [("acme.one/1.0-000000000000", "id-1", "{}", None, 5)]
    assert connection.execute("SELECT index_url, find_links FROM plugin_version").fetchall() == [(None, "[]")]
    assert connection.execute("SELECT revision, uid FROM config").fetchall() == [(1, None)]
    assert connection.execute("SELECT plugin_id, revision, good FROM config_revision").fetchall() == [("id-1", 1, 0)]
    assert connection.execute("SELECT revision FROM plugin_state").fetchall() == [(1,)]
    assert (
        connection.execute("SELECT editable, staged_dir, probation_until_ms FROM plugin").fetchall()
        == [(None, None, None)] * 2
    )


def test_jobs_and_runs_of_before_the_schedule_was_in_the_database(connection: sqlite3.Connection) -> None:
    migrate(connection, 1, STEPS[:5])
    insert = "INSERT INTO plugin (id, key, version, status, manifest, package_dir, install_order, installed_at_ms,"
    connection.execute(f"{insert} updated_at_ms) VALUES ('p', 'acme.one', '1', 'ready', '{{}}', 'd', 1, 5, 6)")
    spec = (
        '{"key":"refresh","display_name":"Refresh","description":null,"schedule":"*/5 * * * *","every":null,'
        '"seconds":false,"timezone":"Europe/Berlin","overlap":"skip","catch_up":"latest","misfire_grace_s":null,'
        '"start_within_s":60.0,"timeout_s":300.0}'
    )
    connection.execute("INSERT INTO job VALUES ('j', 'p', 'refresh', ?, 1, 0, 9000, 8000, 1, 2)", (spec,))
    connection.execute("INSERT INTO job VALUES ('j2', 'p', 'other', ?, 1, 1, NULL, NULL, 1, 2)", (spec,))
    names = "'j', 'p', 'acme.one', 'refresh', 'schedule'"
    run = f"INSERT INTO job_run VALUES (?, {names}, ?, 1, ?, 8000, ?, NULL, NULL, NULL)"
    connection.execute(run, ("r1", "running", 8000, 8001))
    connection.execute(run, ("r2", "succeeded", 7000, 7001))
    migrate(connection, 2)
    job, other = (read_job(row) for row in connection.execute(f"{SELECT_JOB} ORDER BY job.id").fetchall())
    assert job == Job(
        id="j",
        plugin_id=PluginId("p"),
        plugin_key=PluginKey("acme.one"),
        key="refresh",
        spec=JobSpec(
            key="refresh",
            display_name="Refresh",
            schedule="*/5 * * * *",
            timezone="Europe/Berlin",
            start_within_s=60.0,
        ),
        active=True,
        paused=False,
        next_due_ms=9000,
        next_fire_ms=9000,
        last_due_ms=8000,
    )
    assert (other.paused, other.next_fire_ms) == (True, None)
    [running, _] = (read_run(row) for row in connection.execute(f"{SELECT_RUN} ORDER BY id").fetchall())
    assert (running.state, running.due_ms, running.started_ms) == (RunState.RUNNING, 8000, 8001)
    assert (running.times, running.retry_at_ms, running.exit_code, running.params) == (1, None, None, None)
    assert connection.execute("SELECT count(*) FROM job_sync").fetchone() == (0,)
    # As far as the scheduler of before is known to have got.
    assert connection.execute("SELECT clock_ms FROM scheduler").fetchone() == (8000,)
    assert connection.execute("SELECT DISTINCT trimmed_to_ms FROM job").fetchall() == [(0,)]
