"""Readiness, watchdog, inherited sockets: the sd_notify(3) and sd_listen_fds(3) protocols."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from supervisor.core.errors import FailedPrecondition
from supervisor.log import log

_FIRST_FD: Final = 3
# Workers get their RPC descriptor as number 3 and few others; what is up here is never in the way.
_SAFE_FD: Final = 10
_MAX_FDS: Final = 1024
_AGAIN_S: Final = 0.1
"""Until the next try, while the manager's queue is full."""
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]+")


class SystemdError(FailedPrecondition):
    """systemd (or whoever imitates it) handed over something we cannot use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemdEnvironment:
    """What the service manager told us; none of it is left in the environment for children."""

    notify_socket: str | None = None
    watchdog_s: float | None = None
    """Seconds after which systemd gives us up without a ping; None: no watchdog."""
    listen_fds: tuple[int, ...] = ()
    credentials_directory: Path | None = None


def take_environment(environ: MutableMapping[str, str] | None = None, pid: int | None = None) -> SystemdEnvironment:
    """Remove systemd's variables from `environ` (default: the process's) and return what they said.

    Inherited descriptors are closed on exec from here on. Variables meant for another process are dropped.

    Raises:
        SystemdError: a number that is none, or a descriptor that is not there.
    """
    env = os.environ if environ is None else environ
    me = str(os.getpid() if pid is None else pid)
    taken = {name: env.pop(name, None) for name in _VARIABLES}
    watchdog_us = 0
    if taken["WATCHDOG_PID"] in (None, "", me):
        watchdog_us = _number("WATCHDOG_USEC", taken["WATCHDOG_USEC"], most=1 << 62)
    count = 0
    if taken["LISTEN_PID"] == me:
        count = _number("LISTEN_FDS", taken["LISTEN_FDS"], most=_MAX_FDS)
    fds = tuple(range(_FIRST_FD, _FIRST_FD + count))
    for fd in fds:
        try:
            os.set_inheritable(fd, False)
        except OSError as error:
            raise SystemdError(f"LISTEN_FDS is {count}, but descriptor {fd} is not open: {error.strerror}") from error
    credentials = taken["CREDENTIALS_DIRECTORY"]
    return SystemdEnvironment(
        notify_socket=taken["NOTIFY_SOCKET"] or None,
        watchdog_s=watchdog_us / 1e6 if watchdog_us else None,
        listen_fds=fds,
        credentials_directory=Path(credentials) if credentials else None,
    )


def take_listener(environment: SystemdEnvironment) -> socket.socket | None:
    """The inherited listening socket on a descriptor >= 10, or None when there is none: then bind one. Call it once.

    Raises:
        SystemdError: more than one, or one that is no listening Unix stream socket; all are closed then.
    """
    fds = environment.listen_fds
    if not fds:
        return None
    try:
        if len(fds) > 1:
            raise SystemdError(
                f"systemd passed {len(fds)} sockets, plugind takes one: leave a single ListenStream= in plugind.socket"
            )
        _check_listener(fds[0])
        return socket.socket(fileno=fcntl.fcntl(fds[0], fcntl.F_DUPFD_CLOEXEC, _SAFE_FD))
    finally:
        for fd in fds:
            os.close(fd)


class Notifier:
    """Tells the service manager how we are. Never raises or waits: without a manager, or when it is deaf, we go on.

    What does not go since its queue is full is kept, of each kind the newest, and sent in order by `run`.
    """

    def __init__(self, address: str | None) -> None:
        """`address` as in NOTIFY_SOCKET: a path, or `@` and an abstract name; None: there is nobody to tell."""
        self._address = address
        self._failed = False
        self._kept: dict[str, str] = {}
        """Messages by the name of their first assignment, in the order in which they were said."""
        self._stuck = trio.Event()

    async def run(self) -> None:
        """Send what is kept as soon as the manager reads again, until cancelled."""
        while True:
            await self._stuck.wait()
            self._stuck = trio.Event()
            while self._kept:
                await trio.sleep(_AGAIN_S)
                self._send_kept()

    def ready(self, status: str = "") -> bool:
        return self._notify("READY=1", *_status(status))

    def status(self, text: str) -> bool:
        return self._notify(*_status(text))

    def reloading(self) -> bool:
        """To be followed by `ready`."""
        return self._notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str = "") -> bool:
        return self._notify("STOPPING=1", *_status(status))

    def ping(self) -> bool:
        """To the watchdog."""
        return self._notify("WATCHDOG=1")

    def extend_timeout(self, seconds: float) -> bool:
        """Ask for this much time from now on to start, reload or stop."""
        return self._notify(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def _notify(self, *assignments: str) -> bool:
        """Whether it was sent."""
        if self._address is None or not assignments:
            return False
        name = assignments[0].partition("=")[0]
        # Behind what was said since: RELOADING=1 is to come before the READY=1 that ends it.
        self._kept.pop(name, None)
        self._kept[name] = "\n".join(assignments)
        return self._send_kept()

    def _send_kept(self) -> bool:
        """Whether all of it went; where nobody listens it is lost."""
        if self._address is None:
            return False
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.connect(address)
                for name, message in list(self._kept.items()):
                    sock.send(message.encode())
                    del self._kept[name]
        except BlockingIOError:
            self._stuck.set()
            return False
        except (OSError, ValueError) as error:
            if not self._failed:
                log.warning("systemd.notify_failed", address=self._address, message=[*self._kept], error=str(error))
            self._failed = True
            self._kept.clear()
            return False
        self._failed = False
        return True


async def watchdog(notifier: Notifier, watchdog_s: float, check: Callable[[], Awaitable[object]]) -> None:
    """Ping three times per `watchdog_s`, each time only after `check` has returned within that third.

    A blocked event loop cannot ping either; so systemd restarts us when we hang as a whole or where `check` looks.
    """
    period_s = watchdog_s / 3
    healthy = True
    while True:
        began = trio.current_time()
        failure = await _failure(check, period_s)
        if failure is None:
            notifier.ping()
        elif healthy:
            log.error("watchdog.unhealthy", reason=failure, killed_in_s=round(watchdog_s, 1))
        if failure is None and not healthy:
            log.info("watchdog.healthy")
        healthy = failure is None
        await trio.sleep_until(began + period_s)


_VARIABLES: Final = (
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
    "CREDENTIALS_DIRECTORY",
)


async def _failure(check: Callable[[], Awaitable[object]], timeout_s: float) -> str | None:
    with trio.move_on_after(timeout_s):
        try:
            await check()
        except Exception as error:  # noqa: BLE001  whatever the check met, it did not complete
            return f"the health check failed: {error!r}"
        return None
    return f"the health check took more than {timeout_s:g} s"


def _status(text: str) -> list[str]:
    # A line break would start another assignment.
    return [f"STATUS={_UNPRINTABLE.sub(' ', text)}"] if text else []


def _number(variable: str, text: str | None, *, most: int) -> int:
    if not text:
        return 0
    if not text.isascii() or not text.isdigit() or int(text) > most:
        raise SystemdError(f"{variable}={text[:40]!r} in the environment is no whole number from 0 to {most}")
    return int(text)


def _check_listener(fd: int) -> None:
    advice = "plugind needs the ListenStream= of a Unix socket from its socket unit"
    try:
        with socket.socket(fileno=os.dup(fd)) as probe:
            family, kind = probe.family, probe.type
            listens = bool(probe.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError as error:
        raise SystemdError(f"the inherited descriptor {fd} is no socket ({error.strerror}); {advice}") from error
    if family != socket.AF_UNIX or kind != socket.SOCK_STREAM or not listens:
        what = f"{_name(family)} {_name(kind)}, {'listening' if listens else 'not listening'}"
        raise SystemdError(f"the inherited descriptor {fd} is the wrong kind of socket ({what}); {advice}")


def _name(value: int) -> str:
    return str(getattr(value, "name", value))
