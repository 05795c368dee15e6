"""pluginctl daemon: the daemon itself."""

from __future__ import annotations

import time

from client.cli.command import Argument, Command, Commands, Options
from client.cli.output import Context

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from typing import Any


def _ping(context: Context, options: Options) -> None:
    client = context.client
    client.hello()
    start = time.perf_counter()
    pong = client.daemon.ping()
    took_ms = (time.perf_counter() - start) * 1000
    context.show({**pong, "round_trip_ms": round(took_ms, 3)}, f"plugind answers within {took_ms:.1f} ms")


def _info(context: Context, options: Options) -> None:
    _show_map(context, context.client.daemon.info())


def _status(context: Context, options: Options) -> None:
    _show_map(context, context.client.daemon.status())


def _settings(context: Context, options: Options) -> None:
    _show_map(context, context.client.daemon.settings())


def _show_map(context: Context, value: Any) -> None:
    from client.cli.plain import to_json
    from client.cli.render import fields

    plain = (str, int, float, type(None))
    context.show(value, fields({k: v if isinstance(v, plain) else to_json(v) for k, v in value.items()}))


def _stop(context: Context, options: Options) -> None:
    context.confirm("Stop plugind and all workers?", yes=options.yes)
    context.show(context.client.daemon.stop(), "plugind is draining and stops")


def _backup(context: Context, options: Options) -> None:
    import os

    path = os.path.abspath(options.file)
    done = context.client.daemon.backup(path)
    from client.cli.render import escaped

    context.show({**done, "path": path}, f"a copy of the database is in {escaped(path)}")


def _reload(context: Context, options: Options) -> None:
    done = context.client.daemon.reload()
    changed, later = done["changed"], done["need_restart"]
    text = f"in force now: {', '.join(changed)}" if changed else "no setting has another value than before"
    if later:
        text += f"\nat the next start of plugind only: {', '.join(later)}"
    text += "".join(f"\nwarning: {warning}" for warning in done["warnings"])
    from client.cli.render import escaped

    context.show(done, escaped(text, lines=True))


COMMANDS: Commands = {
    "ping": Command(_ping, "Whether plugind answers.", "ping"),
    "info": Command(_info, "Version, pid and paths.", "daemon info"),
    "status": Command(_status, "Counts of plugins, workers, connections and runs.", "daemon status --json"),
    "settings": Command(_settings, "The settings in force.", "daemon settings"),
    "stop": Command(
        _stop,
        "Drain and stop plugind.",
        "daemon stop --yes",
        Argument("-y", "--yes", action="store_true", help="ask nothing"),
    ),
    "backup": Command(
        _backup,
        "Write a consistent copy of the database while plugind runs.",
        "backup /var/backups/plugind.db",
        Argument("file", metavar="FILE", help="a new file"),
    ),
    "reload": Command(
        _reload,
        "Read the settings anew, as SIGHUP does; if something is wrong with them nothing changes.",
        "reload",
    ),
}
