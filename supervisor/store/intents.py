"""Intents: what is about to be done to files, written before it is. What a crash cuts short the next start ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from supervisor.core.plugin import PluginKey
from supervisor.store.database import Database, Transaction
from supervisor.store.tables import IntentRow


class IntentKind(StrEnum):
    ADD = "add"
    """Packages are moved into the store; ended by the rows that name them. Left over: they go again."""
    REMOVE = "remove"
    """The rows that named them are gone, and now the files go. Left over: they still have to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    id: int
    kind: IntentKind
    plugin_key: PluginKey
    package_dirs: tuple[str, ...]
    data: bool
    """The plugin's data directory and logs go too."""


class IntentLog:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, kind: IntentKind, key: PluginKey, package_dirs: Sequence[str], *, data: bool = False) -> int:
        """Its id, once it is durable."""
        return await self._database.transact(
            lambda transaction: write_intent(transaction, kind, key, package_dirs, data=data)
        )

    async def end(self, intent_id: int) -> None:
        """Again is harmless."""
        await self._database.transact(lambda _: erase_intent(intent_id))

    async def open(self) -> list[Intent]:
        """Those not ended, oldest first."""

        def work() -> list[Intent]:
            return [_to_intent(row) for row in IntentRow.select().order_by(IntentRow.id)]

        return await self._database.read(work)


def write_intent(
    transaction: Transaction, kind: IntentKind, key: PluginKey, package_dirs: Sequence[str], *, data: bool = False
) -> int:
    """In a transaction."""
    row = IntentRow.create(
        kind=str(kind),
        plugin_key=key,
        package_dirs=list(package_dirs),
        data=data,
        begun_at_ms=transaction.now_ms,
    )
    return int(row.id)


def erase_intent(intent_id: int | None) -> None:
    """In a transaction; None is none."""
    if intent_id is not None:
        IntentRow.delete().where(IntentRow.id == intent_id).execute()


def _to_intent(row: IntentRow) -> Intent:
    return Intent(
        id=row.id,
        kind=IntentKind(row.kind),
        plugin_key=PluginKey(row.plugin_key),
        package_dirs=tuple(row.package_dirs),
        data=row.data,
    )
