"""What a handler is given: config, state, emit, log, cancellation. `async_context` has the same for async handlers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from supervisor.core.errors import CallCancelled, Conflict
from supervisor.sdk import asks
from supervisor.sdk.outlet import Log, LogOutlet

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path


class Cancelled(CallCancelled):
    """Raised by `raise_if_cancelled`: let it pass, and the run ends as cancelled."""


class Host(Protocol):
    """plugind, as a handler in a thread reaches it."""

    def call(self, method: str, params: list[Any], timeout_s: float | None) -> Any: ...

    def notify(self, method: str, params: list[Any]) -> bool: ...


class Settings:
    """What the handshake told: the same for all contexts of a worker. `config` is replaced as it changes."""

    __slots__ = ("config", "data_dir", "plugin_key")

    def __init__(self, *, plugin_key: str, config: dict[str, Any], data_dir: str) -> None:
        self.plugin_key = plugin_key
        self.config = config
        self.data_dir = data_dir


class Facts:
    """What every context knows without asking."""

    def __init__(self, settings: Settings, outlet: LogOutlet, run_id: str | None) -> None:
        self._settings = settings
        self.log = Log(outlet, run_id)
        self.caller: str | None = None
        """In a method: the key of the plugin that calls it; None for a client."""

    @property
    def plugin_key(self) -> str:
        return self._settings.plugin_key

    @property
    def config(self) -> dict[str, Any]:
        """The plugin's configuration, with its secrets if it was granted `secrets.read`: as it was at the start, or as
        the last `on_config_changed` took it."""
        return self._settings.config

    @property
    def data_dir(self) -> Path:
        """The plugin's own directory, which is also the current one when the worker starts."""
        from pathlib import Path

        return Path(self._settings.data_dir)


class RunFacts:
    """Which run a job's handler is in. `attempt` is 1 for the first; `trigger` says why it runs.

    `params` is what an operator gave with a run by hand, and its retries have it too; `{}` where nobody gave any.
    """

    def _know(self, run: Mapping[str, Any]) -> None:
        self.run_id: str = run["run_id"]
        self.job: str = run["job"]
        self.trigger: str = run["trigger"]
        self.attempt: int = run["attempt"]
        self.params: dict[str, Any] = run.get("params") or {}
        self._scheduled_at_ms: int = run["scheduled_at_ms"]

    @property
    def scheduled_at(self) -> datetime:
        """When the run was due: an aware UTC datetime."""
        from datetime import UTC, datetime

        return datetime.fromtimestamp(self._scheduled_at_ms / 1000, UTC)


