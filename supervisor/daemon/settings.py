"""Frozen Settings: a TOML file, `PLUGIND_*` variables over it, flags over both. All problems are told at once."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from supervisor.core.errors import InvalidParams
from supervisor.core.problem import Problem
from supervisor.core.reading import Reader
from supervisor.daemon import setting_texts
from supervisor.lifecycle.sources import mask_credentials
from supervisor.log import FORMATS, LEVELS
from supervisor.wire.address import default_socket_path

SYSTEM_CONFIG: Final = Path("/etc/plugind/plugind.toml")
_PREFIX: Final = "PLUGIND_"
# Variables that are no settings: where the file is, and what a worker gets (the daemon may be started inside one).
_NO_SETTINGS: Final = frozenset(
    {
        "PLUGIND_CONFIG",
        "PLUGIND_STATE_ID",
        "PLUGIND_LIFE_ID",
        "PLUGIND_PLUGIN_ID",
        "PLUGIND_PLUGIN_KEY",
        "PLUGIND_DATA_DIR",
        "PLUGIND_PACKAGE_DIR",
        "PLUGIND_API_VERSION",
    },
)
_INTEGER = re.compile(r"[+-]?[0-9][0-9_]*")
_MAX_CONFIG_BYTES: Final = 1024 * 1024
_DAY_S: Final = 86_400


class SettingsError(InvalidParams):
    """The settings have problems, each with the file, variable or flag it came from. Details: problems."""

    def __init__(self, problems: list[str]) -> None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"the settings have {count}:\n" + "\n".join(f"  {p}" for p in problems), problems=problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Names end in their unit: `_s` seconds, `_bytes`, `_days`; paths are absolute."""

    state_dir: Path
    socket: str
    log_dir: Path
    timezone: str
    start_concurrency: int
    """Workers brought up at the same time at boot."""
    drain_s: float
    log_format: str
    log_level: str
    log_max_bytes: int
    """Size at which a plugin's log file is rotated."""
    log_files: int
    recover_after_s: float
    """Between tries to start plugins in error after crashes; 0: never."""
    run_limit: int
    plugin_run_limit: int
    call_timeout_s: float
    term_grace_s: float
    kill_grace_s: float
    event_keep: int
    event_keep_days: float
    run_keep: int
    """Runs of each job that are kept."""
    run_keep_days: float
    phase_timeout_s: float
    """For each phase of an install or upgrade: fetch, unpack, environment, …"""
    keep_versions: int
    """Versions of a plugin that are kept, the present one among them."""
    purge_after_days: float
    """Until the data of an uninstalled plugin goes too; 0: never."""
    index_url: str
    """Where requirements are fetched from; empty: as pip is configured."""
    observers: tuple[str, ...]
    """Who may look: users ("alice", "1001"), groups ("@staff", "@1001"), "*" for whoever can connect."""
    operators: tuple[str, ...]
    """Who may also start, stop, run and the like."""
    admins: tuple[str, ...]
    """Who may everything, as root and the daemon's own user. They can run code as that user: they install plugins."""
    socket_group: str
    """The group that may connect to a socket that the daemon makes itself; empty: its own user only."""
    metrics_listen: str
    """Where Prometheus may scrape: "127.0.0.1:9464", "[::1]:9464" or the path of a Unix socket; empty: nowhere."""
    audit_keep: int
    audit_keep_days: float
    config_file: Path | None
    """The file that was read."""
    origins: Mapping[str, str]
    """Setting -> file, variable or flag that gave it; the others are defaults."""
    warnings: tuple[str, ...]


_ABOUT: Final = ("config_file", "origins", "warnings")
_PATHS: Final = ("state_dir", "socket", "log_dir")
_TEXTS: Final = (*_PATHS, "timezone", "log_format", "log_level", "index_url", "socket_group", "metrics_listen")
_MAY_BE_EMPTY: Final = ("index_url", "socket_group", "metrics_listen")
_LISTS: Final = ("observers", "operators", "admins")
"""In variables and flags with commas between their entries."""
NAMES: Final = tuple(field.name for field in fields(Settings) if field.name not in _ABOUT)


