"""Calling a plugin's method, for clients of the socket and for other plugins."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from supervisor.control.views import plugin_info
from supervisor.core.errors import InvalidParams, NotFound, Unavailable
from supervisor.core.manifest import MethodSpec
from supervisor.core.plugin import Plugin, PluginKey
from supervisor.lifecycle.schemas import SchemaChecks
from supervisor.store.plugins import PluginRegistry
from supervisor.wire.worker import CALL
from supervisor.worker.manager import WorkerManager
from supervisor.worker.phase import Phase


class MethodCaller:
    """`default_timeout_s` is the deadline of a method that has none of its own."""

    def __init__(self, registry: PluginRegistry, workers: WorkerManager, default_timeout_s: float) -> None:
        self._registry = registry
        self._workers = workers
        self.default_timeout_s = default_timeout_s
        self._checks = SchemaChecks()

    async def call(
        self, name: str, method: str, params: Any, *, timeout_s: float | None, caller: PluginKey | None = None
    ) -> Any:
        """What the method returns; cancelled, it tells the worker. `caller` is the plugin that calls, None a client.

        Raises:
            NotFound: there is no plugin of that name, or it declares no such method (details: plugin, method).
            InvalidParams: the params do not fit the method's schema.
            ResourceExhausted: too many params are being checked that take long.
            Unavailable: its worker does not run; the message says why and what comes next.
            SupervisorError: as `WorkerManager.call`.
        """
        plugin = self._registry.get(name)
        declared = _declared(plugin, method)
        # `not >`: that is so for NaN too.
        if timeout_s is not None and not timeout_s > 0:
            raise InvalidParams(f"timeout_s must be positive, not {timeout_s!r}")
        if declared.params_schema:
            sent = {} if params is None else params
            await self._checks.validate(plugin.key, declared.params_schema, sent, f"params of {method}")
        self._refuse_unless_running(plugin)
        told = {"method": method, "params": params} | ({} if caller is None else {"caller": caller})
        timeout_s = timeout_s or declared.timeout_s or self.default_timeout_s
        return await self._workers.call(plugin.id, CALL, told, timeout_s=timeout_s)

    def _refuse_unless_running(self, plugin: Plugin) -> None:
        phase = self._workers.phase(plugin.id)
        if phase is Phase.RUNNING:
            return
        info = plugin_info(plugin, self._workers.view(plugin.id))
        raise Unavailable(
            f"plugin {plugin.key!r} takes no calls now: {info['summary']}",
            plugin=plugin.key,
            status=str(plugin.status),
            phase=str(phase),
        )


def _declared(plugin: Plugin, name: str) -> MethodSpec:
    for method in plugin.manifest.methods:
        if method.name == name:
            return method
    offered = ", ".join(method.name for method in plugin.manifest.methods) or "none"
    near = get_close_matches(name[:100], [method.name for method in plugin.manifest.methods], n=1)
    meant = f"; did you mean {near[0]!r}?" if near else f"; it offers {offered}"
    raise NotFound(f"plugin {plugin.key!r} has no method {name[:100]!r}{meant}", plugin=plugin.key, method=name[:100])
