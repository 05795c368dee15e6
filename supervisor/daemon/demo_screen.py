"""What `plugind demo` shows: a live screen on a terminal, lines elsewhere."""

from __future__ import annotations

from datetime import datetime
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from supervisor.clock import from_ms
from supervisor.wire.results import EventInfo, PluginInfo, RunInfo

if TYPE_CHECKING:
    from supervisor.daemon.demo import Seen

_PHASE_STYLES = {"running": "green", "backoff": "red", "starting": "yellow", "stopping": "yellow", "stopped": "dim"}
_STATE_STYLES = {"succeeded": "green", "running": "yellow", "failed": "red", "timed_out": "red"}
_FRAME_LINES = 8
"""Lines of headings: four at the top, for the command may take two, and one each for plugins, runs and events."""
_RUNS = 5


class Screen(Protocol):
    """A context manager; its calls return at once, save that the terminal may be slow."""

    def __enter__(self) -> Screen: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None: ...
    def draw(self, seen: Seen) -> None: ...
    def event(self, event: EventInfo) -> None: ...
    def note(self, text: str) -> None: ...


def make_screen(stream: IO[str], *, plain: bool) -> Screen:
    """A live screen where `stream` is a terminal that can do it."""
    console = Console(file=stream)
    return _Live(console) if console.is_terminal and not console.is_dumb_terminal and not plain else _Lines(stream)


class _Live:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, screen=True, transient=True)
        self._hint = ""

    def __enter__(self) -> _Live:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, where)

    def draw(self, seen: Seen) -> None:
        taken = _FRAME_LINES + len(seen.plugins) + len(seen.notes) + min(_RUNS, len(seen.runs))
        room = max(3, self._console.height - taken)
        self._live.update(picture(seen, events=room), refresh=True)

    def event(self, event: EventInfo) -> None:
        """It is drawn with the rest."""

    def note(self, text: str) -> None:
        """The screen shows it all the time."""


class _Lines:
    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._shown_notes = 0

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.flush()

    def draw(self, seen: Seen) -> None:
        for note in seen.notes[self._shown_notes :]:
            self.note(note)
        self._shown_notes = len(seen.notes)
        # Into a pipe too: somebody looks at it while it goes on.
        self._stream.flush()

    def event(self, event: EventInfo) -> None:
        print(f"{_time(event['at_ms'])}  {event['type']:<24} {event['plugin']:<18} {told(event)}", file=self._stream)

    def note(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


def picture(seen: Seen, *, events: int) -> Group:
    """The whole screen, with the newest `events` events."""
    from supervisor.daemon.demo import how_to_look

    # The command may wrap: it is there to be copied whole.
    head = Text.assemble(
        ("plugind demo", "bold"),
        f"   socket {seen.socket}   Ctrl-C ends it\nin a second terminal:\n",
        (how_to_look(seen.socket), "bold cyan"),
        overflow="fold",
    )
    notes = [Text(note, style="yellow", no_wrap=True) for note in seen.notes]
    lines = [_event_line(event) for event in list(seen.events)[-events:]]
    return Group(head, *notes, _plugins(seen.plugins), _runs(seen.runs[:_RUNS]), Text("events", style="bold"), *lines)


def _plugins(plugins: list[PluginInfo]) -> Table:
    table = _table("plugin", "status", "phase", "pid", "restarts", "what is going on")
    for p in plugins:
        phase = Text(p["phase"], style=_PHASE_STYLES.get(p["phase"], ""))
        what = Text(doing(p), no_wrap=True, overflow="ellipsis")
        table.add_row(p["key"], p["status"], phase, str(p["pid"] or "-"), str(p["restarts"]), what)
    return table


def doing(plugin: PluginInfo) -> str:
    """What goes on, in the few words that fit beside the other columns of a terminal 80 wide."""
    if plugin["phase"] == "running":
        calls = f", {plugin['calls_in_flight']} in flight" if plugin["calls_in_flight"] else ""
        return f"up {plugin['uptime_s'] or 0:.1f} s{calls}"
    if plugin["phase"] == "backoff":
        return f"crash {plugin['crashes']}, back in {plugin['next_restart_in_s'] or 0:.1f} s"
    return plugin["summary"]


def _runs(runs: list[RunInfo]) -> Table:
    table = _table("run of", "due", "trigger", "outcome", "took", "result")
    for run in runs:
        state = Text(run["state"], style=_STATE_STYLES.get(run["state"], ""))
        took = f"{run['duration_ms']} ms" if run["duration_ms"] is not None else "-"
        result = Text(str(run["error"] or run["result"] or ""), no_wrap=True, overflow="ellipsis")
        table.add_row(run["job"], _time(run["due_ms"]), run["trigger"], state, took, result)
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, expand=True, header_style="bold")
    for number, column in enumerate(columns, 1):
        table.add_column(column, no_wrap=True, ratio=1 if number == len(columns) else None)
    return table


def _event_line(event: EventInfo) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{_time(event['at_ms'])}  ", style="dim")
    crashed = event["type"] in {"plugin.worker_crashed", "job.run_failed", "plugin.error"}
    text.append(f"{event['type']:<24} ", style="red" if crashed else "cyan")
    text.append(f"{event['plugin']:<18} {told(event)}")
    return text


def told(event: EventInfo) -> str:
    """An event's data in a few words; what only programs want is left out."""
    hidden = {"run_id", "due_ms", "stderr_tail", "capabilities", "trigger", "attempt"}
    shown: dict[str, Any] = {name: value for name, value in event["data"].items() if name not in hidden}
    return " ".join(f"{name}={_short(value)}" for name, value in shown.items() if value is not None)


def _short(value: Any) -> str:
    text = f"{value:.2f}" if isinstance(value, float) else str(value)
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _time(ms: int) -> str:
    local: datetime = from_ms(ms).astimezone()
    return f"{local:%H:%M:%S}"
