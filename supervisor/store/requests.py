"""RequestLog: which requests of which client were taken up, so that none is run twice."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final

from supervisor.clock import to_ms
from supervisor.core.errors import InvalidParams
from supervisor.store.database import Database, Transaction
from supervisor.store.tables import ClientRequestRow, current, pack, unpack

MAX_ID_CHARS: Final = 200
MAX_OF_A_USER: Final = 100_000
_KEEP: Final = timedelta(days=1)
_TRIM_BATCH: Final = 200
"""Rows deleted in one transaction, so that nobody waits long behind it: each is on a page of its own."""
_TOO_OLD: Final = "created_at_ms < ?"
_TOO_MANY: Final = "created_at_ms < ? AND +uid = ? AND state = 'done'"
"""With a plus, so that it goes by age: the key would have it look at all that the user has, in each batch."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A request that was begun before. `value` is what `finish` got; None while it is not `done`."""

    done: bool
    value: Any


class RequestLog:
    """Requests are told apart by the client's uid and the id it gave."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, uid: int, request_id: str, method: str, digest: bytes) -> Outcome | None:
        """None: you are the first, and it is durably noted as begun. Else what became of it.

        `digest` stands for the params: the same for the same request, and only for it.

        Raises:
            InvalidParams: the id has no fitting length, or was used for another method or with other params.
        """
        if not isinstance(request_id, str) or not 1 <= len(request_id) <= MAX_ID_CHARS:
            raise InvalidParams(f"a request id must be a string of 1 to {MAX_ID_CHARS} characters")

        def work(transaction: Transaction) -> Outcome | None:
            row = ClientRequestRow.get_or_none(*_is(uid, request_id))
            if row is None:
                ClientRequestRow.insert(
                    uid=uid,
                    request_id=request_id,
                    method=method,
                    digest=digest,
                    state="begun",
                    created_at_ms=transaction.now_ms,
                ).execute()
                return None
            if row.method != method:
                raise InvalidParams(
                    f"request id {request_id!r} was used for {row.method} before: take a new id for each request",
                    request_id=request_id,
                )
            if row.digest is not None and bytes(row.digest) != digest:
                raise InvalidParams(
                    f"request id {request_id!r} was used for {method} with other params before: "
                    "take a new id for each request",
                    request_id=request_id,
                )
            done = row.state == "done"
            return Outcome(done, unpack(row.outcome) if done else None)

        return await self._database.transact(work)

    async def finish(self, uid: int, request_id: str, value: Any) -> None:
        """Note the outcome, a plain value. Does nothing when the request was forgotten meanwhile."""
        data = pack(value)

        def work(_: Transaction) -> None:
            ClientRequestRow.update(state="done", outcome=data).where(*_is(uid, request_id)).execute()

        await self._database.transact(work)

    async def forget(self, uid: int, request_id: str) -> None:
        """For a request that was refused before it had any effect: it may be sent again."""

        def work(_: Transaction) -> None:
            ClientRequestRow.delete().where(*_is(uid, request_id)).execute()

        await self._database.transact(work)

    async def trim(self, max_age: timedelta = _KEEP, *, most_of_one: int = MAX_OF_A_USER) -> int:
        """Forget what is older, and of each user all but about the newest `most_of_one`; returns how many.

        Of a user who asks for so many, what is not answered yet is kept all the same.
        """
        total = await self._delete(_TOO_OLD, to_ms(self._database.clock.now() - max_age))
        for uid, oldest_ms in await self._database.read(partial(_who_has_more, most_of_one)):
            total += await self._delete(_TOO_MANY, oldest_ms, uid)
        return total

    async def _delete(self, which: str, *values: int) -> int:
        """In bounded transactions; cancelled, it has done a part."""

        sql = f"SELECT uid, request_id FROM client_request WHERE {which} LIMIT {_TRIM_BATCH}"  # noqa: S608  ours

        def work(transaction: Transaction) -> int:
            found = transaction.execute(sql, values).fetchall()
            # One by one: in one statement SQLite would look at all that the user has.
            current.connection().executemany("DELETE FROM client_request WHERE uid = ? AND request_id = ?", found)
            return len(found)

        total = trimmed = await self._database.transact(work)
        while trimmed == _TRIM_BATCH:
            trimmed = await self._database.transact(work)
            total += trimmed
        return total


def _who_has_more(most: int) -> list[tuple[int, int]]:
    """Users with more requests than that, and when the oldest one was asked that each may keep."""
    users = current.execute_sql("SELECT uid FROM client_request GROUP BY uid HAVING count(*) > ?", (most,)).fetchall()
    newest = "SELECT created_at_ms FROM client_request WHERE +uid = ? ORDER BY created_at_ms DESC LIMIT 1 OFFSET ?"
    return [(uid, current.execute_sql(newest, (uid, most - 1)).fetchone()[0]) for (uid,) in users]


def _is(uid: int, request_id: str) -> tuple[Any, Any]:
    return ClientRequestRow.uid == uid, ClientRequestRow.request_id == request_id
