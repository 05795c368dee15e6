"""PluginRegistry: rows <-> Plugin. All plugins are held in memory, so looking at them costs no SQL.

What is held changes once the transaction is committed and before its events are published: whoever hears of a change
finds it here.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import peewee

from supervisor.clock import from_ms
from supervisor.core.errors import AlreadyExists, Conflict, InvalidParams, NotFound, SupervisorError
from supervisor.core.event import Event, PluginInstalled, Recorded, StatusChanged
from supervisor.core.lifecycle import Status
from supervisor.core.manifest import Manifest
from supervisor.core.plugin import Capability, Plugin, PluginId, PluginKey
from supervisor.store.database import Database, Transaction
from supervisor.store.plugin_rows import read_rows, to_plugin, write_approvals, write_installed
from supervisor.store.tables import ConfigRow, PluginRow, pack

_MAX_NAME: Final = 100
"""Characters; no key is longer."""


class PluginRegistry:
    """Names are keys or ids; an id goes first where a key looks like one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._by_id: dict[str, Plugin] = {}
        self._id_by_key: dict[str, str] = {}
        self._unreadable: set[str] = set()

    @classmethod
    async def load(cls, database: Database) -> PluginRegistry:
        """Every plugin in the database. One that cannot be read is left out, with a warning in `database.warnings`."""
        registry = cls(database)
        for row in await database.read(read_rows):
            try:
                registry._hold(to_plugin(row))
            except SupervisorError as error:
                registry._unreadable.add(row["id"])
                database.warnings.append(
                    f"plugin {row['key']!r} is left out, its stored manifest cannot be read: {error}; "
                    "install it again, its data is kept",
                )
        return registry

    def find(self, name: str) -> Plugin | None:
        return self._by_id.get(name) or self._by_id.get(self._id_by_key.get(name, ""))

    def get(self, name: str) -> Plugin:
        """
        Raises:
            NotFound: details: plugin.
        """
        plugin = self.find(name)
        if plugin is None:
            if len(name) > _MAX_NAME:
                # Told at once: comparing takes time with the length.
                shown = name[:_MAX_NAME] + "…"
                raise NotFound(f"there is no plugin {shown!r}", plugin=shown)
            near = difflib.get_close_matches(name, self._id_by_key, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise NotFound(f"there is no plugin {name!r}{hint}", plugin=name)
        return plugin

    def all(self) -> list[Plugin]:
        """In install order, uninstalled ones included."""
        return sorted(self._by_id.values(), key=lambda plugin: plugin.install_order)

    async def install(
        self,
        manifest: Manifest,
        *,
        package_dir: str,
        approved: frozenset[Capability],
        uid: int | None,
    ) -> Plugin:
        """Add a plugin with status installed, or take up the row of one that was uninstalled: its id, config, state
        and history stay. `uid` is who approved the capabilities.

        Raises:
            AlreadyExists: details: plugin, status.
        """
        unreadable = frozenset(self._unreadable)

        def work(transaction: Transaction) -> Plugin:
            former = PluginRow.select().where(PluginRow.key == manifest.key).dicts().first()
            if former and former["status"] != Status.UNINSTALLED and former["id"] not in unreadable:
                raise _already_there(former)
            plugin = write_installed(transaction.now_ms, former, manifest, package_dir, approved)
            write_approvals(plugin, uid, transaction.now_ms)
            transaction.after_commit(partial(self._hold, plugin))
            transaction.record(
                PluginInstalled(
                    plugin_id=plugin.id,
                    plugin_key=plugin.key,
                    version=plugin.version,
                    capabilities=list(manifest.capabilities),
                ),
            )
            transaction.record(
                _status_changed(plugin.id, plugin.key, former["status"] if former else None, plugin.status)
            )
            return plugin

        return await self._database.transact(work)

    async def set_status(
        self,
        plugin_id: PluginId,
        *,
        expected: Status,
        status: Status,
        error: str | None = None,
        reason: str | None = None,
        recoverable: bool = False,
        then: Sequence[Event] = (),
    ) -> Plugin:
        """Change the status from `expected`; StatusChanged and `then` go into the same transaction.

        `error`, `reason` and `recoverable` become the row's last_error, disable_reason and recoverable as they are.

        Raises:
            Conflict: it is not `expected` any more; details: plugin, status, expected.
            NotFound: details: plugin.
        """
        key = self.get(plugin_id).key
        changed: list[Plugin] = []

        def work(transaction: Transaction) -> None:
            now_ms = transaction.now_ms
            query = PluginRow.update(
                status=str(status),
                last_error=error,
                disable_reason=reason,
                recoverable=recoverable,
                updated_at_ms=now_ms,
            )
            if not query.where((PluginRow.id == plugin_id) & (PluginRow.status == str(expected))).execute():
                raise _not_expected(plugin_id, expected)

            def hold() -> None:
                after = replace(
                    self._by_id[plugin_id],
                    status=status,
                    last_error=error,
                    disable_reason=reason,
                    recoverable=recoverable,
                    updated_at=from_ms(now_ms),
                )
                self._hold(after)
                changed.append(after)

            transaction.after_commit(hold)
            transaction.record(_status_changed(plugin_id, key, expected, status))
            for event in then:
                transaction.record(event)

        await self._database.transact(work)
        return changed[0]

    async def delete(self, plugin_id: PluginId, *, then: Sequence[Event] = ()) -> None:
        """Delete the row with its approvals, config, state, jobs and runs; events stay.

        Raises:
            NotFound: details: plugin.
        """

        def work(transaction: Transaction) -> None:
            if not PluginRow.delete().where(PluginRow.id == plugin_id).execute():
                raise _gone(plugin_id)
            transaction.after_commit(partial(self._drop, plugin_id))
            for event in then:
                transaction.record(event)

        await self._database.transact(work)

    async def config(self, plugin_id: PluginId) -> dict[str, Any]:
        """The stored configuration; {} when there is none."""

        def work() -> dict[str, Any]:
            row = ConfigRow.get_or_none(ConfigRow.plugin_id == plugin_id)
            return row.data if row else {}

        return await self._database.read(work)

    async def set_config(self, plugin_id: PluginId, config: Mapping[str, Any]) -> None:
        """Store `config` in place of what was there.

        Raises:
            InvalidParams: it holds something that is no plain value.
            NotFound: details: plugin.
        """
        data = dict(config)
        try:
            pack(data)
        except (ValueError, TypeError, OverflowError) as error:
            raise InvalidParams(f"the configuration cannot be stored: {error}", plugin=plugin_id) from error

        def work(transaction: Transaction) -> None:
            row = {"plugin_id": plugin_id, "data": data, "updated_at_ms": transaction.now_ms}
            try:
                ConfigRow.insert(row).on_conflict_replace().execute()
            except peewee.IntegrityError as error:
                raise _gone(plugin_id) from error

        await self._database.transact(work)

    async def record(self, *events: Event, owner: str | None = None, size: int = 0) -> list[Recorded]:
        """Write events that change no row; `owner` and `size` as in `Database.transact`."""
        return await self._database.transact(
            lambda transaction: [transaction.record(event) for event in events], owner=owner, size=size
        )

    def _hold(self, plugin: Plugin) -> None:
        self._by_id[plugin.id] = plugin
        self._id_by_key[plugin.key] = plugin.id
        self._unreadable.discard(plugin.id)

    def _drop(self, plugin_id: PluginId) -> None:
        self._unreadable.discard(plugin_id)
        plugin = self._by_id.pop(plugin_id, None)
        if plugin and self._id_by_key.get(plugin.key) == plugin_id:
            del self._id_by_key[plugin.key]


def _status_changed(plugin_id: PluginId, key: PluginKey, previous: str | None, status: Status) -> StatusChanged:
    # Plain strings: an enum member is one in memory, and would not be one when read back.
    before = None if previous is None else str(previous)
    return StatusChanged(plugin_id=plugin_id, plugin_key=key, previous=before, status=str(status))


def _already_there(former: Mapping[str, Any]) -> AlreadyExists:
    key, status, version = former["key"], former["status"], former["version"]
    return AlreadyExists(
        f"plugin {key!r} is there already, in version {version} with status {status}: uninstall it first",
        plugin=key,
        status=status,
    )


def _not_expected(plugin_id: str, expected: Status) -> SupervisorError:
    row = PluginRow.get_or_none(PluginRow.id == plugin_id)
    if row is None:
        return _gone(plugin_id)
    return Conflict(
        f"the status of plugin {row.key!r} changed meanwhile: it is {row.status}, not {expected}; look again",
        plugin=row.key,
        status=row.status,
        expected=str(expected),
    )


def _gone(plugin_id: str) -> NotFound:
    return NotFound(f"there is no plugin {plugin_id!r} any more", plugin=plugin_id)
