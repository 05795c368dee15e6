"""Wait until a worker without RPC is up, as its manifest's `ready` tells how to see it."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from supervisor.core.worker_spec import ReadyProbe, WorkerSpec, tcp_address
from supervisor.worker.command import run_command
from supervisor.worker.crash import Crash, Reason
from supervisor.worker.launch import Launch
from supervisor.worker.notify import NotifySocket
from supervisor.worker.process import Process

TRY_S: Final = 5.0
"""How long one try may take: the connecting to one address, or a run of the command."""
_LAST_LINE_CHARACTERS: Final = 200
Try = Callable[[], Awaitable[str | None]]
"""Why the worker is not up, or None when it is."""


async def wait_ready(
    spec: WorkerSpec,
    launch: Launch,
    *,
    line_seen: trio.Event,
    notify: NotifySocket | None,
    spawn: Callable[[Launch], Process],
) -> Crash | None:
    """Return None when the worker is up, or after `start_timeout_s` why it is not.

    `line_seen` is set when stdout has had a line with `ready.line`; `notify` is there for `ready.notify`, and its `run`
    under way; `spawn` is for `ready.command`.
    """
    probe, timeout_s = spec.ready, spec.start_timeout_s
    if probe is None:
        await trio.sleep(spec.start_grace_s)
        return None
    if probe.notify:
        assert notify is not None  # noqa: S101  made before the spawn, for this probe
        return await _wait_notified(notify, timeout_s)
    if probe.line is not None:
        with trio.move_on_after(timeout_s):
            await line_seen.wait()
            return None
        return _not_ready(f"it printed no line with {probe.line!r} within {timeout_s:g} s")
    what, attempt = _tries(probe, launch, spawn)
    return await _try_until_up(attempt, what, probe.interval_s, timeout_s)


async def _wait_notified(notify: NotifySocket, timeout_s: float) -> Crash | None:
    began = trio.current_time()
    deadline = began + timeout_s
    while True:
        with trio.CancelScope(deadline=deadline):
            await notify.ready.wait()
            return None
        if notify.extended_until <= deadline:
            break
        deadline = notify.extended_until
    status = f" (last: STATUS={notify.status})" if notify.status else ""
    return _not_ready(f"it did not send READY=1 within {deadline - began:g} s{status}")


def _tries(probe: ReadyProbe, launch: Launch, spawn: Callable[[Launch], Process]) -> tuple[str, Try]:
    """What is waited for, as in "its port did not accept a connection", and how to try it."""
    if probe.tcp is not None:
        host, port = tcp_address(probe.tcp)
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        # A resolver that hangs may keep a thread for long after we gave up: not one that others wait for.
        attempt = partial(_try_tcp, host, port, trio.CapacityLimiter(1))
        return f"its port {shown} did not accept a connection", attempt
    if probe.unix is not None:
        path = launch.cwd / probe.unix
        return f"its socket {probe.unix} did not accept a connection", partial(_try_unix, path)
    return "its ready command did not succeed", partial(_try_command, spawn, launch)


async def _try_until_up(attempt: Try, what: str, interval_s: float, timeout_s: float) -> Crash | None:
    last = "the first try was still under way"
    with trio.move_on_after(timeout_s):
        while (problem := await attempt()) is not None:
            last = problem
            await trio.sleep(interval_s)
        return None
    return _not_ready(f"{what} within {timeout_s:g} s (last: {last})")


def _not_ready(why: str) -> Crash:
    return Crash(Reason.NOT_READY, f"was not ready: {why}")


async def _try_command(spawn: Callable[[Launch], Process], launch: Launch) -> str | None:
    result = await run_command(spawn, launch, launch.ready_argv, TRY_S)
    said = result.last_line[:_LAST_LINE_CHARACTERS]
    return f"{result.problem}: {said}" if result.problem and said else result.problem


async def _try_tcp(host: str, port: int, limiter: trio.CapacityLimiter) -> str | None:
    try:
        addresses = await _resolve(host, port, limiter)
    except (OSError, UnicodeError) as error:
        return f"no address of {host}: {_why(error)}"
    problem = None
    for family, kind, protocol, _, address in addresses:
        problem = f"no answer within {TRY_S:g} s"
        with trio.move_on_after(TRY_S):
            problem = await _connect_tcp(family, kind, protocol, address)
        if problem is None:
            break
    return problem


async def _resolve(host: str, port: int, limiter: trio.CapacityLimiter) -> list[Any]:
    look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        return look_up(flags=socket.AI_NUMERICHOST)  # an address as it stands: nothing is asked
    except socket.gaierror:
        return await trio.to_thread.run_sync(look_up, limiter=limiter, abandon_on_cancel=True)


async def _connect_tcp(family: int, kind: int, protocol: int, address: Any) -> str | None:
    try:
        with trio.socket.socket(family, kind, protocol) as connection:
            await connection.connect(address)
            if connection.getsockname() != connection.getpeername():
                return None
            # Nobody listens there, and the kernel happened to give this end the very port: it is connected to itself.
            # To reset it leaves the port free for the worker.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return "connection refused"
    except OSError as error:
        return _why(error)


async def _try_unix(path: Path) -> str | None:
    await trio.lowlevel.checkpoint()
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        return _why(error)
    try:
        # By its descriptor: an address holds 107 bytes, which a data directory alone may need.
        return _connect_unix(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def _connect_unix(address: str) -> str | None:
    """Does not block: whether a listener is there is known at once."""
    problem = None
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM):
        try:
            with socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK) as connection:
                connection.connect(address)
                return None
        except OSError as error:
            problem = _why(error)
            if error.errno != errno.EPROTOTYPE:
                break
    return problem


def _why(error: Exception) -> str:
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    # A lookup's error has a number of its own kind, below 0; trio puts the address into its texts.
    text = os.strerror(error.errno) if error.errno > 0 else str(error.strerror)
    return text[:1].lower() + text[1:]
