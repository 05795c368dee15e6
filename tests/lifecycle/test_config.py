"""Setting, testing and restoring configurations: what is refused, what the worker is asked and told, what is shown."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import trio

from supervisor.core.errors import (
    ActivationFailed,
    CallCancelled,
    Conflict,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidParams,
    MethodNotFound,
    NotFound,
    PluginCrashed,
    PluginError,
    ResourceExhausted,
    SupervisorError,
    Unavailable,
)
from supervisor.core.lifecycle import Status
from supervisor.core.plugin import Capability, Plugin
from supervisor.core.secrets import MASK
from supervisor.faultpoints import FaultPoints
from supervisor.lifecycle.config import Configurator, merged
from supervisor.lifecycle.config_references import References, notes_on
from supervisor.lifecycle.locks import PluginLocks
from supervisor.lifecycle.requirements import Requirements
from supervisor.lifecycle.running import WorkerCommands
from supervisor.store.configs import ConfigStore
from supervisor.worker.phase import Phase
from tests.fakes import LifecycleWorld
from tests.packages import a_package

KEY = "acme.one"
S = Status
TOKEN = "s3cret-tokén"
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "city": {"type": "string", "maxLength": 10},
        "days": {"type": "integer", "minimum": 1},
        "token": {"type": "string", "writeOnly": True, "minLength": 3},
        "db": {"type": "object", "properties": {"host": {"type": "string"}, "password": {"writeOnly": True}}},
        "keys": {"type": "array", "items": {"type": "string", "writeOnly": True}},
        "anything": {},
    },
}
FULL = {"city": "Oslo", "token": TOKEN, "db": {"host": "h", "password": "hunter2"}}
SHOWN = {"city": "Oslo", "token": MASK, "db": {"host": "h", "password": MASK}}
HANG = object()


@dataclass
class Bench:
    """A Configurator over fake workers, which answer as `answers` says: a value, an error to raise, or HANG."""

    world: LifecycleWorld
    locks: PluginLocks = field(default_factory=PluginLocks)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    """Secrets that the worker's life was told to keep."""

    def __post_init__(self) -> None:
        world, workers = self.world, self.world.workers
        workers.call = self._call  # type: ignore[method-assign]
        self.configs = ConfigStore(world.database)
        requirements = Requirements(world.registry, workers)  # type: ignore[arg-type]
        self.commands = WorkerCommands(world.registry, workers, self.locks, requirements)  # type: ignore[arg-type]
        self.config = Configurator(
            world.registry,
            self.configs,
            workers,  # type: ignore[arg-type]
            self.locks,
            References(None, uid=0),
            FaultPoints({}),
            restart=self.commands.restart_held,
        )

    async def _call(
        self,
        plugin_id: str,
        method: str,
        params: dict[str, Any],
        *,
        timeout_s: float | None,
        secrets: Collection[str] = (),
    ) -> Any:
        self.kept |= set(secrets)
        await trio.lowlevel.checkpoint()
        self.asked.append((method, params["config"]))
        answer = self.answers.get(method, {"problems": []} if method == "validate_config" else {})
        if answer is HANG:
            await trio.sleep(timeout_s or 0)
            raise DeadlineExceeded("no answer")
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def plugin(
        self, status: Status = S.READY, *, granted: bool = True, transport: str = "rpc", schema: Any = SCHEMA
    ) -> Plugin:
        manifest = self.world.packages.manifest_of(KEY)
        manifest = replace(
            manifest,
            capabilities=(Capability("secrets.read"),),
            config_schema=schema,
            worker=replace(manifest.worker, transport=transport),
        )
        plugin = await self.world.registry.install(
            a_package(manifest, f"{KEY}/1.0-000000000000"),
            approved=frozenset({Capability("secrets.read")} if granted else ()),
            uid=0,
        )
        if status is not S.INSTALLED:
            plugin = await self.world.registry.set_status(plugin.id, expected=S.INSTALLED, status=status)
        if status is S.READY:
            self.world.workers.want(plugin)
            await self.world.workers.wait_up(plugin.id)
        self.world.forget_the_past()
        return plugin

    async def stored(self) -> tuple[int, Any]:
        found = await self.configs.get(self.world.registry.get(KEY).id)
        return found.revision, found.data

    def told(self) -> list[str]:
        return self.world.told()


