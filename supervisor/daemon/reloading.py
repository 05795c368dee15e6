"""Settings read anew while the daemon runs: some are in force at once, the others at its next start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import trio

from supervisor.control.access import Gate
from supervisor.control.names import rules_of
from supervisor.control.roles import Rules
from supervisor.daemon.settings import NAMES, Settings, SettingsError
from supervisor.log import configure, get_logger
from supervisor.wire.results import ReloadInfo

LIVE: Final = frozenset(
    {
        "log_format",
        "log_level",
        "observers",
        "operators",
        "admins",
        "drain_s",
        "call_timeout_s",
        "event_keep",
        "event_keep_days",
        "run_keep",
        "run_keep_days",
        "audit_keep",
        "audit_keep_days",
        "purge_after_days",
    }
)
"""The others are places, or shape what was built of them: workers, schedule, sockets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    settings: Settings
    """In force from now on: what needs a restart is as it was."""
    changed: list[str]
    need_restart: list[str]


def reloaded(former: Settings, read: Settings) -> Reloaded:
    """`former` is in force, `read` is what the sources say now. Pure."""
    # The values themselves: what is shown of them may be the same.
    differ = [name for name in NAMES if getattr(read, name) != getattr(former, name)]
    waiting = [name for name in differ if name not in LIVE]
    return Reloaded(
        settings=replace(read, **{name: getattr(former, name) for name in waiting}),
        changed=[name for name in differ if name in LIVE],
        need_restart=waiting,
    )


class LiveSettings:
    """Those in force, and the rules of the gate that they lead to. `reread` may block, and raises SettingsError.

    `binds`: the daemon makes the socket itself, so that its settings say who can connect.
    """

    def __init__(self, settings: Settings, reread: Callable[[], Settings], *, binds: bool = True) -> None:
        self.settings = settings
        self.warnings: list[str] = list(settings.warnings)
        self._reread = reread
        self._binds = binds
        self._gate: Gate | None = None
        self._one_at_a_time = trio.Lock()

    async def watch_over(self, gate: Gate) -> None:
        """Give it its rules, now and with each reload."""
        async with self._one_at_a_time:
            rules = await trio.to_thread.run_sync(_rules, self.settings)
            self._gate = gate
            self._take(self.settings, rules)
        for warning in self.warnings[len(self.settings.warnings) :]:
            get_logger().warning("settings.warning", warning=warning)

    async def reload(self, put_in_force: Callable[[Settings], None]) -> ReloadInfo:
        """Read them, and have `put_in_force` done with those that hold from now on; it must not raise.

        Raises:
            SettingsError: they have problems; all is as it was.
        """
        async with self._one_at_a_time:
            try:
                read, rules = await trio.to_thread.run_sync(self._read)
            except SettingsError as error:
                get_logger().error("settings.not_reloaded", why=error.message)
                raise
            new = reloaded(self.settings, read)
            # No checkpoint until all of it is in force.
            if {"log_format", "log_level"} & set(new.changed):
                configure(read.log_format, read.log_level)  # type: ignore[arg-type]  # checked by the settings
            self._take(new.settings, rules)
            put_in_force(new.settings)
        for warning in self.warnings:
            get_logger().warning("settings.warning", warning=warning)
        get_logger().info("settings.reloaded", changed=new.changed, need_restart=new.need_restart)
        return {"changed": new.changed, "need_restart": new.need_restart, "warnings": list(self.warnings)}

    def _read(self) -> tuple[Settings, Rules]:
        read = self._reread()
        return read, _rules(read)

    def _take(self, settings: Settings, rules: Rules) -> None:
        self.settings = settings
        self.warnings = [*settings.warnings, *rules.warnings, *(_closed_door(settings) if self._binds else ())]
        if self._gate is not None:
            self._gate.rules = rules
            # Users may have been renamed for the same reason.
            self._gate.names.forget()


def _closed_door(settings: Settings) -> list[str]:
    """A role is of no use to who cannot connect."""
    named = [name for name in ("observers", "operators", "admins") if getattr(settings, name)]
    if not named or settings.socket_group:
        return []
    why = "only root and the user that runs plugind can connect until socket_group names a group"
    return [f"{', '.join(named)}: {why}, and plugind is restarted"]


def _rules(settings: Settings) -> Rules:
    return rules_of(settings.observers, settings.operators, settings.admins)
