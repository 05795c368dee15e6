from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from supervisor.core.errors import Conflict, InvalidParams, NotFound, ResourceExhausted
from supervisor.core.lifecycle import Status
from supervisor.core.plugin import Plugin, PluginId
from supervisor.store.database import Database, Transaction
from supervisor.store.plugins import PluginRegistry
from supervisor.store.state import MAX_PAGE_BYTES, MAX_VALUE_BYTES, StateStore
from supervisor.store.tables import current
from tests.packages import a_package


@pytest.fixture
def state(database: Database, plugin: Plugin) -> StateStore:
    return StateStore(database)


async def used(database: Database, plugin: Plugin) -> tuple[int, int]:
    """The counter that is kept, and what it should be."""

    def work() -> tuple[int, int]:
        kept = current.execute_sql("SELECT size FROM plugin_state_usage WHERE plugin_id = ?", (plugin.id,)).fetchone()
        real = current.execute_sql(
            "SELECT coalesce(sum(length(CAST(key AS BLOB)) + length(value)), 0) FROM plugin_state WHERE plugin_id = ?",
            (plugin.id,),
        ).fetchone()
        return (kept[0] if kept else 0), real[0]

    return await database.read(work)


@pytest.mark.parametrize("value", [None, False, 0, "", b"", [], {}, b"\xff\x00", {"a": [1, b"x", None]}, 2**64 - 1])
async def test_what_is_set_is_got(state: StateStore, plugin: Plugin, value: object) -> None:
    assert await state.get(plugin.id, "k") == (False, None, 0)
    assert await state.set(plugin.id, "k", "before") == 1
    assert await state.set(plugin.id, "k", value) == 2
    assert await state.get(plugin.id, "k") == (True, value, 2)
    assert await state.delete(plugin.id, "k") is True
    assert await state.delete(plugin.id, "k") is False
    assert await state.get(plugin.id, "k") == (False, None, 0)


async def test_each_plugin_has_its_own_keys(
    state: StateStore,
    plugin: Plugin,
    registry: PluginRegistry,
    make_manifest: Callable[..., Any],
) -> None:
    other = await registry.install(a_package(make_manifest("other"), "p"), approved=frozenset(), uid=None)
    await state.set(plugin.id, "k", 1)
    await state.set(other.id, "k", 2)
    assert await state.delete(other.id, "k")
    assert await state.get(plugin.id, "k") == (True, 1, 1)
    assert await state.list(other.id) == ([], None)


@pytest.mark.parametrize("key", ["", "x" * 513, "\ud800", 7, None])
async def test_a_bad_key_is_refused(state: StateStore, plugin: Plugin, key: Any) -> None:
    for call in (state.get, state.delete, lambda p, k: state.set(p, k, 1)):
        with pytest.raises(InvalidParams, match="state key"):
            await call(plugin.id, key)


async def test_the_longest_key_and_value_fit(state: StateStore, plugin: Plugin) -> None:
    key = "ü" * 512
    longest = b"x" * (MAX_VALUE_BYTES - 5)
    await state.set(plugin.id, key, longest)
    assert await state.get(plugin.id, key) == (True, longest, 1)
    with pytest.raises(
        ResourceExhausted, match=rf"'k' has {MAX_VALUE_BYTES + 1} bytes, the limit is {MAX_VALUE_BYTES}"
    ):
        await state.set(plugin.id, "k", longest + b"x")


@pytest.mark.parametrize("value", [object(), 2**64, "\ud800", {"deep": {1, 2}}])
async def test_a_value_that_is_not_plain_is_refused(state: StateStore, plugin: Plugin, value: object) -> None:
    with pytest.raises(InvalidParams, match="value of state key 'k' cannot be stored"):
        await state.set(plugin.id, "k", value)


async def test_a_plugin_that_is_gone_is_told(state: StateStore, database: Database) -> None:
    with pytest.raises(NotFound, match="'nobody' any more"):
        await state.set(PluginId("nobody"), "k", 1)
    assert await state.delete(PluginId("nobody"), "k") is False


async def test_the_quota_holds_and_freeing_helps(database: Database, plugin: Plugin) -> None:
    state = StateStore(database, quota_bytes=100)
    await state.set(plugin.id, "a", b"x" * 47)  # 1 + 2 + 47
    await state.set(plugin.id, "b", b"x" * 47)
    with pytest.raises(ResourceExhausted, match=r"from 100 to 102 bytes with key 'c', its quota is 100") as caught:
        await state.set(plugin.id, "c", 1)
    assert (caught.value.details["used"], caught.value.details["quota"]) == (100, 100)
    assert await state.get(plugin.id, "c") == (False, None, 0)
    await state.set(plugin.id, "a", b"x" * 45)
    await state.set(plugin.id, "c", 1)
    with pytest.raises(ResourceExhausted):
        await state.set(plugin.id, "a", b"x" * 46)
    await state.delete(plugin.id, "b")
    await state.set(plugin.id, "a", b"x" * 46)
    assert await used(database, plugin) == (51, 51)