@pytest.fixture
async def bench(autojump_clock: Any, world: LifecycleWorld) -> Bench:
    return Bench(world)


# --- what is asked, told and shown ---


async def test_checked_stored_told_and_shown(autojump_clock: Any, bench: Bench) -> None:
    plugin = await bench.plugin()
    shown = await bench.config.set(KEY, FULL, uid=7)
    assert (shown.config, shown.secrets) == (SHOWN, ("db.password", "token"))
    assert (shown.revision, shown.good, shown.uid, shown.restarted) == (1, True, 7, False)
    assert shown.config_schema == SCHEMA
    assert shown.changed
    assert await bench.config.get(KEY) == await bench.config.get(plugin.id) == replace(shown, changed=False)
    assert bench.asked == [("validate_config", FULL), ("config_changed", FULL)]
    [event] = bench.world.events
    assert (event.type, event.data) == (
        "plugin.config_changed",
        {"revision": 1, "changed": ["city", "db", "token"], "uid": 7},
    )
    assert await bench.stored() == (1, FULL)


async def test_without_secrets_read_a_worker_hears_no_secret(autojump_clock: Any, bench: Bench) -> None:
    await bench.plugin(granted=False)
    await bench.config.set(KEY, FULL, uid=7)
    heard = {"city": "Oslo", "db": {"host": "h"}}
    assert bench.asked == [("validate_config", heard), ("config_changed", heard)]
    assert await bench.stored() == (1, FULL)


async def test_none_was_ever_set(autojump_clock: Any, bench: Bench) -> None:
    await bench.plugin(S.INSTALLED)
    shown = await bench.config.get(KEY)
    assert (shown.config, shown.revision, shown.good, shown.set_at_ms, shown.uid) == ({}, 0, False, None, None)
    assert await bench.config.history(KEY) == []
    assert (await bench.config.set(KEY, {}, uid=0)).revision == 0
    with pytest.raises(NotFound, match=r"there is no plugin 'acme.on'; did you mean 'acme.one'"):
        await bench.config.get("acme.on")


@pytest.mark.parametrize("status", [S.INSTALLED, S.DISABLED, S.ERROR, S.UPGRADE_PENDING])
async def test_where_no_worker_runs_it_is_stored_only(autojump_clock: Any, bench: Bench, status: Status) -> None:
    await bench.plugin(status)
    shown = await bench.config.set(KEY, FULL, uid=7)
    assert (shown.revision, shown.good, shown.restarted) == (1, False, False)
    assert (bench.asked, bench.world.workers.calls, bench.told()) == ([], [], ["config_changed"])


async def test_a_program_without_rpc_is_neither_asked_nor_restarted(autojump_clock: Any, bench: Bench) -> None:
    await bench.plugin(transport="none")
    assert not (await bench.config.set(KEY, FULL, uid=7)).restarted
    assert (bench.asked, bench.told()) == ([], ["config_changed"])


async def test_an_uninstalled_plugin_is_looked_at_only(autojump_clock: Any, bench: Bench) -> None:
    plugin = await bench.plugin(S.DISABLED)
    await bench.config.set(KEY, FULL, uid=7)
    await bench.world.registry.set_status(plugin.id, expected=S.DISABLED, status=S.UNINSTALLED)
    assert (await bench.config.get(KEY)).config == SHOWN
    for change in (bench.config.set(KEY, {}, uid=7), bench.config.restore(KEY, 1, uid=7), bench.config.test(KEY)):
        with pytest.raises(FailedPrecondition, match="is uninstalled: install it before"):
            await change


async def test_what_is_there_already_changes_nothing(autojump_clock: Any, bench: Bench) -> None:
    await bench.plugin()
    before = await bench.config.set(KEY, FULL, uid=7)
    bench.asked.clear()
    bench.world.forget_the_past()
    for same in (FULL, SHOWN, {**FULL, "token": MASK}):
        assert await bench.config.set(KEY, same, uid=8, expected_revision=1) == replace(before, changed=False)
    assert await bench.config.set(KEY, {"city": "Oslo"}, merge=True, uid=8) == replace(before, changed=False)
    assert (bench.asked, bench.told()) == ([], [])


