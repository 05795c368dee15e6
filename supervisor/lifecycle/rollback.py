"""Rollback: the version before, or another one that is kept, is the plugin's again; nothing is fetched."""

from __future__ import annotations

from typing import Final

from supervisor.core.errors import SupervisorError, UpgradeFailed
from supervisor.core.event import PluginRolledBack
from supervisor.core.lifecycle import Command
from supervisor.core.package import Version
from supervisor.core.plugin import Plugin
from supervisor.faultpoints import FaultPoint
from supervisor.lifecycle.decide import Way
from supervisor.lifecycle.exchange import Exchange, Exchanger, Points
from supervisor.lifecycle.judge import Judge
from supervisor.lifecycle.locks import PluginLock
from supervisor.lifecycle.operation import Operation
from supervisor.lifecycle.parts import Parts
from supervisor.log import get_logger

_F = FaultPoint
_ROLLBACK: Final = Points(
    stopped=_F.ROLLBACK_STOPPED,
    started=_F.ROLLBACK_STARTED,
    exchanged=_F.ROLLBACK_EXCHANGED,
    former_gone=_F.ROLLBACK_FORMER_GONE,
    told=_F.ROLLBACK_TOLD,
)
_ROLLBACK_IDLE: Final = Points(exchanged=_F.ROLLBACK_IDLE_EXCHANGED)
_PROBATION: Final = Points(
    stopped=_F.PROBATION_STOPPED,
    started=_F.PROBATION_STARTED,
    exchanged=_F.PROBATION_EXCHANGED,
    former_gone=_F.PROBATION_FORMER_GONE,
    told=_F.PROBATION_TOLD,
)


class Rollback:
    """The lifecycle manager's part that goes back."""

    def __init__(self, parts: Parts, exchanger: Exchanger, judge: Judge) -> None:
        self._parts = parts
        self._registry = parts.registry
        self._exchanger = exchanger
        self._judge = judge

    async def rollback(self, name: str, *, version: str | None) -> Plugin:
        async with self._parts.locks.hold(self._registry.get(name).key) as lock:
            plugin = self._judge.exchangeable(name, Command.ROLLBACK)
            to = self._judge.earlier(plugin, version)
            way, _ = await self._judge.decided(plugin, to.manifest, Command.ROLLBACK, approving=False)
            points = _ROLLBACK_IDLE if way is Way.EXCHANGE else _ROLLBACK
            async with self._judge.telling_failure(plugin, to.manifest, lock):
                return await self._exchanger.carry_out(_back(plugin, to, way, points, None), lock, Operation())

    async def go_back(self, plugin: Plugin, reason: str, lock: PluginLock) -> bool:
        """To the version before, as the probation of this one has failed; whether somebody has seen to it.

        Raises:
            ResourceExhausted, InternalError: it could not be stored; to be tried again.
        """
        try:
            to = self._judge.earlier(plugin, None)
            way, _ = await self._judge.decided(plugin, to.manifest, Command.ROLLBACK, approving=False)
        except SupervisorError as error:
            get_logger().warning("plugin.not_rolled_back", plugin=plugin.key, why=error.message)
            return False
        try:
            await self._exchanger.carry_out(_back(plugin, to, way, _PROBATION, reason), lock, Operation())
        except UpgradeFailed as error:
            get_logger().warning("plugin.not_rolled_back", plugin=plugin.key, why=error.message)
            return False
        return True


def _back(plugin: Plugin, to: Version, way: Way, points: Points, reason: str | None) -> Exchange:
    told = PluginRolledBack(
        plugin_id=plugin.id,
        plugin_key=plugin.key,
        from_version=plugin.version,
        to_version=to.version,
        reason=reason,
    )
    return Exchange(
        command=Command.ROLLBACK, before=plugin, to=to, way=way, forward=False, first=(told,), points=points
    )
