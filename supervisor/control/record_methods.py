"""What was recorded, for whoever looks back: events.list, logs.read, plugins.state_list, plugins.metrics."""

from __future__ import annotations

from typing import Final

from supervisor.channel import Immediate
from supervisor.control.access import Caller
from supervisor.control.filters import event_filters
from supervisor.control.logfeed import wanted_lines
from supervisor.control.paging import PAGE_BYTES, as_many_as_fit, check_limit, state_page
from supervisor.control.parts import Handlers, Parts
from supervisor.core.errors import InvalidParams, NotFound
from supervisor.store.journal_look import Span
from supervisor.wire import control, results
from supervisor.worker.logread import Lookback, read_log

_MAX_TAIL: Final = 10_000
_SHOWN_CHARS: Final = 100


class RecordMethods:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.handlers: Handlers = {
            control.EventsList: self._events,
            control.LogsRead: self._logs,
            control.PluginsStateList: self._state_list,
            control.PluginsStateGet: self._state_get,
            control.PluginsMetrics: lambda request, _caller: Immediate(
                parts.metrics.read(parts.registry.get(request.plugin).id)
            ),
        }

    async def _events(self, request: control.EventsList, caller: Caller) -> results.EventPage:
        filters = await event_filters(request, self._parts.registry, self._parts.jobs.name)
        span = Span(request.after_seq, request.before_seq, request.since_ms, request.until_ms)
        owner = f"uid:{caller.uid}"
        found, last_seq = await self._parts.journal.page(filters, span, request.limit, owner=owner)
        events = [results.EventInfo(**event.to_wire()) for event in found]  # type: ignore[typeddict-item]
        # Without a place to begin at, the newest are wanted.
        events = as_many_as_fit(events) if span.has_beginning else as_many_as_fit(events[::-1])[::-1]
        return {"events": events, "last_seq": last_seq}

    async def _logs(self, request: control.LogsRead, _: Caller) -> list[results.LogLine]:
        plugin, logs = self._parts.registry.get(request.plugin), self._parts.logs
        if not 1 <= request.tail <= _MAX_TAIL:
            raise InvalidParams(f"tail must be from 1 to {_MAX_TAIL}, not {request.tail}")
        lookback = Lookback(wanted_lines(request), most=request.tail, since_ms=request.since_ms, most_bytes=PAGE_BYTES)
        await read_log(logs.of(plugin.key), lookback, logs.threads)
        return as_many_as_fit(lookback.lines)[::-1]

    async def _state_list(self, request: control.PluginsStateList, _: Caller) -> results.StatePage:
        plugin = self._parts.registry.get(request.plugin)
        check_limit(request.limit)
        found = await self._parts.state.list(plugin.id, prefix=request.prefix, after=request.after, limit=request.limit)
        return state_page(*found)

    async def _state_get(self, request: control.PluginsStateGet, _: Caller) -> results.StateEntry:
        plugin = self._parts.registry.get(request.plugin)
        found, value, revision = await self._parts.state.get(plugin.id, request.key)
        if not found:
            shown = request.key if len(request.key) <= _SHOWN_CHARS else f"{request.key[:_SHOWN_CHARS]}…"
            raise NotFound(
                f"plugin {plugin.key!r} has stored nothing under {shown!r}",
                plugin=plugin.key,
                key=request.key,
            )
        return {"key": request.key, "value": value, "revision": revision}
