"""What plugind would keep for a plugin, in memory, and its answers to what a worker asks. For `testing` only."""

from __future__ import annotations

import copy
import fnmatch
import time
from collections import UserDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from supervisor.core.errors import Conflict, InvalidParams, MethodNotFound, NotFound, PermissionDenied
from supervisor.wire.message import Params
from supervisor.wire.typed import to_request
from supervisor.wire.worker import HOST_REQUESTS, EventsSubscribe, HostRequest, Metric, PluginsCall, RunProgress

ALL_CAPABILITIES: Final = frozenset(
    request.CAPABILITY for request in HOST_REQUESTS.values() if request.CAPABILITY is not None
)
OtherPlugins = Mapping[str, Mapping[str, Callable[..., Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    level: str
    message: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    run_id: str | None = None


class RevisedState(UserDict[str, Any]):
    """A dictionary that counts its changes, a test's own too."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self._revisions: dict[str, int] = {}
        self._last = 0
        super().__init__(state)

    def __setitem__(self, key: str, value: Any) -> None:
        self._last += 1
        self._revisions[key] = self._last
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        del self._revisions[key]

    def revision(self, key: str) -> int:
        """0 where there is no such key."""
        return self._revisions.get(key, 0)

    def refuse_other_than(self, key: str, expected: int | None) -> None:
        """
        Raises:
            Conflict: the key has another revision.
        """
        revision = self.revision(key)
        if expected not in (None, revision):
            raise Conflict(f"state key {key!r} has revision {revision}, not {expected}", key=key, revision=revision)


class Memory:
    """All attributes may be looked at, and changed, by a test."""

    def __init__(
        self,
        *,
        key: str,
        config: Mapping[str, Any],
        state: Mapping[str, Any],
        secrets: Mapping[str, Any],
        plugins: OtherPlugins,
        capabilities: Iterable[str],
    ) -> None:
        self.key = key
        self.config = dict(config)
        self.state = RevisedState(state)
        self.secrets = dict(secrets)
        self.plugins = plugins
        self.capabilities = frozenset(capabilities)
        self.journal: list[dict[str, Any]] = []
        self.events: list[tuple[str, Any]] = []
        self.logs: list[LogLine] = []
        self.metrics: list[Metric] = []
        self.progress: list[tuple[str, float | None, str | None]] = []

    def request(self, method: str, params: Params) -> HostRequest:
        """What is asked, if it may be.

        Raises:
            MethodNotFound, PermissionDenied, InvalidParams: as plugind does.
        """
        kind = HOST_REQUESTS.get(method)
        if kind is None:
            raise MethodNotFound(f"plugind has no method {method!r} for workers", method=method)
        if kind.CAPABILITY is not None and kind.CAPABILITY not in self.capabilities:
            raise PermissionDenied(f"{method} needs the capability {kind.CAPABILITY!r}", capability=kind.CAPABILITY)
        return to_request(kind, method, params)

    def answer(self, request: Any) -> Any:
        """The answer to all that needs nobody else: no subscriptions, and no calls of other plugins."""
        match request.METHOD:
            case "config.get":
                return {"config": self.given_config()}
            case "secrets.get":
                return {"value": self._secret(request.name)}
            case "state.get":
                revision = self.state.revision(request.key)
                return {"found": revision > 0, "value": self.state.get(request.key), "revision": revision}
            case "state.set":
                self.state.refuse_other_than(request.key, request.if_revision)
                self.state[request.key] = request.value
                return {"revision": self.state.revision(request.key)}
            case "state.delete":
                self.state.refuse_other_than(request.key, request.if_revision)
                return {"found": self.state.pop(request.key, self) is not self}
            case "state.list":
                return self._page(request.prefix, request.after, request.limit)
            case "metrics.write":
                self.metrics += request.metrics
            case "plugins.list":
                return {"plugins": [_shown(key, methods) for key, methods in sorted(self.plugins.items())]}
            case "run.progress":
                self.take_progress(request)
        return {}

    def given_config(self, config: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What the worker is told: `config`, None the present one, and `secrets` in it if `secrets.read` is granted."""
        given = copy.deepcopy(self.config if config is None else dict(config))
        for name, value in self.secrets.items() if "secrets.read" in self.capabilities else ():
            *tables, last = name.split(".")
            below = given
            for table in tables:
                below = below.setdefault(table, {})
            below[last] = value
        return given

    def take_progress(self, request: RunProgress) -> None:
        self.progress.append((request.run_id, request.fraction, request.message))

    def metric(self, name: str, **labels: str) -> float | None:
        """What a metric stands at: the last value of a gauge, the sum of a counter; None if it was not written."""
        value: float | None = None
        for sample in self.metrics:
            if (sample.name, sample.labels) == (name, labels):
                value = (value or 0.0) + sample.value if sample.kind == "counter" else sample.value
        return value

    def method(self, request: PluginsCall) -> Callable[[], Any]:
        """The call of another plugin's method.

        Raises:
            NotFound, InvalidParams.
        """
        methods = self.plugins.get(request.plugin)
        if methods is None:
            raise NotFound(f"there is no plugin {request.plugin!r}", plugin=request.plugin)
        function = methods.get(request.method)
        if function is None:
            message = f"plugin {request.plugin!r} has no method {request.method!r}"
            raise NotFound(message, plugin=request.plugin, method=request.method)
        match request.params:
            case None:
                return function
            case dict(named):
                return lambda: function(**named)
            case list(positional):
                return lambda: function(*positional)
        raise InvalidParams("params must be a map of names, a list or nothing")

    def record(self, type_: str, data: Any, plugin: str) -> dict[str, Any]:
        """A new event in the journal."""
        event = {
            "seq": len(self.journal) + 1,
            "at_ms": int(time.time() * 1000),
            "type": type_,
            "plugin_id": f"id of {plugin}",
            "plugin": plugin,
            "data": data,
        }
        self.journal.append(event)
        return event

    def _secret(self, name: str) -> Any:
        if name not in self.secrets:
            raise NotFound(f"there is no secret {name!r}", name=name)
        return self.secrets[name]

    def _page(self, prefix: str, after: str | None, limit: int) -> dict[str, Any]:
        keys = sorted(key for key in self.state if key.startswith(prefix) and (after is None or key > after))
        entries = [{"key": key, "value": self.state[key], "revision": self.state.revision(key)} for key in keys[:limit]]
        return {"entries": entries, "next": keys[limit - 1] if len(keys) > limit else None}


def wants(asked: EventsSubscribe, event: Mapping[str, Any]) -> bool:
    """Whether an event belongs to a subscription."""
    of_type = not asked.types or any(fnmatch.fnmatchcase(event["type"], glob) for glob in asked.types)
    return of_type and (not asked.plugins or event["plugin"] in asked.plugins)


def _shown(key: str, methods: Mapping[str, Any]) -> dict[str, Any]:
    return {"key": key, "version": "1.0.0", "status": "ready", "phase": "running", "methods": sorted(methods)}
