"""One client: its requests, its subscriptions."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import trio

from supervisor.channel import Abortable, Channel, Immediate
from supervisor.control.access import Caller, permits
from supervisor.control.describe import limits
from supervisor.control.parts import Answer
from supervisor.control.progress import ProgressFeed, wants_progress
from supervisor.control.service import Service
from supervisor.control.subscriptions import Subscriptions
from supervisor.control.waiting import first_of
from supervisor.core.errors import (
    DeadlineExceeded,
    InvalidParams,
    MethodNotFound,
    PermissionDenied,
    ResourceExhausted,
    SupervisorError,
    Unavailable,
)
from supervisor.lifecycle.operation import Operation
from supervisor.log import get_logger
from supervisor.report import report_failure
from supervisor.wire import control, results
from supervisor.wire.budget import Share
from supervisor.wire.limits import SERVER
from supervisor.wire.message import Request
from supervisor.wire.typed import deadline_s, to_request

_WRITE_TIMEOUT_S: Final = 10.0
_WAITS: Final = frozenset({control.PluginsWait, control.EventsSubscribe, control.LogsFollow})
"""What may last as long as the daemon."""
_PAGES: Final = frozenset(
    {
        control.AuditList,
        control.DaemonMetrics,
        control.EventsList,
        control.JobsList,
        control.JobsNext,
        control.JobsRuns,
        control.LogsRead,
        control.PluginsConfigHistory,
        control.PluginsList,
        control.PluginsStateGet,
        control.PluginsStateList,
    }
)
"""What may be megabytes long, whoever asks for it."""
_CLIENT_CHARS: Final = 100
"""Of what a client calls itself."""


class Connection:
    def __init__(
        self,
        stream: trio.SocketStream,
        caller: Caller,
        service: Service,
        *,
        share: Share | None = None,
        only_looking: bool = False,
    ) -> None:
        """`share`: of what all connections may hold; without one it is bounded by its own limits alone.

        `only_looking`: the daemon is stopping already; nothing is changed, and nothing is waited for.
        """
        self._share = share or Share()
        self._only_looking = only_looking
        self._caller = caller
        self._service = service
        self._session = secrets.token_hex(8)
        self._looking_back = trio.CapacityLimiter(1)
        self._draining = trio.Event()
        self._channel = Channel(
            stream,
            SERVER,
            on_request=service.meters.latency.timing(self._on_request),
            on_unexpected=self._on_unexpected,
            plain_errors=True,
            write_timeout_s=_WRITE_TIMEOUT_S,
            share=self._share,
        )
        self._subscriptions = Subscriptions(service, self._channel, turn=self._turn, share=self._share)

    async def run(self) -> None:
        """Serve until the client goes, or breaks the protocol."""
        try:
            async with trio.open_nursery() as nursery:
                self._subscriptions.open(nursery)
                await self._channel.run()
                nursery.cancel_scope.cancel(reason="the client has gone")
        except* ResourceExhausted as errors:
            # As often as somebody likes, and counted elsewhere.
            get_logger().debug("connection.shed", uid=self._caller.uid, why=str(errors.exceptions[0]))
        except* SupervisorError as errors:
            why = "; ".join(str(error) for error in errors.exceptions)
            get_logger().info("connection.broken", uid=self._caller.uid, pid=self._caller.pid, why=why)
        finally:
            self._channel.close(Unavailable("the connection is closed"))
            await self._channel.aclose()

    def _on_request(self, request: Request) -> Answer | Abortable:
        kind = control.REQUESTS.get(request.method)
        if kind is None:
            raise MethodNotFound(
                f"there is no method {request.method[:100]!r}; rpc.describe lists them", method=request.method[:100]
            )
        # The rules may have changed since its last request.
        caller = self._caller = self._service.gate.renewed(self._caller)
        if not permits(caller, kind):
            return self._service.gate.deny(caller, kind)
        if self._only_looking and (kind.CHANGES or kind in _WAITS):
            raise Unavailable("the daemon is stopping: ask again when it is back", stopping=True)
        typed = to_request(kind, request.method, request.params)
        own_s = deadline_s(request.params)
        timeout_s = kind.DEADLINE_S if own_s is None else own_s
        if isinstance(typed, control.Hello):
            return Immediate(self._hello(typed))
        if (about_one := self._subscriptions.answer(typed, caller)) is not None:
            return about_one
        if kind.OPERATION:
            return self._operate(request, typed, timeout_s)
        handler = self._service.handlers[kind]
        if kind.CHANGES:
            # Begun only if it is to be run: what is repeated under one id is not.
            answer: Answer = self._service.detached.run(self._caller, request, lambda: handler(typed, self._caller))
        else:
            answer = handler(typed, self._caller)
        if isinstance(answer, Immediate):
            return answer
        if kind in _PAGES:
            answer = self._in_turn(answer)
        if kind in _WAITS:
            answer = self._unless_draining(answer)
        return answer if timeout_s is None else _within(timeout_s, request.method, answer)

    def _operate(self, request: Request, typed: control.ControlRequest, timeout_s: float | None) -> Abortable:
        """Who cancels it gets the answer that this leads to: CANCELLED, or the result when it was too late."""
        feed = ProgressFeed(request.id, self._channel) if wants_progress(request.params) else None
        operation = Operation(
            feed.tell if feed else lambda _: None,
            phase_timeout_s=self._service.phase_timeout_s,
        )
        handler = self._service.operations[type(typed)]
        work = self._service.detached.run(
            self._caller, request, lambda: handler(typed, self._caller, operation), operation
        )
        if feed is not None:
            work = feed.during(work)
        return Abortable(work if timeout_s is None else _within(timeout_s, request.method, work), operation.abort)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One page at a time, and none before the last has been taken: who asks for many waits for himself, and does
        not have us hold them all."""
        async with self._looking_back:
            await self._channel.wait_room()
            yield

    async def _in_turn(self, read: Coroutine[Any, Any, Any]) -> Any:
        try:
            async with self._turn():
                if self._share.full:
                    raise ResourceExhausted("too many answers wait to be read by you or others: ask again later")
                return await read
        finally:
            read.close()  # It may not have begun.

    @property
    def caller(self) -> Caller:
        return self._caller

    @property
    def understood(self) -> bool:
        """Whether it has ever said one whole thing."""
        return self._channel.understood

    def idle_s(self) -> float | None:
        """Seconds since it last said anything; None while it is owed something: an answer, events, what is unread."""
        return None if self._subscriptions.any else self._channel.idle_s()

    def shed(self, error: ResourceExhausted) -> None:
        """End it, with that last word: others need its place."""
        self._channel.shed(error)

    def look_again(self) -> None:
        """The rules have changed: who has lost every role is told nothing more of what it subscribed to."""
        self._caller = self._service.gate.renewed(self._caller)
        if self._subscriptions.any and self._caller.role is None:
            uid = self._caller.uid
            self._subscriptions.end("it has no role any more")
            self._channel.shed(PermissionDenied(f"uid {uid} has no role here any more: its subscriptions end", uid=uid))

    def drain(self) -> None:
        """The daemon is stopping: end subscriptions and waits, answer what is in flight, take nothing new."""
        self._subscriptions.end("the daemon is stopping")
        self._draining.set()
        self._channel.drain()

    async def _unless_draining(self, work: Coroutine[Any, Any, Any]) -> Any:
        """For what only waits, and may for long."""
        answer = []

        async def wait() -> None:
            answer.append(await work)

        await first_of(wait, self._draining.wait)
        if not answer:
            raise Unavailable("the daemon is stopping", stopping=True)
        return answer[0]

    def _on_unexpected(self, request: Request, error: Exception) -> str:
        return report_failure("request.failed", error, method=request.method, uid=self._caller.uid)

    def _hello(self, request: control.Hello) -> results.HelloInfo:
        # Also for the refusal: a string could not carry what is supported.
        self._channel.speak_maps()
        if control.PROTOCOL_VERSION not in request.protocol:
            raise InvalidParams(
                f"this daemon speaks protocol {control.PROTOCOL_VERSION}, you offer {request.protocol}",
                supported=[control.PROTOCOL_VERSION],
            )
        said = "".join(filter(str.isprintable, f"{request.client} {request.version}"))
        self._caller = replace(self._caller, client=said.strip()[:_CLIENT_CHARS] or None)
        return {
            "server": "plugind",
            "version": self._service.version,
            "protocol": control.PROTOCOL_VERSION,
            "session": self._session,
            "role": self._caller.role_name,
            "uid": self._caller.uid,
            "capabilities": [
                "errors.map",
                "events.after_seq",
                "events.credit",
                "logs.follow",
                "progress",
                "request_ids",
            ],
            "limits": limits(),
        }


async def _within(timeout_s: float, method: str, work: Coroutine[Any, Any, Any]) -> Any:
    with trio.move_on_after(timeout_s):
        return await work
    raise DeadlineExceeded(f"{method} did not end within {timeout_s:g} s; a change goes on", method=method)
