"""Run a change to its end, whether or not its caller still waits; and never twice for one request id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import trio

from supervisor.control.access import Caller
from supervisor.control.audit import AuditTrail, Record
from supervisor.core.errors import (
    CallCancelled,
    Conflict,
    FailedPrecondition,
    InternalError,
    InvalidParams,
    ResourceExhausted,
    SupervisorError,
    Unavailable,
)
from supervisor.lifecycle.operation import Operation
from supervisor.log import get_logger
from supervisor.report import report_failure
from supervisor.store.requests import RequestLog
from supervisor.wire.control import PROGRESS_KEY
from supervisor.wire.message import DEADLINE_KEY, Failure, Params, Request, named

REQUEST_ID_KEY: Final = "$request_id"
"""Reserved name in named params: a change that is asked for again under the same id is not made again."""

_NOT_ASKED_FOR: Final = frozenset({REQUEST_ID_KEY, DEADLINE_KEY, PROGRESS_KEY})
"""Reserved names, which are no part of what a request asks for."""

_REFUSED: Final = (Conflict, ResourceExhausted, Unavailable)
"""Said before anything was done. Who was too slow or crashed may have done it: that is the outcome, and stays so."""

_Work = Callable[[], Any]
"""Gives the coroutine that makes the change."""


class Detached:
    """`nursery` is the daemon's for work in flight: leaving it is the drain."""

    def __init__(self, nursery: trio.Nursery, requests: RequestLog, trail: AuditTrail) -> None:
        self._nursery = nursery
        self._requests = requests
        self._trail = trail
        self._under_way: set[tuple[int, str]] = set()
        self._to_forget: set[tuple[int, str]] = set()
        """Refused for now, and the full disk would not let it be forgotten."""
        self._operations: set[Operation] = set()
        """Under way, and may be aborted."""
        self._stopping = False

    def drain(self) -> None:
        """The daemon is stopping: an install or upgrade is given up where nothing has changed yet; all else goes on.

        It would be cut at the end of the drain anyway, and hold up the stop until then.
        """
        self._stopping = True
        for operation in self._operations:
            operation.abort()

    async def run(self, caller: Caller, request: Request, work: _Work, operation: Operation | None = None) -> Any:
        """Return what `work` returns; a caller that is cancelled stops waiting, nothing else.

        Raises:
            SupervisorError: what `work` raised, or Unavailable when the daemon ends before it has.
        """
        if operation is not None:
            work = partial(self._unless_stopping, work, operation)
        outcome: list[Any] = []
        done = trio.Event()
        record = self._trail.record(caller, request, (named(request.params) or {}).get(REQUEST_ID_KEY))

        async def to_the_end() -> None:
            try:
                outcome.append(await self._once(caller, request, work, record))
            except SupervisorError as error:
                outcome.append(error)
            except Exception as error:  # noqa: BLE001  one change's failure must not end the others
                log_id = report_failure("request.failed", error, method=request.method)
                outcome.append(InternalError(f"{request.method} failed inside; log id {log_id}", log_id=log_id))
            finally:
                aborted = operation is not None and operation.aborted
                try:
                    if outcome:
                        await self._trail.end(record, outcome[0], aborted=aborted)
                    else:
                        self._trail.cut_short(record, aborted=aborted)
                finally:
                    done.set()

        self._nursery.start_soon(to_the_end, name=request.method)
        await done.wait()
        if not outcome:
            raise Unavailable(
                "the daemon stopped before the command had ended; its next start makes it whole", stopping=True
            )
        if isinstance(outcome[0], SupervisorError):
            raise outcome[0]
        return outcome[0]

    async def _unless_stopping(self, work: _Work, operation: Operation) -> Any:
        if self._stopping:
            raise Unavailable("the daemon is stopping: ask again when it is back; nothing was changed", stopping=True)
        self._operations.add(operation)
        try:
            return await work()
        except CallCancelled as error:
            if not self._stopping:
                raise
            # Nobody but us wanted it: who asks again is to be served.
            raise Unavailable(
                "the daemon is stopping: ask again when it is back; nothing was changed", stopping=True
            ) from error
        finally:
            self._operations.discard(operation)

    async def _begun(self, record: Record, work: _Work) -> Any:
        await self._nursery.start(self._trail.begin, record)
        return await work()

    async def _once(self, caller: Caller, request: Request, work: _Work, record: Record) -> Any:
        work = partial(self._begun, record, work)
        request_id = (named(request.params) or {}).get(REQUEST_ID_KEY)
        if request_id is None:
            return await work()
        if not isinstance(request_id, str) or not 1 <= len(request_id) <= 200:
            raise InvalidParams(f"{REQUEST_ID_KEY} must be a string of 1 to 200 characters")
        mine = (caller.uid, request_id)
        if mine in self._under_way:
            raise Conflict(f"request {request_id!r} has begun and not ended: ask again later", request_id=request_id)
        self._under_way.add(mine)
        try:
            former = await self._requests.begin(caller.uid, request_id, request.method, _digest(request.params))
            if former is None or (mine in self._to_forget and not former.done):
                self._to_forget.discard(mine)
                return await self._first_time(caller.uid, request_id, work)
        finally:
            self._under_way.discard(mine)
        if former.done:
            record.is_repeat = True
            return _replay(former.value)
        raise FailedPrecondition(
            f"request {request_id!r} was cut short by the daemon's end, and its outcome is not known: "
            "look at the state, then ask under a new id",
            request_id=request_id,
        )

    async def _first_time(self, uid: int, request_id: str, work: _Work) -> Any:
        try:
            result = await work()
        except SupervisorError as error:
            if isinstance(error, _REFUSED):
                # "Try again" would be a lie if trying again only told of this time.
                await self._forget(uid, request_id)
            else:
                await self._requests.finish(uid, request_id, {"error": Failure.from_error(error).to_map()})
            raise
        await self._requests.finish(uid, request_id, {"result": result})
        return result

    async def _forget(self, uid: int, request_id: str) -> None:
        try:
            await self._requests.forget(uid, request_id)
        except SupervisorError as error:
            get_logger().warning("request.not_forgotten", uid=uid, request_id=request_id, why=error.message)
            self._to_forget.add((uid, request_id))


def _digest(params: Params) -> bytes:
    """The same for the same params, in whatever order they are named."""
    given = named(params)
    asked = params if given is None else {name: given[name] for name in given if name not in _NOT_ASKED_FOR}
    text = json.dumps(asked, sort_keys=True, default=lambda value: {"bytes": bytes(value).hex()})
    return hashlib.sha256(text.encode()).digest()


def _replay(value: Any) -> Any:
    """The answer that was given the first time."""
    if "error" in value:
        raise Failure.from_wire(value["error"]).to_error()
    return value["result"]
