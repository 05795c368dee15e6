"""ConfigStore: each plugin's configuration, and those that were before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import peewee

from supervisor.core.errors import Conflict, InvalidParams, NotFound, SupervisorError
from supervisor.core.event import ConfigChanged
from supervisor.core.plugin import Plugin, PluginId
from supervisor.log import get_logger
from supervisor.store.database import Database, Transaction
from supervisor.store.tables import current, pack, unpack

KEPT_REVISIONS: Final = 20

_GET: Final = (
    "SELECT c.data, c.revision, c.uid, c.updated_at_ms, coalesce(r.good, 0) FROM config c"
    " LEFT JOIN config_revision r ON r.plugin_id = c.plugin_id AND r.revision = c.revision WHERE c.plugin_id = ?"
)
_SET: Final = (
    "INSERT INTO config (plugin_id, data, revision, uid, updated_at_ms) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (plugin_id) DO UPDATE SET data = excluded.data, revision = excluded.revision, uid = excluded.uid,"
    " updated_at_ms = excluded.updated_at_ms"
)
_ADD_REVISION: Final = (
    "INSERT INTO config_revision (plugin_id, data, revision, uid, set_at_ms, good) VALUES (?, ?, ?, ?, ?, 0)"
)
# The newest that a worker has taken stays, however many others came after it.
_DROP_OLD: Final = (
    "DELETE FROM config_revision WHERE plugin_id = ? AND revision <= ? AND revision IS NOT"
    " (SELECT max(revision) FROM config_revision WHERE plugin_id = ? AND good)"
)
_HISTORY: Final = (
    "SELECT data, revision, uid, set_at_ms, good FROM config_revision WHERE plugin_id = ? ORDER BY revision DESC"
)
_MARK_GOOD: Final = "UPDATE config_revision SET good = 1 WHERE plugin_id = ? AND revision = ? AND NOT good"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredConfig:
    """As it was set: secrets in clear, references as references. Revision 0: none was ever set.

    `good`: a worker has taken it. `set_at_ms`: UTC milliseconds.
    """

    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    revision: int = 0
    uid: int | None = None
    set_at_ms: int | None = None
    good: bool = False


class ConfigStore:
    """Configurations outlive an uninstall, and go with the plugin's row."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, plugin_id: PluginId) -> StoredConfig:
        def work() -> StoredConfig:
            row = current.execute_sql(_GET, (plugin_id,)).fetchone()
            return _stored(row) if row else StoredConfig()

        return await self._database.read(work)

    async def set(
        self, plugin: Plugin, data: Mapping[str, Any], *, uid: int | None, expected_revision: int | None = None
    ) -> StoredConfig:
        """Store `data` in place of what was there, as the next revision; ConfigChanged goes into the same transaction.

        Raises:
            InvalidParams: it holds something that is no plain value.
            Conflict: the revision is not `expected_revision` any more; details: plugin, revision, expected.
            NotFound: the plugin is gone; details: plugin.
        """
        packed = packed_config(data)

        def work(transaction: Transaction) -> StoredConfig:
            row = transaction.execute(_GET, (plugin.id,)).fetchone()
            before, now_ms = _stored(row) if row else StoredConfig(), transaction.now_ms
            if expected_revision is not None and expected_revision != before.revision:
                raise revision_conflict(plugin, before.revision, expected_revision)
            after = StoredConfig(data=data, revision=before.revision + 1, uid=uid, set_at_ms=now_ms)
            row = (plugin.id, packed, after.revision, uid, now_ms)
            try:
                transaction.execute(_SET, row)
                transaction.execute(_ADD_REVISION, row)
            except peewee.IntegrityError as error:
                raise NotFound(f"there is no plugin {plugin.key!r} any more", plugin=plugin.key) from error
            transaction.execute(_DROP_OLD, (plugin.id, after.revision - KEPT_REVISIONS, plugin.id))
            changed = changed_names(before.data, data)
            transaction.record(
                ConfigChanged(
                    plugin_id=plugin.id, plugin_key=plugin.key, revision=after.revision, changed=changed, uid=uid
                )
            )
            return after

        return await self._database.transact(work, owner=plugin.id, size=len(packed))

    async def history(self, plugin_id: PluginId) -> list[StoredConfig]:
        """The last 20 revisions, newest first, and the newest one that a worker has taken."""

        def work() -> list[StoredConfig]:
            return [_stored(row) for row in current.execute_sql(_HISTORY, (plugin_id,)).fetchall()]

        return await self._database.read(work)

    async def mark_good(self, plugin_id: PluginId, revision: int) -> None:
        """A worker has taken it. Does not raise: the worker works with it whether that can be stored or not."""

        def work(transaction: Transaction) -> None:
            transaction.execute(_MARK_GOOD, (plugin_id, revision))

        try:
            await self._database.transact(work)
        except SupervisorError as error:
            get_logger().error("config.not_marked_good", plugin_id=plugin_id, revision=revision, why=error.message)


def packed_config(data: Mapping[str, Any]) -> bytes:
    """
    Raises:
        InvalidParams: it holds something that is no plain value.
    """
    try:
        return pack(dict(data))
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidParams(f"the configuration cannot be stored: {error}") from error


def revision_conflict(plugin: Plugin, revision: int, expected: int) -> Conflict:
    return Conflict(
        f"the configuration of plugin {plugin.key!r} changed meanwhile: it has revision {revision}, not {expected}; "
        "look at it again",
        plugin=plugin.key,
        revision=revision,
        expected=expected,
    )


def changed_names(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Of the top-level values that are there in one only, or differ."""
    return sorted(
        name
        for name in {**before, **after}
        if (name in before) != (name in after) or not same_value(before[name], after[name])
    )


def same_value(one: Any, other: Any) -> bool:
    """Whether they are the same when stored: 1, 1.0 and true are not."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same_value(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same_value, one, other))
    return type(one) is type(other) and bool(one == other)


def _stored(row: tuple[bytes, int, int | None, int, int]) -> StoredConfig:
    data, revision, uid, set_at_ms, good = row
    return StoredConfig(data=unpack(data), revision=revision, uid=uid, set_at_ms=set_at_ms, good=bool(good))
