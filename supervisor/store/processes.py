"""ProcessBook: the worker processes there are, so that the next daemon finds what this one leaves behind if killed."""

from __future__ import annotations

from dataclasses import dataclass

from supervisor.core.plugin import PluginId
from supervisor.store.database import Database, Transaction
from supervisor.store.tables import WorkerProcessRow


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """The identity of a process: a pid alone may long be somebody else's."""

    plugin_id: PluginId
    pid: int
    start_ticks: int
    """Field 22 of /proc/<pid>/stat: clock ticks since boot."""
    boot_id: str


class ProcessBook:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def remember(self, plugin_id: PluginId, pid: int, start_ticks: int, boot_id: str) -> None:
        """Durable on return; a former process of the same plugin and pid is replaced."""
        row = {"plugin_id": plugin_id, "pid": pid, "start_ticks": start_ticks, "boot_id": boot_id}

        def work(_: Transaction) -> None:
            WorkerProcessRow.insert(row).on_conflict_replace().execute()

        await self._database.transact(work)

    async def forget(self, plugin_id: PluginId, pid: int) -> None:
        def work(_: Transaction) -> None:
            mine = (WorkerProcessRow.plugin_id == plugin_id) & (WorkerProcessRow.pid == pid)
            WorkerProcessRow.delete().where(mine).execute()

        await self._database.transact(work)

    async def all(self) -> list[WorkerProcess]:
        def work() -> list[WorkerProcess]:
            rows = WorkerProcessRow.select().order_by(WorkerProcessRow.plugin_id, WorkerProcessRow.pid)
            return [WorkerProcess(PluginId(r.plugin_id), r.pid, r.start_ticks, r.boot_id) for r in rows]

        return await self._database.read(work)

    async def clear(self) -> None:
        def work(_: Transaction) -> None:
            WorkerProcessRow.delete().execute()

        await self._database.transact(work)
