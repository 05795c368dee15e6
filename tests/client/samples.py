"""What a daemon would answer, for the fake one."""

from __future__ import annotations

import time
from typing import Any

NOW = int(time.time() * 1000)


def plugin(**changes: Any) -> dict[str, Any]:
    return {
        "id": "0d1f6f6c-0000-4000-8000-000000000001",
        "key": "acme.weather",
        "version": "1.2.0",
        "display_name": "Weather",
        "status": "ready",
        "phase": "running",
        "pid": 4242,
        "restarts": 1,
        "crashes": 0,
        "uptime_s": 200.0,
        "next_restart_in_s": None,
        "calls": 12,
        "calls_in_flight": 0,
        "last_error": None,
        "last_reason": None,
        "waiting_for": [],
        "next_recovery_in_s": None,
        "disable_reason": None,
        "held": False,
        "summary": "Running since 3 minutes.",
        "staged_version": None,
        "previous_version": None,
        "editable": False,
        "probation_left_s": None,
        "usage": None,
        "install_order": 1,
        "installed_at_ms": NOW - 86_400_000,
        "updated_at_ms": NOW - 60_000,
        **changes,
    }


def details(**changes: Any) -> dict[str, Any]:
    return {
        **plugin(),
        "source": "/src/weather",
        "index_url": None,
        "find_links": [],
        "approvals": [],
        "pending_capabilities": [],
        "requires": [],
        "required_by": [],
        "usage": None,
        "limits": [],
        "description": "d",
        "author": "a",
        "categories": ["connector"],
        "capabilities": ["jobs.schedule"],
        "jobs": ["refresh"],
        "methods": [{"name": "forecast"}],
        "command": ["python", "-m", "weather"],
        "stop_timeout_s": 10.0,
        "package_dir": "/p",
        "data_dir": "/d",
        "log_file": "/l",
        **changes,
    }


def version(**changes: Any) -> dict[str, Any]:
    return {
        "version": "1.2.0",
        "digest": "0123456789abcdef" * 4,
        "state": "active",
        "source": "/src/weather",
        "index_url": None,
        "find_links": [],
        "stored_at_ms": NOW - 60_000,
        "activated_at_ms": NOW - 50_000,
        "package_dir": "acme.weather/1.2.0-0123456789ab",
        "capabilities": ["jobs.schedule"],
        **changes,
    }


def config(**changes: Any) -> dict[str, Any]:
    return {
        "config": {"city": "Rome", "db": {"port": 5432, "password": "********"}},
        "secrets": ["db.password"],
        "revision": 3,
        "good": True,
        "set_at_ms": NOW - 60_000,
        "uid": 0,
        "config_schema": {"type": "object"},
        "restarted": False,
        **changes,
    }


def job(**changes: Any) -> dict[str, Any]:
    return {
        "id": "j1",
        "job": "acme.weather/refresh",
        "plugin": "acme.weather",
        "key": "refresh",
        "display_name": "Refresh",
        "schedule": "*/5 * * * *",
        "timezone": "UTC",
        "overlap": "skip",
        "command": None,
        "paused": False,
        "held_by": None,
        "active": True,
        "scheduled": True,
        "next_due_ms": NOW + 3_600_000,
        "next_fire_ms": NOW + 3_600_000,
        "last_due_ms": None,
        "last_run_ms": NOW - 600_000,
        "last_state": "succeeded",
        "running": 0,
        "waiting": 0,
        "progress": [],
        **changes,
    }


def run(**changes: Any) -> dict[str, Any]:
    return {
        "id": "r1",
        "job": "acme.weather/refresh",
        "plugin": "acme.weather",
        "trigger": "manual",
        "state": "succeeded",
        "attempt": 1,
        "due_ms": NOW,
        "created_ms": NOW,
        "started_ms": NOW,
        "finished_ms": NOW,
        "duration_ms": 1500,
        "error": None,
        "result": {"count": 1},
        "exit_code": None,
        "params": None,
        "times": 1,
        "retry_at_ms": None,
        "waiting_for": None,
        "progress": None,
        **changes,
    }


def times(*names: str, more: bool = False, **changes: Any) -> dict[str, Any]:
    """An hour and a bit from now, one after the other."""
    fire_ms = [NOW + 3_600_000 + 60_000 * n for n in range(len(names))]
    next_ = [
        {"job": name, "due_ms": ms, "fire_ms": ms, "at": f"2026-01-01T00:0{n}:00+00:00"}
        for n, (name, ms) in enumerate(zip(names, fire_ms, strict=True))
    ]
    one = names[0] if len(set(names)) == 1 else None
    return {
        "job": one,
        "timezone": "UTC",
        "times": [each["at"] for each in next_],
        "next": next_,
        "more": more,
        "held_by": None,
        "scheduled": True,
        **changes,
    }


def hold(scope: str, name: str | None, *, held: bool, **changes: Any) -> dict[str, Any]:
    return {"held": held, "scope": scope, "name": name, "jobs": 1, "next_fire_ms": None, **changes}


def line(message: str = "hello", time_ms: int = NOW, **changes: Any) -> dict[str, Any]:
    return {
        "time_ms": time_ms,
        "stream": "stdout",
        "level": "info",
        "message": message,
        "run_id": None,
        "truncated": False,
        "fields": {},
        **changes,
    }