# --- masks, merging, revisions ---


async def test_a_mask_that_is_sent_back_keeps_the_secret(autojump_clock: Any, bench: Bench) -> None:
    await bench.plugin(S.DISABLED)
    await bench.config.set(KEY, FULL, uid=7)
    shown = await bench.config.set(KEY, {**SHOWN, "city": "Bern"}, uid=7)
    assert shown.config == {**SHOWN, "city": "Bern"}
    assert await bench.stored() == (2, {**FULL, "city": "Bern"})
    assert bench.world.events[-1].data["changed"] == ["city"]


async def test_a_mask_for_nothing_is_refused(autojump_clock: Any, bench: Bench) -> None:
    await bench.plugin(S.DISABLED)
    with pytest.raises(InvalidParams, match=r"has 2 problems:\n  token: \*+ stands for a secret.*\n  db\.password: "):
        await bench.config.set(KEY, SHOWN, uid=7)
    assert await bench.stored() == (0, {})


async def test_merged_with_what_is_there(autojump_clock: Any, bench: Bench) -> None:
    await bench.plugin(S.DISABLED)
    await bench.config.set(KEY, FULL, uid=7)
    await bench.config.set(KEY, {"city": None, "days": 3, "db": {"host": "new"}}, merge=True, uid=7)
    assert await bench.stored() == (2, {"days": 3, "token": TOKEN, "db": {"host": "new", "password": "hunter2"}})


@pytest.mark.parametrize(
    ("before", "patch", "after"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c", "d": 1}}, {"a": {"b": None}}, {"a": {"d": 1}}),
        ({"a": [1, None]}, {"a": [None]}, {"a": [None]}),
        ({"a": "foo"}, {"a": {"b": {"c": None}}}, {"a": {"b": {}}}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ],
)
def test_merge_patches(before: dict[str, Any], patch: dict[str, Any], after: dict[str, Any]) -> None:
    kept = repr(before)
    assert merged(before, patch) == after
    assert repr(before) == kept


async def test_another_revision_than_expected_is_refused(autojump_clock: Any, bench: Bench) -> None:
    await bench.plugin()
    await bench.config.set(KEY, {"city": "Oslo"}, expected_revision=0, uid=7)
    bench.asked.clear()
    with pytest.raises(Conflict, match="revision 1, not 0") as caught:
        await bench.config.set(KEY, {"city": "Bern"}, expected_revision=0, uid=7)
    assert (caught.value.details["revision"], bench.asked) == (1, [])
    assert await bench.stored() == (1, {"city": "Oslo"})


# --- what is refused before anything is asked ---


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"city": 1, "days": 0, "more": 1}, ["(the whole): ", "city: must be string", "days: does not fit 'minimum'"]),
        ({"anything": "x" * 70_000}, ["has 70015 bytes, 65536 is the most", "$file:/some/where"]),
        ({"anything": [[[[[[[[[[[[[[1]]]]]]]]]]]]]]}, ["nested deeper than 12 levels"]),
        ({"anything": 2**63}, ["64 bits"]),
        ({"anything": {1: 2}}, ["map keys must be strings"]),
        ({"anything": object()}, ["cannot be stored"]),
        ({"token": 17}, ["token: must be string"]),
    ],
)
async def test_all_that_is_wrong_is_told_at_once(
    autojump_clock: Any, bench: Bench, config: Any, told: list[str]
) -> None:
    await bench.plugin()
    with pytest.raises(InvalidParams) as caught:
        await bench.config.set(KEY, config, uid=7)
    assert all(words in caught.value.message for words in told)
    assert caught.value.message.startswith("the configuration of plugin 'acme.one' has ")
    assert all(set(problem) == {"path", "message"} for problem in caught.value.details["problems"])
    assert (bench.asked, bench.told(), await bench.stored()) == ([], [], (0, {}))
    verdict = await bench.config.test(KEY, config)
    assert not verdict.ok
    assert [{"path": p.path, "message": p.message} for p in verdict.problems] == caught.value.details["problems"]


