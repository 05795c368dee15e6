"""StateStore: the plugins' own keys and values, each plugin in a namespace and under a quota of its own."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import peewee

from supervisor.core.errors import Conflict, InvalidParams, NotFound, ResourceExhausted
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

# Of a plugin that ever had state: what it uses, the last revision given, and size and revision of the key, or NULL.
_LOOK: Final = (
    "SELECT u.size, u.revision, s.size, s.revision FROM plugin_state_usage u"
    " LEFT JOIN plugin_state s ON s.plugin_id = u.plugin_id AND s.key = ? WHERE u.plugin_id = ?"
)
_SET: Final = (
    "INSERT INTO plugin_state (plugin_id, key, value, size, revision, updated_at_ms) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (plugin_id, key) DO UPDATE SET value = excluded.value, size = excluded.size,"
    " revision = excluded.revision, updated_at_ms = excluded.updated_at_ms"
)
_SET_USED: Final = (
    "INSERT INTO plugin_state_usage (plugin_id, size, revision) VALUES (?, ?, ?)"
    " ON CONFLICT (plugin_id) DO UPDATE SET size = excluded.size, revision = excluded.revision"
)
_DELETE: Final = "DELETE FROM plugin_state WHERE plugin_id = ? AND key = ?"
_GET: Final = "SELECT value, revision FROM plugin_state WHERE plugin_id = ? AND key = ?"
_LIST: Final = (
    "SELECT key, size, value, revision FROM plugin_state"
    " WHERE plugin_id = ? AND key >= ? AND (? IS NULL OR key < ?) AND key > ? ORDER BY key LIMIT ?"
)


class StateStore:
    """Keys are 1 to 512 characters; a value is any plain value, None included, up to 1 MiB as msgpack.

    The quota counts keys and packed values, in bytes. Each change gives a key another revision, counted over all of
    the plugin's: one that was deleted and is set again never has one that it had before.
    """

    def __init__(self, database: Database, *, quota_bytes: int = QUOTA_BYTES) -> None:
        self._database = database
        self._quota_bytes = quota_bytes

    async def get(self, plugin_id: PluginId, key: str) -> tuple[bool, Any, int]:
        """Whether there is such a key, its value, and its revision: 0 where there is none."""
        _check_key(key)

        def work() -> tuple[bool, Any, int]:
            row = current.execute_sql(_GET, (plugin_id, key)).fetchone()
            return (False, None, 0) if row is None else (True, unpack(row[0]), row[1])

        return await self._database.read(work, owner=plugin_id, size=_GUESSED_VALUE_BYTES)

    async def set(self, plugin_id: PluginId, key: str, value: Any, *, if_revision: int | None = None) -> int:
        """Store `value` and return its revision; it is durable on return.

        Raises:
            Conflict: the key has another revision than `if_revision` (0: is not there); details: key, revision.
            InvalidParams: the key, or a value that is not plain.
            ResourceExhausted: the value is too long, or the plugin's quota is used up; nothing changed.
            NotFound: the plugin is gone.
        """
        key_bytes = _check_key(key)
        _check_revision(if_revision)
        data = _packed(key, value)
        size = key_bytes + len(data)

        def work(transaction: Transaction) -> int:
            found = _look(transaction, plugin_id, key)
            found.refuse_other_than(if_revision)
            after, revision = found.used - found.size + size, found.last_revision + 1
            # What makes it smaller is always welcome: a quota may have been lowered.
            if after > self._quota_bytes and after >= found.used:
                raise _over_quota(key, found.used, after, self._quota_bytes)
            try:
                transaction.execute(_SET, (plugin_id, key, data, size, revision, transaction.now_ms))
            except peewee.IntegrityError as error:
                raise NotFound(f"there is no plugin {plugin_id!r} any more", plugin=plugin_id) from error
            transaction.execute(_SET_USED, (plugin_id, after, revision))
            return revision

        return await self._database.transact(work, owner=plugin_id, size=size)

    async def delete(self, plugin_id: PluginId, key: str, *, if_revision: int | None = None) -> bool:
        """Whether there was such a key.

        Raises:
            Conflict: as `set`.
        """
        _check_key(key)
        _check_revision(if_revision)

        def work(transaction: Transaction) -> bool:
            found = _look(transaction, plugin_id, key)
            found.refuse_other_than(if_revision)
            if not found.revision:
                return False
            transaction.execute(_DELETE, (plugin_id, key))
            transaction.execute(_SET_USED, (plugin_id, found.used - found.size, found.last_revision))
            return True

        return await self._database.transact(work, owner=plugin_id)

    async def list(
        self,
        plugin_id: PluginId,
        *,
        prefix: str = "",
        after: str | None = None,
        limit: int = 100,
    ) -> tuple[list[tuple[str, Any, int]], str | None]:
        """Keys that start with `prefix`, with their values and revisions, in the order of code points, and `after` of
        the next page.

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

        def work() -> tuple[list[tuple[str, Any, int]], str | None]:
            entries: list[tuple[str, Any, int]] = []
            total = 0
            for key, size, value, revision in current.execute_sql(_LIST, parameters):
                total += size
                if entries and (total > MAX_PAGE_BYTES or len(entries) == wanted):
                    return entries, entries[-1][0]
                entries.append((key, unpack(value), revision))
            return entries, None

        return await self._database.read(work, owner=plugin_id, size=_GUESSED_PAGE_BYTES)


class _Found(NamedTuple):
    """What there is before a change, in bytes; revision 0: the key is not there."""

    key: str
    used: int
    last_revision: int
    size: int
    revision: int

    def refuse_other_than(self, expected: int | None) -> None:
        if expected is not None and expected != self.revision:
            now = f"has revision {self.revision}" if self.revision else "is not there (revision 0)"
            raise Conflict(
                f"state key {self.key!r} {now}, not revision {expected}: get it again, and decide anew",
                key=self.key,
                revision=self.revision,
            )


def _look(transaction: Transaction, plugin_id: PluginId, key: str) -> _Found:
    row = transaction.execute(_LOOK, (key, plugin_id)).fetchone()
    used, last_revision, size, revision = row or (0, 0, None, None)
    return _Found(key, used, last_revision, size or 0, revision or 0)


def _check_revision(revision: int | None) -> None:
    if revision is not None and revision < 0:
        raise InvalidParams(f"if_revision must be 0 (the key is not there) or a revision, not {revision}")


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


def _after_prefix(prefix: str) -> str | None:
    """The least string above everything that starts with `prefix`; None if nothing is."""
    for i in range(len(prefix) - 1, -1, -1):
        if (code := ord(prefix[i])) < 0x10FFFF:
            # Surrogates are no characters.
            return prefix[:i] + chr(0xE000 if code == 0xD7FF else code + 1)
    return None
