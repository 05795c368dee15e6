"""RequestLog: which requests of which client were taken up, so that none is run twice."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from supervisor.clock import to_ms
from supervisor.core.errors import InvalidParams
from supervisor.store.database import Database, Transaction
from supervisor.store.tables import ClientRequestRow, pack, unpack

MAX_ID_CHARS: Final = 200
_KEEP: Final = timedelta(days=1)


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

    async def trim(self, max_age: timedelta = _KEEP) -> int:
        """Forget what is older; returns how many."""
        oldest_ms = to_ms(self._database.clock.now() - max_age)

        def work(_: Transaction) -> int:
            return int(ClientRequestRow.delete().where(ClientRequestRow.created_at_ms < oldest_ms).execute())

        return await self._database.transact(work)


def _is(uid: int, request_id: str) -> tuple[Any, Any]:
    return ClientRequestRow.uid == uid, ClientRequestRow.request_id == request_id
