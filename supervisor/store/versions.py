"""Version <-> its row in `plugin_version`; called inside transactions and reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import peewee

from supervisor.clock import from_ms
from supervisor.core.manifest import Manifest
from supervisor.core.package import FileRecord, Package, Version
from supervisor.core.plugin import PluginId
from supervisor.core.stored_manifest import manifest_to_table, parse_stored_manifest
from supervisor.store.tables import PluginRow, PluginVersionRow


def read_versions() -> list[dict[str, Any]]:
    """All rows without their files, as `to_version` takes them; `manifest` is None where it is the plugin's own."""
    row, plugin = PluginVersionRow, PluginRow
    columns = [field for name, field in row._meta.fields.items() if name not in {"files", "manifest"}]
    other = peewee.fn.NULLIF(row.manifest, plugin.manifest).converter(row.manifest.python_value).alias("manifest")
    joined = row.select(*columns, other).join(plugin, peewee.JOIN.LEFT_OUTER, on=plugin.id == row.plugin_id)
    query: Any = joined.order_by(row.stored_at_ms, row.package_dir).dicts()
    return list(query)


def to_version(row: Mapping[str, Any], own: Manifest | None = None) -> Version:
    """`own`: the manifest of its plugin, for a row without one.

    Raises:
        InvalidManifest: the stored manifest cannot be read.
    """
    activated_ms = row["activated_at_ms"]
    return Version(
        plugin_id=PluginId(row["plugin_id"]),
        package_dir=row["package_dir"],
        manifest=own if own and row["manifest"] is None else parse_stored_manifest(row["manifest"]),
        digest=row["digest"],
        source=row["source"],
        editable=row["editable"],
        previous_dir=row["previous_dir"],
        stored_at=from_ms(row["stored_at_ms"]),
        activated_at=None if activated_ms is None else from_ms(activated_ms),
        index_url=row["index_url"],
        find_links=tuple(row["find_links"]),
    )


def write_version(now_ms: int, plugin_id: PluginId, package: Package) -> Version:
    """Insert the row of a package that never ran, or write that one's again."""
    row = {
        "package_dir": package.dir,
        "plugin_id": plugin_id,
        "manifest": manifest_to_table(package.manifest),
        "digest": package.digest,
        "files": [[f.path, f.size, f.sha256, f.executable, f.link] for f in package.files],
        "source": package.source,
        "editable": package.editable,
        "index_url": package.index_url,
        "find_links": list(package.find_links),
        "previous_dir": None,
        "stored_at_ms": now_ms,
        "activated_at_ms": None,
    }
    PluginVersionRow.insert(row).on_conflict_replace().execute()
    return to_version(row)


def note_activated(at_ms: int | None, package_dir: str, *, previous_dir: str | None) -> None:
    row = PluginVersionRow
    changes = {"activated_at_ms": at_ms, "previous_dir": previous_dir}
    row.update(changes).where(row.package_dir == package_dir).execute()


def revise_version(package_dir: str, manifest: Manifest) -> None:
    """Of what is run in place."""
    row = PluginVersionRow
    row.update(manifest=manifest_to_table(manifest)).where(row.package_dir == package_dir).execute()


def erase_versions(package_dirs: Collection[str]) -> None:
    PluginVersionRow.delete().where(PluginVersionRow.package_dir.in_(list(package_dirs))).execute()


def package_dirs_of(plugin_id: PluginId) -> list[str]:
    row = PluginVersionRow
    found: Any = row.select(row.package_dir).where(row.plugin_id == plugin_id).tuples()
    return [package_dir for (package_dir,) in found]


def read_files(package_dir: str) -> tuple[FileRecord, ...] | None:
    """What was recorded of a package's files; None if nothing was."""
    row = PluginVersionRow.get_or_none(PluginVersionRow.package_dir == package_dir)
    if row is None or row.files is None:
        return None
    return tuple(
        FileRecord(path=path, size=size, sha256=sha256, executable=executable, link=link)
        for path, size, sha256, executable, link in row.files
    )


def write_files(package_dir: str, digest: str, files: tuple[FileRecord, ...]) -> None:
    """Of a package that was stored before files were recorded."""
    row = PluginVersionRow
    listed = [[f.path, f.size, f.sha256, f.executable, f.link] for f in files]
    row.update(digest=digest, files=listed).where(row.package_dir == package_dir).execute()