async def test_over_a_lowered_quota_shrinking_is_still_allowed(database: Database, plugin: Plugin) -> None:
    await StateStore(database).set(plugin.id, "a", b"x" * 200)
    small = StateStore(database, quota_bytes=100)
    await small.set(plugin.id, "a", b"x" * 150)
    with pytest.raises(ResourceExhausted):
        await small.set(plugin.id, "a", b"x" * 150)
    assert await small.delete(plugin.id, "a")


async def test_the_counter_stays_right_under_concurrency(database: Database, plugin: Plugin) -> None:
    state = StateStore(database, quota_bytes=2000)
    refused = 0

    async def churn(n: int) -> None:
        nonlocal refused
        for step in range(10):
            key = f"ü{(n * 7 + step) % 13}"
            try:
                await state.set(plugin.id, key, b"x" * ((n * 31 + step * 17) % 300))
            except ResourceExhausted:
                refused += 1
                await state.delete(plugin.id, key)

    async with trio.open_nursery() as nursery:
        for n in range(20):
            nursery.start_soon(churn, n)
    kept, real = await used(database, plugin)
    assert kept == real <= 2000
    assert refused > 0


async def test_lists_page_in_key_order(state: StateStore, plugin: Plugin) -> None:
    keys = ["B", "a", "a%", "a%b", "a_", "a_b", "aXb", "b", "ü", "\U0001f600"]
    for key in reversed(keys):
        await state.set(plugin.id, key, key.upper())
    newest_first = list(reversed(keys))
    expected = [(key, key.upper(), 1 + newest_first.index(key)) for key in sorted(keys)]
    assert await state.list(plugin.id) == (expected, None)
    seen: list[str] = []
    after: str | None = None
    for _ in range(4):
        page, after = await state.list(plugin.id, after=after, limit=3)
        seen += [key for key, *_ in page]
    assert seen == sorted(keys)
    assert after is None
    page, after = await state.list(plugin.id, limit=10)
    assert (len(page), after) == (10, None), "a full last page has no next one"


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("a%", ["a%", "a%b"]),
        ("a_", ["a_", "a_b"]),
        ("a", ["a%", "a%b", "aXb", "a_", "a_b"]),
        ("\ud7ff", ["\ud7ffx"]),
        ("\U0010ffff", ["\U0010ffff", "\U0010ffff\U0010ffff"]),
        ("x\U0010ffff", ["x\U0010ffffy"]),
        ("nothing", []),
    ],
)
async def test_a_prefix_is_meant_literally(
    state: StateStore,
    plugin: Plugin,
    prefix: str,
    expected: list[str],
) -> None:
    for key in ("A", "a%", "a%b", "aXb", "a_", "a_b", "b", "x\U0010ffffy", "y", "\ud7ffx", "\ue000"):
        await state.set(plugin.id, key, 1)
    for key in ("\U0010ffff", "\U0010ffff\U0010ffff"):
        await state.set(plugin.id, key, 1)
    page, after = await state.list(plugin.id, prefix=prefix)
    assert ([key for key, *_ in page], after) == (expected, None)
    paged: list[str] = []
    while True:
        page, after = await state.list(plugin.id, prefix=prefix, after=after, limit=1)
        paged += [key for key, *_ in page]
        if after is None:
            break
    assert paged == expected


async def test_a_page_is_bounded_in_bytes(state: StateStore, plugin: Plugin) -> None:
    for n in range(5):
        await state.set(plugin.id, f"{n}", b"x" * 900_000)
    sizes = []
    after: str | None = None
    while True:
        page, after = await state.list(plugin.id, after=after, limit=1000)
        sizes.append(len(page))
        if after is None:
            break
    assert sizes == [2, 2, 1]
    assert MAX_PAGE_BYTES > 2 * 900_000


async def test_a_page_has_at_most_a_thousand_entries(state: StateStore, plugin: Plugin, database: Database) -> None:
    def fill(_: object) -> None:
        for n in range(1001):
            current.execute_sql("INSERT INTO plugin_state VALUES (?, ?, x'c0', 5, 0, 1)", (plugin.id, f"{n:04}"))

    await database.transact(fill)
    page, after = await state.list(plugin.id, limit=5000)
    assert (len(page), after) == (1000, "0999")
    with pytest.raises(InvalidParams, match="limit"):
        await state.list(plugin.id, limit=0)


