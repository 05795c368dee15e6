"""audit.list: the handler."""

from __future__ import annotations

from typing import Any, Final

from supervisor.control.access import Caller
from supervisor.control.paging import as_many_as_fit
from supervisor.control.parts import Handlers, Parts
from supervisor.core.errors import InvalidParams
from supervisor.store.audit import MAX_PAGE, UNDER_WAY, AuditFilter
from supervisor.wire import control, results

_MOST_GLOBS: Final = 100
_GLOB_CHARS: Final = 200


class AuditMethods:
    def __init__(self, parts: Parts) -> None:
        self._audit = parts.audit
        self._names = parts.names
        self._registry = parts.registry
        self.handlers: Handlers = {control.AuditList: self._list}

    async def _list(self, request: control.AuditList, _: Caller) -> list[results.AuditEntry]:
        if not 1 <= request.limit <= MAX_PAGE:
            raise InvalidParams(f"limit must be from 1 to {MAX_PAGE}, not {request.limit}", limit=request.limit)
        if len(request.methods) > _MOST_GLOBS or max(map(len, request.methods), default=0) > _GLOB_CHARS:
            raise InvalidParams(
                f"methods may have {_MOST_GLOBS} entries of {_GLOB_CHARS} characters each; none means all"
            )
        only = AuditFilter(
            methods=request.methods,
            targets=self._called(request.target),
            uid=request.uid,
            result=request.result,
            since_ms=request.since_ms,
            until_ms=request.until_ms,
        )
        rows = await self._audit.list(only, before=request.before, limit=request.limit)
        entries: list[Any] = as_many_as_fit({**row, "user": None} for row in rows)
        for entry in entries:
            entry["user"] = await self._names.of(entry["uid"])
            entry["result"] = entry["result"] or UNDER_WAY
        return entries

    def _called(self, target: str | None) -> tuple[str, ...]:
        """Whoever asks for a plugin's changes wants them all, whether it was named by key or by id."""
        if target is None:
            return ()
        plugin = next((plugin for plugin in self._registry.all() if target in (plugin.key, plugin.id)), None)
        return (target,) if plugin is None else (plugin.key, plugin.id)
