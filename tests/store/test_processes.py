from __future__ import annotations

from typing import Any

from supervisor.core.plugin import PluginId
from supervisor.store.database import Database
from supervisor.store.processes import ProcessBook, WorkerProcess

A, B = PluginId("a"), PluginId("b")


async def test_what_is_remembered_is_there_until_forgotten(database: Database) -> None:
    book = ProcessBook(database)
    assert await book.all() == []
    await book.remember(B, 20, 5, "boot")
    await book.remember(A, 10, 1, "boot")
    await book.remember(A, 11, 2, "boot")
    await book.remember(A, 10, 3, "boot")
    assert await book.all() == [
        WorkerProcess(A, 10, 3, "boot"),
        WorkerProcess(A, 11, 2, "boot"),
        WorkerProcess(B, 20, 5, "boot"),
    ]
    await book.forget(A, 10)
    await book.forget(A, 20)
    assert [(process.plugin_id, process.pid) for process in await book.all()] == [(A, 11), (B, 20)]
    await book.clear()
    assert await book.all() == []


async def test_the_next_daemon_finds_them(open_database: Any) -> None:
    async with open_database() as database:
        await ProcessBook(database).remember(A, 10, 1, "boot")
    async with open_database() as database:
        assert await ProcessBook(database).all() == [WorkerProcess(A, 10, 1, "boot")]
