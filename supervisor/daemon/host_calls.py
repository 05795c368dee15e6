"""What workers may ask of the daemon, answered."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

from supervisor.channel import Immediate
from supervisor.control.calls import MethodCaller
from supervisor.control.paging import check_limit, state_page
from supervisor.core.errors import InvalidParams, LocalProtocolError, NotFound, PluginCrashed
from supervisor.core.event import PluginEmitted
from supervisor.core.lifecycle import Status
from supervisor.core.plugin import PluginId
from supervisor.core.secrets import spoken
from supervisor.daemon.host_events import WorkerFeeds
from supervisor.jobs.active import ActiveRuns
from supervisor.lifecycle.config_giver import ConfigGiver
from supervisor.metrics import Metrics
from supervisor.store.plugins import PluginRegistry
from supervisor.store.state import StateStore
from supervisor.wire import worker
from supervisor.wire.codec import MAX_VALUES, count_values, encode, profile_problem
from supervisor.wire.message import Notification
from supervisor.worker.link import WorkerLink
from supervisor.worker.manager import WorkerManager

_MAX_PAYLOAD_BYTES: Final = 64 * 1024
_MAX_DEPTH: Final = 12
_MAX_STATE_VALUES: Final = MAX_VALUES - 1000
"""In one value, so that an answer can hold it."""
_EVENT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")

Answer = Immediate | Coroutine[Any, Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostParts:
    """What the answers are made of."""

    registry: PluginRegistry
    configs: ConfigGiver
    state: StateStore
    feeds: WorkerFeeds
    metrics: Metrics
    workers: WorkerManager
    methods: MethodCaller
    runs: ActiveRuns
    now_ms: Callable[[], int]


class HostCalls:
    """`answer` is given what the capabilities have let through."""

    def __init__(self, parts: HostParts) -> None:
        self._parts = parts
        feeds = parts.feeds
        self._handlers: Mapping[type[worker.HostRequest], Callable[[WorkerLink, Any], Answer]] = {
            worker.ConfigGet: self._config_get,
            worker.SecretsGet: self._secrets_get,
            worker.StateGet: self._state_get,
            worker.StateSet: self._state_set,
            worker.StateDelete: self._state_delete,
            worker.StateList: self._state_list,
            worker.EventsEmit: self._emit,
            worker.EventsSubscribe: feeds.subscribe,
            worker.EventsUnsubscribe: feeds.unsubscribe,
            worker.MetricsWrite: lambda link, request: self.tell(link.plugin.id, request),
            worker.PluginsList: lambda _link, _request: Immediate({"plugins": self._plugins()}),
            worker.PluginsCall: self._plugins_call,
            worker.RunProgress: lambda link, request: self.tell(link.plugin.id, request),
        }

    def answer(self, request: worker.HostRequest, link: WorkerLink) -> Answer:
        return self._handlers[type(request)](link, request)

    def tell(self, plugin_id: PluginId, request: worker.HostRequest) -> Immediate:
        """Take in what may come as a notification too: nothing is waited for."""
        match request:
            case worker.MetricsWrite(metrics=samples):
                self._parts.metrics.write(plugin_id, samples)
            case worker.RunProgress():
                self._parts.runs.note_progress(
                    plugin_id, request.run_id, request.fraction, request.message, self._parts.now_ms()
                )
        return Immediate({})

    # configuration

    async def _config_get(self, link: WorkerLink, _: worker.ConfigGet) -> Any:
        given = await self._parts.configs.given(link.plugin)
        link.discretion.learn(given.secrets)
        return {"config": given.config}

    async def _secrets_get(self, link: WorkerLink, request: worker.SecretsGet) -> Any:
        secrets = await self._parts.configs.secrets(link.plugin)
        if request.name not in secrets:
            known = ", ".join(sorted(secrets)) or "none"
            raise NotFound(
                f"the configuration of {link.plugin.key!r} has no secret {request.name[:100]!r} (it has {known}): "
                'a secret is a value that is set, and that config_schema marks "writeOnly": true'
            )
        link.discretion.learn(spoken(secrets[request.name]))
        return {"value": secrets[request.name]}

    # state

    async def _state_get(self, link: WorkerLink, request: worker.StateGet) -> Any:
        async with link.large_answer():
            found, value, revision = await self._parts.state.get(link.plugin.id, request.key)
        return {"found": found, "value": value, "revision": revision}

    async def _state_set(self, link: WorkerLink, request: worker.StateSet) -> Any:
        # It is to fit, inside a list of others, into what may be sent.
        if problem := profile_problem([request.value], _MAX_DEPTH):
            raise InvalidParams(f"state {request.key[:100]!r} cannot be set: {problem}")
        if (most := _MAX_STATE_VALUES) < count_values(request.value, most):
            raise InvalidParams(f"state {request.key[:100]!r} cannot be set: it holds more than {most} values")
        store = self._parts.state
        return {
            "revision": await store.set(link.plugin.id, request.key, request.value, if_revision=request.if_revision)
        }

    async def _state_delete(self, link: WorkerLink, request: worker.StateDelete) -> Any:
        store = self._parts.state
        return {"found": await store.delete(link.plugin.id, request.key, if_revision=request.if_revision)}

    async def _state_list(self, link: WorkerLink, request: worker.StateList) -> Any:
        check_limit(request.limit)
        async with link.large_answer():
            found = await self._parts.state.list(
                link.plugin.id, prefix=request.prefix, after=request.after, limit=request.limit
            )
        return state_page(*found)

    # events

    async def _emit(self, link: WorkerLink, request: worker.EventsEmit) -> Any:
        if not _EVENT_NAME.fullmatch(request.name):
            raise InvalidParams(
                "an event's name must be 1 to 100 letters, digits, '.', '_', '-', and not begin with '.' or '-': "
                f"{request.name[:100]!r} is none"
            )
        size, plugin = _payload_size(request), link.plugin
        event = PluginEmitted(plugin_id=plugin.id, plugin_key=plugin.key, name=request.name, payload=request.payload)
        [recorded] = await self._parts.registry.record(event, owner=plugin.id, size=size)
        return {"seq": recorded.seq}

    # plugins

    def _plugins(self) -> list[dict[str, Any]]:
        return [
            {
                "key": plugin.key,
                "version": plugin.version,
                "status": str(plugin.status),
                "phase": str(self._parts.workers.phase(plugin.id)),
                "methods": [method.name for method in plugin.manifest.methods],
            }
            for plugin in self._parts.registry.all()
            if plugin.status is not Status.UNINSTALLED
        ]

    async def _plugins_call(self, link: WorkerLink, request: worker.PluginsCall) -> Any:
        try:
            result = await self._parts.methods.call(
                request.plugin, request.method, request.params, timeout_s=request.timeout_s, caller=link.plugin.key
            )
        except PluginCrashed as error:
            # What the other one printed last is not for this one's eyes.
            shown = {name: value for name, value in error.details.items() if name != "stderr_tail"}
            raise PluginCrashed(error.message, **shown) from error
        return {"result": result}


def _payload_size(request: worker.EventsEmit) -> int:
    """In bytes, about. It must fit into a frame to every subscriber, and with others into a page."""
    message = Notification(request.name, [request.payload])
    try:
        return len(encode(message, max_bytes=_MAX_PAYLOAD_BYTES, max_depth=_MAX_DEPTH))
    except LocalProtocolError as error:
        raise InvalidParams(
            f"event {request.name!r} cannot be emitted: {error.message}; store what is large in the state, emit its key"
        ) from error
