"""Damaged, foreign and unreadable files at opening, and backups."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio

from supervisor.core.errors import AlreadyExists, FailedPrecondition, ResourceExhausted
from supervisor.core.event import PluginEmitted, Recorded
from supervisor.core.plugin import PluginId, PluginKey
from supervisor.store import files, migrations
from supervisor.store.database import Database
from supervisor.store.journal import Journal
from supervisor.store.tables import current

EVENT = PluginEmitted(plugin_id=PluginId("id"), plugin_key=PluginKey("acme"), name="x", payload="y" * 3000)


async def fill(database: Database, events: int = 100) -> None:
    await database.transact(lambda tx: [tx.record(EVENT) for _ in range(events)])


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


# --- damage ---


def overwrite_with_text(path: Path) -> None:
    path.write_bytes(b"this is no database " * 500)


def break_a_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for start in range(4096, len(data) - 4096, 4096):
        data[start : start + 200] = b"\xa5" * 200
    path.write_bytes(data)


def cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


@pytest.mark.parametrize("damage", [overwrite_with_text, break_a_page, cut_in_half])
@pytest.mark.parametrize("inline", [False, True])
async def test_a_damaged_file_is_moved_aside_and_a_fresh_one_begun(
    open_database: Any,
    tmp_path: Path,
    damage: Any,
    inline: bool,
) -> None:
    async with open_database(inline=inline) as database:
        await fill(database)
    damage(tmp_path / "plugind.db")
    damaged = (tmp_path / "plugind.db").read_bytes()
    async with open_database(inline=inline) as database:
        aside = tmp_path / "plugind.db.damaged-20260301T120000Z"
        [warning] = database.warnings
        assert str(aside) in warning
        assert "damaged" in warning
        assert aside.read_bytes() == damaged
        assert await Journal(database).last_seq() == 0
        await fill(database)
    async with open_database(inline=inline) as database:
        assert database.warnings == []
        assert await Journal(database).last_seq() == 100


async def test_the_log_beside_a_damaged_file_goes_with_it(open_database: Any, tmp_path: Path) -> None:
    for name in ("plugind.db", "plugind.db-wal", "plugind.db-shm"):
        (tmp_path / name).write_bytes(name.encode() * 1000)
    async with open_database() as database:
        assert len(database.warnings) == 1
    aside = "plugind.db.damaged-20260301T120000Z"
    assert set(contents(tmp_path)) == {"plugind.db", aside, f"{aside}-wal", f"{aside}-shm"}
    assert (tmp_path / f"{aside}-wal").read_bytes() == b"plugind.db-wal" * 1000


async def test_damaged_twice_in_a_second_nothing_is_overwritten(open_database: Any, tmp_path: Path) -> None:
    for n in range(3):
        (tmp_path / "plugind.db").write_bytes(b"damage %d" % n * 1000)
        async with open_database() as database:
            assert len(database.warnings) == 1
    aside = "plugind.db.damaged-20260301T120000Z"
    saved = [(tmp_path / f"{aside}{suffix}").read_bytes() for suffix in ("", "-2", "-3")]
    assert saved == [b"damage %d" % n * 1000 for n in range(3)]


async def test_an_empty_file_is_a_new_database(open_database: Any, tmp_path: Path) -> None:
    (tmp_path / "plugind.db").touch()
    async with open_database() as database:
        assert database.warnings == []
        assert await Journal(database).last_seq() == 0


# --- what is not ours to open ---


async def refused(open_database: Any) -> FailedPrecondition:
    with pytest.raises(FailedPrecondition) as caught:
        async with open_database():
            pytest.fail("it was opened")
    return caught.value


async def test_a_newer_schema_is_refused_and_left_alone(open_database: Any, tmp_path: Path) -> None:
    async with open_database() as database:
        await fill(database)
    newer = migrations.STEPS[-1].number + 41
    with closing(sqlite3.connect(tmp_path / "plugind.db")) as connection, connection:
        connection.execute("INSERT INTO schema_version VALUES (?, 'from the future', 0)", (newer,))
    before = contents(tmp_path)
    error = await refused(open_database)
    assert re.search(rf"plugind\.db .*version {newer} .*up to {newer - 41}", error.message)
    assert error.details["stored_version"] == newer
    assert error.details["known_version"] == newer - 41
    after = contents(tmp_path)
    assert after["plugind.db"] == before["plugind.db"]
    assert after.get("plugind.db-wal", b"") == b"", "looking may begin an empty log, and no more"


async def test_another_programs_database_is_refused_and_left_alone(open_database: Any, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "plugind.db")) as connection, connection:
        connection.execute("CREATE TABLE moz_places (id)")
    before = contents(tmp_path)
    assert "some other program: it has the table 'moz_places'" in (await refused(open_database)).message
    assert contents(tmp_path) == before


async def test_a_missing_directory_is_named(tmp_path: Path, clock: Any) -> None:
    with pytest.raises(FailedPrecondition, match=r"none/x\.db cannot be opened: No such file"):
        await Database.open(tmp_path / "none" / "x.db", clock=clock, publish=lambda _: None)


async def test_a_directory_in_the_files_place_is_named(open_database: Any, tmp_path: Path) -> None:
    (tmp_path / "plugind.db").mkdir()
    assert "plugind.db cannot be opened: Is a directory" in (await refused(open_database)).message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
async def test_missing_permissions_are_told(open_database: Any, tmp_path: Path) -> None:
    (tmp_path / "plugind.db").touch(mode=0)
    assert "Permission denied" in (await refused(open_database)).message


# --- backups ---


async def test_a_backup_has_everything_and_is_private(
    database: Database,
    tmp_path: Path,
    open_database: Any,
    published: list[Recorded],
) -> None:
    await fill(database)
    await database.backup(tmp_path / "copy.db")
    await fill(database, 1)
    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600
    async with open_database("copy.db") as copy:
        assert copy.warnings == []
        assert await Journal(copy).list(limit=1000) == published[:100]


async def test_backups_taken_while_writing_are_whole(open_database: Any, tmp_path: Path) -> None:
    async with open_database() as database, trio.open_nursery() as nursery:

        async def keep_writing() -> None:
            while True:
                await fill(database, 10)

        nursery.start_soon(keep_writing)
        for n in range(5):
            await database.backup(tmp_path / f"copy{n}.db")
        nursery.cancel_scope.cancel()
    for n in range(5):
        async with open_database(f"copy{n}.db") as copy:
            assert copy.warnings == []
            assert await copy.read(lambda: current.execute_sql("SELECT count(*) FROM event").fetchone()[0]) % 10 == 0
            assert await copy.read(lambda: current.execute_sql("PRAGMA integrity_check").fetchone()[0]) == "ok"


@pytest.mark.parametrize("there", ["file", "dangling link"])
async def test_a_backup_never_replaces_anything(database: Database, tmp_path: Path, there: str) -> None:
    target = tmp_path / "copy.db"
    target.write_bytes(b"precious") if there == "file" else target.symlink_to("nowhere")
    with pytest.raises(AlreadyExists, match=r"copy\.db is there already"):
        await database.backup(target)
    assert os.readlink(target) == "nowhere" if there != "file" else target.read_bytes() == b"precious"


async def test_a_file_that_appears_meanwhile_is_not_replaced(
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy = files._copy

    def copy_slowly(source: Path, part: Path) -> None:
        copy(source, part)
        (tmp_path / "out" / "copy.db").write_bytes(b"precious")

    (tmp_path / "out").mkdir()
    monkeypatch.setattr(files, "_copy", copy_slowly)
    with pytest.raises(AlreadyExists):
        await database.backup(tmp_path / "out" / "copy.db")
    assert contents(tmp_path / "out") == {"copy.db": b"precious"}


async def test_without_hard_links_the_backup_is_renamed(
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError

    (tmp_path / "out").mkdir()
    monkeypatch.setattr("os.link", no_links)
    await database.backup(tmp_path / "out" / "copy.db")
    assert list(contents(tmp_path / "out")) == ["copy.db"]
    with pytest.raises(AlreadyExists):
        await database.backup(tmp_path / "out" / "copy.db")


async def test_a_cancelled_backup_stops_and_leaves_nothing(
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await fill(database, 2000)
    (tmp_path / "out").mkdir()
    scope = trio.CancelScope()
    copy = files._copy
    token = trio.lowlevel.current_trio_token()

    def cancel_then_copy(source: Path, part: Path) -> None:
        trio.from_thread.run_sync(scope.cancel, trio_token=token)
        copy(source, part)

    monkeypatch.setattr(files, "_copy", cancel_then_copy)
    with scope:
        await database.backup(tmp_path / "out" / "copy.db")
    assert scope.cancelled_caught
    assert contents(tmp_path / "out") == {}


async def test_a_backup_onto_a_full_disk_says_so_and_leaves_nothing(
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "out").mkdir()

    def full(_: Path, part: Path) -> None:
        part.write_bytes(b"half a file")
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise files.translated(error, part) from error

    monkeypatch.setattr(files, "_copy", full)
    with pytest.raises(ResourceExhausted, match="full"):
        await database.backup(tmp_path / "out" / "copy.db")
    assert contents(tmp_path / "out") == {}


async def test_a_backup_into_nowhere_is_told(database: Database, tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match=r"no backup can be written to .*none/copy\.db: No such file"):
        await database.backup(tmp_path / "none" / "copy.db")
