from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import trio

from supervisor.clock import to_ms
from supervisor.core.errors import InvalidParams
from supervisor.store.database import Database, Transaction
from supervisor.store.requests import Outcome, RequestLog
from supervisor.store.tables import pack

DIGEST = b"of the params"


@pytest.fixture
def log(database: Database) -> RequestLog:
    return RequestLog(database)


@pytest.mark.parametrize("value", [None, {"id": "x", "blob": b"\xff"}, False])
async def test_the_first_runs_and_the_others_get_its_outcome(log: RequestLog, value: object) -> None:
    assert await log.begin(0, "r1", "plugins.load", DIGEST) is None
    assert await log.begin(0, "r1", "plugins.load", DIGEST) == Outcome(False, None)
    await log.finish(0, "r1", value)
    assert await log.begin(0, "r1", "plugins.load", DIGEST) == Outcome(True, value)


async def test_of_many_at_once_one_is_first(log: RequestLog) -> None:
    answers: list[Outcome | None] = []

    async def begin() -> None:
        answers.append(await log.begin(0, "r1", "plugins.load", DIGEST))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(begin)
    assert answers.count(None) == 1
    assert answers.count(Outcome(False, None)) == 19


async def test_users_do_not_see_each_others(log: RequestLog) -> None:
    assert await log.begin(0, "r1", "plugins.load", DIGEST) is None
    assert await log.begin(1, "r1", "plugins.enable", DIGEST) is None
    await log.finish(1, "r1", 1)
    assert await log.begin(0, "r1", "plugins.load", DIGEST) == Outcome(False, None)


async def test_an_id_used_for_another_method_is_refused(log: RequestLog) -> None:
    await log.begin(0, "r1", "plugins.load", DIGEST)
    with pytest.raises(InvalidParams, match=r"'r1' was used for plugins\.load before"):
        await log.begin(0, "r1", "plugins.disable", DIGEST)


async def test_an_id_used_with_other_params_is_refused(log: RequestLog) -> None:
    await log.begin(0, "r1", "plugins.load", DIGEST)
    await log.finish(0, "r1", 1)
    with pytest.raises(InvalidParams, match=r"'r1' was used for plugins\.load with other params before"):
        await log.begin(0, "r1", "plugins.load", b"of others")
    assert await log.begin(0, "r1", "plugins.load", DIGEST) == Outcome(True, 1)


async def test_a_request_noted_before_there_were_digests(log: RequestLog, database: Database) -> None:
    await log.begin(0, "r1", "plugins.load", DIGEST)
    await database.transact(lambda tx: tx.execute("UPDATE client_request SET digest = NULL"))
    assert await log.begin(0, "r1", "plugins.load", b"of others") == Outcome(False, None)


async def test_a_forgotten_one_may_be_sent_again(log: RequestLog) -> None:
    await log.begin(0, "r1", "plugins.load", DIGEST)
    await log.forget(0, "r1")
    await log.finish(0, "r1", "too late")
    assert await log.begin(0, "r1", "plugins.disable", DIGEST) is None


@pytest.mark.parametrize("request_id", ["", "x" * 201, 7])
async def test_a_bad_id_is_refused(log: RequestLog, request_id: Any) -> None:
    with pytest.raises(InvalidParams, match="request id"):
        await log.begin(0, request_id, "plugins.load", DIGEST)


async def test_they_are_kept_for_a_day_and_over_restarts(open_database: Any, clock: Any) -> None:
    async with open_database() as database:
        log = RequestLog(database)
        await log.begin(0, "old", "m", DIGEST)
        await log.finish(0, "old", 1)
    clock.advance(timedelta(hours=23))
    async with open_database() as database:
        log = RequestLog(database)
        await log.begin(0, "new", "m", DIGEST)
        assert await log.trim() == 0
        clock.advance(timedelta(hours=2))
        assert await log.trim() == 1
        assert await log.begin(0, "new", "m", DIGEST) == Outcome(False, None)
        assert await log.begin(0, "old", "m", DIGEST) is None


async def test_of_each_user_the_newest_are_kept(open_database: Any, clock: Any) -> None:
    now_ms = to_ms(clock.now())

    def ask_for_many(transaction: Transaction) -> None:
        for number in range(2500):
            transaction.execute(
                "INSERT INTO client_request (uid, request_id, method, digest, state, outcome, created_at_ms) "
                "VALUES (0, ?, 'm', ?, ?, ?, ?)",
                (f"r{number}", DIGEST, "begun" if number == 7 else "done", pack(number), now_ms - 2500 + number),
            )

    async with open_database() as database:
        await database.transact(ask_for_many)
        log = RequestLog(database)
        await log.begin(1, "r0", "m", DIGEST)
        await log.finish(1, "r0", "of another")
        assert await log.trim(most_of_one=10) == 2489
        assert await log.begin(0, "r2490", "m", DIGEST) == Outcome(True, 2490)
        assert await log.begin(1, "r0", "m", DIGEST) == Outcome(True, "of another")
        assert await log.begin(0, "r7", "m", DIGEST) == Outcome(False, None), "it may be under way"
        assert await log.begin(0, "r2489", "m", DIGEST) is None