@pytest.mark.parametrize(
    "rule",
    [
        {"type": "integer"},
        {"enum": ["a", "b"]},
        {"const": "a"},
        {"pattern": "^a$"},
        {"maxLength": 3},
        {"format": "uuid", "maxLength": 2},
        {"not": {}},
        {"oneOf": [{"type": "integer"}, {"const": 1}]},
        {"anyOf": [{"const": 1}, {"minLength": 90}]},
        {"$ref": "#/$defs/short"},
        {"if": {"type": "string"}, "then": {"maxLength": 1}},
    ],
)
async def test_no_rule_says_the_value(autojump_clock: Any, bench: Bench, rule: dict[str, Any]) -> None:
    schema = {"properties": {"token": {"writeOnly": True, **rule}}, "$defs": {"short": {"maxLength": 1}}}
    await bench.plugin(schema=schema)
    with pytest.raises(InvalidParams, match="token: ") as caught:
        await bench.config.set(KEY, {"token": TOKEN}, uid=7)
    assert TOKEN not in caught.value.message + repr(caught.value.details)


# --- the worker's own word ---


async def test_the_worker_refuses_in_its_own_words_less_the_secrets(autojump_clock: Any, bench: Bench) -> None:
    await bench.plugin()
    bench.answers["validate_config"] = {
        "problems": [
            {"path": "db", "message": f"login with 'hunter2' and {TOKEN!r} failed at h"},
            {"path": "hunter2", "message": "?"},
        ]
    }
    with pytest.raises(InvalidParams) as caught:
        await bench.config.set(KEY, FULL, uid=7)
    assert caught.value.details["problems"] == [
        {"path": "db", "message": f"login with '{MASK}' and '{MASK}' failed at h"},
        {"path": MASK, "message": "?"},
    ]
    assert (await bench.stored(), bench.told()) == ((0, {}), [])
    verdict = await bench.config.test(KEY, FULL)
    assert (len(verdict.problems), verdict.asked_worker) == (2, True)


@pytest.mark.parametrize(
    ("answer", "error", "told"),
    [
        (PluginError(f"ValueError: {TOKEN}"), InvalidParams, r"the worker refused it: ValueError: \*{8}$"),
        (InvalidParams("no such city"), InvalidParams, "the worker refused it: no such city"),
        (PluginCrashed(f"said {TOKEN}", stderr_tail=f"x {TOKEN}"), PluginCrashed, r"said \*{8}"),
        (ResourceExhausted("64 calls are in flight"), ResourceExhausted, "64 calls"),
        (HANG, DeadlineExceeded, "did not answer validate_config within 10 s, and nothing was stored"),
        (None, PluginError, "with rubbish"),
        ({}, PluginError, "with rubbish"),
        ({"problems": {}}, PluginError, "with rubbish"),
        ({"problems": [{"path": "a"}]}, PluginError, "with rubbish"),
        ({"problems": ["no"]}, PluginError, "with rubbish"),
        ({"problems": [{"path": 1, "message": "x"}]}, PluginError, "with rubbish"),
    ],
)
async def test_a_worker_that_does_not_say_yes(
    autojump_clock: Any, bench: Bench, answer: Any, error: type[SupervisorError], told: str
) -> None:
    await bench.plugin()
    bench.answers["validate_config"] = answer
    began = trio.current_time()
    with pytest.raises(error, match=told) as caught:
        await bench.config.set(KEY, FULL, uid=7)
    assert TOKEN not in caught.value.message + repr(caught.value.details)
    assert trio.current_time() - began == (10 if answer is HANG else 0)
    assert ([method for method, _ in bench.asked], bench.told(), await bench.stored()) == (
        ["validate_config"],
        [],
        (0, {}),
    )


@pytest.mark.parametrize("answer", [MethodNotFound("no method"), Unavailable("it is not running")])
async def test_a_worker_that_does_not_check_leaves_it_to_the_schema(
    autojump_clock: Any, bench: Bench, answer: Exception
) -> None:
    await bench.plugin()
    bench.answers["validate_config"] = answer
    verdict = await bench.config.test(KEY, FULL)
    assert (verdict.ok, verdict.asked_worker) == (True, False)
    assert (await bench.config.set(KEY, FULL, uid=7)).revision == 1


