"""All that the daemon knows of a plugin, put together for the socket."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from supervisor.clock import to_ms
from supervisor.control.parts import Parts
from supervisor.control.views import Outlook, plugin_details, plugin_info
from supervisor.core.package import Version
from supervisor.core.plugin import Plugin
from supervisor.wire import results
from supervisor.worker.containment import Ward
from supervisor.worker.view import WorkerView


class Portrait:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def info(self, plugin: Plugin) -> results.PluginInfo:
        worker = self._parts.workers.view(plugin.id)
        return plugin_info(plugin, worker, self._outlook(plugin, worker))

    async def infos_with_usage(self, plugins: Sequence[Plugin]) -> list[results.PluginInfo]:
        workers = [self._parts.workers.view(plugin.id) for plugin in plugins]
        usage = await self._parts.containment.usage(worker.pid for worker in workers if worker.pid is not None)
        return [
            plugin_info(plugin, worker, self._outlook(plugin, worker), usage.get(worker.pid or 0))
            for plugin, worker in zip(plugins, workers, strict=True)
        ]

    async def details(self, plugin: Plugin, *, pss: bool) -> results.PluginDetails:
        approvals = await self._parts.registry.approvals(plugin.id)
        worker = self._parts.workers.view(plugin.id)
        containment = self._parts.containment
        ward = containment.ward(worker.pid) if worker.pid is not None else None
        usage = await self._usage(ward, pss=pss)
        return plugin_details(
            plugin,
            worker,
            self._parts.places.shown(plugin),
            self._outlook(plugin, worker),
            self._parts.lifecycle.requirements.required_by(plugin.key),
            usage=usage,
            limits=ward.limits if ward else containment.foresee(plugin.manifest.worker.limits),
            approvals=[
                {"capability": capability, "uid": uid, "approved_at_ms": at_ms} for capability, uid, at_ms in approvals
            ],
        )

    async def _usage(self, ward: Ward | None, *, pss: bool) -> results.UsageInfo | None:
        usage = (await self._parts.containment.usage([ward.pid])).get(ward.pid) if ward else None
        if ward is None or usage is None or not pss:
            return usage
        return {**usage, "pss_bytes": await ward.pss_bytes()}

    def versions(self, plugin: Plugin) -> list[results.VersionInfo]:
        """Newest first."""
        found = self._parts.registry.versions(plugin.id)
        return [_version(version, plugin) for version in reversed(found)]

    def _outlook(self, plugin: Plugin, worker: WorkerView) -> Outlook:
        requirements, registry = self._parts.lifecycle.requirements, self._parts.registry
        active = registry.version(plugin.id, plugin.package_dir)
        return Outlook(
            recovery_in_s=self._parts.next_recovery_in_s(plugin.id),
            standings={key: requirements.standing(key).words for key in worker.waiting_for},
            active=active,
            staged=registry.version(plugin.id, plugin.staged_dir),
            previous=registry.version(plugin.id, active.previous_dir) if active else None,
            probation_left_s=self._left_s(plugin.probation_until),
        )

    def _left_s(self, until: datetime | None) -> float | None:
        if until is None:
            return None
        left_s = (until - self._parts.clock.now()).total_seconds()
        return left_s if left_s > 0 else None


def _version(version: Version, plugin: Plugin) -> results.VersionInfo:
    states = {plugin.package_dir: "active", plugin.staged_dir: "staged"}
    return {
        "version": version.version,
        "digest": version.digest,
        "state": states.get(version.package_dir, "kept"),
        "source": version.source,
        "index_url": version.index_url,
        "find_links": list(version.find_links),
        "stored_at_ms": to_ms(version.stored_at),
        "activated_at_ms": to_ms(version.activated_at) if version.activated_at else None,
        "package_dir": version.package_dir,
        "capabilities": sorted(version.manifest.capabilities),
    }
