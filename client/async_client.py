"""AsyncClient: the client on trio."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from client import protocol
from client.address import socket_path
from client.async_link import background
from client.async_nouns import AsyncDaemon, AsyncJobs
from client.async_plugins import AsyncPlugins
from client.async_records import AsyncAudit, AsyncEvents, AsyncLogs
from client.async_shared import SharedLink
from client.calling import RECONNECT_S, Call, Contact, Terms
from client.errors import SupervisorError

if TYPE_CHECKING:
    from client.link import OnProgress
    from supervisor.wire.results import Description, HelloInfo, PluginInfo

__all__ = ["AsyncClient"]


class AsyncClient:
    """A client of one daemon: `async with AsyncClient.connect() as client`.

    Methods stand by noun, as in `await client.plugins.list()`, and raise the classes of `client.errors`. Tasks may
    share it: their calls are in flight at once, on one connection. It is of one process: not for use over a fork.

    A read whose connection was lost is asked again, until the daemon is back, for at most `reconnect_s` seconds. A
    change is never repeated, save by `once()`.

    A caller that is cancelled tells the daemon, which stops working on it, save on changes. `plugins.install` and
    `plugins.upgrade` are ended by that until their commit point; the cancelled call waits for the daemon's answer, up
    to 10 s.
    """

    def __init__(self, link: SharedLink, terms: Terms) -> None:
        """Use `connect`."""
        self.path = link.path
        self._link = link
        self._terms = terms
        self.daemon = AsyncDaemon(self._call)
        self.plugins = AsyncPlugins(self._call)
        self.jobs = AsyncJobs(self._call)
        self.events = AsyncEvents(self._call, link.open_another)
        self.audit = AsyncAudit(self._call)
        self.logs = AsyncLogs(self._call, link.open_another)

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        path: str | None = None,
        *,
        timeout_s: float | None = protocol.DEFAULT_TIMEOUT_S,
        reconnect_s: float = RECONNECT_S,
        name: str = "python-trio",
    ) -> AsyncIterator[AsyncClient]:
        """Connect at once; `timeout_s` limits what answers at once, connecting too (None or infinity: no limit), and
        trio's own scopes all the rest.

        Raises:
            SupervisorError: cannot connect, with how to start the daemon.
        """
        async with background() as nursery:
            terms = Terms(timeout_s, reconnect_s)
            link = SharedLink(nursery, socket_path(path), name, terms.timeout_s)
            await link.open(terms.timeout_s)
            yield cls(link, terms)

    def once(self, request_id: str | None = None) -> AsyncClient:
        """This client, same connection, whose changes carry a request id: the daemon makes each once only.

        So a change too is asked again, under its id, when the connection was lost, until its outcome is known; and one
        that is still under way is waited for. Each call takes an id of its own; to ask for one change again later,
        from another process even, give its `request_id` (1 to 200 characters), for that call alone. The daemon
        remembers it for a day.

        Raises (the calls):
            ConnectionLost: the daemon did not come back within `reconnect_s`; `data["request_id"]` is its id.
            FailedPrecondition: the change was cut short by the daemon's end: look at the state, then ask anew.
        """
        return AsyncClient(self._link, self._terms.once(request_id))

    async def call(self, method: str, /, **params: Any) -> Any:
        """Any method by its name, such as `await call("plugins.get", plugin="acme.weather")`."""
        return await self._call(method, params)

    async def hello(self) -> HelloInfo:
        """Who answers, and what we may: the daemon's answer to this connection's hello."""
        info: HelloInfo = (await self._link.open(self._terms.timeout_s)).hello
        return info

    async def describe(self) -> Description:
        """Every method with its params and result as JSON Schema, its role and its deadline."""
        description: Description = await self._call("rpc.describe", {})
        return description

    async def wait_for(
        self,
        plugin: str,
        *,
        status: str | None = None,
        phase: str | None = "running",
        timeout_s: float = 30.0,
    ) -> PluginInfo:
        """Return as soon as the plugin has this status and phase (None: any).

        It goes on over restarts of the daemon, and waits for one that does not run yet.

        Raises:
            DeadlineExceeded: it had not after `timeout_s` seconds; of a daemon that hangs, a quarter second later.
            DaemonNotRunning: nobody answered up to then.
        """
        now = trio.current_time()
        params = {"plugin": plugin, "status": status, "phase": phase, "timeout_s": timeout_s}
        terms = Terms(self._terms.timeout_s, timeout_s)
        info: PluginInfo = await self._ask(Call("plugins.wait", params, terms, Contact(lost_at=now), now))
        return info

    async def _call(self, method: str, params: dict[str, Any], on_progress: OnProgress | None = None) -> Any:
        now, progress = trio.current_time(), on_progress is not None
        call = Call(method, params, self._terms, self._link.contact, now, progress=progress)
        return await self._ask(call, on_progress)

    async def _ask(self, call: Call, on_progress: OnProgress | None = None) -> Any:
        while True:
            try:
                return await self._link.ask(call, on_progress)
            except SupervisorError as error:
                pause_s = call.pause_s(error, trio.current_time())
                if pause_s is None:
                    raise call.outcome(error) from None
            await trio.sleep(pause_s)
