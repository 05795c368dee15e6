"""PluginRegistry: rows <-> Plugin. All plugins are held in memory, so looking at them costs no SQL.

What is held changes once the transaction is committed and before its events are published: whoever hears of a change
finds it here.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import peewee

from supervisor.clock import from_ms
from supervisor.core.errors import AlreadyExists, Conflict, InvalidParams, NotFound, SupervisorError
from supervisor.core.event import Event, PluginInstalled, Recorded, StatusChanged
from supervisor.core.lifecycle import Status
from supervisor.core.manifest import manifest_to_table
from supervisor.core.package import FileRecord, Package, Version
from supervisor.core.plugin import Capability, Plugin, PluginId, PluginKey
from supervisor.store.database import Database, Transaction
from supervisor.store.intents import IntentKind, erase_intent, write_intent
from supervisor.store.plugin_rows import (
    add_approvals,
    read_approvals,
    read_rows,
    to_plugin,
    write_approvals,
    write_installed,
)
from supervisor.store.tables import ConfigRow, PluginRow, pack
from supervisor.store.versions import (
    erase_versions,
    note_activated,
    read_files,
    read_versions,
    to_version,
    write_files,
    write_version,
)

_MAX_NAME: Final = 100
"""Characters; no key is longer."""


class PluginRegistry:
    """Names are keys or ids; an id goes first where a key looks like one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._by_id: dict[str, Plugin] = {}
        self._id_by_key: dict[str, str] = {}
        self._unreadable: set[str] = set()
        self._versions: dict[str, list[Version]] = {}

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
        for version in await database.read(read_versions):
            if version["plugin_id"] in registry._by_id:
                registry._hold_version(to_version(version))
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

    def versions(self, plugin_id: PluginId) -> list[Version]:
        """Those that are kept, in the order in which they were stored."""
        return list(self._versions.get(plugin_id, ()))

    def version(self, plugin_id: PluginId, package_dir: str | None) -> Version | None:
        """The one in `package_dir`."""
        return next((v for v in self._versions.get(plugin_id, ()) if v.package_dir == package_dir), None)

    def package_dirs(self) -> set[str]:
        """Of all versions of all plugins."""
        return {version.package_dir for versions in self._versions.values() for version in versions}

    async def files(self, package_dir: str) -> tuple[FileRecord, ...] | None:
        """What was recorded of a package's files; None if nothing was."""
        return await self._database.read(lambda: read_files(package_dir))

    async def record_files(self, package_dir: str, digest: str, files: tuple[FileRecord, ...]) -> None:
        """Of a package that was stored before files were recorded."""
        await self._database.transact(lambda _: write_files(package_dir, digest, files))

    async def approvals(self, plugin_id: PluginId) -> list[tuple[Capability, int | None, int]]:
        """Capability, uid of who approved it, and when, in UTC milliseconds."""
        return await self._database.read(lambda: read_approvals(plugin_id))

    async def install(
        self,
        package: Package,
        *,
        approved: frozenset[Capability],
        uid: int | None,
        ends: int | None = None,
    ) -> Plugin:
        """Add a plugin with status installed, or take up the row of one that was uninstalled: its id, config, state
        and history stay. `uid` is who approved the capabilities; `ends` is the intent that this ends.

        Raises:
            AlreadyExists: details: plugin, status.
        """
        unreadable, manifest = frozenset(self._unreadable), package.manifest

        def work(transaction: Transaction) -> Plugin:
            former = PluginRow.select().where(PluginRow.key == manifest.key).dicts().first()
            if former and former["status"] != Status.UNINSTALLED and former["id"] not in unreadable:
                raise _already_there(former)
            now_ms = transaction.now_ms
            plugin = write_installed(now_ms, former, package, approved)
            write_approvals(plugin, uid, now_ms)
            version = write_version(now_ms, plugin.id, package)
            note_activated(now_ms, package.dir, previous_dir=None)
            erase_intent(ends)
            version = replace(version, manifest=manifest, activated_at=from_ms(now_ms))
            transaction.after_commit(partial(self._hold, plugin))
            transaction.after_commit(partial(self._hold_version, version))
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

    async def exchange(
        self,
        plugin_id: PluginId,
        to: Package | Version,
        *,
        expected: Plugin,
        status: Status,
        forward: bool,
        approve: frozenset[Capability] = frozenset(),
        uid: int | None = None,
        probation_until_ms: int | None = None,
        first: Sequence[Event] = (),
        ends: int | None = None,
        on_commit: Callable[[Plugin], None] = lambda _: None,
    ) -> Plugin:
        """Make `to` the plugin's version: the row, its approvals and its events in one transaction.

        `expected` is the plugin as the caller knows it: its status and package are what must still be there. `forward`:
        `rollback` from `to` leads to the version that was; otherwise to where it led before. What waited for approval
        waits no more. `first` goes into the journal before the change of status, which is told where the status
        changes, or is ready. `on_commit` is called with the plugin as it is then, before anybody hears of it.

        Raises:
            Conflict: another version or status than expected; NotFound: it is gone.
        """
        key = expected.key
        package_dir = to.dir if isinstance(to, Package) else to.package_dir
        changed: list[Plugin] = []

        def work(transaction: Transaction) -> None:
            now_ms = transaction.now_ms
            row = PluginRow
            changes = {
                "version": to.manifest.version,
                "manifest": manifest_to_table(to.manifest),
                "package_dir": package_dir,
                "status": str(status),
                "editable": to.editable,
                "staged_dir": None,
                "probation_until_ms": probation_until_ms,
                "updated_at_ms": now_ms,
            }
            if status is Status.READY:
                changes |= {"last_error": None, "disable_reason": None, "recoverable": False}
            unchanged = (
                (row.id == plugin_id) & (row.status == str(expected.status)) & (row.package_dir == expected.package_dir)
            )
            if not row.update(changes).where(unchanged).execute():
                raise _not_expected(plugin_id, expected.status)
            version = write_version(now_ms, plugin_id, to) if isinstance(to, Package) else to
            previous_dir = expected.package_dir if forward else version.previous_dir
            note_activated(now_ms, package_dir, previous_dir=previous_dir)
            version = replace(version, manifest=to.manifest, previous_dir=previous_dir, activated_at=from_ms(now_ms))
            add_approvals(plugin_id, approve, uid, now_ms)
            erase_intent(ends)

            def hold() -> None:
                before = self._by_id[plugin_id]
                after = replace(
                    before,
                    version=to.manifest.version,
                    manifest=to.manifest,
                    package_dir=package_dir,
                    status=status,
                    editable=to.editable,
                    staged_dir=None,
                    probation_until=None if probation_until_ms is None else from_ms(probation_until_ms),
                    approved=before.approved | approve,
                    updated_at=from_ms(now_ms),
                )
                if status is Status.READY:
                    after = replace(after, last_error=None, disable_reason=None, recoverable=False)
                self._hold(after)
                self._hold_version(version)
                changed.append(after)
                on_commit(after)

            transaction.after_commit(hold)
            for event in first:
                transaction.record(event)
            if status is Status.READY or status is not expected.status:
                transaction.record(_status_changed(plugin_id, key, expected.status, status))

        await self._database.transact(work)
        return changed[0]

    async def stage(
        self,
        plugin_id: PluginId,
        package: Package,
        *,
        expected: Plugin,
        then: Sequence[Event] = (),
        ends: int | None = None,
    ) -> Plugin:
        """Keep `package` until it is approved: status upgrade_pending. What waited before is in the way no more; its
        files are the caller's to drop.

        Raises:
            Conflict, NotFound: as `exchange`.
        """
        changed: list[Plugin] = []

        def work(transaction: Transaction) -> None:
            now_ms = transaction.now_ms
            row = PluginRow
            status = str(Status.UPGRADE_PENDING)
            query = row.update(status=status, staged_dir=package.dir, updated_at_ms=now_ms)
            if not query.where((row.id == plugin_id) & (row.status == str(expected.status))).execute():
                raise _not_expected(plugin_id, expected.status)
            version = replace(write_version(now_ms, plugin_id, package), manifest=package.manifest)
            erase_intent(ends)

            def hold() -> None:
                after = replace(
                    self._by_id[plugin_id],
                    status=Status.UPGRADE_PENDING,
                    staged_dir=package.dir,
                    updated_at=from_ms(now_ms),
                )
                self._hold(after)
                self._hold_version(version)
                changed.append(after)

            transaction.after_commit(hold)
            transaction.record(_status_changed(plugin_id, expected.key, expected.status, Status.UPGRADE_PENDING))
            for event in then:
                transaction.record(event)

        await self._database.transact(work)
        return changed[0]

    async def drop_versions(self, plugin_id: PluginId, package_dirs: Sequence[str]) -> int:
        """Forget versions; the intent, whose id is returned, is to remove their files."""
        key = self.get(plugin_id).key

        def work(transaction: Transaction) -> int:
            erase_versions(package_dirs)
            transaction.after_commit(partial(self._drop_versions, plugin_id, package_dirs))
            return write_intent(transaction, IntentKind.REMOVE, key, package_dirs)

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

    def _hold_version(self, version: Version) -> None:
        others = [v for v in self._versions.get(version.plugin_id, ()) if v.package_dir != version.package_dir]
        self._versions[version.plugin_id] = sorted([*others, version], key=lambda v: (v.stored_at, v.package_dir))

    def _drop_versions(self, plugin_id: PluginId, package_dirs: Sequence[str]) -> None:
        kept = [v for v in self._versions.get(plugin_id, ()) if v.package_dir not in package_dirs]
        self._versions[plugin_id] = kept

    def _drop(self, plugin_id: PluginId) -> None:
        self._unreadable.discard(plugin_id)
        self._versions.pop(plugin_id, None)
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
