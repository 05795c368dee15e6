"""How errors are told: a sentence and a hint to people, one JSON object to programs; always on stderr."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from client.cli.output import Context
from client.cli.render import escaped
from supervisor.core.errors import SupervisorError

_TAIL_LINES = 10


def tell(context: Context, error: SupervisorError) -> None:
    if context.json:
        _tell_json(context, error.code, error.message, error.details)
        return
    context.note(f"pluginctl: {escaped(error.message or error.code, lines=True)}")
    tail = error.details.get("stderr_tail")
    if isinstance(tail, str) and tail.strip() and tail.strip() not in error.message:
        context.note("the worker's last words:")
        for line in tail.strip().splitlines()[-_TAIL_LINES:]:
            context.note(f"  {escaped(line)}")
    if hint := _hint(error):
        context.note(f"hint: {hint}")


def tell_usage(context: Context, message: str, usage: str) -> None:
    if context.json:
        _tell_json(context, "USAGE", message, {})
        return
    context.note(f"pluginctl: {escaped(message)}")
    context.note(usage.rstrip() if usage else "`pluginctl --help` lists the commands")


def _tell_json(context: Context, name: str, message: str, data: Mapping[str, Any]) -> None:
    from client.cli.plain import to_json

    context.note(to_json({"error": {"name": name, "message": message, "data": dict(data)}}))


def _hint(error: SupervisorError) -> str:
    plugin = error.details.get("plugin")
    key = escaped(plugin) if isinstance(plugin, str) else "KEY"
    match error.code:
        case "ACTIVATION_FAILED" | "PLUGIN_CRASHED":
            return f"`pluginctl logs {key}` shows what it printed, `pluginctl enable {key}` tries again"
        case "PERMISSION_DENIED" if "socket" not in error.details:
            return "this needs a higher role: try again as root or as plugind's own user"
        case "NOT_FOUND":
            return "`pluginctl list` shows the plugins there are, `pluginctl jobs list` the jobs"
        case "INTERNAL" if "log_id" in error.details:
            return "plugind's own log has the details under that id: `journalctl -u plugind`"
    return ""