def load_settings(flags: Mapping[str, object], environ: Mapping[str, str], uid: int) -> Settings:
    """Settings from all sources. `flags`: setting -> value as given (None: not given), and `config`, the file to read.

    Relative paths in flags and variables start at the working directory; in the file they are refused.

    Raises:
        SettingsError: every problem of every source.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    config_file, table, problems = _read_file(given.pop("config", None) or environ.get("PLUGIND_CONFIG"), environ, uid)
    values: dict[str, Any] = _defaults(environ, uid)
    origins: dict[str, str] = {}
    variables, warnings = _variables(environ)
    sources: tuple[tuple[dict[str, Any], Callable[[str], str]], ...] = (
        (_said(table), lambda _: str(config_file)),
        (variables, lambda name: f"{_PREFIX}{name.upper()}"),
        (_absolute({name: _typed(name, value) for name, value in given.items()}), _flag),
    )
    for source, origin in sources:
        reader = Reader(source)
        read = _read_values(reader, values)
        reader.finish()
        problems += [_told(problem, origin(problem.path)) for problem in reader.problems]
        # A wrong value is told once, where it came from, and not as the default of the next source.
        good = {name for name in source if name in read} - {problem.path for problem in reader.problems}
        values |= {name: read[name] for name in good}
        origins |= {name: origin(name) for name in good}
    if problems:
        raise SettingsError(problems)
    values["state_dir"] = Path(values["state_dir"])
    # Logs follow a state directory that was moved.
    values["log_dir"] = Path(values["log_dir"] or values["state_dir"] / "logs")
    return Settings(**values, config_file=config_file, origins=origins, warnings=tuple(warnings))


def describe(settings: Settings) -> dict[str, Any]:
    """Name -> plain value (text, number, list of texts), for `plugind --check` and `daemon.settings`: no passwords."""
    return {name: _shown(getattr(settings, name)) for name in NAMES}


def _shown(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return mask_credentials(str(value)) if isinstance(value, Path | str) else value


def default_config_path(environ: Mapping[str, str], uid: int) -> Path:
    """Where the settings are when nobody names the file: systemd's directory, the system's for root, the user's own."""
    if directory := _first_directory(environ, "CONFIGURATION_DIRECTORY"):
        return Path(directory) / "plugind.toml"
    if uid == 0:
        return SYSTEM_CONFIG
    home = environ.get("XDG_CONFIG_HOME") or f"{environ.get('HOME', '/nonexistent')}/.config"
    return Path(home) / "plugind/plugind.toml"


def _defaults(environ: Mapping[str, str], uid: int) -> dict[str, Any]:
    state = _first_directory(environ, "STATE_DIRECTORY")
    if state is None and uid == 0:
        state = "/var/lib/plugind"
    home = environ.get("XDG_STATE_HOME") or f"{environ.get('HOME', '/nonexistent')}/.local/state"
    return {
        "state_dir": state or f"{home}/plugind",
        # PLUGIND_SOCKET is read with the other variables: as a default it would go unchecked.
        "socket": default_socket_path({k: v for k, v in environ.items() if k != "PLUGIND_SOCKET"}, uid),
        "log_dir": _first_directory(environ, "LOGS_DIRECTORY"),
        **_read_values(Reader({}), {"state_dir": "/", "socket": "/", "log_dir": "/"}, paths=False),
    }


def _read_values(r: Reader, values: Mapping[str, Any], *, paths: bool = True) -> dict[str, Any]:
    """Every setting of one source; `values` are those of the sources below it."""
    read: dict[str, Any] = {}
    if paths:
        read["state_dir"] = r.text("state_dir", values["state_dir"], longest=4096, check=setting_texts.path_problem)
        read["socket"] = r.text("socket", values["socket"], longest=4096, check=setting_texts.socket_problem)
        read["log_dir"] = r.text("log_dir", values["log_dir"] or "/", longest=4096, check=setting_texts.path_problem)
    return read | {
        "timezone": r.text("timezone", "UTC", longest=100, check=setting_texts.zone_problem),
        "start_concurrency": r.whole("start_concurrency", 8, least=1, most=1000),
        "drain_s": r.number("drain_s", 20, least=0, most=3600),
        "log_format": r.choice("log_format", "auto", FORMATS),
        "log_level": r.choice("log_level", "info", LEVELS),
        "log_max_bytes": r.whole("log_max_bytes", 10_000_000, least=100_000, most=1 << 40),
        "log_files": r.whole("log_files", 5, least=1, most=1000),
        "recover_after_s": r.number("recover_after_s", 600, least=0, most=30 * _DAY_S),
        "run_limit": r.whole("run_limit", 64, least=1, most=100_000),
        "plugin_run_limit": r.whole("plugin_run_limit", 8, least=1, most=100_000),
        "call_timeout_s": r.number("call_timeout_s", 30, least=0.1, most=366 * _DAY_S),
        "term_grace_s": r.number("term_grace_s", 5, least=0, most=3600),
        "kill_grace_s": r.number("kill_grace_s", 2, least=0.1, most=3600),
        "event_keep": r.whole("event_keep", 100_000, least=1, most=1 << 40),
        "event_keep_days": r.number("event_keep_days", 7, least=0.01, most=36_600),
        "run_keep": r.whole("run_keep", 1000, least=1, most=1 << 40),
        "run_keep_days": r.number("run_keep_days", 30, least=0.01, most=36_600),
        "phase_timeout_s": r.number("phase_timeout_s", 120, least=1, most=_DAY_S),
        "keep_versions": r.whole("keep_versions", 3, least=2, most=1000),
        "purge_after_days": r.number("purge_after_days", 0, least=0, most=36_600),
        "index_url": r.optional_text("index_url", longest=2000, check=setting_texts.index_problem) or "",
        **{name: r.texts(name, longest=100, check=setting_texts.member_problem) for name in _LISTS},
        "socket_group": r.optional_text("socket_group", longest=100, check=setting_texts.group_problem) or "",
        "metrics_listen": r.optional_text("metrics_listen", longest=200, check=setting_texts.scrape_problem) or "",
        "audit_keep": r.whole("audit_keep", 100_000, least=1, most=1 << 40),
        "audit_keep_days": r.number("audit_keep_days", 365, least=0.01, most=36_600),
    }


