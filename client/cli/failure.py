"""How errors are told: a sentence and a hint to people, one JSON object to programs; always on stderr."""

from __future__ import annotations

from client.address import socket_path
from client.cli.exits import is_for_the_role
from client.cli.output import Context
from client.cli.render import escaped
from client.errors import DaemonNotRunning, RemoteProtocolError, SupervisorError

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_TAIL_LINES = 10
_NEEDS = " needs the role "


def tell(context: Context, error: SupervisorError) -> None:
    message, way_out = _unreached(context, error) or (_in_our_words(context, error), "")
    if context.json:
        _tell_json(context, error.code, message, error.details)
        return
    context.tell(f"pluginctl: {escaped(message or error.code, lines=True)}")
    tail = error.details.get("stderr_tail")
    if isinstance(tail, str) and tail.strip() and tail.strip() not in error.message:
        context.note("the worker's last words:")
        for line in tail.strip().splitlines()[-_TAIL_LINES:]:
            context.note(f"  {escaped(line)}")
    if hint := escaped(way_out) or _hint(context, error):
        context.note(f"hint: {hint}")


def _unreached(context: Context, error: SupervisorError) -> tuple[str, str] | None:
    """What is wrong and the way out, where it is the socket that could not be reached."""
    path = error.details.get("socket")
    if not isinstance(path, str) or "method" in error.details:
        return None
    from client.cli.reach import not_let_in, not_running

    if isinstance(error, DaemonNotRunning):
        return not_running(path, context.socket)
    return not_let_in(path, context.socket) if error.code == "PERMISSION_DENIED" else None


def _in_our_words(context: Context, error: SupervisorError) -> str:
    """Without what only programs know: frames, and the names of methods."""
    if isinstance(error, RemoteProtocolError):
        return f"what answers at {socket_path(context.socket)} is not plugind, or none that this pluginctl understands"
    if error.details.get("command") in {"approve", "reject"}:
        return error.message.partition("; ")[0]  # behind it stands where that would lead
    _, needs, rest = error.message.partition(_NEEDS)
    return f"`pluginctl {context.typed}`{needs}{rest}" if needs and is_for_the_role(error) else error.message


def tell_usage(context: Context, message: str, usage: str, details: Mapping[str, Any]) -> None:
    if context.json:
        _tell_json(context, "USAGE", message, details)
        return
    context.tell(f"pluginctl: {escaped(message)}")
    context.tell(usage.rstrip() if usage else "`pluginctl --help` lists the commands")


def tell_plainly(context: Context, name: str, message: str) -> None:
    """What is no error of plugind's: DECLINED, or OS_ERROR."""
    if context.json:
        _tell_json(context, name, message, {})
    else:
        context.tell(f"pluginctl: {escaped(message)}")


def tell_interrupted(context: Context, message: str) -> None:
    """What became of it after Ctrl-C."""
    if context.json:
        _tell_json(context, "INTERRUPTED", message, {})
    else:
        context.tell(message)


def _tell_json(context: Context, name: str, message: str, data: Mapping[str, Any]) -> None:
    from client.cli.plain import to_json

    context.tell(to_json({"error": {"name": name, "message": message, "data": dict(data)}}))


def _hint(context: Context, error: SupervisorError) -> str:
    plugin = error.details.get("plugin")
    name = plugin if isinstance(plugin, str) else context.about
    key = escaped(name or "KEY")
    is_gone = error.details.get("status") == "uninstalled"
    match error.code:
        case "ACTIVATION_FAILED" | "PLUGIN_CRASHED":
            return f"`pluginctl logs {key}` shows what it printed; {_way_back(context, name, key)}"
        case "UPGRADE_FAILED":
            return f"the version before goes on; `pluginctl logs {key}` shows what the new one printed"
        case "APPROVAL_REQUIRED" if context.command in {"enable", "load"}:
            return f"`pluginctl approve {key}` shows what it asks for, and allows it; `pluginctl reject {key}` does not"
        case "APPROVAL_REQUIRED" if context.command in {"install", "upgrade"}:
            return "`--yes` allows what it asks for"
        case "UNAVAILABLE" if name and "socket" not in error.details and error.details:
            return f"`pluginctl status {key}` says what is going on"
        case "DEADLINE_EXCEEDED" if context.command in {"call", "wait"}:
            return "`--timeout S` waits for S seconds"
        case "DEADLINE_EXCEEDED" if name and "run" not in error.details:
            return f"`pluginctl status {key}` says what becomes of it"
        case "PERMISSION_DENIED" if "socket" not in error.details:
            from client.cli.reach import role_way_out

            return escaped(role_way_out(error))
        case "INVALID_PARAMS":
            return context.hint
        case "NOT_FOUND":
            return _where_to_look(context, error.details, key)
        case "INVALID_TRANSITION" if error.details.get("command") == "unload" and is_gone:
            return f"`pluginctl purge {key}` deletes what it has left"
        case "INTERNAL" if "log_id" in error.details:
            return "plugind's own log has the details under that id: `journalctl -u plugind`"
    return ""


def _where_to_look(context: Context, details: Mapping[str, Any], key: str) -> str:
    """By what was not found; nothing where the message says it already."""
    if {"run", "method", "job", "source"} & details.keys():
        return ""
    if "kept" in details:
        return f"`pluginctl versions {key}` shows the versions that are kept"
    if "key" in details:
        return f"`pluginctl state list {key}` shows what it has stored"
    if "name" in details:
        return f"`pluginctl config get {key}` shows what is set"
    if "revision" in details or context.command == "restore":
        return f"`pluginctl config history {key}` shows the configurations that were"
    return "`pluginctl list -a` shows the plugins there are"


def _way_back(context: Context, name: str | None, key: str) -> str:
    """What tries again: that depends on what has become of the plugin meanwhile."""
    again = f"`pluginctl restart {key}` tries again at once"
    if name is None:
        return again
    try:
        plugin = context.client.plugins.get(name)
    except SupervisorError:
        return again  # the first error is the one to tell
    status = plugin["status"]
    if plugin["last_reason"] == "package_changed":
        return f"its files have changed: `pluginctl upgrade {key}`, or uninstall and install it again (its data stays)"
    if status == "ready":
        return again
    verb = "load" if status == "installed" else "enable"
    edited = f"`pluginctl upgrade {key}` takes one that was edited"
    return f"`pluginctl {verb} {key}` tries again with the installed copy; {edited}"
