"""plugins.config_*: handlers."""

from __future__ import annotations

from supervisor.control.access import Caller
from supervisor.control.parts import Handlers, Parts
from supervisor.lifecycle.config_results import ConfigRevision, ShownConfig
from supervisor.wire import control, results


class ConfigMethods:
    def __init__(self, parts: Parts) -> None:
        self._config = parts.config
        self.handlers: Handlers = {
            control.PluginsConfigGet: self._get,
            control.PluginsConfigSet: self._set,
            control.PluginsConfigTest: self._test,
            control.PluginsConfigHistory: self._history,
            control.PluginsConfigRestore: self._restore,
        }

    async def _get(self, request: control.PluginsConfigGet, _: Caller) -> results.ConfigInfo:
        return _shown(await self._config.get(request.plugin))

    async def _set(self, request: control.PluginsConfigSet, caller: Caller) -> results.ConfigInfo:
        shown = await self._config.set(
            request.plugin,
            request.config,
            merge=request.merge,
            expected_revision=request.expected_revision,
            uid=caller.uid,
        )
        return _shown(shown)

    async def _test(self, request: control.PluginsConfigTest, _: Caller) -> results.ConfigVerdict:
        verdict = await self._config.test(request.plugin, request.config, merge=request.merge)
        problems: list[results.ConfigProblem] = [
            {"path": problem.path, "message": problem.message} for problem in verdict.problems
        ]
        return {"ok": verdict.ok, "problems": problems, "asked_worker": verdict.asked_worker}

    async def _history(self, request: control.PluginsConfigHistory, _: Caller) -> list[results.ConfigRevisionInfo]:
        return [_revision(revision) for revision in await self._config.history(request.plugin)]

    async def _restore(self, request: control.PluginsConfigRestore, caller: Caller) -> results.ConfigInfo:
        return _shown(await self._config.restore(request.plugin, request.revision, uid=caller.uid))


def _shown(shown: ShownConfig) -> results.ConfigInfo:
    return {
        "config": dict(shown.config),
        "secrets": list(shown.secrets),
        "revision": shown.revision,
        "good": shown.good,
        "set_at_ms": shown.set_at_ms,
        "uid": shown.uid,
        "config_schema": dict(shown.config_schema),
        "restarted": shown.restarted,
        "changed": shown.changed,
        "notes": list(shown.notes),
    }


def _revision(revision: ConfigRevision) -> results.ConfigRevisionInfo:
    return {
        "revision": revision.revision,
        "current": revision.current,
        "good": revision.good,
        "set_at_ms": revision.set_at_ms,
        "uid": revision.uid,
        "names": list(revision.names),
    }
