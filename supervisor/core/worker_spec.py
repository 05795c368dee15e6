"""The manifest's [worker]: what to run, when it is up, how to stop it and when to start it again. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from supervisor.core.problem import Fault
from supervisor.core.reading import Reader

RESTART_POLICIES: Final = ("always", "on_failure", "never")
STOP_SIGNALS: Final = ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
READY_KINDS: Final = ("tcp", "unix", "command", "line", "notify")
_TCP = re.compile(r"(?:(?:\[(?P<ipv6>[^\]]+)\]|(?P<host>[^:\[\]]+)):)?(?P<port>[0-9]{1,5})")
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_DAY_S: Final = 86_400
_GRACE_S: Final = 1.0
_MAX_WORD: Final = 4096
_MAX_VALUE: Final = 32 * 1024
"""Characters of a word of a command, and of a variable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """Seconds; `max_restarts` crashes in a row are answered with another start, the next one is final.

    `policy` says which ends that nobody asked for are followed by another start: all, those that are failures, none.
    """

    policy: str = "always"
    backoff_s: float = 1.0
    max_backoff_s: float = 300.0
    max_restarts: int = 10
    stable_after_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPolicy:
    interval_s: float = 15.0
    timeout_s: float = 5.0
    failures: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """None: the daemon's own limit holds."""

    memory_mb: int | None = None
    pids: int | None = None
    nofile: int | None = None
    cpu_percent: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyProbe:
    """How to know that a worker without RPC is up: exactly one of the five is given.

    `tcp` is `port` or `host:port` of something that accepts connections, and `unix` a socket's path, relative to the
    data directory; `command` exits with 0 when the worker is up; `line` is a text that one line of its stdout
    contains; `notify`: it sends READY=1 to the socket that NOTIFY_SOCKET names.
    """

    tcp: str | None = None
    unix: str | None = None
    command: tuple[str, ...] = ()
    line: str | None = None
    notify: bool = False
    interval_s: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """`ready`, `stop_command`, `success_exit_codes` and `restart.policy` are for workers without RPC.

    Those are up when `ready` says so, within `start_timeout_s`, or where there is no `ready`, when they have lived for
    `start_grace_s`.
    """

    command: tuple[str, ...]
    transport: str = "rpc"
    start_timeout_s: float = 15.0
    start_grace_s: float = _GRACE_S
    stop_timeout_s: float = 10.0
    stop_signal: str = "SIGTERM"
    stop_command: tuple[str, ...] = ()
    success_exit_codes: tuple[int, ...] = (0,)
    upgrade: str = "overlap"
    env: Mapping[str, str] = field(default_factory=dict)
    ready: ReadyProbe | None = None
    restart: RestartPolicy = RestartPolicy()
    health: HealthPolicy = HealthPolicy()
    limits: Limits = Limits()

    def commands(self) -> list[tuple[str, tuple[str, ...]]]:
        """Everything that is executed: the field's name and its words, empty where there is none."""
        return [
            ("command", self.command),
            ("ready.command", self.ready.command if self.ready else ()),
            ("stop_command", self.stop_command),
        ]


def tcp_address(text: str) -> tuple[str, int]:
    """Host and port of a `tcp` probe; the host is 127.0.0.1 where none is given.

    Raises:
        ValueError: it is neither `port` nor `host:port`.
    """
    found = _TCP.fullmatch(text)
    if found is None:
        raise ValueError("must be a port or host:port, an IPv6 address in brackets, such as '127.0.0.1:6379'")
    if not 0 < int(found["port"]) < 65536:
        raise ValueError("must have a port from 1 to 65535")
    if found["ipv6"] is not None:
        ipaddress.IPv6Address(found["ipv6"])  # its own ValueError says what is wrong
    elif found["host"] is not None and not _HOST.fullmatch(found["host"]):
        raise ValueError(f"has no valid host name: {found['host']!r}")
    return found["ipv6"] or found["host"] or "127.0.0.1", int(found["port"])


def read_worker(r: Reader) -> WorkerSpec:
    """The table; what one field alone cannot tell is left to `worker_problems`."""
    return WorkerSpec(
        command=r.texts("command", required=True, unique=False, longest=_MAX_WORD, example='["python", "main.py"]'),
        transport=r.choice("transport", "rpc", ("rpc", "none")),
        start_timeout_s=r.number("start_timeout_s", 15, least=0.1, most=3600),
        start_grace_s=r.number("start_grace_s", _GRACE_S, least=0, most=3600),
        stop_timeout_s=r.number("stop_timeout_s", 10, least=0, most=3600),
        stop_signal=r.choice("stop_signal", "SIGTERM", STOP_SIGNALS),
        stop_command=r.texts("stop_command", unique=False, longest=_MAX_WORD),
        success_exit_codes=r.wholes("success_exit_codes", (0,), least=0, most=255),
        upgrade=r.choice("upgrade", "overlap", ("overlap", "stop_first")),
        env=r.texts_by_name("env", check_name=_variable_fault, longest=_MAX_VALUE),
        ready=r.optional_sub("ready", _read_ready),
        restart=r.sub("restart", _read_restart),
        health=r.sub("health", _read_health),
        limits=r.sub("limits", _read_limits),
    )


