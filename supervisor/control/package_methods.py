"""plugins.install, upgrade, approve, reject, rollback, versions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from supervisor.channel import Immediate
from supervisor.control.access import Caller
from supervisor.control.parts import Answer, Handlers, Operations, Parts
from supervisor.control.portrait import Portrait
from supervisor.core.errors import FailedPrecondition, InvalidParams
from supervisor.core.plugin import Capability, capability_fault
from supervisor.lifecycle.operation import Operation
from supervisor.lifecycle.sources import Source, own_source, read_source
from supervisor.wire import control, results

_MAX_PROBATION_S: Final = 30 * 86_400.0


class PackageMethods:
    """`operations` are those that tell progress and can be cancelled."""

    def __init__(self, parts: Parts, portrait: Portrait) -> None:
        self._parts = parts
        self._lifecycle = parts.lifecycle
        self._portrait = portrait
        self.operations: Operations = {control.PluginsInstall: self._install, control.PluginsUpgrade: self._upgrade}
        self.handlers: Handlers = {
            control.PluginsApprove: self._approve,
            control.PluginsReject: self._reject,
            control.PluginsRollback: self._rollback,
            control.PluginsVersions: self._versions,
        }

    async def _install(
        self, request: control.PluginsInstall, caller: Caller, operation: Operation
    ) -> results.PluginInfo:
        agreed = None if request.capabilities is None else _capabilities(request.capabilities)
        source = _source(request.source, request, editable=request.editable)
        plugin = await self._lifecycle.install(source, uid=caller.uid, agreed=agreed, operation=operation)
        return self._portrait.info(plugin)

    async def _upgrade(
        self, request: control.PluginsUpgrade, caller: Caller, operation: Operation
    ) -> results.PluginInfo:
        _check_upgrade(request)
        plugin = await self._lifecycle.upgrade(
            request.plugin,
            source=None if request.version is not None else self._source_of(request),
            version=request.version,
            uid=caller.uid,
            approve=request.approve,
            agreed=_capabilities(request.capabilities or ()),
            probation_s=request.probation_s,
            operation=operation,
        )
        return self._portrait.info(plugin)

    def _source_of(self, request: control.PluginsUpgrade) -> Source:
        if request.source is not None:
            return _source(request.source, request, editable=request.editable)
        if request.editable:
            raise InvalidParams("editable goes with a source: name the directory to run in place")
        registry = self._parts.registry
        plugin = registry.get(request.plugin)
        active = registry.version(plugin.id, plugin.package_dir)
        if active is None:
            raise FailedPrecondition(f"plugin {plugin.key!r} is {plugin.status}: name a source", plugin=plugin.key)
        return own_source(active, index_url=request.index_url, find_links=request.find_links, hashes=request.hashes)

    async def _approve(self, request: control.PluginsApprove, caller: Caller) -> results.PluginInfo:
        plugin = await self._lifecycle.approve(request.plugin, uid=caller.uid, version=request.version)
        return self._portrait.info(plugin)

    async def _reject(self, request: control.PluginsReject, caller: Caller) -> results.PluginInfo:
        return self._portrait.info(await self._lifecycle.reject(request.plugin, uid=caller.uid))

    async def _rollback(self, request: control.PluginsRollback, caller: Caller) -> results.PluginInfo:
        plugin = await self._lifecycle.rollback(request.plugin, uid=caller.uid, version=request.version)
        return self._portrait.info(plugin)

    def _versions(self, request: control.PluginsVersions, _: Caller) -> Answer:
        return Immediate(self._portrait.versions(self._parts.registry.get(request.plugin)))


def _source(text: str, request: control.PluginsInstall | control.PluginsUpgrade, *, editable: bool = False) -> Source:
    return read_source(
        text,
        editable=editable,
        index_url=request.index_url,
        find_links=tuple(request.find_links),
        hashes=tuple(request.hashes),
    )


def _capabilities(names: Iterable[str]) -> frozenset[Capability]:
    """
    Raises:
        InvalidParams: one is none; the message says what may be meant.
    """
    for name in names:
        if fault := capability_fault(name):
            hint = f"; {fault.hint}" if fault.hint else ""
            raise InvalidParams(f"capabilities: {name[:100]!r} {fault.message}{hint}", capability=name[:100])
    return frozenset(map(Capability, names))


def _check_upgrade(request: control.PluginsUpgrade) -> None:
    """
    Raises:
        InvalidParams: params that do not go together.
    """
    if request.source is not None and request.version is not None:
        raise InvalidParams("name either source, where the new version is, or version, one that is kept, and not both")
    fetching = {
        "index_url": request.index_url,
        "find_links": request.find_links,
        "hashes": request.hashes,
        "editable": request.editable,
    }
    given = [name for name, value in fetching.items() if value]
    if request.version is not None and given:
        raise InvalidParams(f"{given[0]} goes with a source: a version that is kept is not fetched")
    seconds = request.probation_s
    # `not <`: that is so for NaN too.
    if seconds is not None and not 0 < seconds <= _MAX_PROBATION_S:
        raise InvalidParams(f"probation_s must be above 0 and at most {_MAX_PROBATION_S:g}, not {seconds!r}")
