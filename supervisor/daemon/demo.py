"""`plugind demo`: a private daemon in a temporary directory, with example plugins, and a live look at it.

The daemon runs in this process, whole and real; the display is one more client of its socket. The display may wait
for a slow terminal, and the daemon with it: that is fit for a demo and for nothing else.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Final

import trio

from client import AsyncClient
from supervisor.core.errors import SupervisorError
from supervisor.daemon.demo_screen import Screen, make_screen
from supervisor.daemon.output import mute_stdout, write_out
from supervisor.daemon.private import messages, private_app, private_settings
from supervisor.daemon.reaper import become_subreaper
from supervisor.daemon.signals import Noted, handle_signals, note_signals
from supervisor.daemon.temporary import DEMO, temporary_directory
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

    socket: str = ""
    notes: list[str] = field(default_factory=list)
    plugins: list[PluginInfo] = field(default_factory=list)
    runs: list[RunInfo] = field(default_factory=list)
    events: deque[EventInfo] = field(default_factory=lambda: deque(maxlen=_KEPT))
    counted: Counter[str] = field(default_factory=Counter)
    came_up: set[str] = field(default_factory=set)
    failed_to_load: dict[str, str] = field(default_factory=dict)
    ended_early: bool = False
    """By a signal, or because nobody reads any more: what is missing then is nobody's fault."""
    failures: list[str] = field(default_factory=list)
    """What broke the demo itself."""

    def note(self, event: EventInfo) -> None:
        self.events.append(event)
        self.counted[event["type"]] += 1
        if event["type"] == "plugin.worker_started":
            self.came_up.add(event["plugin"])

    def verdict(self) -> str | None:
        """What went wrong, or None."""
        if self.failures:
            return "; ".join(self.failures)
        if self.ended_early:
            return None
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
    # To the very end: not even a third Ctrl-C is to cut the cleaning short.
    noted = note_signals(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    become_subreaper()
    seen = Seen()
    with temporary_directory(DEMO) as directory:
        if noted.heard:
            return 128 + noted.heard[0]
        try:
            trio.run(_demo, directory, seen, options, noted)
        except* (SupervisorError, OSError) as group:
            seen.failures += messages(group)
    told = write_out(seen.summary())
    if problem := seen.verdict():
        print(f"plugind demo: {problem}", file=sys.stderr)
    return 0 if told and not problem else 1


async def _demo(directory: Path, seen: Seen, options: argparse.Namespace, noted: Noted) -> None:
    seen.socket = str(directory / "control.sock")
    with private_app(directory, lambda: private_settings(directory, _DRAIN_S)) as app:
        async with trio.open_nursery() as watch:
            showing = trio.CancelScope()

            def stop() -> None:
                seen.ended_early = True
                showing.cancel(reason="asked to stop")

            # Around the daemon: a later Ctrl-C hurries its stop.
            await watch.start(_handle_signals, stop, app.hurry, noted)
            async with trio.open_nursery() as daemon:
                await daemon.start(app.run)
                await _look(seen, make_screen(sys.stdout, plain=options.plain), showing, options.seconds)
                app.request_stop("the demo is over")
            watch.cancel_scope.cancel(reason="the daemon has ended")


async def _look(seen: Seen, screen: Screen, showing: trio.CancelScope, seconds: float | None) -> None:
    """Show until it is enough; what ends it otherwise is in `seen`, for the daemon has to be stopped all the same."""
    try:
        with screen, showing, trio.move_on_after(inf if seconds is None else seconds):
            async with trio.open_nursery() as shown:
                await _show(seen, screen, shown)
    except* BrokenPipeError:
        mute_stdout()
        seen.ended_early = True
    except* (SupervisorError, OSError) as group:
        seen.failures += messages(group)


async def _handle_signals(
    stop: Callable[[], None],
    hurry: Callable[[], None],
    noted: Noted,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    async def hang_up() -> None:
        stop()

    await handle_signals(stop=stop, hurry=hurry, reload=hang_up, noted=noted, task_status=task_status)


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
    async with client.events(after=0) as events:
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
            own = _own_copy(source, Path(seen.socket).parent / "examples" / source.name)
            plugin = await client.plugins.install(str(own))
            await client.plugins.load(plugin["key"])
        except SupervisorError as error:
            seen.failed_to_load[source.name] = error.message
            seen.notes.append(f"{source.name}: {error.message}")


def _own_copy(source: Path, target: Path) -> Path:
    """What others may write to is not installed, and a clone may be theirs to write: a copy is ours."""
    target.mkdir(mode=0o700, parents=True)
    for file in source.iterdir():
        if file.is_file():
            shutil.copyfile(file, target / file.name)
            (target / file.name).chmod(0o600)
    return target


def how_to_look(socket: str) -> str:
    """The command line for a second terminal; `pluginctl` of the same environment as this program."""
    beside = Path(sys.argv[0]).resolve().with_name("pluginctl")
    program = str(beside) if beside.is_file() and shutil.which("pluginctl") != str(beside) else "pluginctl"
    return f"{program} --socket {socket} status"


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"it must be a positive number of seconds, such as 15, not {text!r}")
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