async def test_what_a_hostile_worker_says_is_cut(autojump_clock: Any, bench: Bench) -> None:
    await bench.plugin()
    flood = {"path": "p" * 10_000, "message": "m" * 10_000}
    bench.answers["validate_config"] = {"problems": [flood] * 1000}
    with pytest.raises(InvalidParams) as caught:
        await bench.config.set(KEY, FULL, uid=7)
    assert len(caught.value.details["problems"]) == 20
    assert len(caught.value.message) < 50_000


async def test_a_stop_does_not_wait_for_a_worker_that_checks(autojump_clock: Any, bench: Bench) -> None:
    await bench.plugin()
    bench.answers["validate_config"] = HANG
    async with trio.open_nursery() as nursery:

        async def set_it() -> None:
            with pytest.raises(CallCancelled, match=r"stop of 'acme.one' came while its worker checked"):
                await bench.config.set(KEY, FULL, uid=7)

        nursery.start_soon(set_it)
        await trio.sleep(1)
        began = trio.current_time()
        await bench.commands.stop(KEY)
        assert trio.current_time() - began == 0.25
    assert (await bench.stored(), bench.told()) == ((0, {}), ["worker_stopped"])


async def test_nothing_is_told_that_could_not_be_stored(autojump_clock: Any, bench: Bench) -> None:
    await bench.plugin()
    bench.world.fail_next_transaction(ResourceExhausted("the disk is full"))
    with pytest.raises(ResourceExhausted):
        await bench.config.set(KEY, FULL, uid=7)
    assert ([method for method, _ in bench.asked], await bench.stored()) == (["validate_config"], (0, {}))


# --- a worker that has to be restarted ---


@pytest.mark.parametrize(
    ("answer", "after_s"), [(MethodNotFound("no"), 0.75), (PluginError("I cannot"), 0.75), (HANG, 10.75)]
)
async def test_who_does_not_take_it_is_restarted(
    autojump_clock: Any, bench: Bench, answer: Any, after_s: float
) -> None:
    await bench.plugin()
    bench.answers["config_changed"] = answer
    began = trio.current_time()
    shown = await bench.config.set(KEY, FULL, uid=7)
    assert (shown.restarted, shown.revision, trio.current_time() - began) == (True, 1, after_s)
    assert bench.told() == ["config_changed", "worker_stopped", "worker_started"]


async def test_a_worker_that_does_not_come_up_with_it(autojump_clock: Any, bench: Bench) -> None:
    plugin = await bench.plugin()
    await bench.config.set(KEY, {"city": "Oslo"}, uid=7)
    bench.answers["config_changed"] = MethodNotFound("no")
    bench.world.workers.script(KEY).fails = f"exited with code 1: {TOKEN} is wrong"
    with pytest.raises(ActivationFailed) as caught:
        await bench.config.set(KEY, FULL, uid=7)
    assert caught.value.message == (
        "configuration 2 of plugin 'acme.one' is stored, but its worker did not come up with it: exited with code 1: "
        f"{MASK} is wrong\nto go back to the last one that a worker has taken: plugins.config_restore"
    )
    assert (caught.value.details["plugin"], caught.value.details["revision"]) == (KEY, 2)
    assert await bench.stored() == (2, FULL)
    # And so it goes back, though nothing runs that could be asked; whoever starts it starts it with that.
    shown = await bench.config.restore(KEY, uid=8)
    assert (shown.config, shown.revision, shown.restarted) == ({"city": "Oslo"}, 3, False)
    assert bench.world.workers.phase(plugin.id) is Phase.STOPPED


async def test_one_that_is_starting_may_know_the_former_one_and_starts_again(autojump_clock: Any, bench: Bench) -> None:
    plugin = await bench.plugin()
    await bench.commands.stop(KEY)
    bench.world.workers.want(plugin)
    await trio.sleep(0.1)
    assert bench.world.workers.phase(plugin.id) is Phase.STARTING
    shown = await bench.config.set(KEY, FULL, uid=7)
    assert (shown.restarted, bench.asked) == (True, [])


async def test_one_that_an_operator_stopped_stays_stopped(autojump_clock: Any, bench: Bench) -> None:
    plugin = await bench.plugin()
    await bench.commands.stop(KEY)
    assert not (await bench.config.set(KEY, FULL, uid=7)).restarted
    assert bench.world.workers.phase(plugin.id) is Phase.STOPPED


