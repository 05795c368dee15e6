"""What plugin.toml declares against what the code has. Pure.

A difference is better said at the handshake than at the first run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from supervisor.core.errors import FailedPrecondition, InvalidParams
from supervisor.sdk.plugin import Plugin

API_VERSION: Final = 1
_RUN_FIELDS: Final = {"job": str, "run_id": str, "trigger": str, "scheduled_at_ms": int, "attempt": int}


def check_handshake(plugin: Plugin, params: Mapping[str, Any]) -> None:
    """Raises: FailedPrecondition: the versions, the handlers or the capabilities do not fit."""
    theirs = params.get("api_version")
    if theirs != API_VERSION:
        raise FailedPrecondition(
            f"this SDK speaks api_version {API_VERSION}, plugind {theirs!r}: install a matching one"
        )
    _check_handlers(plugin, params.get("manifest") or {})
    if plugin.event_handlers and "events.subscribe" not in (params.get("capabilities") or ()):
        raise FailedPrecondition(
            "the code has an @plugin.on_event, but the plugin was not granted the capability 'events.subscribe': "
            "declare it in plugin.toml's plugin.capabilities and install again",
            capability="events.subscribe",
        )


def check_run(params: Mapping[str, Any]) -> None:
    """Raises: InvalidParams: a field of the run is missing or has a wrong type."""
    for name, type_ in _RUN_FIELDS.items():
        if not isinstance(params.get(name), type_):
            raise InvalidParams(f"run_job needs {name!r}, {type_.__name__}", param=name)
    if not isinstance(params.get("params"), Mapping | None):
        raise InvalidParams("run_job takes 'params' as a map, or nil", param="params")


def _check_handlers(plugin: Plugin, manifest: Mapping[str, Any]) -> None:
    missing = [
        f"job {job['key']!r}"
        for job in manifest.get("jobs", [])
        # One with a command is a program of its own.
        if job["key"] not in plugin.jobs and not job.get("command")
    ]
    missing += [
        f"method {method['name']!r}" for method in manifest.get("methods", []) if method["name"] not in plugin.methods
    ]
    if missing:
        raise FailedPrecondition(
            f"plugin.toml declares {', '.join(missing)}, but the code has no handler for it"
            f"{_undeclared(plugin, manifest)}",
        )


def _undeclared(plugin: Plugin, manifest: Mapping[str, Any]) -> str:
    """What the code has and plugin.toml does not name: often the same thing, spelled in two ways."""
    jobs = {job["key"] for job in manifest.get("jobs", [])}
    methods = {method["name"] for method in manifest.get("methods", [])}
    extra = [f"job {key!r}" for key in plugin.jobs if key not in jobs]
    extra += [f"method {name!r}" for name in plugin.methods if name not in methods]
    return f"; the code has {', '.join(extra)}, which plugin.toml does not declare" if extra else ""
