"""PackageChanges: which packages a plugin has, and which of them runs; row, versions, intent and events at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from supervisor.clock import from_ms
from supervisor.core.event import Event, PluginInstalled
from supervisor.core.lifecycle import Status
from supervisor.core.manifest import Manifest
from supervisor.core.package import Package, Version
from supervisor.core.plugin import Capability, Plugin, PluginId, PluginKey
from supervisor.core.stored_manifest import manifest_to_table
from supervisor.store.database import Database, Transaction
from supervisor.store.held import HeldPlugins
from supervisor.store.intents import IntentKind, erase_intent, write_intent
from supervisor.store.plugin_rows import (
    add_approvals,
    already_there,
    gone,
    not_expected,
    status_changed,
    write_approvals,
    write_installed,
)
from supervisor.store.tables import PluginRow
from supervisor.store.versions import erase_versions, note_activated, package_dirs_of, revise_version, write_version

NO_ERROR: dict[str, Any] = {"last_error": None, "disable_reason": None, "recoverable": False}


class PackageChanges(HeldPlugins):
    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database

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
                raise already_there(former)
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
                status_changed(plugin.id, plugin.key, former["status"] if former else None, plugin.status)
            )
            return plugin

        return await self._database.transact(work)

    async def exchange(
        self,
        to: Package | Version,
        *,
        expected: Plugin,
        status: Status,
        forward: bool,
        approve: frozenset[Capability] = frozenset(),
        uid: int | None = None,
        probation_s: float | None = None,
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
        id_ = expected.id
        package_dir = to.dir if isinstance(to, Package) else to.package_dir
        # What is run in place may follow itself, from the same place.
        itself = self.version(id_, package_dir) if package_dir == expected.package_dir else None
        changed: list[Plugin] = []

        def work(transaction: Transaction) -> None:
            now_ms, row = transaction.now_ms, PluginRow
            until_ms = None if probation_s is None else now_ms + int(probation_s * 1000)
            shared = {
                "version": to.manifest.version,
                "package_dir": package_dir,
                "editable": to.editable,
                "staged_dir": None,
                **(NO_ERROR if status is Status.READY else {}),
            }
            stored = {
                **shared,
                "status": str(status),
                "manifest": manifest_to_table(to.manifest),
                "probation_until_ms": until_ms,
                "updated_at_ms": now_ms,
            }
            unchanged = (row.status == str(expected.status)) & (row.package_dir == expected.package_dir)
            if not row.update(stored).where((row.id == id_) & unchanged).execute():
                raise not_expected(id_, expected.status)
            version = write_version(now_ms, id_, to) if isinstance(to, Package) else to
            previous_dir = expected.package_dir if forward and not itself else (itself or version).previous_dir
            note_activated(now_ms, package_dir, previous_dir=previous_dir)
            version = replace(version, manifest=to.manifest, previous_dir=previous_dir, activated_at=from_ms(now_ms))
            add_approvals(id_, approve, uid, now_ms)
            erase_intent(ends)
            held = {
                **shared,
                "status": status,
                "manifest": to.manifest,
                "probation_until": None if until_ms is None else from_ms(until_ms),
                "approved": expected.approved | approve,
                "updated_at": from_ms(now_ms),
            }
            transaction.after_commit(partial(self._hold_version, version))
            transaction.after_commit(partial(self._hold_change, id_, held, changed, on_commit))
            for event in first:
                transaction.record(event)
            if status is Status.READY or status is not expected.status:
                transaction.record(status_changed(id_, expected.key, expected.status, status))

        await self._database.transact(work)
        return changed[0]

    async def stage(
        self,
        package: Package,
        *,
        expected: Plugin,
        ends: int | None = None,
    ) -> Plugin:
        """Keep `package` until it is approved: status upgrade_pending. What waited before waits no more, and is the
        caller's to drop.

        Raises:
            Conflict, NotFound: as `exchange`.
        """
        id_ = expected.id
        changed: list[Plugin] = []

        def work(transaction: Transaction) -> None:
            now_ms, row = transaction.now_ms, PluginRow
            stored = {
                "status": str(Status.UPGRADE_PENDING),
                "staged_dir": package.dir,
                "probation_until_ms": None,
                "updated_at_ms": now_ms,
            }
            unchanged = (row.status == str(expected.status)) & (row.package_dir == expected.package_dir)
            if not row.update(stored).where((row.id == id_) & unchanged).execute():
                raise not_expected(id_, expected.status)
            version = replace(write_version(now_ms, id_, package), manifest=package.manifest)
            erase_intent(ends)
            held = {
                "status": Status.UPGRADE_PENDING,
                "staged_dir": package.dir,
                "probation_until": None,
                "updated_at": from_ms(now_ms),
            }
            transaction.after_commit(partial(self._hold_version, version))
            transaction.after_commit(partial(self._hold_change, id_, held, changed))
            transaction.record(status_changed(id_, expected.key, expected.status, Status.UPGRADE_PENDING))

        await self._database.transact(work)
        return changed[0]

    async def revise(self, manifest: Manifest, *, expected: Plugin) -> Plugin:
        """Of a plugin that is run in place: its manifest is another one now. A ready one is told to be ready again, so
        that whoever follows that looks at it anew.

        Raises:
            Conflict, NotFound: as `exchange`.
        """
        id_ = expected.id
        changed: list[Plugin] = []

        def work(transaction: Transaction) -> None:
            row, now_ms = PluginRow, transaction.now_ms
            stored = {"version": manifest.version, "manifest": manifest_to_table(manifest), "updated_at_ms": now_ms}
            unchanged = (row.status == str(expected.status)) & (row.package_dir == expected.package_dir)
            if not row.update(stored).where((row.id == id_) & unchanged).execute():
                raise not_expected(id_, expected.status)
            revise_version(expected.package_dir, manifest)
            if (version := self.version(id_, expected.package_dir)) is not None:
                transaction.after_commit(partial(self._hold_version, replace(version, manifest=manifest)))
            held = {"version": manifest.version, "manifest": manifest, "updated_at": from_ms(now_ms)}
            transaction.after_commit(partial(self._hold_change, id_, held, changed))
            if expected.status is Status.READY:
                transaction.record(status_changed(id_, expected.key, expected.status, expected.status))

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

    async def uninstall(self, expected: Plugin, *, then: Sequence[Event] = ()) -> tuple[int, list[str]]:
        """Status uninstalled, and no version any more; id, config, state and history stay.

        Returns the intent, and the packages that it is to remove.

        Raises:
            Conflict, NotFound: as `set_status`.
        """
        id_, key = expected.id, expected.key
        changed: list[Plugin] = []

        def work(transaction: Transaction) -> tuple[int, list[str]]:
            now_ms, row = transaction.now_ms, PluginRow
            stored = {
                "status": str(Status.UNINSTALLED),
                "staged_dir": None,
                "probation_until_ms": None,
                "updated_at_ms": now_ms,
                **NO_ERROR,
            }
            if not row.update(stored).where((row.id == id_) & (row.status == str(expected.status))).execute():
                raise not_expected(id_, expected.status)
            package_dirs = sorted({expected.package_dir, *package_dirs_of(id_)})
            erase_versions(package_dirs)
            intent = write_intent(transaction, IntentKind.REMOVE, key, package_dirs)
            held = {
                "status": Status.UNINSTALLED,
                "staged_dir": None,
                "probation_until": None,
                "updated_at": from_ms(now_ms),
                **NO_ERROR,
            }
            transaction.after_commit(partial(self._drop_versions, id_, package_dirs))
            transaction.after_commit(partial(self._hold_change, id_, held, changed))
            transaction.record(status_changed(id_, key, expected.status, Status.UNINSTALLED))
            for event in then:
                transaction.record(event)
            return intent, package_dirs

        return await self._database.transact(work)

    async def delete(self, plugin_id: PluginId, *, then: Sequence[Event] = ()) -> tuple[int, list[str]]:
        """Delete the row with its approvals, versions, config, state, jobs and runs; events stay.

        Returns the intent to remove its data, and the packages that it is to remove too.

        Raises:
            NotFound: details: plugin.
        """

        def work(transaction: Transaction) -> tuple[int, list[str]]:
            row = PluginRow.get_or_none(PluginRow.id == plugin_id)
            if row is None:
                raise gone(plugin_id)
            package_dirs = sorted({row.package_dir, *package_dirs_of(plugin_id)})
            PluginRow.delete().where(PluginRow.id == plugin_id).execute()
            intent = write_intent(transaction, IntentKind.REMOVE, PluginKey(row.key), package_dirs, data=True)
            transaction.after_commit(partial(self._drop, plugin_id))
            for event in then:
                transaction.record(event)
            return intent, package_dirs

        return await self._database.transact(work)
