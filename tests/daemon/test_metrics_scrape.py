"""A scrape leaves the event loop to others, and there is one at a time."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from supervisor.clock import SystemClock
from supervisor.control.meters import Meters
from supervisor.core.lifecycle import Status
from supervisor.core.plugin import PluginId
from supervisor.daemon import metrics_scrape
from supervisor.daemon.metrics_events import EventCounts
from supervisor.daemon.metrics_scrape import Scrape
from supervisor.daemon.metrics_snapshot import Sources, take_snapshot
from supervisor.histogram import DELAY_S, Histogram
from supervisor.jobs.runner import RunnerStatistics
from supervisor.metrics import Metrics
from supervisor.wire.results import UsageInfo
from supervisor.wire.worker import Metric
from supervisor.worker.phase import Phase
from supervisor.worker.view import WorkerView
from tests.daemon.metrics_world import USAGE, a_snapshot
from tests.daemon.prometheus_lint import problems_of

MANY = 200


class Containment:
    """Of workers whose pid is their number; every third has just ended."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.most_at_once = self._at_once = 0

    async def usage(self, pids: Iterable[int]) -> dict[int, UsageInfo]:
        self.asked.append(list(pids))
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await trio.lowlevel.checkpoint()
        self._at_once -= 1
        return {pid: USAGE for pid in self.asked[-1] if pid % 3}

    @staticmethod
    def ward(pid: int) -> Any:
        return SimpleNamespace(meter=SimpleNamespace(cpu_s=pid / 10)) if pid % 3 else None


def plugin(number: int, status: Status = Status.READY) -> Any:
    return SimpleNamespace(id=PluginId(f"id{number}"), key=f"acme.p{number}", version="1.0", status=status)


def sources(*plugins: Any) -> Sources:
    events, metrics = EventCounts(SystemClock().now), Metrics(lambda: 0)
    for one in plugins:
        events.crashes[one.key] = 2
        metrics.write(one.id, [Metric(name="own_total", kind="counter", value=1.0)])
    sample = a_snapshot()
    lateness = Histogram(DELAY_S)
    built = SimpleNamespace(
        registry=SimpleNamespace(all=lambda: list(plugins)),
        workers=SimpleNamespace(view=lambda id_: WorkerView(phase=Phase.RUNNING, pid=int(id_[2:]))),
        containment=Containment(),
        metrics=metrics,
        runner=SimpleNamespace(
            statistics=lambda: RunnerStatistics(active=3, waiting=1, running=2, plugins=1),
            lateness=SimpleNamespace(seconds=lateness),
        ),
        operator=SimpleNamespace(holds=SimpleNamespace(since_ms=None)),
        database=SimpleNamespace(statistics=lambda: sample.store),
    )
    return Sources(
        built=built,  # type: ignore[arg-type]
        events=events,
        meters=Meters(),
        server=lambda: sample.server,
        warnings=lambda: 0,
        started_s=0.0,
    )


async def test_all_that_is_there_is_in_it() -> None:
    gone = plugin(9, Status.UNINSTALLED)
    given = sources(plugin(1), plugin(3), plugin(4, Status.DISABLED), gone)
    seen = await take_snapshot(given, own=True)
    assert seen.statuses == {"ready": 2, "disabled": 1, "uninstalled": 1}
    assert [one.key for one in seen.plugins] == ["acme.p1", "acme.p3", "acme.p4"]
    assert [one.cpu_s for one in seen.plugins] == [0.1, None, 0.4]
    assert [one.usage for one in seen.plugins] == [USAGE, None, USAGE]
    assert [one.crashes for one in seen.plugins] == [2, 2, 2]
    assert [key for key, _ in seen.own] == ["acme.p1", "acme.p3", "acme.p4"]
    assert (seen.runs_waiting, seen.runs_running, seen.schedule_paused) == (1, 2, False)


async def test_others_have_their_turn_between_two_plugins() -> None:
    given = sources(*map(plugin, range(MANY)))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        await take_snapshot(given, own=True)
        nursery.cancel_scope.cancel()
    assert turns >= 3 * MANY
    assert len(given.built.containment.asked) == 1  # type: ignore[attr-defined]  # all of them in one look


@pytest.mark.parametrize("own", [True, False])
async def test_the_text_is_made_in_another_thread(own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    where: list[threading.Thread] = []
    real = metrics_scrape._print

    def note(snapshot: Any) -> str:
        where.append(threading.current_thread())
        return real(snapshot)

    monkeypatch.setattr(metrics_scrape, "_print", note)
    scrape = Scrape(sources(*map(plugin, range(3))))
    await scrape.warm_up()
    text = await scrape.text(plugins=own)
    assert where != [threading.main_thread()]
    assert problems_of(text) == []
    assert ('own_total{plugin="acme.p1"} 1.0' in text) is own


async def test_one_at_a_time() -> None:
    given = sources(*map(plugin, range(3)))
    scrape = Scrape(given)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(lambda: scrape.text(plugins=True))
    looked = given.built.containment
    assert (len(looked.asked), looked.most_at_once) == (8, 1)  # type: ignore[attr-defined]


async def test_who_gives_up_leaves_the_turn_to_the_next() -> None:
    scrape = Scrape(sources(plugin(1)))
    with trio.CancelScope() as scope:
        scope.cancel()
        await scrape.text(plugins=True)
    assert problems_of(await scrape.text(plugins=True)) == []


def test_a_daemon_that_nobody_asks_does_not_load_what_it_takes() -> None:
    code = "import sys, supervisor.daemon.app; print({'prometheus_client', 'h11'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
