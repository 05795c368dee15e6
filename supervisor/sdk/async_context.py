"""What an async handler is given: the requests of `Context`, awaited in the plugin's event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol

from supervisor.core.errors import Conflict
from supervisor.sdk import asks
from supervisor.sdk.context import Facts, RunFacts, Settings
from supervisor.sdk.outlet import LogOutlet


class AsyncHost(Protocol):
    """plugind, as a handler in the event loop reaches it."""

    async def call(self, method: str, params: list[Any], timeout_s: float | None) -> Any: ...

    async def notify(self, method: str, params: list[Any]) -> None: ...


class AsyncContext(Facts):
    """Given to every handler and hook that is an `async def`; for use in the plugin's event loop only.

    What reaches plugind is awaited, `log` apart. A request waits at most 30 seconds (`call`: as long as it may take)
    and raises what it does in `Context`. A handler whose caller has given up is cancelled as trio does it, and what it
    had asked of plugind is given up with it.
    """

    def __init__(self, host: AsyncHost, settings: Settings, outlet: LogOutlet, run_id: str | None = None) -> None:
        super().__init__(settings, outlet, run_id)
        self._host = host
        self.state = AsyncState(host)

    async def emit(self, name: str, payload: Any = None) -> int:
        """Publish the event `emitted.<name>` and return its number, once plugind has stored it."""
        return int(await _ask(self._host, asks.emit(name, payload)))

    async def get_config(self) -> dict[str, Any]:
        """The configuration as it is stored now; `config` is the one that the worker has taken."""
        config: dict[str, Any] = await _ask(self._host, asks.get_config())
        return config

    async def secret(self, name: str) -> Any:
        """A value of the configuration that its schema marks `writeOnly`."""
        return await _ask(self._host, asks.secret(name))

    async def metric(self, name: str, value: float, kind: str = "gauge", **labels: Any) -> None:
        """Set a gauge to `value`, or with `kind="counter"` add it; labels are kept as text."""
        await _ask(self._host, asks.metric(name, value, kind, labels))

    async def count(self, name: str, n: float = 1, **labels: Any) -> None:
        """Add `n` to a counter."""
        await _ask(self._host, asks.metric(name, n, "counter", labels))

    async def plugins(self) -> list[dict[str, Any]]:
        """All plugins: {key, version, status, phase, methods: [name, …]}."""
        listed: list[dict[str, Any]] = await _ask(self._host, asks.plugins())
        return listed

    async def call(self, plugin: str, method: str, params: Any = None, *, timeout_s: float | None = None) -> Any:
        """Call a method of another plugin, with named params as a map or positional ones as a list.

        It may take `timeout_s` seconds; None: the method's own deadline, or plugind's default.
        """
        return await _ask(self._host, asks.call(plugin, method, params, timeout_s))


class AsyncRunContext(AsyncContext, RunFacts):
    """Given to a job that is an `async def`: also which run it is."""

    def __init__(self, host: AsyncHost, settings: Settings, outlet: LogOutlet, run: Mapping[str, Any]) -> None:
        super().__init__(host, settings, outlet, run["run_id"])
        self._know(run)

    async def progress(self, fraction: float | None = None, message: str | None = None) -> None:
        """Say how far the run is, from 0 to 1, or None where nobody knows; no answer is waited for."""
        await self._host.notify("run.progress", [asks.progress(self.run_id, fraction, message)])


class AsyncState:
    """The plugin's own keys and values in plugind's database; a value is at most 1 MiB."""

    def __init__(self, host: AsyncHost) -> None:
        self._host = host

    async def get(self, key: str, default: Any = None) -> Any:
        return await _ask(self._host, asks.state_get(key, default))

    async def get_with_revision(self, key: str, default: Any = None) -> tuple[Any, int]:
        """As `State.get_with_revision`."""
        value, revision = await _ask(self._host, asks.state_get_with_revision(key, default))
        return value, revision

    async def set(self, key: str, value: Any, *, if_revision: int | None = None) -> int:
        """As `State.set`: return the value's revision when it is stored.

        Raises:
            Conflict: the key has another revision than `if_revision` (0: is not there); details: key, revision.
        """
        return int(await _ask(self._host, asks.state_set(key, value, if_revision)))

    async def update(self, key: str, function: Callable[[Any], Any], default: Any = None) -> Any:
        """As `State.update`: set `key` to `function(its value)`, a plain function, and return what was set.

        Raises:
            Conflict: others were quicker a hundred times.
        """
        for attempt in range(1, asks.UPDATE_ATTEMPTS + 1):
            former, revision = await self.get_with_revision(key, default)
            value = function(former)
            try:
                await self.set(key, value, if_revision=revision)
            except Conflict:
                if attempt == asks.UPDATE_ATTEMPTS:
                    raise
            else:
                break
        return value

    async def delete(self, key: str, *, if_revision: int | None = None) -> bool:
        """Whether it was there. `if_revision` as in `set`."""
        return bool(await _ask(self._host, asks.state_delete(key, if_revision)))

    async def items(self, prefix: str = "") -> AsyncIterator[tuple[str, Any]]:
        """Keys that begin with `prefix` and their values, in key order, fetched a page at a time."""
        after = None
        while True:
            entries, after = await _ask(self._host, asks.state_page(prefix, after))
            for entry in entries:
                yield entry
            if after is None:
                return


async def _ask(host: AsyncHost, ask: asks.Ask) -> Any:
    return ask.read(await host.call(ask.method, [ask.params], ask.timeout_s))