@pytest.mark.parametrize("phase", ["telling", "starting"])
async def test_a_stop_overtakes_and_it_stays_stored(autojump_clock: Any, bench: Bench, phase: str) -> None:
    plugin = await bench.plugin()
    bench.answers["config_changed"] = HANG if phase == "telling" else MethodNotFound("no")
    bench.world.workers.script(KEY).up_after_s = 5
    results: list[Any] = []
    async with trio.open_nursery() as nursery:

        async def set_it() -> None:
            results.append(await bench.config.set(KEY, FULL, uid=7))

        nursery.start_soon(set_it)
        await trio.sleep(2)
        await bench.commands.stop(KEY)
    assert (results[0].restarted, results[0].revision) == (False, 1)
    assert bench.world.workers.phase(plugin.id) is Phase.STOPPED
    assert await bench.stored() == (1, FULL)


async def test_two_at_once_come_one_after_the_other(autojump_clock: Any, bench: Bench) -> None:
    await bench.plugin()
    bench.answers["config_changed"] = MethodNotFound("no")
    async with trio.open_nursery() as nursery:
        for days in range(1, 6):
            nursery.start_soon(lambda days=days: bench.config.set(KEY, {"days": days}, merge=True, uid=days))
    assert (await bench.stored())[0] == 5
    assert bench.told() == ["config_changed", "worker_stopped", "worker_started"] * 5
    assert {one.uid for one in await bench.config.history(KEY)} == {1, 2, 3, 4, 5}


# --- testing ---


async def test_testing_changes_nothing(autojump_clock: Any, bench: Bench) -> None:
    await bench.plugin()
    await bench.config.set(KEY, FULL, uid=7)
    bench.asked.clear()
    bench.world.forget_the_past()
    for config, merge, heard in (
        (None, False, FULL),
        (SHOWN, False, FULL),
        ({"days": 2}, True, {**FULL, "days": 2}),
        ({"days": 2}, False, {"days": 2}),
    ):
        verdict = await bench.config.test(KEY, config, merge=merge)
        assert (verdict.ok, verdict.asked_worker, bench.asked.pop()) == (True, True, ("validate_config", heard))
    assert (bench.told(), await bench.stored()) == ([], (1, FULL))
    bench.answers["validate_config"] = HANG
    with pytest.raises(DeadlineExceeded):
        await bench.config.test(KEY)


# --- history and restoring ---


async def test_history_shows_names_and_no_values(autojump_clock: Any, bench: Bench) -> None:
    await bench.plugin()
    await bench.config.set(KEY, {"city": "Oslo"}, uid=7)
    await bench.config.set(KEY, FULL, uid=8)
    newest, oldest = await bench.config.history(KEY)
    assert (newest.revision, newest.current, newest.good, newest.uid, newest.names) == (
        2,
        True,
        True,
        8,
        ("city", "db", "token"),
    )
    assert (oldest.revision, oldest.current, oldest.good, oldest.uid, oldest.names) == (1, False, True, 7, ("city",))


async def test_restoring_the_last_good_one_and_a_named_one(autojump_clock: Any, bench: Bench) -> None:
    plugin = await bench.plugin(S.DISABLED)
    for n, city in enumerate(["Oslo", "Bern", "Rome", "Bern", "Paris"], 1):
        await bench.config.set(KEY, {"city": city, "token": f"{city}-token"}, uid=7)
        if city == "Bern":
            await bench.configs.mark_good(plugin.id, n)
    shown = await bench.config.restore(KEY, uid=8)
    assert (shown.revision, shown.config, shown.uid) == (6, {"city": "Bern", "token": MASK}, 8)
    assert (await bench.stored())[1]["token"] == "Bern-token"
    with pytest.raises(NotFound, match="no other configuration that a worker has taken; name one of 6, 5, 4, 3, 2, 1"):
        await bench.config.restore(KEY, uid=8)
    assert (await bench.config.restore(KEY, 1, uid=8)).config == {"city": "Oslo", "token": MASK}
    with pytest.raises(NotFound, match="no configuration with revision 99; it has 7, 6"):
        await bench.config.restore(KEY, 99, uid=8)


