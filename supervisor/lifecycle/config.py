"""Configurator: a plugin's configuration is refused, or stored and given to its worker, under the plugin's lock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from supervisor.core.errors import (
    ActivationFailed,
    CallCancelled,
    FailedPrecondition,
    NotFound,
    SupervisorError,
    error_from_code,
)
from supervisor.core.lifecycle import Status, wants_worker
from supervisor.core.manifest import Manifest
from supervisor.core.plugin import Plugin
from supervisor.core.problem import Problem
from supervisor.core.secrets import hide, unmask
from supervisor.faultpoints import FaultPoint, FaultPoints
from supervisor.lifecycle.config_checks import ANSWER_S, ConfigChecker, hidden, plain_problem
from supervisor.lifecycle.config_giver import given_config
from supervisor.lifecycle.config_references import References, notes_on
from supervisor.lifecycle.config_results import (
    ConfigRevision,
    ConfigVerdict,
    ShownConfig,
    refusal,
    shown_config,
    shown_revision,
)
from supervisor.lifecycle.locks import PluginLock, PluginLocks
from supervisor.log import get_logger
from supervisor.store.configs import ConfigStore, StoredConfig, revision_conflict, same_value
from supervisor.store.plugins import PluginRegistry
from supervisor.wire.worker import CONFIG_CHANGED
from supervisor.worker.host import GivenConfig
from supervisor.worker.manager import WorkerManager
from supervisor.worker.phase import Phase

Restart = Callable[[Plugin, PluginLock], Awaitable[object]]
"""Stop the worker of a ready plugin, whose lock is held, and start it; return when the new one has shaken hands.

