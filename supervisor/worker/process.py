"""Spawn a worker, signal its group, reap it."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import socket
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from supervisor.worker.crash import Crash
from supervisor.worker.launch import RPC_FD, Launch

_HIGH_FD: Final = 10
"""Our ends live above the numbers that a child's 0 to 3 are made from."""
_PIPE_BYTES: Final = 1024 * 1024
_SIGNALS_TO_RESTORE: Final = (signal.SIGPIPE, signal.SIGXFSZ)
"""Ignored by Python, and ignoring is inherited."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: exactly one of the two is not None."""

    code: int | None
    signal: int | None

    def __str__(self) -> str:
        if self.signal is None:
            return f"exited with code {self.code}"
        try:
            name = signal.Signals(self.signal).name
        except ValueError:
            name = f"signal {self.signal}"
        return f"was killed by {name}"


class Process(Protocol):
    """A worker's process, real or fake. `rpc` is None where the worker speaks no RPC."""

    @property
    def pid(self) -> int: ...
    @property
    def rpc(self) -> trio.abc.Stream | None: ...
    @property
    def stdout(self) -> trio.abc.ReceiveStream: ...
    @property
    def stderr(self) -> trio.abc.ReceiveStream: ...
    @property
    def exit(self) -> Exit | None: ...
    async def watch(self) -> None:
        """Return when the process has been reaped: run it once, in a task of its own."""

    async def wait(self) -> Exit: ...
    def signal_group(self, number: int) -> None:
        """Signal every process of the group; no effect once it is reaped."""

    def kill(self) -> None:
        """SIGKILL to every process of the worker: to its group, and to all in its cgroup where it has one."""

    def post_mortem(self) -> Crash | None:
        """Once it is reaped: what its end was really about, if more is known than its exit: out of memory."""

    async def wait_breach(self) -> Crash:
        """Return when it has exceeded a limit that the kernel does not enforce by itself; mostly never."""

    async def aclose(self) -> None:
        """Close our ends of its pipes."""


class ChildProcess:
    """A real child: leader of its own session and process group."""

    def __init__(
        self,
        pid: int,
        *,
        rpc: trio.SocketStream | None,
        stdout: trio.abc.ReceiveStream,
        stderr: trio.abc.ReceiveStream,
        pidfd: int,
    ) -> None:
        self.pid = pid
        self.rpc = rpc
        self.stdout = stdout
        self.stderr = stderr
        self.exit: Exit | None = None
        self._pidfd = pidfd
        self._reaped = trio.Event()

    async def watch(self) -> None:
        await trio.lowlevel.wait_readable(self._pidfd)
        self.exit = self._reap()
        self._reaped.set()

    def _reap(self) -> Exit:
        """The child has ended: nothing here blocks."""
        # The group is killed before its leader is reaped: until then nobody else can have its number.
        os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOWAIT)
        self.signal_group(signal.SIGKILL)
        info = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        os.close(self._pidfd)
        assert info is not None  # noqa: S101  without WNOHANG there is a child to tell of
        by_itself = info.si_code == os.CLD_EXITED
        return Exit(info.si_status if by_itself else None, None if by_itself else info.si_status)

    async def wait(self) -> Exit:
        await self._reaped.wait()
        assert self.exit is not None  # noqa: S101
        return self.exit

    def signal_group(self, number: int) -> None:
        if self.exit is not None:
            return
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return
        except PermissionError:
            # Every member that may be signalled was; one has changed its user, which a worker of ours cannot undo.
            return

    def kill(self) -> None:
        self.signal_group(signal.SIGKILL)

    def post_mortem(self) -> Crash | None:
        return None

    async def wait_breach(self) -> Crash:
        await trio.sleep_forever()

    async def aclose(self) -> None:
        for stream in (self.rpc, self.stdout, self.stderr):
            if stream is not None:
                await trio.aclose_forcefully(stream)


def spawn(launch: Launch) -> ChildProcess:
    """Start a worker: about 2 ms, in which the event loop waits.

    In the calling thread, and by vfork: trio's own way goes through a worker thread. `posix_spawn` knows no working
    directory, so this process enters the child's for the moment of the call; nothing here uses relative paths.

    Raises:
        OSError: it cannot be started; nothing is left open.
    """
    with _Descriptors() as fds:
        stdin = fds.keep(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        out, their_out = fds.pipe()
        err, their_err = fds.pipe()
        actions = [
            (os.POSIX_SPAWN_DUP2, stdin, 0),
            (os.POSIX_SPAWN_DUP2, their_out, 1),
            (os.POSIX_SPAWN_DUP2, their_err, 2),
        ]
        ours = None
        if launch.rpc:
            ours, theirs = fds.socketpair()
            actions.append((os.POSIX_SPAWN_DUP2, theirs, RPC_FD))
        pid = _spawn_in(launch, actions)
        try:
            pidfd = fds.keep(os.pidfd_open(pid))
            if launch.nofile is not None:
                _limit_files(pid, launch.nofile)
        except OSError:
            # Nobody would ever know of it: it must not live. It has just begun, so that it ends at once.
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        rpc = trio.SocketStream(trio.socket.socket(fileno=fds.give(ours))) if ours is not None else None
        return ChildProcess(
            pid,
            rpc=rpc,
            stdout=trio.lowlevel.FdStream(fds.give(out)),
            stderr=trio.lowlevel.FdStream(fds.give(err)),
            pidfd=fds.give(pidfd),
        )


def _spawn_in(launch: Launch, actions: list[tuple[int, int, int]]) -> int:
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(launch.cwd)
        try:
            return os.posix_spawn(
                launch.argv[0],
                launch.argv,
                dict(launch.env),
                file_actions=actions,
                setsid=True,
                setsigmask=(),
                setsigdef=_SIGNALS_TO_RESTORE,
            )
        finally:
            os.fchdir(here)
    finally:
        os.close(here)


def _limit_files(pid: int, nofile: int) -> None:
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    most = nofile if hard == resource.RLIM_INFINITY else min(nofile, hard)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))


class _Descriptors:
    """Closes what was opened, save what was given away."""

    def __init__(self) -> None:
        self._open: set[int] = set()

    def __enter__(self) -> _Descriptors:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._open:
            os.close(fd)

    def keep(self, fd: int) -> int:
        """Move it above the numbers that the child's are made from; close-on-exec, as all of ours."""
        try:
            high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _HIGH_FD)
        finally:
            os.close(fd)
        self._open.add(high)
        return high

    def give(self, fd: int) -> int:
        self._open.remove(fd)
        return fd

    def pipe(self) -> tuple[int, int]:
        ours, theirs = self._keep_both(*os.pipe2(os.O_CLOEXEC))
        try:
            fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        except OSError as error:
            # The user's share of pipe memory is used up: the default size works too, only slower.
            if error.errno != errno.EPERM:
                raise
        return ours, theirs

    def socketpair(self) -> tuple[int, int]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        return self._keep_both(ours.detach(), theirs.detach())

    def _keep_both(self, ours: int, theirs: int) -> tuple[int, int]:
        try:
            high = self.keep(ours)
        except OSError:
            os.close(theirs)
            raise
        return high, self.keep(theirs)
