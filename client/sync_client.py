"""Client: the blocking client. Imports neither trio nor the daemon."""

from __future__ import annotations

import time

from client import protocol
from client.address import socket_path
from client.calling import RECONNECT_S, Call, Contact, Terms
from client.errors import SupervisorError
from client.link import Link, open_link
from client.pool import Pool
from client.sync_nouns import Daemon, Jobs
from client.sync_plugins import Plugins
from client.sync_records import Audit, Events, Logs

TYPE_CHECKING = False  # type checkers know the name; `typing` itself would be half of what a program imports here
if TYPE_CHECKING:
    from typing import Any, Self

    from client.link import OnProgress
    from supervisor.wire.results import Description, HelloInfo, PluginInfo

__all__ = ["Client"]


class Client:
    """A blocking client of one daemon; connects at the first call.

    Methods stand by noun, as in `client.plugins.list()`, and raise the classes of `client.errors`. Threads may share a
    client: each call under way has a connection of its own, at most eight, so one that waits holds up nobody. So
    may the two processes of a fork: each makes connections of its own.

    A read whose connection was lost is asked again, until the daemon is back, for at most `reconnect_s` seconds; a
    daemon that had not answered this client before is not waited for. A change is never repeated, save by `once()`.

    `timeout_s` limits what answers at once, connecting too (None or infinity: no limit); what takes as long as it
    takes, such as `plugins.load`, is only limited by `within()`. After a timeout the connection is dropped, since a
    late answer may come.

    Ctrl-C during `plugins.install` or `plugins.upgrade` tells the daemon to give it up, and raises `client.Interrupted`
    (a KeyboardInterrupt) with what became of it.
    """

    def __init__(
        self,
        path: str | None = None,
        *,
        timeout_s: float | None = protocol.DEFAULT_TIMEOUT_S,
        reconnect_s: float = RECONNECT_S,
        name: str = "python",
    ) -> None:
        self.path = socket_path(path)
        self._name = name
        self._terms = Terms(timeout_s, reconnect_s)
        self._pool = Pool(self.path, name)
        self.daemon = Daemon(self._call)
        self.plugins = Plugins(self._call)
        self.jobs = Jobs(self._call)
        self.events = Events(self._call, self._follow)
        self.audit = Audit(self._call)
        self.logs = Logs(self._call, self._follow)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connections; the next call makes a new one."""
        self._pool.close()

    def within(self, timeout_s: float) -> Client:
        """This client, same connections, with a limit of `timeout_s` seconds on every call."""
        return self._on(self._terms.within(timeout_s))

    def once(self, request_id: str | None = None) -> Client:
        """This client, same connections, whose changes carry a request id: the daemon makes each once only.

        So a change too is asked again, under its id, when the connection was lost, until its outcome is known; and one
        that is still under way is waited for. Each call takes an id of its own; to ask for one change again later,
        from another process even, give its `request_id` (1 to 200 characters), for that call alone. The daemon
        remembers it for a day.

        Raises (the calls):
            ConnectionLost: the daemon did not come back within `reconnect_s`; `data["request_id"]` is its id.
            FailedPrecondition: the change was cut short by the daemon's end: look at the state, then ask anew.
        """
        return self._on(self._terms.once(request_id))

    def call(self, method: str, /, **params: Any) -> Any:
        """Any method by its name, such as `call("plugins.get", plugin="acme.weather")`."""
        return self._call(method, params)

    def hello(self) -> HelloInfo:
        """Who answers, and what we may: the daemon's answer to a connection's hello."""
        limit_s = self._terms.timeout_s
        info: HelloInfo = self._pool.hello(None if limit_s is None else time.monotonic() + limit_s)
        return info

    def describe(self) -> Description:
        """Every method with its params and result as JSON Schema, its role and its deadline."""
        description: Description = self._call("rpc.describe", {})
        return description

    def wait_for(
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
        now = time.monotonic()
        params = {"plugin": plugin, "status": status, "phase": phase, "timeout_s": timeout_s}
        terms = Terms(self._terms.timeout_s, timeout_s, self._terms.limit_s)
        info: PluginInfo = self._ask(Call("plugins.wait", params, terms, Contact(lost_at=now), now))
        return info

    def _on(self, terms: Terms) -> Client:
        other = Client(self.path, name=self._name)
        other._terms, other._pool = terms, self._pool
        return other

    def _follow(self, method: str, params: dict[str, Any], deadline: float | None) -> tuple[Link, Any]:
        limit_s = self._terms.timeout_s
        if limit_s is not None:
            by = time.monotonic() + limit_s
            deadline = by if deadline is None else min(deadline, by)
        link = open_link(self.path, self._name, deadline)
        try:
            return link, link.call(method, [params], deadline)
        except BaseException:
            link.close()
            raise

    def _call(self, method: str, params: dict[str, Any], on_progress: OnProgress | None = None) -> Any:
        now, progress = time.monotonic(), on_progress is not None
        return self._ask(Call(method, params, self._terms, self._pool.contact, now, progress=progress), on_progress)

    def _ask(self, call: Call, on_progress: OnProgress | None = None) -> Any:
        while True:
            try:
                return self._pool.ask(call, on_progress)
            except SupervisorError as error:
                pause_s = call.pause_s(error, time.monotonic())
                if pause_s is None:
                    raise call.outcome(error) from None
            time.sleep(pause_s)
