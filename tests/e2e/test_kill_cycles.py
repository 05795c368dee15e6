"""A thousand kills of one worker: each is followed by a restart, and the daemon's side does not grow by any of them."""

from __future__ import annotations

import gc
import os
import resource
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from supervisor.core.event import WorkerCrashed, WorkerStarted
from supervisor.core.plugin import Plugin, PluginId
from supervisor.worker.manager import WorkerManager
from supervisor.worker.phase import Phase
from tests.worker.fakes import make_plugin, policy
from tests.worker.test_with_children import Bench, check_childless, open_files

CYCLES = int(os.environ.get("PLUGIND_TEST_CYCLES", "1000"))
SIDE_BY_SIDE = 5
MAY_GROW_BYTES = 8 * 1024 * 1024
"""After the first part of the cycles, when caches have their size; the allocator takes arenas of 1 MiB even then."""
OBJECTS_A_CYCLE = 10
"""The finer measure. The fake host keeps the two events of each cycle, which the real one writes down and forgets; a
life or a channel that stayed would be hundreds."""


@dataclass(frozen=True)
class Size:
    fds: int
    tasks: int
    rss_bytes: int
    objects: int

    @classmethod
    def now(cls) -> Size:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        tasks = trio.lowlevel.current_statistics().tasks_living
        return cls(len(open_files()), tasks, pages * resource.getpagesize(), len(gc.get_objects()))


@pytest.fixture(autouse=True)
def apart_from_other_tests() -> Iterator[None]:
    """What they left counts as long-lived, and the more there is of it the rarer Python looks for garbage: the cycles
    of kills would pile up as they never do in a daemon."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


async def next_pid(manager: WorkerManager, plugin: Plugin, before: int | None) -> int:
    """Of the life that runs now and is not the one `before`."""
    while True:
        changed = manager.changed(plugin.id)
        view = manager.view(plugin.id)
        if view.phase is Phase.RUNNING and view.pid is not None and view.pid != before:
            return view.pid
        await changed.wait()


# It answers what it is asked first, and reads nothing more.
ANSWER = r"\224\001\000\300\202\253api_version\001\247methods\220"
SPEAKER = f"head -c 1 <&3 >/dev/null; printf '{ANSWER}' >&3; exec sleep 999 <&3"


def make_plugins(transport: str) -> list[Plugin]:
    """Side by side, since most of a cycle is waiting."""
    return [
        make_plugin(
            f"test.victim-{n}",
            id_=PluginId(f"{n:08}-1111-4111-8111-111111111111"),
            command=("sh", "-c", SPEAKER) if transport == "rpc" else ("sleep", "999"),
            transport=transport,
            start_grace_s=0,
            restart=policy(backoff_s=0.01, max_backoff_s=0.01, max_restarts=1_000_000),
        )
        for n in range(SIDE_BY_SIDE)
    ]


@pytest.mark.parametrize(("transport", "share"), [("rpc", 0.4), ("none", 0.6)])
async def test_a_thousand_kills(tmp_path: Path, transport: str, share: float) -> None:
    """By the real manager, with real children; every life has come up before it is killed."""
    plugins, cycles = make_plugins(transport), int(CYCLES * share) // SIDE_BY_SIDE
    bench = Bench(tmp_path, plugins[0], tmp_path)
    manager = bench.manager()
    pids: dict[str, int] = {}

    async def kill_again_and_again(plugin: Plugin, times: int) -> None:
        for _ in range(times):
            os.kill(pids[plugin.id], signal.SIGKILL)
            pids[plugin.id] = await next_pid(manager, plugin, pids[plugin.id])

    async def kill_all(times: int) -> Size:
        async with trio.open_nursery() as killers:
            for plugin in plugins:
                killers.start_soon(kill_again_and_again, plugin, times)
        return Size.now()

    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            await nursery.start(manager.run)
            for plugin in plugins:
                manager.want(plugin)
                pids[plugin.id] = await next_pid(manager, plugin, None)
            warm = await kill_all(cycles // 5)
            end = await kill_all(cycles - cycles // 5)
            assert [manager.view(plugin.id).restarts for plugin in plugins] == [cycles] * SIDE_BY_SIDE
            nursery.cancel_scope.cancel()
    assert (end.fds, end.tasks) == (warm.fds, warm.tasks)
    killed = (cycles - cycles // 5) * SIDE_BY_SIDE
    assert end.objects - warm.objects < OBJECTS_A_CYCLE * killed, f"{warm} -> {end}"
    assert end.rss_bytes - warm.rss_bytes < MAY_GROW_BYTES, f"{warm} -> {end}"
    for plugin in plugins:
        crashes = [event for event in bench.host.of(WorkerCrashed) if event.plugin_id == plugin.id]
        starts = [event for event in bench.host.of(WorkerStarted) if event.plugin_id == plugin.id]
        assert {(crash.signal, crash.reason) for crash in crashes} == {(signal.SIGKILL, "killed")}
        assert (len(crashes), len(starts)) == (cycles, cycles + 1)
        assert [start.pid for start in starts[:-1]] == [crash.pid for crash in crashes]
    assert bench.host.known == set()
    assert open_files() == bench.fds_before
    check_childless()