# --- revisions ---


async def test_a_key_set_again_after_its_deletion_is_another(state: StateStore, plugin: Plugin) -> None:
    first = await state.set(plugin.id, "k", 1)
    await state.set(plugin.id, "other", 1)
    assert await state.delete(plugin.id, "k")
    again = await state.set(plugin.id, "k", 1)
    assert again > first
    with pytest.raises(Conflict):
        await state.set(plugin.id, "k", 2, if_revision=first)
    assert await state.get(plugin.id, "k") == (True, 1, again)


async def test_each_plugin_counts_for_itself(
    state: StateStore, plugin: Plugin, registry: PluginRegistry, make_manifest: Callable[..., Any]
) -> None:
    other = await registry.install(a_package(make_manifest("other"), "p"), approved=frozenset(), uid=None)
    assert [await state.set(plugin.id, "k", n) for n in range(3)] == [1, 2, 3]
    assert await state.set(other.id, "k", 0) == 1


async def test_compare_and_set(state: StateStore, plugin: Plugin, database: Database) -> None:
    assert await state.set(plugin.id, "k", "a", if_revision=0) == 1
    with pytest.raises(Conflict, match=r"state key 'k' has revision 1, not revision 0") as caught:
        await state.set(plugin.id, "k", "b", if_revision=0)
    assert caught.value.details == {"key": "k", "revision": 1}
    assert await state.set(plugin.id, "k", "b", if_revision=1) == 2
    with pytest.raises(Conflict, match=r"state key 'n' is not there \(revision 0\), not revision 2"):
        await state.set(plugin.id, "n", "b", if_revision=2)
    with pytest.raises(Conflict):
        await state.delete(plugin.id, "k", if_revision=1)
    with pytest.raises(Conflict):
        await state.delete(plugin.id, "n", if_revision=1)
    assert await state.delete(plugin.id, "n", if_revision=0) is False
    assert await state.get(plugin.id, "k") == (True, "b", 2)
    assert await state.delete(plugin.id, "k", if_revision=2) is True
    assert await used(database, plugin) == (0, 0)


@pytest.mark.parametrize("revision", [-1, -(2**63)])
async def test_a_revision_that_cannot_be_is_refused(state: StateStore, plugin: Plugin, revision: int) -> None:
    with pytest.raises(InvalidParams, match="if_revision must be 0"):
        await state.set(plugin.id, "k", 1, if_revision=revision)
    with pytest.raises(InvalidParams, match="if_revision must be 0"):
        await state.delete(plugin.id, "k", if_revision=revision)


async def test_of_two_workers_of_one_plugin_each_change_counts(state: StateStore, plugin: Plugin) -> None:
    """As when an upgrade has both versions running."""
    conflicts = 0

    async def worker() -> None:
        nonlocal conflicts
        for _ in range(25):
            while True:
                _, value, revision = await state.get(plugin.id, "count")
                try:
                    await state.set(plugin.id, "count", (value or 0) + 1, if_revision=revision)
                except Conflict:
                    conflicts += 1
                else:
                    break

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(worker)
    assert await state.get(plugin.id, "count") == (True, 100, 100)
    assert conflicts > 0


async def test_one_look_and_two_writes_whether_it_compares_or_not(
    state: StateStore, plugin: Plugin, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[str] = []
    execute = Transaction.execute

    def counted(self: Transaction, sql: str, parameters: tuple[Any, ...] = ()) -> Any:
        statements.append(sql.split()[0])
        return execute(self, sql, parameters)

    monkeypatch.setattr(Transaction, "execute", counted)
    revision = await state.set(plugin.id, "k", 1)
    await state.set(plugin.id, "k", 2, if_revision=revision)
    assert statements == ["SELECT", "INSERT", "INSERT"] * 2


async def test_revisions_outlive_an_upgrade_and_a_reinstall(
    state: StateStore, plugin: Plugin, registry: PluginRegistry, make_manifest: Callable[..., Any]
) -> None:
    kept = await state.set(plugin.id, "k", {"a": 1})
    newer = a_package(make_manifest(version="2.0"), "acme.weather-2.0")
    upgraded = await registry.exchange(newer, expected=plugin, status=Status.INSTALLED, forward=True, uid=0)
    assert await state.get(upgraded.id, "k") == (True, {"a": 1}, kept)
    await registry.set_status(plugin.id, expected=Status.INSTALLED, status=Status.UNINSTALLED)
    again = await registry.install(
        a_package(make_manifest(version="3.0"), "acme.weather-3.0"), approved=frozenset(), uid=0
    )
    assert again.id == plugin.id
    assert await state.set(again.id, "k", 2, if_revision=kept) == kept + 1
