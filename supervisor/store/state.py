"""StateStore: the plugins' own keys and values, each plugin in a namespace and under a quota of its own."""

from __future__ import annotations

from typing import Any, Final

import peewee

from supervisor.core.errors import InvalidParams, NotFound, ResourceExhausted
from supervisor.core.plugin import PluginId
from supervisor.store.database import Database, Transaction
from supervisor.store.tables import current, pack, unpack

MAX_KEY_CHARS: Final = 512
MAX_VALUE_BYTES: Final = 1024 * 1024
QUOTA_BYTES: Final = 64 * 1024 * 1024
MAX_PAGE: Final = 1000
MAX_PAGE_BYTES: Final = 2 * 1024 * 1024
"""Of keys and values in one page, so that it fits into a frame; one entry there always is."""

_GUESSED_VALUE_BYTES: Final = 32 * 1024
"""What a value takes that is asked for, as far as fair shares go; how long it is turns out too late."""
_GUESSED_PAGE_BYTES: Final = 512 * 1024

_SIZE: Final = "SELECT size FROM plugin_state WHERE plugin_id = ? AND key = ?"
_USED: Final = "SELECT size FROM plugin_state_usage WHERE plugin_id = ?"
_SET: Final = (
    "INSERT INTO plugin_state (plugin_id, key, value, size, updated_at_ms) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (plugin_id, key) DO UPDATE"
    " SET value = excluded.value, size = excluded.size, updated_at_ms = excluded.updated_at_ms"
)
_SET_USED: Final = (
    "INSERT INTO plugin_state_usage (plugin_id, size) VALUES (?, ?)"
    " ON CONFLICT (plugin_id) DO UPDATE SET size = excluded.size"
)
_DELETE: Final = "DELETE FROM plugin_state WHERE plugin_id = ? AND key = ?"
_GET: Final = "SELECT value FROM plugin_state WHERE plugin_id = ? AND key = ?"
_LIST: Final = (
    "SELECT key, size, value FROM plugin_state"
    " WHERE plugin_id = ? AND key >= ? AND (? IS NULL OR key < ?) AND key > ? ORDER BY key LIMIT ?"
)


