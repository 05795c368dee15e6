"""Request type -> handler: what the socket's methods do, from all nouns; and the daemon's own."""

from __future__ import annotations

from collections import Counter

from supervisor.channel import Immediate
from supervisor.clock import to_ms
from supervisor.control.access import Caller
from supervisor.control.audit_methods import AuditMethods
from supervisor.control.config_methods import ConfigMethods
from supervisor.control.describe import describe
from supervisor.control.job_methods import JobMethods
from supervisor.control.package_methods import PackageMethods
from supervisor.control.paging import PAGE_BYTES
from supervisor.control.params import absolute
from supervisor.control.parts import Handlers, Operations, Parts
from supervisor.control.plugin_methods import PluginMethods
from supervisor.control.portrait import Portrait
from supervisor.control.record_methods import RecordMethods
from supervisor.core.errors import ResourceExhausted
from supervisor.metrics import CONTENT_TYPE
from supervisor.store.plugins import PluginRegistry
from supervisor.wire import control, results
from supervisor.worker.manager import WorkerManager

__all__ = ["Methods", "Parts", "daemon_status"]


class Methods:
    """`handlers` and `operations` have one for every method but those of the connection itself (hello, subscriptions).

    `operations` are those that tell progress and can be cancelled.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        portrait = Portrait(parts)
        packages = PackageMethods(parts, portrait)
        self.operations: Operations = packages.operations
        self.handlers: Handlers = {
            **self._daemon_handlers(),
            **PluginMethods(parts, portrait).handlers,
            **packages.handlers,
            **ConfigMethods(parts).handlers,
            **JobMethods(parts).handlers,
            **RecordMethods(parts).handlers,
            **AuditMethods(parts).handlers,
        }

    def _daemon_handlers(self) -> Handlers:
        daemon = self._parts.daemon
        return {
            control.Describe: lambda _request, _caller: Immediate(describe()),
            control.DaemonPing: lambda _request, _caller: Immediate(self._pong()),
            control.DaemonInfo: lambda _request, _caller: Immediate(daemon.info()),
            control.DaemonStatus: lambda _request, _caller: Immediate(daemon.status()),
            control.DaemonSettings: lambda _request, _caller: Immediate(daemon.settings()),
            control.DaemonReload: lambda _request, _caller: daemon.reload(),
            control.DaemonStop: self._stop_daemon,
            control.DaemonBackup: self._backup,
            control.DaemonMetrics: self._metrics,
        }

    def _pong(self) -> results.Pong:
        return {"pong": True, "now_ms": to_ms(self._parts.clock.now())}

    async def _stop_daemon(self, _: control.DaemonStop, caller: Caller) -> results.Done:
        self._parts.daemon.request_stop(f"uid {caller.uid} asked for it over the socket")
        return {"ok": True}

    async def _backup(self, request: control.DaemonBackup, _: Caller) -> results.Done:
        path = absolute("path", request.path)
        await self._parts.daemon.backup(path)
        return {"ok": True}

    async def _metrics(self, request: control.DaemonMetrics, _: Caller) -> results.MetricsText:
        text = await self._parts.daemon.metrics(plugins=request.plugins)
        size, most = len(text.encode()), PAGE_BYTES
        if size > most:
            raise ResourceExhausted(
                f"the numbers are {size} bytes long, and at most {most} fit into an answer: ask without those of the "
                "plugins (plugins = false), or have all of them scraped (the setting metrics_listen)",
                limit=most,
            )
        return {"content_type": CONTENT_TYPE, "text": text}


def daemon_status(registry: PluginRegistry, workers: WorkerManager) -> tuple[dict[str, int], dict[str, int]]:
    """How many plugins have each status, and how many workers are in each phase."""
    plugins = registry.all()
    statuses = Counter(str(plugin.status) for plugin in plugins)
    phases = Counter(str(workers.phase(plugin.id)) for plugin in plugins)
    return dict(statuses), dict(phases)
