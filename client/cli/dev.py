"""pluginctl dev: a plugin in a daemon of its own, with its log and events as they come, until Ctrl-C."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import threading
from functools import partial
from queue import SimpleQueue

from client.cli.command import Argument, Command, Commands, Options, UsageError
from client.cli.config_values import read_file
from client.cli.dev_daemon import PrivateDaemon
from client.cli.dev_package import CHANGED, REFUSED, Package
from client.cli.dev_text import event_text, log_text, own_line
from client.cli.output import Context
from client.cli.render import escaped
from client.errors import SupervisorError

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from client.sync_client import Client
    from supervisor.wire.results import EventInfo, LogLine

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TAIL = 10_000
_CONTINUED = "  "
"""How the further lines of a note begin."""


def _dev(context: Context, options: Options) -> int:
    directory = os.path.realpath(options.dir)
    if not os.path.isfile(f"{directory}/plugin.toml"):
        raise UsageError(
            f"{options.dir}: there is no plugin.toml in it", "`pluginctl new NAME DIR` writes a plugin that works"
        )
    config = None if options.config is None else read_file(options.config)
    stage = Stage(context, directory, options.run)
    before = {number: signal.signal(number, stage.hear) for number in _SIGNALS if _is_heard(number)}
    try:
        with PrivateDaemon(keep=options.keep) as daemon:
            context.socket = daemon.socket
            stage.begin(daemon, config)
            code = stage.show()
            stage.tell("stopping …")
        stage.flush()
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise BrokenPipeError from None  # The terminal is gone: there is nobody to tell.
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    context.stream(*_told(context, f"kept: {daemon.directory}" if options.keep else "nothing is left behind"))
    return code


def _is_heard(number: signal.Signals) -> bool:
    """Not one that is ignored, as by nohup(1)."""
    return signal.getsignal(number) is not signal.SIG_IGN


def _told(context: Context, text: str, *, bad: bool = False) -> tuple[dict[str, str], str]:
    return {"dev": text}, own_line(escaped(text, lines=True), colour=context.colour, bad=bad)


class Stage:
    """What is shown, in the main thread, and what makes it happen, in threads that end with us.

    The main thread does nothing but print: so it hears signals at once, and one line never cuts another.
    """

    def __init__(self, context: Context, directory: str, job: str | None) -> None:
        self._context = context
        self._directory = directory
        self._job = job
        self._lines: SimpleQueue[tuple[Any, str] | int] = SimpleQueue()
        """What to print, or the exit code."""
        self._wishes: SimpleQueue[str] = SimpleQueue()
        """What to do about the plugin: `changed` or `refused`."""
        self._daemon: PrivateDaemon | None = None
        self._stopping = False
        self._up: set[str] = set()

    def hear(self, _number: int, _frame: object) -> None:
        """A signal: the first one ends it, later ones hurry the daemon."""
        if self._stopping and self._daemon is not None:
            self._daemon.hurry()
        self._lines.put(0)

    def begin(self, daemon: PrivateDaemon, config: dict[str, Any] | None) -> None:
        self._daemon = daemon
        self.tell(f"plugind of its own, pid {daemon.pid}, in {daemon.directory}; Ctrl-C ends it")
        export = f"export PLUGIND_SOCKET={shlex.quote(daemon.socket)}"
        facts = {"socket": daemon.socket, "directory": daemon.directory, "pid": daemon.pid}
        self._lines.put((facts, f"   for pluginctl in another terminal:\n{export}"))
        client = self._context.client
        package = Package(client, self._directory, config)
        for work in (
            partial(self._wait_ended, daemon),
            partial(self._follow_events, client),
            partial(self._tend, client, package),
            self._watch,
        ):
            self._start(work)

    def _start(self, work: Callable[[], None]) -> None:
        threading.Thread(target=partial(self._carry_out, work), daemon=True).start()

    def _carry_out(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (SupervisorError, OSError, RuntimeError) as error:
            if not self._stopping:
                self.tell(f"{error}; what depends on it is not shown any more", bad=True)

    def show(self) -> int:
        """Print until it is to end; the exit code."""
        while not isinstance(line := self._lines.get(), int):
            self._context.stream(*line)
        self._stopping = True
        return line

    def flush(self) -> None:
        """Print what came meanwhile."""
        while not self._lines.empty():
            if not isinstance(line := self._lines.get(), int):
                self._context.stream(*line)

    def tell(self, text: str, *, bad: bool = False) -> None:
        """In a line of our own."""
        self._lines.put(_told(self._context, text, bad=bad))

    # Threads.

    def _wait_ended(self, daemon: PrivateDaemon) -> None:
        daemon.wait_ended()
        if not self._stopping:
            self.tell("its plugind has ended", bad=True)
            self._lines.put(1)

    def _follow_events(self, client: Client) -> None:
        with client.events(after=0) as events:
            for event in events:
                self._lines.put(({"event": event}, event_text(event, colour=self._context.colour)))
                self._announce(event)

    def _announce(self, event: EventInfo) -> None:
        if event["type"] == "plugin.worker_started":
            if event["plugin"] in self._up:
                self.tell(f"{event['plugin']} is restarted, pid {event['data'].get('pid')}")
            self._up.add(event["plugin"])

    def _follow_log(self, client: Client, key: str) -> None:
        with client.logs(key, _TAIL) as lines:
            for line in lines:
                self._take(line)

    def _take(self, line: LogLine) -> None:
        message = line["message"]
        note = message if line["stream"] == "plugind" else ""
        if note.startswith(CHANGED):
            self.tell(note)
            return
        if note.startswith(REFUSED):
            self._wishes.put("refused")
        if note.startswith((REFUSED, _CONTINUED)):
            return  # What is wrong is told by who looks into it.
        self._lines.put(({"log": line}, log_text(line, colour=self._context.colour)))

    def _watch(self) -> None:
        """For what is not installed yet, or not loaded; what is, plugind watches itself."""
        from watchfiles import watch

        for _ in watch(self._directory, raise_interrupt=False):
            self._wishes.put("changed")

    def _tend(self, client: Client, package: Package) -> None:
        """Do what the plugin needs, one thing after the other."""
        self._try(client, package, package.install)
        while True:
            wish = self._wishes.get()
            if wish == "refused":
                self._try(client, package, package.fit)
            elif package.key is None:
                self._try(client, package, package.install)
            else:
                self._try(client, package, lambda: "")

    def _try(self, client: Client, package: Package, act: Callable[[], str]) -> None:
        former = package.key
        try:
            told = act()
            if told:
                self.tell(told)
            if package.key is not None and package.key != former:
                self._start(partial(self._follow_log, client, package.key))
            package.load()
            self._run(client, package)
        except SupervisorError as error:
            if not self._stopping:
                self.tell(error.message, bad=True)

    def _run(self, client: Client, package: Package) -> None:
        """The job of --run, once."""
        job, self._job = self._job, None
        if job is not None:
            client.jobs.run(job if "/" in job else f"{package.key}/{job}")


COMMANDS: Commands = {
    "dev": Command(
        _dev,
        "Run a plugin in a plugind of its own, in a temporary directory: it is installed in place and restarted on "
        "each change; its log and all events are shown as they come. Ctrl-C ends it, with exit code 0, and nothing is "
        "left behind.",
        "dev ./weather --run refresh",
        Argument("dir", metavar="DIR", nargs="?", default=".", help="the plugin's directory (.)"),
        Argument("--run", metavar="JOB", help="run this job once, as soon as the plugin is up"),
        Argument("--config", metavar="FILE", help="the plugin's configuration: TOML, or JSON"),
        Argument("--keep", action="store_true", help="leave its state directory behind"),
    ),
}