def audit(**changes: Any) -> dict[str, Any]:
    return {
        "seq": 7,
        "at_ms": NOW,
        "uid": 0,
        "user": "root",
        "pid": 99,
        "exe": "/usr/bin/python3",
        "client": "pluginctl",
        "role": "admin",
        "method": "plugins.disable",
        "target": "acme.weather",
        "result": "ok",
        "message": None,
        "request_id": None,
        "duration_ms": 120,
        **changes,
    }


def method(**changes: Any) -> dict[str, Any]:
    return {
        "summary": "What it does.",
        "description": "What it does.\n\nAnd what else\n    is to be said of it.",
        "params": {},
        "result": {},
        "role": "observer",
        "deadline_ms": 30_000,
        "survives_disconnect": False,
        "repeatable": True,
        "progress": False,
        **changes,
    }


def description() -> dict[str, Any]:
    return {
        "protocol": 1,
        "roles": ["observer", "operator", "admin"],
        "limits": {"frame_bytes": 1_048_576},
        "methods": {"plugins.get": method(), "plugins.list": method()},
        "events": {"plugin.enabled": {"summary": "It is ready.", "data": {"type": "object", "properties": {}}}},
        "notifications": {"rpc.event": {"summary": "An event.", "params": {"type": "object", "properties": {}}}},
        "errors": {"NOT_FOUND": {"code": 7, "retryable": False, "summary": "There is no such thing."}},
    }


def answers() -> dict[str, Any]:
    return {
        "rpc.describe": description(),
        "audit.list": lambda params: [] if params["before"] == 7 else [audit()],
        "daemon.metrics": {
            "content_type": "text/plain; version=0.0.4",
            "text": "# HELP plugind_up Up.\nplugind_up 1\n",
        },
        "daemon.reload": {"changed": ["log_level"], "need_restart": ["socket"], "warnings": ["no user 'x'"]},
        "daemon.ping": {"pong": True, "now_ms": NOW},
        "daemon.info": {
            "name": "plugind",
            "version": "0.1.0",
            "pid": 1,
            "uid": 0,
            "protocol": 1,
            "python": "3.11",
            "state_dir": "/s",
            "socket": "/k",
            "config_file": None,
            "resources": {
                "open_files": 20,
                "max_files": 1024,
                "database_bytes": 1_000_000,
                "wal_bytes": 0,
                "state_free_bytes": 50_000_000_000,
                "state_total_bytes": 100_000_000_000,
                "log_free_bytes": 50_000_000_000,
                "log_total_bytes": 100_000_000_000,
                "cgroup": True,
                "controllers": {"cpu": "", "memory": "", "pids": ""},
            },
            "started_at_ms": NOW,
        },
        "daemon.status": {
            "uptime_s": 100.0,
            "plugins": {"ready": 1},
            "workers": {"running": 1},
            "connections": 1,
            "runs_in_flight": 0,
            "jobs_held_since_ms": None,
            "last_seq": 0,
            "stopping": False,
            "warnings": ["disk is nearly full"],
        },
        "daemon.settings": {"timezone": "UTC", "term_grace_s": 5.0, "kill_grace_s": 2.0},
        "plugins.list": [plugin()],
        "plugins.get": details(),
        **{
            f"plugins.{verb}": plugin()
            for verb in (
                "install",
                "upgrade",
                "approve",
                "reject",
                "rollback",
                "load",
                "enable",
                "disable",
                "mark_error",
                "mark_upgrade_pending",
                "start",
                "stop",
                "restart",
                "wait",
            )
        },
        "plugins.health": {"healthy": True, "phase": "running", "message": "", "answer_ms": 1.5},
        "plugins.can_transition": {"allowed": True, "status": "ready", "to": "disabled"},
        "plugins.call": {"result": {"sky": "clear"}},
        "plugins.metrics": [
            {"name": "rows", "kind": "counter", "value": 3.0, "labels": {"table": "a"}, "at_ms": NOW},
        ],
        "plugins.state_list": {"entries": [{"key": "count", "value": 3, "revision": 7}], "next": None},
        "plugins.state_get": {"key": "count", "value": 3, "revision": 7},
        "plugins.versions": [version()],
        "plugins.config_get": config(),
        "plugins.config_set": config(revision=4),
        "plugins.config_restore": config(revision=4, restarted=True),
        "plugins.config_test": {"ok": True, "problems": [], "asked_worker": True},
        "plugins.config_history": [
            {"revision": 3, "current": True, "good": True, "set_at_ms": NOW, "uid": 0, "names": ["city", "db"]},
        ],
        "jobs.list": [job()],
        "jobs.get": job(),
        "jobs.next": times("acme.weather/refresh"),
        "jobs.run": run(),
        "jobs.pause": hold("job", "acme.weather/refresh", held=True),
        "jobs.resume": hold("job", "acme.weather/refresh", held=False, next_fire_ms=NOW + 3_600_000),
        "jobs.runs": [run()],
        "jobs.get_run": run(),
        "jobs.cancel": run(state="cancelled"),
        "jobs.retry": run(trigger="retry", attempt=2),
        "logs.read": [line()],
    }