class StateStore:
    """Keys are 1 to 512 characters; a value is any plain value, None included, up to 1 MiB as msgpack.

    The quota counts keys and packed values, in bytes.
    """

    def __init__(self, database: Database, *, quota_bytes: int = QUOTA_BYTES) -> None:
        self._database = database
        self._quota_bytes = quota_bytes

    async def get(self, plugin_id: PluginId, key: str) -> tuple[bool, Any]:
        """Whether there is such a key, and its value."""
        _check_key(key)

        def work() -> tuple[bool, Any]:
            row = current.execute_sql(_GET, (plugin_id, key)).fetchone()
            return (False, None) if row is None else (True, unpack(row[0]))

        return await self._database.read(work, owner=plugin_id, size=_GUESSED_VALUE_BYTES)

    async def set(self, plugin_id: PluginId, key: str, value: Any) -> None:
        """Store `value`; it is durable on return.

        Raises:
            InvalidParams: the key, or a value that is not plain.
            ResourceExhausted: the value is too long, or the plugin's quota is used up; nothing changed.
            NotFound: the plugin is gone.
        """
        key_bytes = _check_key(key)
        data = _packed(key, value)
        size = key_bytes + len(data)

        def work(transaction: Transaction) -> None:
            used = _first(transaction, _USED, plugin_id)
            after = used - _first(transaction, _SIZE, plugin_id, key) + size
            # What makes it smaller is always welcome: a quota may have been lowered.
            if after > self._quota_bytes and after >= used:
                raise _over_quota(key, used, after, self._quota_bytes)
            try:
                transaction.execute(_SET, (plugin_id, key, data, size, transaction.now_ms))
            except peewee.IntegrityError as error:
                raise NotFound(f"there is no plugin {plugin_id!r} any more", plugin=plugin_id) from error
            transaction.execute(_SET_USED, (plugin_id, after))

        await self._database.transact(work, owner=plugin_id, size=size)

    async def delete(self, plugin_id: PluginId, key: str) -> bool:
        """Whether there was such a key."""
        _check_key(key)

        def work(transaction: Transaction) -> bool:
            freed = _first(transaction, _SIZE, plugin_id, key)
            if transaction.execute(_DELETE, (plugin_id, key)).rowcount == 0:
                return False
            transaction.execute(_SET_USED, (plugin_id, _first(transaction, _USED, plugin_id) - freed))
            return True

        return await self._database.transact(work, owner=plugin_id)

    async def list(
        self,
        plugin_id: PluginId,
        *,
        prefix: str = "",
        after: str | None = None,
        limit: int = 100,
    ) -> tuple[list[tuple[str, Any]], str | None]:
        """Keys that start with `prefix`, with their values, in the order of code points, and `after` of the next page.

        A page has at most `limit` (up to 1,000) entries and about 2 MiB; the second part is None at the end.

        Raises:
            InvalidParams: `limit` is below 1.
        """
        if limit < 1:
            raise InvalidParams(f"limit must be at least 1, not {limit}", limit=limit)
        end = _after_prefix(prefix)
        wanted = min(limit, MAX_PAGE)
        # One more than wanted tells whether there is a next page. Every key is longer than the empty string.
        parameters = (plugin_id, prefix, end, end, after or "", wanted + 1)

        def work() -> tuple[list[tuple[str, Any]], str | None]:
            entries: list[tuple[str, Any]] = []
            total = 0
            for key, size, value in current.execute_sql(_LIST, parameters):
                total += size
                if entries and (total > MAX_PAGE_BYTES or len(entries) == wanted):
                    return entries, entries[-1][0]
                entries.append((key, unpack(value)))
            return entries, None

        return await self._database.read(work, owner=plugin_id, size=_GUESSED_PAGE_BYTES)


def _check_key(key: str) -> int:
    """The length of the key in bytes."""
    if not isinstance(key, str) or not 1 <= len(key) <= MAX_KEY_CHARS:
        raise InvalidParams(f"a state key must be a string of 1 to {MAX_KEY_CHARS} characters")
    try:
        return len(key.encode())
    except UnicodeEncodeError as error:
        raise InvalidParams(f"a state key must be encodable as UTF-8: {error.reason}") from error


def _packed(key: str, value: Any) -> bytes:
    try:
        data = pack(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidParams(f"the value of state key {key!r} cannot be stored: {error}", key=key) from error
    if len(data) > MAX_VALUE_BYTES:
        raise ResourceExhausted(
            f"the value of state key {key!r} has {len(data)} bytes, the limit is {MAX_VALUE_BYTES}: "
            "split it, or keep it in a file in the plugin's data directory",
            key=key,
            size=len(data),
            limit=MAX_VALUE_BYTES,
        )
    return data


def _over_quota(key: str, used: int, after: int, quota: int) -> ResourceExhausted:
    return ResourceExhausted(
        f"the plugin's state would grow from {used} to {after} bytes with key {key!r}, its quota is {quota}: "
        "delete keys first",
        key=key,
        used=used,
        needed=after,
        quota=quota,
    )


def _first(transaction: Transaction, sql: str, *parameters: Any) -> int:
    """The one number asked for, or 0."""
    row = transaction.execute(sql, parameters).fetchone()
    return int(row[0]) if row else 0


def _after_prefix(prefix: str) -> str | None:
    """The least string above everything that starts with `prefix`; None if nothing is."""
    for i in range(len(prefix) - 1, -1, -1):
        if (code := ord(prefix[i])) < 0x10FFFF:
            # Surrogates are no characters.
            return prefix[:i] + chr(0xE000 if code == 0xD7FF else code + 1)
    return None
