"""plugins.*: what is known of plugins, and commands on their status and worker."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final

import trio

from supervisor.channel import Immediate
from supervisor.control.access import Caller
from supervisor.control.params import bounded, one_of
from supervisor.control.parts import Answer, Handlers, Parts
from supervisor.control.portrait import Portrait
from supervisor.control.waiting import first_of
from supervisor.core.errors import DeadlineExceeded, InvalidParams, NotFound, SupervisorError
from supervisor.core.lifecycle import Status, can_transition
from supervisor.core.plugin import Plugin, PluginId
from supervisor.wire import control, results
from supervisor.wire import worker as worker_methods
from supervisor.worker.phase import Phase

_MAX_REASON: Final = 500
_MAX_ERROR: Final = 8000
_MAX_WAIT_S: Final = 7 * 86_400.0


class PluginMethods:
    def __init__(self, parts: Parts, portrait: Portrait) -> None:
        self._parts = parts
        self._portrait = portrait
        self._info = portrait.info
        lifecycle = parts.lifecycle
        self.handlers: Handlers = {
            control.PluginsList: self._list,
            control.PluginsGet: self._get,
            control.PluginsCanTransition: lambda request, _caller: Immediate(self._can_transition(request)),
            control.PluginsLoad: lambda request, _caller: self._seen(lifecycle.load(request.plugin)),
            control.PluginsEnable: lambda request, _caller: self._seen(lifecycle.enable(request.plugin)),
            control.PluginsDisable: lambda request, _caller: self._seen(
                lifecycle.disable(request.plugin, bounded("reason", request.reason, _MAX_REASON))
            ),
            control.PluginsUnload: self._unload,
            control.PluginsMarkError: lambda request, _caller: self._seen(
                lifecycle.mark_error(request.plugin, bounded("error", request.error, _MAX_ERROR))
            ),
            control.PluginsMarkUpgradePending: lambda request, _caller: self._seen(
                lifecycle.mark_upgrade_pending(request.plugin)
            ),
            control.PluginsStart: lambda request, _caller: self._seen(lifecycle.start_worker(request.plugin)),
            control.PluginsStop: lambda request, _caller: self._seen(lifecycle.stop_worker(request.plugin)),
            control.PluginsRestart: lambda request, _caller: self._seen(lifecycle.restart_worker(request.plugin)),
            control.PluginsWait: self._wait,
            control.PluginsHealth: self._health,
            control.PluginsCall: self._call,
        }

    def _list(self, request: control.PluginsList, _: Caller) -> Answer:
        wanted = None if request.status is None else one_of(Status, request.status, "status")
        hidden = Status.UNINSTALLED if wanted is None and not request.include_uninstalled else None
        plugins = [
            plugin
            for plugin in self._parts.registry.all()
            if plugin.status is not hidden and wanted in {None, plugin.status}
        ]
        if request.usage:
            return self._portrait.infos_with_usage(plugins)
        return Immediate([self._info(plugin) for plugin in plugins])

    def _get(self, request: control.PluginsGet, _: Caller) -> Answer:
        return self._portrait.details(self._parts.registry.get(request.plugin), pss=request.pss)

    def _can_transition(self, request: control.PluginsCanTransition) -> results.TransitionAnswer:
        plugin = self._parts.registry.get(request.plugin)
        to = one_of(Status, request.to, "to")
        return {"allowed": can_transition(plugin.status, to), "status": str(plugin.status), "to": str(to)}

    async def _unload(self, request: control.PluginsUnload, _: Caller) -> results.Done:
        await self._parts.lifecycle.unload(request.plugin, remove_data=request.remove_data)
        return {"ok": True}

    def _still_there(self, plugin_id: PluginId, name: str) -> Plugin:
        """
        Raises:
            NotFound: it is gone; as the caller named it.
        """
        plugin = self._parts.registry.find(plugin_id)
        if plugin is None:
            raise NotFound(f"there is no plugin {name!r} any more", plugin=name)
        return plugin

    async def _wait(self, request: control.PluginsWait, _: Caller) -> results.PluginInfo:
        status = None if request.status is None else one_of(Status, request.status, "status")
        phase = None if request.phase is None else one_of(Phase, request.phase, "phase")
        if not 0 <= request.timeout_s <= _MAX_WAIT_S:
            raise InvalidParams(f"timeout_s must be from 0 to {_MAX_WAIT_S:g}, not {request.timeout_s!r}")
        plugin_id = self._parts.registry.get(request.plugin).id
        with trio.move_on_after(request.timeout_s):
            while True:
                # Taken before the look, so that no change falls between the two.
                changes = self._parts.workers.changed(plugin_id), self._parts.bus.changed(plugin_id)
                plugin = self._still_there(plugin_id, request.plugin)
                if status in {None, plugin.status} and phase in {None, self._parts.workers.phase(plugin_id)}:
                    return self._info(plugin)
                await first_of(*(change.wait for change in changes))
        seen = self._info(self._still_there(plugin_id, request.plugin))
        raise DeadlineExceeded(
            f"{seen['key']!r} was not {' and '.join(str(w) for w in (status, phase) if w)} within "
            f"{request.timeout_s:g} s: it is {seen['status']}, its worker {seen['phase']}",
            status=seen["status"],
            phase=seen["phase"],
        )

    async def _health(self, request: control.PluginsHealth, _: Caller) -> results.HealthInfo:
        plugin = self._parts.registry.get(request.plugin)
        phase = self._parts.workers.phase(plugin.id)
        if phase is not Phase.RUNNING or plugin.manifest.worker.transport == "none":
            message = self._info(plugin)["summary"]
            return {"healthy": phase is Phase.RUNNING, "phase": phase, "message": message, "answer_ms": None}
        asked = trio.current_time()
        timeout_s = plugin.manifest.worker.health.timeout_s
        try:
            answer = await self._parts.workers.call(plugin.id, worker_methods.HEALTH, {}, timeout_s=timeout_s)
        except SupervisorError as error:
            return {"healthy": False, "phase": phase, "message": error.message, "answer_ms": None}
        told = answer if isinstance(answer, dict) else {}
        return {
            "healthy": told.get("status") in {"ok", "degraded"},
            "phase": phase,
            "message": str(told.get("message") or told.get("status")),
            "answer_ms": (trio.current_time() - asked) * 1000,
        }

    async def _call(self, request: control.PluginsCall, _: Caller) -> results.CallResult:
        result = await self._parts.methods.call(
            request.plugin, request.method, request.params, timeout_s=request.timeout_s
        )
        return {"result": result}

    async def _seen(self, command: Coroutine[Any, Any, Plugin]) -> results.PluginInfo:
        return self._info(await command)
