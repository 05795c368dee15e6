from __future__ import annotations

import random
import time
from datetime import timedelta
from typing import Any

import pytest
import trio

from supervisor.clock import to_ms
from supervisor.core.errors import InvalidParams
from supervisor.core.event import PluginEmitted, Recorded, RunStarted
from supervisor.core.plugin import PluginId, PluginKey
from supervisor.store.database import Database
from supervisor.store.event_filters import Filters
from supervisor.store.journal import Journal
from supervisor.store.journal_look import Span
from supervisor.store.tables import pack


@pytest.fixture
def journal(database: Database) -> Journal:
    return Journal(database)


async def emit(database: Database, *names: str, plugin: str = "p") -> list[Recorded]:
    events = [PluginEmitted(plugin_id=PluginId(plugin), plugin_key=PluginKey("k"), name=n, payload=n) for n in names]
    return await database.transact(lambda tx: [tx.record(event) for event in events])


def seqs(events: list[Recorded]) -> list[int]:
    return [event.seq for event in events]


async def test_an_empty_journal(journal: Journal) -> None:
    assert await journal.list() == []
    assert await journal.last_seq() == 0
    assert await journal.first_seq() == 1


async def test_paging_forward_and_the_newest(journal: Journal, database: Database) -> None:
    recorded = await emit(database, *"abcdefg")
    assert await journal.list(after_seq=0) == recorded
    assert await journal.list(after_seq=2, limit=3) == recorded[2:5]
    assert await journal.list(after_seq=7) == []
    assert await journal.list(limit=3) == recorded[4:]
    assert (await journal.first_seq(), await journal.last_seq()) == (1, 7)


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ([], [1, 2, 3, 4, 5]),
        (["*"], [1, 2, 3, 4, 5]),
        (["emitted.a"], [1]),
        (["emitted.a", "emitted.b*"], [1, 3, 4]),
        (["emitted.?"], [1, 2]),
        (["emitted.[!a-z]"], [2]),
        (["emitted.[A-Z]"], [2]),
        (["EMITTED.*"], []),
        (["emitted.b_c"], []),
        (["emitted.b%"], [4]),
    ],
)
async def test_types_are_globs(journal: Journal, database: Database, types: list[str], expected: list[int]) -> None:
    await emit(database, "a", "A", "bxc", "b%", "x.y")
    assert seqs(await journal.list(after_seq=0, types=types)) == expected
    assert seqs(await journal.list(types=types)) == expected


async def test_filters_by_plugin_and_both(journal: Journal, database: Database) -> None:
    for n in range(4):
        await emit(database, "a", "b", plugin=f"p{n % 2}")
    assert seqs(await journal.list(after_seq=0, plugins=["p0"])) == [1, 2, 5, 6]
    assert seqs(await journal.list(after_seq=2, plugins=["p0"], types=["*.b"])) == [6]
    assert seqs(await journal.list(plugins=["p0", "p1"], types=["*.b"], limit=3)) == [4, 6, 8]
    assert await journal.list(plugins=["nobody"]) == []


async def test_a_page_has_at_most_a_thousand(journal: Journal, database: Database) -> None:
    await emit(database, *(str(n) for n in range(1005)))
    assert seqs(await journal.list(after_seq=0, limit=9999)) == list(range(1, 1001))
    assert seqs(await journal.list(limit=9999)) == list(range(6, 1006))
    with pytest.raises(InvalidParams, match="limit must be at least 1, not 0"):
        await journal.list(limit=0)


@pytest.mark.parametrize(("kept", "gone"), [(5000, 0), (2500, 0), (2499, 1), (500, 2000), (1, 2499), (0, 2500)])
async def test_trimming_to_a_number(journal: Journal, database: Database, kept: int, gone: int) -> None:
    await emit(database, *(str(n) for n in range(2500)))
    assert await journal.trim(max_events=kept) == gone
    assert await journal.trim(max_events=kept) == 0
    assert (await journal.first_seq(), await journal.last_seq()) == (gone + 1, 2500)


async def test_trimming_by_age(journal: Journal, database: Database, clock: Any) -> None:
    await emit(database, "a", "b")
    clock.advance(timedelta(days=4))
    await emit(database, "c")
    clock.advance(timedelta(days=3))
    assert await journal.trim() == 0
    clock.advance(timedelta(milliseconds=1))
    assert await journal.trim() == 2
    assert seqs(await journal.list()) == [3]