def _read_file(named: object, environ: Mapping[str, str], uid: int) -> tuple[Path | None, dict[str, Any], list[str]]:
    """The file that was read, its table, problems. Only the default file may be absent."""
    path = Path(os.path.abspath(str(named))) if named else default_config_path(environ, uid)
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_CONFIG_BYTES + 1)
        if len(data) > _MAX_CONFIG_BYTES:
            return path, {}, [f"{path}: is larger than {_MAX_CONFIG_BYTES} bytes; is it really the settings file?"]
        return path, tomllib.loads(data.decode()), []
    except FileNotFoundError:
        return (
            (path, {}, [f"{path}: there is no such file (named by --config or PLUGIND_CONFIG)"])
            if named
            else (None, {}, [])
        )
    except OSError as error:
        return path, {}, [f"{path}: cannot be read: {error.strerror}"]
    except UnicodeDecodeError as error:
        return path, {}, [f"{path}: is not UTF-8 at byte {error.start}"]
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        return path, {}, [f"{path}: is not TOML: {error}"]


def _variables(environ: Mapping[str, str]) -> tuple[dict[str, object], list[str]]:
    """Settings among the variables, and a warning for each that looks like one; an empty one counts as unset."""
    found: dict[str, object] = {}
    warnings = []
    for variable, text in environ.items():
        name = variable.removeprefix(_PREFIX).lower()
        if not variable.startswith(_PREFIX) or variable in _NO_SETTINGS or not text:
            continue
        if name in NAMES and variable.isupper():
            found[name] = _typed(name, text)
        else:
            near = difflib.get_close_matches(name, NAMES, n=1)
            hint = f"; did you mean {_PREFIX}{near[0].upper()}?" if near else ""
            warnings.append(f"{variable} is no setting and is ignored{hint}")
    return _absolute(found), warnings


def _told(problem: Problem, origin: str) -> str:
    """A variable or a flag names the setting itself; a file does not."""
    named = origin.startswith(("--", _PREFIX))
    return f"{origin}: {str(problem).removeprefix(f'{problem.path}: ') if named else problem}"


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _typed(name: str, value: object) -> object:
    """Text from outside as TOML would have it: a number where it looks like one, unless the setting is a text."""
    if isinstance(value, str) and name in _LISTS:
        return [entry.strip() for entry in value.split(",") if entry.strip()]
    if not isinstance(value, str) or name in _TEXTS:
        return str(value) if isinstance(value, os.PathLike) else value
    try:
        return int(value) if _INTEGER.fullmatch(value) else float(value)
    except ValueError:
        return value


def _said(table: dict[str, Any]) -> dict[str, Any]:
    """Without what is empty, as an empty variable counts as unset too."""
    return {name: value for name, value in table.items() if name not in _MAY_BE_EMPTY or value != ""}


def _absolute(table: dict[str, object]) -> dict[str, object]:
    places = {name: os.path.abspath(value) for name, value in _texts(table) if name in _PATHS}
    return table | places


def _texts(table: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    return ((name, value) for name, value in table.items() if isinstance(value, str) and value and "\0" not in value)


def _first_directory(environ: Mapping[str, str], variable: str) -> str | None:
    """systemd lists the directories of a unit with colons between."""
    return environ.get(variable, "").split(":")[0] or None
