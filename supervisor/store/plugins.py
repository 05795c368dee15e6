"""PluginRegistry: rows <-> Plugin; the doors to a plugin's status, files and approvals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from supervisor.clock import from_ms, to_ms
from supervisor.core.errors import SupervisorError
from supervisor.core.event import Event, Recorded
from supervisor.core.lifecycle import Status
from supervisor.core.package import FileRecord, Version
from supervisor.core.plugin import Capability, Plugin, PluginId
from supervisor.core.stored_manifest import manifest_to_table
from supervisor.store.database import Database, Transaction
from supervisor.store.package_changes import PackageChanges
from supervisor.store.plugin_rows import (
    erase_approvals,
    gone,
    not_expected,
    read_approvals,
    read_rows,
    status_changed,
    to_plugin,
)
from supervisor.store.tables import PluginRow
from supervisor.store.versions import (
    note_activated,
    read_files,
    read_versions,
    revise_version,
    to_version,
    write_files,
)


class PluginRegistry(PackageChanges):
    """Every plugin; who looks needs no SQL, who changes awaits the commit."""

    @classmethod
    async def load(cls, database: Database) -> PluginRegistry:
        """Every plugin in the database. What cannot be read is left out, with a warning in `database.warnings`."""
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
            if plugin := registry._by_id.get(version["plugin_id"]):
                try:
                    registry._hold_version(to_version(version, plugin.manifest))
                except SupervisorError as error:
                    database.warnings.append(
                        f"the version {version['package_dir']} of plugin {plugin.key!r} is left out, its stored "
                        f"manifest cannot be read: {error}; it goes when the plugin is uninstalled",
                    )
        return registry

    async def files(self, package_dir: str) -> tuple[FileRecord, ...] | None:
        """What was recorded of a package's files; None if nothing was."""
        return await self._database.read(lambda: read_files(package_dir))

    async def record_files(self, package_dir: str, digest: str, files: tuple[FileRecord, ...]) -> None:
        """Of a package that was stored before files were recorded."""
        await self._database.transact(lambda _: write_files(package_dir, digest, files))

    async def approvals(self, plugin_id: PluginId) -> list[tuple[Capability, int | None, int]]:
        """Capability, uid of who approved it, and when, in UTC milliseconds."""
        return await self._database.read(lambda: read_approvals(plugin_id))

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
        A probation ends, and what waited for approval waits no more.

        Raises:
            Conflict: it is not `expected` any more; details: plugin, status, expected.
            NotFound: details: plugin.
        """
        key = self.get(plugin_id).key
        changed: list[Plugin] = []

        def work(transaction: Transaction) -> None:
            now_ms, row = transaction.now_ms, PluginRow
            shared = {"last_error": error, "disable_reason": reason, "recoverable": recoverable, "staged_dir": None}
            stored = {**shared, "status": str(status), "probation_until_ms": None, "updated_at_ms": now_ms}
            if not row.update(stored).where((row.id == plugin_id) & (row.status == str(expected))).execute():
                raise not_expected(plugin_id, expected)
            held = {**shared, "status": status, "probation_until": None, "updated_at": from_ms(now_ms)}
            transaction.after_commit(partial(self._hold_change, plugin_id, held, changed))
            transaction.record(status_changed(plugin_id, key, expected, status))
            for event in then:
                transaction.record(event)

        await self._database.transact(work)
        return changed[0]

    async def take_back(
        self,
        before: Plugin,
        *,
        expected: Plugin,
        was: Version | None,
        first: Sequence[Event] = (),
        then: Sequence[Event] = (),
    ) -> Plugin:
        """Undo an exchange that has made `expected` of `before`: row and approvals are again as they were. `was` is the
        version of `expected` as it was; None: the plugin did not have it, and it counts as one that never ran.

        `first` goes into the journal before the change of status, `then` after it.

        Raises:
            Conflict, NotFound: as `exchange`.
        """
        id_, activated_at = before.id, was.activated_at if was else None
        previous_dir = was.previous_dir if was else None
        manifest = was.manifest if was else expected.manifest
        undone = self.version(id_, expected.package_dir)
        changed: list[Plugin] = []

        def work(transaction: Transaction) -> None:
            row, until = PluginRow, before.probation_until
            stored = {
                "version": before.version,
                "package_dir": before.package_dir,
                "editable": before.editable,
                "staged_dir": before.staged_dir,
                "last_error": before.last_error,
                "disable_reason": before.disable_reason,
                "recoverable": before.recoverable,
                "status": str(before.status),
                "manifest": manifest_to_table(before.manifest),
                "probation_until_ms": None if until is None else to_ms(until),
                "updated_at_ms": transaction.now_ms,
            }
            unchanged = (row.status == str(expected.status)) & (row.package_dir == expected.package_dir)
            if not row.update(stored).where((row.id == id_) & unchanged).execute():
                raise not_expected(id_, expected.status)
            erase_approvals(id_, expected.approved - before.approved)
            at_ms = None if activated_at is None else to_ms(activated_at)
            note_activated(at_ms, expected.package_dir, previous_dir=previous_dir)
            revise_version(expected.package_dir, manifest)
            if undone is not None:
                version = replace(undone, manifest=manifest, previous_dir=previous_dir, activated_at=activated_at)
                transaction.after_commit(partial(self._hold_version, version))
            held = replace(before, updated_at=from_ms(transaction.now_ms))
            transaction.after_commit(partial(self._hold, held))
            transaction.after_commit(partial(changed.append, held))
            for event in (*first, status_changed(id_, before.key, expected.status, before.status), *then):
                transaction.record(event)

        await self._database.transact(work)
        return changed[0]

    async def end_probation(self, plugin_id: PluginId) -> Plugin:
        """The version may stay.

        Raises:
            NotFound: details: plugin.
        """
        changed: list[Plugin] = []

        def work(transaction: Transaction) -> None:
            if not PluginRow.update(probation_until_ms=None).where(PluginRow.id == plugin_id).execute():
                raise gone(plugin_id)
            transaction.after_commit(partial(self._hold_change, plugin_id, {"probation_until": None}, changed))

        await self._database.transact(work)
        return changed[0]

    async def record(self, *events: Event, owner: str | None = None, size: int = 0) -> list[Recorded]:
        """Write events that change no row; `owner` and `size` as in `Database.transact`."""
        return await self._database.transact(
            lambda transaction: [transaction.record(event) for event in events], owner=owner, size=size
        )
