"""`plugind demo`: a private daemon in a temporary directory, with example plugins, and a live look at it.

The daemon runs in this process, whole and real; the display is one more client of its socket. The display may wait
for a slow terminal, and the daemon with it: that is fit for a demo and for nothing else.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from client import AsyncClient
from supervisor.clock import SystemClock
from supervisor.core.errors import SupervisorError
from supervisor.daemon.app import App, Surrounding
from supervisor.daemon.demo_screen import Screen, make_screen
from supervisor.daemon.reaper import become_subreaper
from supervisor.daemon.settings import load_settings
from supervisor.daemon.signals import handle_signals
from supervisor.daemon.state_dir import open_state_dir
from supervisor.daemon.systemd import Notifier
from supervisor.log import configure
from supervisor.wire.results import EventInfo, PluginInfo, RunInfo

EXAMPLES: Final = Path(__file__).with_name("examples")
_NEEDS: Final = {"node-clock": "node"}
"""Examples in other languages, and the program that each needs."""
_REFRESH_S: Final = 0.25
_DRAIN_S: Final = 1.0
_KEPT: Final = 200


@dataclass(slots=True)
class Seen:
    """What the demo has seen so far; the screen draws it, the summary counts it."""

    socket: str
    notes: list[str] = field(default_factory=list)
    plugins: list[PluginInfo] = field(default_factory=list)
    runs: list[RunInfo] = field(default_factory=list)
    events: deque[EventInfo] = field(default_factory=lambda: deque(maxlen=_KEPT))
    counted: Counter[str] = field(default_factory=Counter)
    came_up: set[str] = field(default_factory=set)
    failed_to_load: dict[str, str] = field(default_factory=dict)

    def note(self, event: EventInfo) -> None:
        self.events.append(event)
        self.counted[event["type"]] += 1
        if event["type"] == "plugin.worker_started":
            self.came_up.add(event["plugin"])

    def verdict(self) -> str | None:
        """What went wrong, or None."""
        if self.failed_to_load:
            return "; ".join(f"{name} never came up: {why}" for name, why in self.failed_to_load.items())
        missing = [plugin["key"] for plugin in self.plugins if plugin["key"] not in self.came_up]
        if missing or not self.plugins:
            return f"a worker never came up: {', '.join(missing) or 'there was not even a plugin'}"
        return None if self.counted["job.run_succeeded"] else "no run succeeded"

    def summary(self) -> str:
        ended = {t.removeprefix("job.run_"): n for t, n in self.counted.items() if t.startswith("job.run_")}
        started = ended.pop("started", 0)
        outcomes = ", ".join(f"{n} {state}" for state, n in sorted(ended.items())) or "none ended"
        crashes = self.counted["plugin.worker_crashed"]
        restarts = self.counted["plugin.worker_started"] - len(self.came_up)
        return (
            f"plugins: {len(self.plugins)} ({len(self.came_up)} came up); runs: {started} ({outcomes}); "
            f"crashes: {crashes}; restarts: {restarts}; events: {self.counted.total()}"
        )


def main(arguments: Sequence[str]) -> int:
    """Run the demo; returns the exit code: 1 when a worker never came up or, with --seconds, no run succeeded."""
    options = _parser().parse_args(arguments)
    become_subreaper()
    directory = Path(tempfile.mkdtemp(prefix="plugind-demo-"))
    try:
        seen, ended_by_signal = trio.run(_demo, directory, options.seconds, options.plain)
    except SupervisorError as error:
        print(f"plugind demo: {error.message}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        if directory.exists():
            print(f"plugind demo: {directory} could not be removed", file=sys.stderr)
    problem = None if ended_by_signal else seen.verdict()
    print(seen.summary())
    if problem:
        print(f"plugind demo: {problem}", file=sys.stderr)
    return 1 if problem else 0


async def _demo(directory: Path, seconds: float | None, plain: bool) -> tuple[Seen, bool]:
    socket = str(directory / "control.sock")
    flags = {
        "config": str(_settings_file(directory)),
        "state_dir": str(directory / "state"),
        "socket": socket,
        "log_format": "json",
    }
    settings = load_settings(flags, {}, os.geteuid())
    by_signal = trio.Event()
    with (
        (directory / "plugind.log").open("w") as log,
        open_state_dir(settings.state_dir) as state_dir,
    ):
        configure("json", "info", log)
        app = App(
            Surrounding(
                settings=settings,
                state_dir=state_dir,
                listener=None,
                notifier=Notifier(None),
                watchdog_s=None,
                clock=SystemClock(),
                environ=dict(os.environ),
            )
        )
        seen = Seen(socket)
        screen = make_screen(sys.stdout, plain=plain)
        async with trio.open_nursery() as watch:
            showing = trio.CancelScope()

            def stop() -> None:
                by_signal.set()
                showing.cancel(reason="asked to stop")

            # To the very end: a second Ctrl-C hurries, and cuts nothing short.
            await watch.start(_handle_signals, stop, app.hurry)
            async with trio.open_nursery() as daemon:
                await daemon.start(app.run)
                with screen, showing, trio.move_on_after(seconds if seconds is not None else float("inf")):
                    async with trio.open_nursery() as shown:
                        await _show(seen, screen, shown)
                app.request_stop("the demo is over")
            watch.cancel_scope.cancel(reason="the daemon has ended")
    return seen, by_signal.is_set()


async def _handle_signals(
    stop: Callable[[], None],
    hurry: Callable[[], None],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    async def hang_up() -> None:
        stop()

    await handle_signals(stop=stop, hurry=hurry, reload=hang_up, task_status=task_status)


async def _show(seen: Seen, screen: Screen, nursery: trio.Nursery) -> None:
    screen.note(f"plugind demo: the socket is {seen.socket}; Ctrl-C ends it")
    screen.note(f"in a second terminal:  {how_to_look(seen.socket)}")
    async with AsyncClient.connect(seen.socket, name="plugind demo") as client:
        nursery.start_soon(_follow_events, client, seen, screen)
        nursery.start_soon(_install_examples, client, seen, screen)
        while True:
            seen.plugins = await client.plugins.list()
            seen.runs = await client.jobs.runs(limit=20)
            screen.draw(seen)
            await trio.sleep(_REFRESH_S)


async def _follow_events(client: AsyncClient, seen: Seen, screen: Screen) -> None:
    async with client.events_stream(after_seq=0) as events:
        async for event in events:
            seen.note(event)
            screen.event(event)


async def _install_examples(client: AsyncClient, seen: Seen, screen: Screen) -> None:
    for source in sorted(EXAMPLES.iterdir()):
        if not (source / "plugin.toml").is_file():
            continue
        needs = _NEEDS.get(source.name)
        if needs and shutil.which(needs) is None:
            seen.notes.append(f"{source.name} is left out: it needs {needs}, which is not installed")
            continue
        try:
            plugin = await client.plugins.install(str(source))
            await client.plugins.load(plugin["key"])
        except SupervisorError as error:
            seen.failed_to_load[source.name] = error.message
            seen.notes.append(f"{source.name}: {error.message}")


def how_to_look(socket: str) -> str:
    """The command line for a second terminal; `pluginctl` of the same environment as this program."""
    beside = Path(sys.argv[0]).resolve().with_name("pluginctl")
    program = str(beside) if beside.is_file() and shutil.which("pluginctl") != str(beside) else "pluginctl"
    return f"{program} --socket {socket} status"


def _settings_file(directory: Path) -> Path:
    """Of its own, so that the system's settings have no say; stops are quick."""
    file = directory / "plugind.toml"
    file.write_text(f"drain_s = {_DRAIN_S}\nterm_grace_s = 0.5\nkill_grace_s = 0.5\n")
    return file


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError("must be a positive number of seconds")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="plugind demo",
        description="A private daemon in a temporary directory with example plugins: watch jobs run and a worker "
        "crash and come back. Ctrl-C stops it; nothing is left behind.",
    )
    parser.add_argument("--seconds", type=_positive, metavar="N", help="end by itself, with a summary")
    parser.add_argument("--plain", action="store_true", help="print lines instead of a live screen")
    return parser