Raises: SupervisorError, as `LifecycleManager.restart_worker`."""
_BEGUN: Final = frozenset({Phase.STARTING, Phase.RUNNING, Phase.BACKOFF})
"""Phases in which a worker may have been told an older configuration, or waits because it was."""


class Configurator:
    """What was stored and not told, because the daemon was killed in between, the next start tells."""

    def __init__(
        self,
        registry: PluginRegistry,
        configs: ConfigStore,
        workers: WorkerManager,
        locks: PluginLocks,
        references: References,
        faults: FaultPoints,
        *,
        restart: Restart,
    ) -> None:
        self._registry = registry
        self._configs = configs
        self._workers = workers
        self._locks = locks
        self._checker = ConfigChecker(workers, references)
        self._faults = faults
        self._restart = restart

    async def get(self, name: str) -> ShownConfig:
        """Raises: NotFound."""
        plugin = self._registry.get(name)
        return shown_config(plugin, await self._configs.get(plugin.id))

    async def set(
        self,
        name: str,
        config: Mapping[str, Any],
        *,
        merge: bool = False,
        expected_revision: int | None = None,
        uid: int | None,
    ) -> ShownConfig:
        """Check a configuration, store it, and give it to the worker, or restart that. With `merge` (RFC 7396) it is
        laid over what is there. What is there already is not stored again.

        Raises:
            NotFound, FailedPrecondition: there is no such plugin; it is uninstalled.
            Conflict: the revision is not the expected one; details: revision, expected.
            InvalidParams: all that is wrong with it; details: problems. Nothing was stored.
            DeadlineExceeded: the worker did not check it within 10 s. Nothing was stored.
            ActivationFailed: it is stored, and the worker did not come up with it.
            CallCancelled: the worker was stopped by another command while it checked. Nothing was stored.
        """
        async with self._locks.hold(self._registry.get(name).key) as lock:
            plugin = self._registry.get(name)
            before = await self._configs.get(plugin.id)
            if expected_revision not in (None, before.revision):
                raise revision_conflict(plugin, before.revision, expected_revision)
            wanted, problems = _wanted(plugin, config, before, merge=merge)
            if problems:
                raise refusal(f"the configuration of plugin {plugin.key!r}", problems)
            shown = await self._change(plugin, before, wanted, lock, uid)
            return replace(shown, notes=tuple(notes_on(config)))

    async def test(self, name: str, config: Mapping[str, Any] | None = None, *, merge: bool = False) -> ConfigVerdict:
        """Check a configuration as `set` does, None the stored one, and change nothing.

        Raises:
            NotFound, FailedPrecondition, DeadlineExceeded: as `set`.
        """
        plugin = self._registry.get(name)
        _refuse_uninstalled(plugin)
        before = await self._configs.get(plugin.id)
        wanted, problems = dict(before.data), list[Problem]()
        if config is not None:
            wanted, problems = _wanted(plugin, config, before, merge=merge)
        if not problems:
            resolved, problems = await self._checker.resolve(plugin.manifest, wanted)
        if problems:
            return ConfigVerdict(problems=tuple(problems), asked_worker=False)
        told = await self._checker.ask_worker(plugin, given_config(plugin, resolved))
        return ConfigVerdict(problems=tuple(told or ()), asked_worker=told is not None)

    async def history(self, name: str) -> list[ConfigRevision]:
        """Newest first; at most 21."""
        plugin = self._registry.get(name)
        kept = await self._configs.history(plugin.id)
        return [shown_revision(stored, current=stored is kept[0]) for stored in kept]

    async def restore(self, name: str, revision: int | None = None, *, uid: int | None) -> ShownConfig:
        """Set an earlier configuration again: `revision`, or the newest one that a worker has taken and that is not
        what is there now. It becomes a revision of its own.

        Raises:
            NotFound: there is none such.
            SupervisorError: as `set`.
        """
        async with self._locks.hold(self._registry.get(name).key) as lock:
            plugin = self._registry.get(name)
            before = await self._configs.get(plugin.id)
            chosen = _chosen(plugin, await self._configs.history(plugin.id), before, revision)
            return await self._change(plugin, before, dict(chosen.data), lock, uid)

    async def refuse_misfit(self, plugin: Plugin, manifest: Manifest) -> None:
        """
        Raises:
            InvalidParams: the plugin has a configuration, and it does not fit the schema of this version's manifest.
        """
        stored = await self._configs.get(plugin.id)
        if not stored.revision:
            return
        _, problems = await self._checker.resolve(manifest, stored.data)
        if problems:
            what = f"for version {manifest.version} the stored configuration of plugin {plugin.key!r}"
            way_out = (
                "\neither set one that fits both versions first; or, where there can be none: disable the plugin, "
                "change its version, then set one that fits the new one (plugins.config_set), or bring an earlier one "
                "back (plugins.config_restore), and enable it"
            )
            raise refusal(what, problems, way_out)

    async def _change(
        self, plugin: Plugin, before: StoredConfig, wanted: dict[str, Any], lock: PluginLock, uid: int | None
    ) -> ShownConfig:
        _refuse_uninstalled(plugin)
        resolved, problems = await self._checker.resolve(plugin.manifest, wanted)
        if problems:
            raise refusal(f"the configuration of plugin {plugin.key!r}", problems)
        if same_value(dict(before.data), wanted):
            return shown_config(plugin, before)
        given = given_config(plugin, resolved)
        await self._let_worker_check(plugin, given, lock)
        after = await self._configs.set(plugin, wanted, expected_revision=before.revision, uid=uid)
        self._faults.reach(FaultPoint.CONFIG_STORED)
        get_logger().info("config.set", plugin=plugin.key, revision=after.revision, uid=uid)
        restarted = await self._tell(plugin, replace(given, revision=after.revision), lock)
        self._faults.reach(FaultPoint.CONFIG_TOLD)
        return shown_config(plugin, await self._configs.get(plugin.id), restarted=restarted, changed=True)

    async def _let_worker_check(self, plugin: Plugin, given: GivenConfig, lock: PluginLock) -> None:
        with lock.activation():
            if problems := await self._checker.ask_worker(plugin, given):
                raise refusal(f"the configuration of plugin {plugin.key!r}", problems)
            return
        raise CallCancelled(
            f"{lock.overtaken_by} of {plugin.key!r} came while its worker checked the configuration: nothing was "
            "stored; try again",
            plugin=plugin.key,
        )

    async def _tell(self, plugin: Plugin, given: GivenConfig, lock: PluginLock) -> bool:
        """Let the worker have it; whether it was restarted for it. One that is about to start anyway is told then."""
        if plugin.manifest.worker.transport != "rpc" or not wants_worker(plugin.status):
            return False
        if self._checker.can_ask(plugin) and await self._was_taken(plugin, given, lock):
            return False
        if not self._workers.wanted(plugin.id) or self._workers.phase(plugin.id) not in _BEGUN:
            return False
        try:
            await self._restart(plugin, lock)
        except CallCancelled:
            return False  # Another command has stopped it; whoever starts it again starts it with this.
        except SupervisorError as error:
            raise _not_in_use(plugin, given, hidden(error, given)) from error
        return True

    async def _was_taken(self, plugin: Plugin, given: GivenConfig, lock: PluginLock) -> bool:
        with lock.activation():
            try:
                params = {"config": given.config}
                await self._workers.call(plugin.id, CONFIG_CHANGED, params, timeout_s=ANSWER_S, secrets=given.secrets)
            except SupervisorError as error:
                why = hide(error.message, given.secrets)
                get_logger().info("config.not_taken", plugin=plugin.key, revision=given.revision, why=why)
                return False
            await self._configs.mark_good(plugin.id, given.revision)
            return True
        return False  # Whoever stops it was quicker.


def _wanted(
    plugin: Plugin, config: Mapping[str, Any], before: StoredConfig, *, merge: bool
) -> tuple[dict[str, Any], list[Problem]]:
    """The configuration that is asked for, with the secrets that its masks stand for."""
    # Before anything walks through it.
    if problem := plain_problem(config):
        return {}, [problem]
    wanted = merged(before.data, config) if merge else dict(config)
    unmasked, unknown = unmask(plugin.manifest.config_schema, wanted, before.data)
    return unmasked, [Problem(path=path, message=message) for path, message in unknown]


def merged(before: Any, patch: Mapping[str, Any]) -> dict[str, Any]:
    """`patch` laid over `before`, as RFC 7396 has it: null takes away. Pure."""
    after = dict(before) if isinstance(before, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            after.pop(name, None)
        else:
            after[name] = merged(after.get(name), value) if isinstance(value, Mapping) else value
    return after


def _chosen(plugin: Plugin, kept: list[StoredConfig], before: StoredConfig, revision: int | None) -> StoredConfig:
    if revision is None:
        others = (each for each in kept if each.good and not same_value(dict(each.data), dict(before.data)))
        if (chosen := next(others, None)) is not None:
            return chosen
        raise NotFound(
            f"plugin {plugin.key!r} has no other configuration that a worker has taken; name one of {_known(kept)}",
            plugin=plugin.key,
        )
    chosen = next((each for each in kept if each.revision == revision), None)
    if chosen is None:
        raise NotFound(
            f"plugin {plugin.key!r} has no configuration with revision {revision}; it has {_known(kept)}",
            plugin=plugin.key,
            revision=revision,
        )
    return chosen


def _known(kept: list[StoredConfig]) -> str:
    return ", ".join(str(each.revision) for each in kept) or "none"


def _refuse_uninstalled(plugin: Plugin) -> None:
    if plugin.status is Status.UNINSTALLED:
        raise FailedPrecondition(
            f"plugin {plugin.key!r} is uninstalled: install it before you configure it", plugin=plugin.key
        )


def _not_in_use(plugin: Plugin, given: GivenConfig, error: SupervisorError) -> SupervisorError:
    """It is stored all the same, and what follows says how to go back."""
    failed = isinstance(error, ActivationFailed)
    what = "its worker did not come up with it" if failed else "its worker could not be restarted with it"
    return error_from_code(
        error.code,
        f"configuration {given.revision} of plugin {plugin.key!r} is stored, but {what}: {error.message}\n"
        "to go back to the last one that a worker has taken: plugins.config_restore",
        {**error.details, "plugin": plugin.key, "revision": given.revision},
    )
