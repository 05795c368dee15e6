"""The daemon killed again and again under jobs due each second: what the worker was given and what the rows say agree.

The ledger is the worker's: one line for each run that it was asked for, on disk before it answers.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.e2e.conftest import PATIENCE_S, Daemon

KILLS = int(os.environ.get("PLUGIND_TEST_KILLS", "6"))
"""30 take about a minute."""
SEED = int(os.environ.get("PLUGIND_TEST_SEED", "0"))
"""0: another one each time; it is in the message of a failure."""
RETRIES = 5

WORKER = """
import collections, os, socket, threading, time
import msgpack

at_work = collections.Counter()
rpc, lock = socket.socket(fileno=3), threading.Lock()
ledger = os.open("ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def answer(id_, result, error=None):
    with lock:
        rpc.sendall(msgpack.packb([1, id_, error, result]))


def work(id_, run):
    with lock:
        beside, at_work[run["job"]] = at_work[run["job"]], at_work[run["job"]] + 1
    line = f"{run['job']} {run['scheduled_at_ms']} {run['attempt']} {run['run_id']} {beside}\\n"
    os.write(ledger, line.encode())
    os.fsync(ledger)
    time.sleep(0.6 if run["job"].startswith("slow") else 0)
    fails = run["job"] == "slow-keen" and run["attempt"] == 1 and run["scheduled_at_ms"] % 7000 == 0
    with lock:
        at_work[run["job"]] -= 1
    answer(id_, None, "fails, this time" if fails else None)


unpacker = msgpack.Unpacker()
while data := rpc.recv(65536):
    unpacker.feed(data)
    for message in unpacker:
        if message[0] != 0:
            continue
        _, id_, method, params = message
        if method == "run_job":
            threading.Thread(target=work, args=(id_, params[0] if isinstance(params, list) else params)).start()
            continue
        answer(id_, {"api_version": 1, "methods": []} if method == "initialize" else {"status": "ok"})
        if method == "shutdown":
            os._exit(0)
os._exit(0)
"""
MANIFEST = """
[plugin]
key = "test.ledger"
version = "1.0.0"
api_version = 1
display_name = "Ledger"
description = "Writes down what it was asked for."
author = "plugind's tests"
categories = ["automation"]
capabilities = ["jobs.schedule"]
[worker]
command = ["python", "main.py"]
start_timeout_s = 10
stop_timeout_s = 2
[worker.restart]
backoff_s = 0.05
"""


@dataclass(frozen=True)
class Kind:
    """A job: its key, when it is due, and what else its table says."""

    key: str
    when: str
    period_s: int
    more: str = ""
    retries: int = 0

    def table(self) -> str:
        return f'[[jobs]]\nkey = "{self.key}"\ndisplay_name = "{self.key}"\n{self.when}\n{self.more}\n'


KEEN = f'overlap = "allow"\nretries = {RETRIES}\nretry_backoff_s = 0.1'
KINDS = (
    Kind("plain", 'every = "1s"', 1),
    Kind("slow", 'schedule = "*/2 * * * * *"\nseconds = true', 2),
    Kind("slow-keen", 'every = "1s"', 1, KEEN, RETRIES),
    Kind("slow-cron", 'schedule = "*/3 * * * * *"\nseconds = true', 3, KEEN, RETRIES),
    Kind("slow-all", 'schedule = "* * * * * *"\nseconds = true', 1, 'catch_up = "all"\nmisfire_grace_s = 60'),
)
OVERLAPPING = {"slow-keen", "slow-cron"}


@dataclass(frozen=True)
class Entry:
    """A line of the ledger."""

    job: str
    due_ms: int
    attempt: int
    run: str
    beside: int
    """Runs of the same job that the worker was at already."""


@dataclass(frozen=True)
class Row:
    run: str
    job: str
    due_ms: int
    attempt: int
    trigger: str
    state: str
    times: int
    retry_at_ms: int | None
    started_ms: int | None


def test_no_due_time_runs_twice_and_none_is_forgotten(daemon: Daemon, tmp_path: Path) -> None:
    seed = SEED or random.SystemRandom().randrange(1, 10**9)
    dice = random.Random(seed)
    with daemon.start() as rpc:
        rpc.load(ledger_plugin(tmp_path))
    try:
        for _ in range(KILLS):
            time.sleep(dice.uniform(0.5, 1.6))  # A moment of the dice's choice: that is the test.
            daemon.kill()
            time.sleep(dice.choice((0, 0, 0.2, 1.2)))
            daemon.start().__exit__()
        settle(daemon)
        with daemon.start() as rpc:  # After a last one, which is no kill: what waits goes on to wait.
            rpc.up("test.ledger")
            wait_for(daemon, "each due retry is made", lambda rows: not [row for row in rows if is_owed(row)])
        daemon.stop()
        check(read_ledger(daemon), read_rows(daemon))
    except AssertionError as error:
        raise AssertionError(f"seed {seed}, {KILLS} kills: {error}") from error


def ledger_plugin(tmp_path: Path) -> Path:
    package = tmp_path / "sources" / "ledger"
    package.mkdir(parents=True)
    (package / "plugin.toml").write_text(MANIFEST + "".join(kind.table() for kind in KINDS))
    (package / "main.py").write_text(WORKER)
    for path in (package.parent, package, *package.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return package


def settle(daemon: Daemon) -> None:
    """The daemon that runs has claimed each job at least once since it started, and then stops in order."""
    since_ms = time.time() * 1000
    keys = {kind.key for kind in KINDS}
    wait_for(
        daemon,
        "each job runs after the last kill",
        lambda rows: {row.job for row in rows if row.due_ms > since_ms and row.state == "succeeded"} >= keys,
    )
    assert daemon.stop() == 0


def wait_for(daemon: Daemon, what: str, holds: Callable[[list[Row]], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds(read_rows(daemon)):
        assert time.monotonic() < deadline, f"not so: {what}; the log:\n{daemon.log.read_text()[-4000:]}"
        time.sleep(0.05)


def is_owed(row: Row) -> bool:
    """A retry is due and not made."""
    return row.retry_at_ms is not None and row.retry_at_ms < time.time() * 1000


def read_ledger(daemon: Daemon) -> list[Entry]:
    (path,) = daemon.state.rglob("ledger")
    fields = [line.split(" ") for line in path.read_text().splitlines()]
    return [Entry(job, int(due), int(attempt), run, int(beside)) for job, due, attempt, run, beside in fields]


def read_rows(daemon: Daemon) -> list[Row]:
    names = 'id, job_key, due_ms, attempt, "trigger", state, times, retry_at_ms, started_ms'
    with closing(sqlite3.connect(f"file:{daemon.state / 'plugind.db'}?mode=ro", uri=True)) as database:
        return [Row(*row) for row in database.execute(f"SELECT {names} FROM job_run ORDER BY due_ms, attempt")]


def check(ledger: list[Entry], rows: list[Row]) -> None:
    of_run = {row.run: row for row in rows}
    assert {entry.job for entry in ledger} == {kind.key for kind in KINDS}
    assert doubled((entry.job, entry.due_ms, entry.attempt) for entry in ledger) == []
    assert doubled(entry.run for entry in ledger) == []
    keen = {kind.key for kind in KINDS if kind.retries}
    assert doubled((entry.job, entry.due_ms) for entry in ledger if entry.job not in keen) == []
    assert [entry for entry in ledger if entry.beside and entry.job not in OVERLAPPING] == []
    for entry in ledger:
        row = of_run.get(entry.run)
        assert row is not None, f"no row of {entry}"
        assert (row.job, row.due_ms, row.attempt) == (entry.job, entry.due_ms, entry.attempt)
        assert row.started_ms is not None, f"{entry} was given to the worker, and its row says {row}"
    given = {entry.run for entry in ledger}
    assert [row for row in rows if row.state == "succeeded" and row.run not in given] == []
    assert [row for row in rows if row.state == "running"] == []
    for kind in KINDS:
        check_job(kind, [row for row in rows if row.job == kind.key])


def check_job(kind: Kind, rows: list[Row]) -> None:
    first = [row for row in rows if row.trigger in {"schedule", "catch_up"}]
    due = [row.due_ms for row in first]
    step = kind.period_s * 1000
    assert {row.times for row in first} == {1}
    assert due == list(range(due[0], due[-1] + 1, step)), (
        f"{kind.key}: {[d for d in pairwise(due) if d[1] - d[0] != step]}"
    )
    assert [row for row in first if row.attempt != 1] == []
    later: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        later[row.due_ms].append(row)
    for attempts in later.values():
        assert [row.attempt for row in attempts] == list(range(1, len(attempts) + 1)), attempts
        assert len(attempts) <= kind.retries + 1
        for earlier, after in pairwise(attempts):
            assert earlier.state in {"interrupted", "failed", "timed_out"}
            assert after.trigger == "retry"
        last = attempts[-1]
        given_up = last.state in {"interrupted", "failed"} and last.attempt <= kind.retries
        # Only the stop at the end may leave a retry that nobody has made yet.
        assert not given_up or last.retry_at_ms is not None, f"{kind.key}: {last} is not retried"
    if kind.key.startswith("slow") and KILLS >= 6 and kind.period_s == 1:
        assert "interrupted" in {row.state for row in rows}, f"no run of {kind.key} was cut short: nothing was tried"


def doubled(values: Iterable[object]) -> list[object]:
    return [value for value, count in Counter(values).items() if count > 1]
