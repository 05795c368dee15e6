"""pluginctl daemon: the daemon itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from client.cli.command import Argument, Command, Commands, Options
from client.cli.output import Context
from client.errors import NotFound

if TYPE_CHECKING:
    from supervisor.wire.results import MethodDescription


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


def _describe(context: Context, options: Options) -> None:
    from client.cli.render import escaped

    description = context.client.describe()
    if options.method is None:
        longest = max(map(len, description["methods"]), default=0)
        lines = (f"{name:<{longest}}  {m['summary']}" for name, m in description["methods"].items())
        context.show(description, "\n".join(map(escaped, lines)))
        return
    method = description["methods"].get(options.method)
    if method is None:
        import difflib

        near = difflib.get_close_matches(options.method, description["methods"], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "; `pluginctl describe` lists them"
        raise NotFound(f"plugind has no method {options.method!r}{hint}", method=options.method)
    context.show(method, _method_text(options.method, method))


def _method_text(name: str, method: MethodDescription) -> str:
    from client.cli.plain import to_json
    from client.cli.render import duration, escaped

    deadline = "none" if method["deadline_ms"] is None else duration(method["deadline_ms"] / 1000)
    return (
        f"{escaped(name)}: {escaped(method['summary'])}\n"
        f"role {escaped(method['role'])}, deadline {deadline}\n"
        f"params: {to_json(method['params'], indent=2)}\n"
        f"result: {to_json(method['result'], indent=2)}"
    )


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
    "describe": Command(
        _describe,
        "Every method of the socket; with METHOD, its params and result as JSON Schema.",
        "describe plugins.call",
        Argument("method", metavar="METHOD", nargs="?"),
    ),
}