async def test_numbers_go_on_after_everything_was_trimmed(open_database: Any, clock: Any) -> None:
    async with open_database() as database:
        await emit(database, "a", "b", "c")
        clock.advance(timedelta(days=8))
        assert await Journal(database).trim() == 3
    async with open_database() as database:
        assert (await Journal(database).first_seq(), await Journal(database).last_seq()) == (4, 3)
        assert seqs(await emit(database, "d")) == [4]


async def test_a_clock_that_steps_back_makes_no_holes(journal: Journal, database: Database, clock: Any) -> None:
    await emit(database, "new")
    clock.advance(timedelta(days=-8))
    await emit(database, "stamped long ago")
    clock.advance(timedelta(days=8))
    assert await journal.trim() == 0
    assert seqs(await journal.list()) == [1, 2]


async def emit_large(database: Database, count: int, size: int) -> list[Recorded]:
    event = PluginEmitted(plugin_id=PluginId("p"), plugin_key=PluginKey("k"), name="n", payload="x" * size)
    return await database.transact(lambda tx: [tx.record(event) for _ in range(count)])


async def test_a_page_has_so_many_bytes_and_one_event_always(journal: Journal, database: Database) -> None:
    recorded = await emit_large(database, 10, 600_000)
    assert await journal.list(after_seq=0) == recorded[:3]
    assert await journal.list(after_seq=3) == recorded[3:6]
    assert await journal.list(after_seq=9) == recorded[9:]
    assert await journal.list() == recorded[7:]
    [huge] = await emit_large(database, 1, 3_000_000)
    assert await journal.list(after_seq=10) == await journal.list() == [huge]


async def test_a_cut_page_leaves_no_old_view_behind(journal: Journal, database: Database) -> None:
    await emit_large(database, 10, 600_000)
    await journal.list(after_seq=0)
    await emit(database, "a")
    assert await journal.last_seq() == 11
    assert seqs(await journal.list(after_seq=10)) == [11]


async def test_trimming_by_bytes(journal: Journal, database: Database) -> None:
    await emit_large(database, 2500, 1000)
    assert journal.recorded_bytes == 2500 * 1019
    assert await journal.trim() == 0
    assert await journal.trim(max_bytes=500 * 1019) == 2000  # 1,019 bytes each, packed
    assert (await journal.first_seq(), await journal.last_seq()) == (2001, 2500)
    assert await journal.trim(max_bytes=500 * 1019) == 0
    assert await journal.trim(max_bytes=0) == 500


@pytest.mark.parametrize(
    ("filters", "told"),
    [
        (Filters(types=["t"] * 101), "types may have 100 entries, not 101"),
        (Filters(plugins=["p"] * 101), "plugins may have 100 entries, not 101"),
        (Filters(jobs=["j"] * 101), "jobs may have 100 entries, not 101"),
        (Filters(types=["t" * 201]), "an entry of types may have 200 characters, not 201"),
        (Filters(types=["a", "[^a]"]), "write \\[!…\\] for none of these"),
    ],
)
async def test_filters_are_bounded(journal: Journal, filters: Filters, told: str) -> None:
    with pytest.raises(InvalidParams, match=told):
        await journal.page(filters, Span())
    most = Filters(["t" * 200] * 100, ["p"] * 100, ["j"] * 100)
    assert await journal.page(most, Span()) == ([], 0)


@pytest.mark.parametrize("seed", range(20))
async def test_what_is_replayed_and_what_is_live_matches_alike(journal: Journal, database: Database, seed: int) -> None:
    """SQLite judges the one, and we the other."""
    chance = random.Random(seed)
    names = {"".join(chance.choices("abA.-_", k=chance.randint(1, 4))) for _ in range(40)}
    recorded = await emit(database, *sorted(names))
    for _ in range(60):
        # Without ranges that run backwards, which match nothing here and their first character there.
        parts = ["a", "b", "A", ".", "*", "?", "[", "]", "!", "[a-b]", "[!A-Z]"]
        glob = "emitted." + "".join(chance.choices(parts, k=chance.randint(1, 7)))
        filters = Filters([glob])
        found, _ = await journal.page(filters, Span(0), 1000)
        assert seqs(found) == seqs([event for event in recorded if filters.match(event)]), glob


