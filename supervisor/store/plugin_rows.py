"""Plugin <-> its rows in `plugin` and `approval`; called inside transactions and reads."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import peewee

from supervisor.clock import from_ms
from supervisor.core.errors import AlreadyExists, Conflict, NotFound, SupervisorError
from supervisor.core.event import StatusChanged
from supervisor.core.lifecycle import Status
from supervisor.core.package import Package
from supervisor.core.plugin import Capability, Plugin, PluginId, PluginKey
from supervisor.core.stored_manifest import manifest_to_table, parse_stored_manifest
from supervisor.store.tables import ApprovalRow, PluginRow


def read_rows() -> list[dict[str, Any]]:
    """Every plugin in install order, as `to_plugin` takes it."""
    approved: dict[str, list[str]] = {}
    pairs: Any = ApprovalRow.select(ApprovalRow.plugin_id, ApprovalRow.capability).tuples()
    for plugin_id, capability in pairs:
        approved.setdefault(plugin_id, []).append(capability)
    rows: Any = PluginRow.select().order_by(PluginRow.install_order).dicts()
    return [{**row, "approved": approved.get(row["id"], [])} for row in rows]


def to_plugin(row: Mapping[str, Any]) -> Plugin:
    """
    Raises:
        InvalidManifest: the stored manifest cannot be read.
    """
    return Plugin(
        id=PluginId(row["id"]),
        key=PluginKey(row["key"]),
        version=row["version"],
        status=Status(row["status"]),
        manifest=parse_stored_manifest(row["manifest"]),
        approved=frozenset(map(Capability, row["approved"])),
        install_order=row["install_order"],
        package_dir=row["package_dir"],
        last_error=row["last_error"],
        disable_reason=row["disable_reason"],
        installed_at=from_ms(row["installed_at_ms"]),
        updated_at=from_ms(row["updated_at_ms"]),
        recoverable=row["recoverable"],
        editable=row["editable"],
        staged_dir=row["staged_dir"],
        probation_until=None if row["probation_until_ms"] is None else from_ms(row["probation_until_ms"]),
    )


def write_installed(
    now_ms: int, former: Mapping[str, Any] | None, package: Package, approved: frozenset[Capability]
) -> Plugin:
    """Insert the row, or overwrite the `former` one, which keeps its id and its place in the install order."""
    manifest = package.manifest
    last = PluginRow.select(peewee.fn.MAX(PluginRow.install_order)).scalar() or 0
    row = {
        "id": former["id"] if former else str(uuid.uuid4()),
        "key": manifest.key,
        "version": manifest.version,
        "status": str(Status.INSTALLED),
        "manifest": manifest_to_table(manifest),
        "package_dir": package.dir,
        "install_order": former["install_order"] if former else last + 1,
        "last_error": None,
        "disable_reason": None,
        "recoverable": False,
        "installed_at_ms": now_ms,
        "updated_at_ms": now_ms,
        "editable": package.editable,
        "staged_dir": None,
        "probation_until_ms": None,
    }
    # Never REPLACE: it deletes the former row first, and with it everything that refers to it.
    query = PluginRow.update(row).where(PluginRow.id == row["id"]) if former else PluginRow.insert(row)
    query.execute()
    return replace(to_plugin({**row, "approved": approved}), manifest=manifest)


def write_approvals(plugin: Plugin, uid: int | None, now_ms: int) -> None:
    """Replace what was approved before; `uid` is who did it."""
    ApprovalRow.delete().where(ApprovalRow.plugin_id == plugin.id).execute()
    add_approvals(plugin.id, plugin.approved, uid, now_ms)


def add_approvals(plugin_id: PluginId, capabilities: Iterable[Capability], uid: int | None, now_ms: int) -> None:
    """Beside those that there are; what was approved before stays with whom it was approved by."""
    rows = [
        {"plugin_id": plugin_id, "capability": capability, "uid": uid, "approved_at_ms": now_ms}
        for capability in sorted(capabilities)
    ]
    if rows:
        ApprovalRow.insert_many(rows).on_conflict_ignore().execute()


def erase_approvals(plugin_id: PluginId, capabilities: Iterable[Capability]) -> None:
    row = ApprovalRow
    row.delete().where((row.plugin_id == plugin_id) & row.capability.in_([*capabilities])).execute()


def read_approvals(plugin_id: PluginId) -> list[tuple[Capability, int | None, int]]:
    """Capability, uid of who approved it, and when, in UTC milliseconds."""
    row = ApprovalRow
    found: Any = row.select(row.capability, row.uid, row.approved_at_ms).where(row.plugin_id == plugin_id).tuples()
    return sorted(found)


def status_changed(plugin_id: PluginId, key: PluginKey, previous: str | None, status: Status) -> StatusChanged:
    # Plain strings: an enum member is one in memory, and would not be one when read back.
    before = None if previous is None else str(previous)
    return StatusChanged(plugin_id=plugin_id, plugin_key=key, previous=before, status=str(status))


def already_there(former: Mapping[str, Any]) -> AlreadyExists:
    key, status, version = former["key"], former["status"], former["version"]
    return AlreadyExists(
        f"plugin {key!r} is there already, in version {version} with status {status}: uninstall it first",
        plugin=key,
        status=status,
    )


def not_expected(plugin_id: str, expected: Status) -> SupervisorError:
    row = PluginRow.get_or_none(PluginRow.id == plugin_id)
    if row is None:
        return gone(plugin_id)
    return Conflict(
        f"the status of plugin {row.key!r} changed meanwhile: it is {row.status}, not {expected}; look again",
        plugin=row.key,
        status=row.status,
        expected=str(expected),
    )


def gone(plugin_id: str) -> NotFound:
    return NotFound(f"there is no plugin {plugin_id!r} any more", plugin=plugin_id)
