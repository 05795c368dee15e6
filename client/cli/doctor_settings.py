"""The settings file for `pluginctl doctor`, by the daemon's own loader, as `plugind --check` reads it."""

from __future__ import annotations

import os

from client.cli.doctor_finding import PROBLEM, WARNING, Finding, well

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from typing import Any

_SYSTEM = "/etc/plugind/plugind.toml"


def settings(path: str | None, uid: int) -> tuple[list[Finding], dict[str, Any]]:
    """Findings, and the settings as a daemon of user `uid` would have them; `path`: its file, None: the usual one."""
    try:
        from supervisor.daemon.settings import SettingsError, default_config_path, describe, load_settings
    except ImportError as error:
        text = f"cannot be checked: the daemon is not installed in this environment ({error})"
        return [Finding("settings", WARNING, text, "`plugind --check`, where plugind is installed")], {}
    place = path or str(default_config_path(os.environ, uid))
    if os.path.exists(place) and not os.access(place, os.R_OK):
        return [well("settings", f"{place} is closed to you, and was not checked")], {}
    try:
        found = load_settings({"config": path}, os.environ if path is None else {}, uid)
    except SettingsError as error:
        remedy = "mend it; `plugind --check` tells whether it is well"
        return [Finding("settings", PROBLEM, problem, remedy) for problem in error.details["problems"]], {}
    named = f"{found.config_file} is well" if found.config_file else f"there is no {place}: all are the defaults"
    return [well("settings", named), *_passed_over(found.config_file)], describe(found)


def _passed_over(used: object) -> list[Finding]:
    if used is None and os.path.exists(_SYSTEM):
        text = f"{_SYSTEM} is there, and is not read by a plugind of this user"
        return [Finding("settings", WARNING, text, f"PLUGIND_CONFIG={_SYSTEM}, if it is meant")]
    return []