async def run_started(database: Database, *jobs: str) -> list[Recorded]:
    events = [
        RunStarted(
            plugin_id=PluginId("p"),
            plugin_key=PluginKey("k"),
            job=job,
            run_id="r",
            trigger="manual",
            attempt=1,
            due_ms=0,
        )
        for job in jobs
    ]
    return await database.transact(lambda tx: [tx.record(event) for event in events])


async def test_filters_by_job(journal: Journal, database: Database) -> None:
    recorded = await run_started(database, "a", "b") + await emit(database, "x") + await run_started(database, "a")
    assert [event.job for event in recorded] == ["k/a", "k/b", None, "k/a"]
    for jobs, wanted in ((["k/a"], [1, 4]), (["k/b", "k/a"], [1, 2, 4]), (["a"], []), ([], [1, 2, 3, 4])):
        filters = Filters(jobs=jobs)
        page, last = await journal.page(filters, Span(0))
        assert (seqs(page), last) == (wanted, 4)
        assert page == [event for event in recorded if filters.match(event)]
    assert seqs((await journal.page(Filters(["job.*"], ["p"], ["k/a"]), Span(1)))[0]) == [4]
    assert (await journal.page(Filters(["job.*"], ["q"], ["k/a"]), Span()))[0] == []


async def listed(journal: Journal, limit: int = 100, **span: int) -> list[int]:
    return seqs((await journal.page(Filters(), Span(**span), limit))[0])


async def test_spans(journal: Journal, database: Database, clock: Any) -> None:
    start_ms = to_ms(clock.now())
    for name in "abcdef":
        await emit(database, name)
        clock.advance(timedelta(seconds=10))
    assert await listed(journal, before_seq=4) == [1, 2, 3]
    assert await listed(journal, 2, before_seq=4) == [2, 3]
    assert await listed(journal, 2, after_seq=1, before_seq=6) == [2, 3]
    assert await listed(journal, since_ms=start_ms + 20_000) == [3, 4, 5, 6]
    assert await listed(journal, since_ms=start_ms + 20_001) == [4, 5, 6]
    assert await listed(journal, 2, since_ms=start_ms + 20_001) == [4, 5]
    assert await listed(journal, since_ms=start_ms + 50_001) == []
    assert await listed(journal, until_ms=start_ms + 20_000) == [1, 2]
    assert await listed(journal, 1, until_ms=start_ms + 20_001) == [3]
    assert await listed(journal, until_ms=start_ms) == []
    assert await listed(journal, since_ms=start_ms, until_ms=start_ms + 30_000, after_seq=1) == [2, 3]