class Context(Facts):
    """Given to every handler and hook that is a plain function. It may be used from threads of the handler's own.

    A request to plugind waits at most 30 seconds (`call`: as long as it may take) and raises a class of
    `supervisor.core.errors`: PermissionDenied without the capability, DeadlineExceeded, Unavailable when plugind is
    gone.
    """

    def __init__(self, host: Host, settings: Settings, outlet: LogOutlet, run_id: str | None = None) -> None:
        super().__init__(settings, outlet, run_id)
        self._host = host
        self._cancelled = threading.Event()
        self.state = State(host)

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for this handler any more; it should end soon."""
        return self._cancelled.is_set()

    def wait_cancelled(self, timeout_s: float) -> bool:
        """Sleep up to `timeout_s` seconds, less if cancelled; whether it was."""
        return self._cancelled.wait(timeout_s)

    def raise_if_cancelled(self) -> None:
        """Raises: Cancelled."""
        if self._cancelled.is_set():
            raise Cancelled("the handler was cancelled")

    def cancel(self) -> None:
        """Set `cancelled`; the runner does it when the caller has given up."""
        self._cancelled.set()

    def emit(self, name: str, payload: Any = None) -> int:
        """Publish the event `emitted.<name>` and return its number, once plugind has stored it."""
        return int(_ask(self._host, asks.emit(name, payload)))

    def get_config(self) -> dict[str, Any]:
        """The configuration as it is stored now; `config` is the one that the worker has taken."""
        config: dict[str, Any] = _ask(self._host, asks.get_config())
        return config

    def secret(self, name: str) -> Any:
        """A value of the configuration that its schema marks `writeOnly`."""
        return _ask(self._host, asks.secret(name))

    def metric(self, name: str, value: float, kind: str = "gauge", **labels: Any) -> None:
        """Set a gauge to `value`, or with `kind="counter"` add it; labels are kept as text."""
        _ask(self._host, asks.metric(name, value, kind, labels))

    def count(self, name: str, n: float = 1, **labels: Any) -> None:
        """Add `n` to a counter."""
        _ask(self._host, asks.metric(name, n, "counter", labels))

    def plugins(self) -> list[dict[str, Any]]:
        """All plugins: {key, version, status, phase, methods: [name, …]}."""
        listed: list[dict[str, Any]] = _ask(self._host, asks.plugins())
        return listed

    def call(self, plugin: str, method: str, params: Any = None, *, timeout_s: float | None = None) -> Any:
        """Call a method of another plugin, with named params as a map or positional ones as a list.

        It may take `timeout_s` seconds; None: the method's own deadline, or plugind's default.
        """
        return _ask(self._host, asks.call(plugin, method, params, timeout_s))


class RunContext(Context, RunFacts):
    """Given to a job: also which run it is."""

    def __init__(self, host: Host, settings: Settings, outlet: LogOutlet, run: Mapping[str, Any]) -> None:
        super().__init__(host, settings, outlet, run["run_id"])
        self._know(run)

    def progress(self, fraction: float | None = None, message: str | None = None) -> None:
        """Say how far the run is, from 0 to 1, or None where nobody knows; it is not waited for."""
        self._host.notify("run.progress", [asks.progress(self.run_id, fraction, message)])


class State:
    """The plugin's own keys and values in plugind's database; a value is at most 1 MiB."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def get(self, key: str, default: Any = None) -> Any:
        return _ask(self._host, asks.state_get(key, default))

    def get_with_revision(self, key: str, default: Any = None) -> tuple[Any, int]:
        """Value and revision, which every change makes another; 0 where there is no such key."""
        value, revision = _ask(self._host, asks.state_get_with_revision(key, default))
        return value, revision

    def set(self, key: str, value: Any, *, if_revision: int | None = None) -> int:
        """Return the value's revision when it is stored. With `if_revision`, only if the key still has that revision
        (0: is not there).

        Raises:
            Conflict: it has another; details: key, revision.
        """
        return int(_ask(self._host, asks.state_set(key, value, if_revision)))

    def update(self, key: str, function: Callable[[Any], Any], default: Any = None) -> Any:
        """Set `key` to `function(its value)`, whatever others do to it meanwhile; what was set.

        `function` is called anew where they were quicker, so it should do nothing else. `default` is its argument
        where there is no such key.

        Raises:
            Conflict: others were quicker a hundred times.
        """
        for attempt in range(1, asks.UPDATE_ATTEMPTS + 1):
            former, revision = self.get_with_revision(key, default)
            value = function(former)
            try:
                self.set(key, value, if_revision=revision)
            except Conflict:
                if attempt == asks.UPDATE_ATTEMPTS:
                    raise
            else:
                break
        return value

    def delete(self, key: str, *, if_revision: int | None = None) -> bool:
        """Whether it was there. `if_revision` as in `set`."""
        return bool(_ask(self._host, asks.state_delete(key, if_revision)))

    def items(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """Keys that begin with `prefix` and their values, in key order, fetched a page at a time."""
        after = None
        while True:
            entries, after = _ask(self._host, asks.state_page(prefix, after))
            yield from entries
            if after is None:
                return


def _ask(host: Host, ask: asks.Ask) -> Any:
    return ask.read(host.call(ask.method, [ask.params], ask.timeout_s))