def worker_problems(spec: WorkerSpec) -> Iterator[tuple[str, Fault]]:
    """What does not fit together: the field at fault and why."""
    if spec.ready is not None:
        if spec.start_grace_s != _GRACE_S:
            message = "has no effect beside ready, whose limit is start_timeout_s"
            yield "start_grace_s", Fault(message, "take one of them out")
        if spec.ready.interval_s > spec.start_timeout_s:
            yield "ready.interval_s", Fault(f"must not be above start_timeout_s ({spec.start_timeout_s:g})")
    if spec.transport == "none":
        return
    for name, used in (
        ("ready", spec.ready is not None),
        ("stop_command", bool(spec.stop_command)),
        ("success_exit_codes", spec.success_exit_codes != (0,)),
        ("restart.policy", spec.restart.policy != "always"),
    ):
        if used:
            yield name, Fault("is for workers without RPC", 'set worker.transport = "none", or take it out')


def _read_ready(r: Reader) -> ReadyProbe:
    # The stored form has all five, those that are not used at their defaults.
    given = [kind for kind in READY_KINDS if kind in r.table and r.table[kind] is not False and r.table[kind] != []]
    if len(given) != 1:
        r.problem("", f"needs exactly one of {', '.join(READY_KINDS)}; given: {', '.join(given) or 'none'}")
    return ReadyProbe(
        tcp=_read_tcp(r),
        unix=r.optional_text("unix", longest=4095, check=_path_problem),
        command=r.texts("command", unique=False, longest=_MAX_WORD),
        line=r.optional_text("line", longest=1000, check=_line_problem),
        notify=r.flag("notify", default=False),
        interval_s=r.number("interval_s", 0.2, least=0.01, most=60),
    )


def _read_tcp(r: Reader) -> str | None:
    """A port alone may be given as a number."""
    value = r.anything("tcp")
    if value is None:
        return None
    text = str(value) if type(value) is int and -1 <= value <= 99_999 else value
    if not isinstance(text, str):
        r.problem("tcp", "must be a port or a string host:port", value)
    elif why := _tcp_problem(text):
        r.problem("tcp", why, value)
    else:
        return text
    return None


def _read_restart(r: Reader) -> RestartPolicy:
    policy = RestartPolicy(
        policy=r.choice("policy", "always", RESTART_POLICIES),
        backoff_s=r.number("backoff_s", 1, least=0.01, most=3600),
        max_backoff_s=r.number("max_backoff_s", 300, least=0.01, most=_DAY_S),
        max_restarts=r.whole("max_restarts", 10, least=0, most=1_000_000),
        stable_after_s=r.number("stable_after_s", 60, least=0.1, most=_DAY_S),
    )
    if policy.max_backoff_s < policy.backoff_s:
        r.problem("max_backoff_s", f"must not be below backoff_s ({policy.backoff_s:g})", policy.max_backoff_s)
    return policy


def _read_health(r: Reader) -> HealthPolicy:
    return HealthPolicy(
        interval_s=r.number("interval_s", 15, least=0.1, most=3600),
        timeout_s=r.number("timeout_s", 5, least=0.1, most=3600),
        failures=r.whole("failures", 3, least=1, most=1000),
    )


def _read_limits(r: Reader) -> Limits:
    return Limits(
        memory_mb=r.optional_whole("memory_mb", least=1, most=1 << 24),
        pids=r.optional_whole("pids", least=1, most=1 << 22),
        nofile=r.optional_whole("nofile", least=16, most=1 << 20),
        cpu_percent=r.optional_whole("cpu_percent", least=1, most=100_000),
    )


def _tcp_problem(text: str) -> str | None:
    try:
        tcp_address(text)
    except ValueError as error:
        return str(error)
    return None


def _path_problem(text: str) -> str | None:
    return "must be a path without NUL" if "\0" in text else None


def _line_problem(text: str) -> str | None:
    return "must be part of one line: it holds a line end" if "\n" in text or "\r" in text else None


def _variable_fault(text: str) -> Fault | None:
    if not _VARIABLE.fullmatch(text):
        return Fault("is no name for an environment variable", "write letters, digits and '_', first no digit")
    if text.startswith("PLUGIND_"):
        return Fault("variables of this name are set by the daemon", "choose one that does not begin with PLUGIND_")
    return None