async def test_a_clock_that_steps_back_hides_nothing_from_a_span(
    journal: Journal, database: Database, clock: Any
) -> None:
    """Stamped 0, 10, 20, then after a step back 5, 15, 25: whatever was stamped within is told, and in order."""
    start_ms = to_ms(clock.now())
    for step_s in (0, 10, 10, -15, 10, 10):
        clock.advance(timedelta(seconds=step_s))
        await emit(database, "x")
    stamps_s = [(to_ms(event.at) - start_ms) // 1000 for event in await journal.list(after_seq=0)]
    assert stamps_s == [0, 10, 20, 5, 15, 25]
    for since_s in range(27):
        told = await listed(journal, since_ms=start_ms + since_s * 1000)
        assert told == list(range(min(told, default=7), 7))
        assert {seq for seq, stamp in enumerate(stamps_s, 1) if stamp >= since_s} <= set(told)
        told = await listed(journal, until_ms=start_ms + since_s * 1000)
        assert told == list(range(1, max(told, default=0) + 1))
        assert {seq for seq, stamp in enumerate(stamps_s, 1) if stamp < since_s} <= set(told)
    assert await listed(journal, since_ms=start_ms + 12_000) == [3, 4, 5, 6]
    assert await listed(journal, until_ms=start_ms + 12_000) == [1, 2, 3, 4]


async def test_long_looks_back_need_no_index(journal: Journal, database: Database) -> None:
    """Over as many events as are kept; an event a second."""
    sql = (
        "WITH RECURSIVE n(seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM n WHERE seq < 100000)"
        " INSERT INTO event (seq, at_ms, type, plugin_id, plugin_key, data) "
        "SELECT seq, seq * 1000, 'emitted.x', 'p', 'k', ? FROM n"
    )
    data = pack({"name": "x", "payload": "x" * 50})
    await database.transact(lambda tx: tx.execute(sql, (data,)) and None)
    began = time.perf_counter()
    assert await listed(journal, since_ms=95_001_000) == list(range(95_001, 95_101))
    assert await listed(journal, until_ms=5_000_001) == list(range(4_901, 5_001))
    assert time.perf_counter() - began < 2


async def many(database: Database, count: int) -> None:
    sql = (
        "WITH RECURSIVE n(seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM n WHERE seq < ?)"
        " INSERT INTO event (seq, at_ms, type, plugin_id, plugin_key, data) "
        "SELECT seq, seq * 1000, 'emitted.' || (seq % 7), 'p', 'k', ? FROM n"
    )
    await database.transact(lambda tx: tx.execute(sql, (count, pack({}))) and None)


@pytest.mark.parametrize("seed", range(20))
async def test_in_pieces_it_is_the_same(
    journal: Journal, database: Database, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    await many(database, 200)
    await journal.trim(max_events=150)
    chance = random.Random(seed)
    for _ in range(20):
        names = chance.sample(["after_seq", "before_seq", "since_ms", "until_ms"], chance.randint(0, 3))
        span = Span(**{name: chance.randint(0, 220) * (1000 if name.endswith("ms") else 1) for name in names})
        filters = Filters([f"emitted.[{chance.randint(0, 9)}{chance.randint(0, 9)}]"])
        limit = chance.choice([1, 5, 1000])
        monkeypatch.setattr("supervisor.store.journal_look._LOOK_AT", 20_000)
        whole = await journal.page(filters, span, limit)
        monkeypatch.setattr("supervisor.store.journal_look._LOOK_AT", chance.randint(1, 60))
        assert await journal.page(filters, span, limit) == whole, (filters, span, limit)


async def test_what_is_replayed_in_pieces_is_all_of_it(
    journal: Journal, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await many(database, 200)
    for looked_at in (1, 7, 199, 200, 1000):
        monkeypatch.setattr("supervisor.store.journal_look._LOOK_AT", looked_at)
        for limit in (1, 3, 1000):
            found, place, is_last = list[int](), 3, False
            while not is_last:
                page = await journal.after(place, Filters(["*.[01]"]), limit=limit, max_bytes=50, owner="x")
                assert page.through_seq >= place
                found += seqs(list(page.events))
                place, is_last = page.through_seq, page.is_last
            assert (found, place) == ([n for n in range(4, 201) if n % 7 in {0, 1}], 200)


async def test_others_come_in_between_and_what_they_record_is_not_in_the_page(
    journal: Journal, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page and its last_seq are of one instant: who subscribes after that one misses nothing."""
    await many(database, 20)
    monkeypatch.setattr("supervisor.store.journal_look._LOOK_AT", 5)
    read, owners = database.read, list[Any]()

    async def recording(work: Any, *, owner: str | None = None, size: int = 0) -> Any:
        owners.append(owner)
        answer = await read(work, owner=owner, size=size)
        await emit(database, "1")
        return answer

    monkeypatch.setattr(database, "read", recording)
    for span in (Span(after_seq=0), Span()):
        owners.clear()
        last = 20 if span.has_beginning else 24
        page, told = await journal.page(Filters(["emitted.1"]), span, 1000, owner="uid:7")
        assert (told, owners) == (last, ["uid:7"] * (4 if span.has_beginning else 5))
        assert seqs(page) == [n for n in range(1, last + 1) if n > 20 or n % 7 == 1]


async def test_nobody_looks_on_for_who_has_gone(
    journal: Journal, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await many(database, 50)
    monkeypatch.setattr("supervisor.store.journal_look._LOOK_AT", 1)
    read, reads, scope = database.read, 0, trio.CancelScope()

    async def counted(work: Any, **named: Any) -> Any:
        nonlocal reads
        reads += 1
        if reads == 3:
            scope.cancel()
        return await read(work, **named)

    monkeypatch.setattr(database, "read", counted)
    with scope:
        await journal.page(Filters(["nothing"]), Span(0))
    assert (scope.cancelled_caught, reads) == (True, 3)


async def test_many_globs_make_small_pieces(journal: Journal, database: Database) -> None:
    await many(database, 5000)
    before = database.statistics()["reader"].transactions
    assert await journal.page(Filters([f"*x{n}*" for n in range(100)]), Span(0)) == ([], 5000)
    assert database.statistics()["reader"].transactions - before == 5
