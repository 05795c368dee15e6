"""Every change is in the audit before it begins, and after it has ended; and in the daemon's log."""

from __future__ import annotations

from typing import Any, Final

import trio

from supervisor.control.access import Caller
from supervisor.core.errors import SupervisorError
from supervisor.lifecycle.sources import mask_credentials
from supervisor.log import get_logger
from supervisor.store.audit import CUT_SHORT, Asked, AuditLog, Ended
from supervisor.wire.message import Request, named

_TARGETS: Final = ("plugin", "job", "run", "source", "path")
"""Params that name what a change is about."""
_TARGET_CHARS: Final = 200
"""Of what a caller calls the thing: he may say a megabyte."""
_MESSAGE_CHARS: Final = 500
_REQUEST_ID_CHARS: Final = 200
_END_S: Final = 5.0
"""For so long the daemon's own end waits for the last entry to be handed over; then it is found cut short."""


class Record:
    """One change on its way through the audit."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.began = trio.current_time()
        self.settled = trio.Event()
        """Whether it has a seq is known, and what is to be known of that; set while nothing was begun."""
        self.settled.set()
        self.seq: int | None = None
        self.is_repeat = False
        """It was made before, and only answered again."""


class AuditTrail:
    """What cannot be written is said in the daemon's log: no change fails for it."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log

    def record(self, caller: Caller, request: Request, request_id: Any) -> Record:
        """`request_id` as the caller has given it."""
        return Record(
            Asked(
                at_ms=self._log.now_ms(),
                uid=caller.uid,
                pid=caller.pid,
                exe=_cut(caller.exe, _MESSAGE_CHARS) if caller.exe else None,
                client=caller.client,
                role=caller.role_name,
                method=request.method,
                target=_target(request),
                request_id=request_id if isinstance(request_id, str) and len(request_id) <= _REQUEST_ID_CHARS else None,
            )
        )

    async def begin(self, record: Record, *, task_status: trio.TaskStatus[None]) -> None:
        """Started means: it is with the writer, ahead of all that the change itself will write. That needs no waiting
        for the disk, as what is durable first is what was handed over first."""
        record.settled = trio.Event()
        # Nothing below comes to a checkpoint before the writer has it.
        task_status.started()
        try:
            record.seq = await self._log.begin(record.asked)
        except SupervisorError as error:
            get_logger().warning("audit.not_written", method=record.asked.method, why=error.message)
        finally:
            record.settled.set()

    async def end(self, record: Record, outcome: Any, *, aborted: bool) -> None:
        """`outcome` is the result or the SupervisorError; noted before either is told."""
        failure = outcome if isinstance(outcome, SupervisorError) else None
        found = _found(record.asked, outcome)
        message = failure.message if failure else f"from {record.asked.target}" if found else None
        ended = Ended(
            result=failure.code if failure else "ok",
            message=None if message is None else _cut(mask_credentials(message), _MESSAGE_CHARS),
            duration_ms=round((trio.current_time() - record.began) * 1000),
            target=found,
        )
        self._tell(record, ended.result, aborted=aborted)
        if record.is_repeat:
            return
        # daemon.stop is answered while the drain may be over already. What is handed over is waited for all the same.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _END_S):
            try:
                await record.settled.wait()
                await self._log.end(record.seq, record.asked, ended)
            except SupervisorError as error:
                get_logger().warning("audit.not_written", method=record.asked.method, why=error.message)

    def cut_short(self, record: Record, *, aborted: bool) -> None:
        """The end of the daemon came first; the next start says so in the audit."""
        self._tell(record, CUT_SHORT, aborted=aborted)

    def _tell(self, record: Record, result: str, *, aborted: bool) -> None:
        asked = record.asked
        told = {"aborted": True} if aborted else {}
        get_logger().info(
            "request.changed",
            method=asked.method,
            target=asked.target,
            uid=asked.uid,
            pid=asked.pid,
            result=result,
            **told,
        )


def _target(request: Request) -> str | None:
    given = named(request.params) or {}
    targets = (given.get(name) for name in _TARGETS)
    target = next((t for t in targets if t), request.params[0] if request.params else None)
    return _cut(mask_credentials(target), _TARGET_CHARS) if isinstance(target, str) else None


def _found(asked: Asked, outcome: Any) -> str | None:
    """What an install or a run turned out to be: whoever asks for a plugin's or job's changes knows its name alone."""
    name = {"plugins.install": "key", "jobs.cancel": "job", "jobs.retry": "job"}.get(asked.method)
    found = outcome.get(name) if name and isinstance(outcome, dict) else None
    return found if isinstance(found, str) and found != asked.target else None


def _cut(text: str, most: int) -> str:
    """Once it is masked: before, the cut could take away what tells a password."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"