async def test_what_is_restored_is_checked_as_any_other(autojump_clock: Any, bench: Bench) -> None:
    await bench.plugin()
    await bench.config.set(KEY, {"city": "Oslo"}, uid=7)
    await bench.config.set(KEY, {"city": "Bern"}, uid=7)
    bench.answers["validate_config"] = {"problems": [{"path": "city", "message": "is gone"}]}
    with pytest.raises(InvalidParams, match="city: is gone"):
        await bench.config.restore(KEY, uid=7)
    assert await bench.stored() == (2, {"city": "Bern"})


# --- another version ---


async def test_a_version_whose_schema_it_does_not_fit(autojump_clock: Any, bench: Bench) -> None:
    plugin = await bench.plugin(S.DISABLED)
    narrow = replace(
        plugin.manifest, version="2.0", config_schema={"required": ["zone"], "properties": {"city": False}}
    )
    await bench.config.refuse_misfit(plugin, narrow)  # None was ever set: there is nothing to fit.
    await bench.config.set(KEY, FULL, uid=7)
    with pytest.raises(InvalidParams) as caught:
        await bench.config.refuse_misfit(plugin, narrow)
    assert caught.value.message.startswith(
        "for version 2.0 the stored configuration of plugin 'acme.one' has 2 problems:"
    )
    for way_out in (
        "set one that fits both versions",
        "disable the plugin",
        "config_set",
        "config_restore",
        "enable it",
    ):
        assert way_out in caught.value.message
    assert "hunter2" not in caught.value.message
    await bench.config.refuse_misfit(plugin, replace(narrow, config_schema={"required": ["city"]}))


# --- nothing tells a secret ---


async def test_no_secret_is_told_anywhere(
    autojump_clock: Any, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    await bench.plugin()
    bench.answers["config_changed"] = PluginError(f"hunter2 and {TOKEN}")
    said: list[Any] = [
        await bench.config.set(KEY, {**FULL, "keys": ["kkk-1", "kkk-2"]}, uid=7),
        await bench.config.get(KEY),
        await bench.config.test(KEY),
        await bench.config.history(KEY),
        [event.to_wire() for event in bench.world.events],
        await bench.configs.get(bench.world.registry.get(KEY).id),
        capsys.readouterr(),
    ]
    assert not any(secret in repr(said) for secret in ("hunter2", TOKEN, "kkk-"))


async def test_what_was_made_of_a_dollar_is_told_without_the_value(autojump_clock: Any, bench: Bench) -> None:
    await bench.plugin()
    config = {"token": "$$3cret", "city": "$Oslo", "anything": {"a": ["$$x", "$credential:../x"]}}
    with pytest.raises(InvalidParams):
        await bench.config.set(KEY, config, uid=0)
    config["anything"] = {"a": ["$$x", 1]}
    shown = await bench.config.set(KEY, config, uid=0)
    assert shown.notes == (
        "token: $$ at its beginning stands for one $; write $$$ for two",
        "anything.a[0]: $$ at its beginning stands for one $; write $$$ for two",
    )
    assert bench.asked[-1][1]["token"] == "$3cret"
    again = await bench.config.set(KEY, config, uid=0)
    assert (again.changed, again.notes) == (False, shown.notes)
    assert (await bench.config.set(KEY, {"days": 2}, merge=True, uid=0)).notes == ()


def test_a_reference_is_noted_as_one() -> None:
    assert notes_on({"a": "$file:/etc/x", "b": "$", "c": "x$$"}) == [
        "a: $file:/etc/x is a reference; if it is the value itself, begin it with $$"
    ]
    assert len(notes_on({"list": ["$$"] * 1000})) == 20


async def test_a_worker_that_is_asked_and_told_keeps_its_secrets(autojump_clock: Any, bench: Bench) -> None:
    await bench.plugin()
    await bench.config.set(KEY, {"token": "first-token"}, uid=0)
    assert [method for method, _ in bench.asked] == ["validate_config", "config_changed"]
    assert "first-token" in bench.kept
    await bench.config.test(KEY, {"token": "another-token"})
    assert "another-token" in bench.kept
