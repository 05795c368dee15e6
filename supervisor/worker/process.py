"""Spawn a worker, signal its group, reap it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from supervisor.log import log
from supervisor.worker.containment import Containment, Ward
from supervisor.worker.crash import Crash, Reason
from supervisor.worker.descriptors import Descriptors
from supervisor.worker.first import wait_first
from supervisor.worker.gate import Gate, can_be_held
from supervisor.worker.launch import RPC_FD, Launch

_SIGNALS_TO_RESTORE: Final = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
"""Ignoring is inherited: Python ignores two, and whoever started the daemon may have ignored what stops a worker."""
_SHORTEST_PAUSE_S: Final = 0.005
_LONGEST_PAUSE_S: Final = 1.0
_UNBORN_S: Final = 0.1
"""How long the event loop waits at most for the end of a child that was killed before it had begun."""


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

    def note_kin(self) -> None:
        """Look who is below it, before it is asked to end: afterwards nobody could tell whose they were."""

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
        ward: Ward,
    ) -> None:
        self.pid = pid
        self.rpc = rpc
        self.stdout = stdout
        self.stderr = stderr
        self.exit: Exit | None = None
        self._pidfd = pidfd
        self._ward = ward
        self._we_killed = False
        self._reaped = trio.Event()
        self._held = trio.Event()

    async def watch(self) -> None:
        if self.exit is None:
            await trio.lowlevel.wait_readable(self._pidfd)
            self.exit = await self._reap()
        try:
            # Its successor is not to run beside what it has left in its cgroup.
            with self._at_any_rate("clear"):
                await self._ward.clear()
        finally:
            self._reaped.set()

    async def _reap(self) -> Exit:
        """The child has ended; but the kernel gives it to us only after a process that traces it has let go of it.

        A tracer of its own is killed. A stranger, as a debugger, is waited for.
        """
        pause_s = _SHORTEST_PAUSE_S
        while (ended := self._reap_nowait()) is None:
            self._signal_group(signal.SIGKILL)
            with self._at_any_rate("kill"):
                self._ward.kill()
                self._ward.kill_tracer()
            if pause_s == _LONGEST_PAUSE_S and not self._held.is_set():
                log.error("worker.held_by_tracer", pid=self.pid, so="it has ended, and cannot be reaped before that")
                self._held.set()
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        return ended

    def _reap_nowait(self) -> Exit | None:
        # The group is killed before its leader is reaped: until then nobody else can have its number.
        if os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            return None
        with self._at_any_rate("note"):
            self._ward.note()
        self._signal_group(signal.SIGKILL)
        info = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        if info is None:
            return None
        os.close(self._pidfd)
        by_itself = info.si_code == os.CLD_EXITED
        return Exit(info.si_status if by_itself else None, None if by_itself else info.si_status)

    @contextmanager
    def _at_any_rate(self, what: str) -> Iterator[None]:
        """Around all that the ward does: it needs descriptors, which we may have run out of. A signal to the group and
        the reaping need none, and must not be missed for it."""
        try:
            yield
        except OSError as error:
            log.error("ward.failed", what=what, pid=self.pid, error=str(error))

    async def wait(self) -> Exit:
        await self._reaped.wait()
        assert self.exit is not None  # noqa: S101
        return self.exit

    def signal_group(self, number: int) -> None:
        if self.exit is not None:
            return
        # Those who have left the group: when their parent is gone, nobody can tell whose they are.
        self.note_kin()
        self._we_killed = self._we_killed or number == signal.SIGKILL
        self._signal_group(number)

    def _signal_group(self, number: int) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return
        except PermissionError:
            # Every member that may be signalled was; one has changed its user, which a worker of ours cannot undo.
            return

    def kill(self) -> None:
        self.signal_group(signal.SIGKILL)
        with self._at_any_rate("kill"):
            self._ward.kill()

    def note_kin(self) -> None:
        with self._at_any_rate("note"):
            self._ward.note()

    def post_mortem(self) -> Crash | None:
        if self.exit is None or self.exit.signal != signal.SIGKILL:
            return None
        with self._at_any_rate("post_mortem"):
            return self._ward.post_mortem(ours=self._we_killed)
        return None

    async def wait_breach(self) -> Crash:
        return await wait_first(self._ward.wait_breach, self._wait_held)

    async def _wait_held(self) -> Crash:
        """Nothing else would tell of the end of a program that we may not reap and do not talk to."""
        await self._held.wait()
        return Crash(Reason.EXITED, "has ended, and a process that traces it keeps it from being reaped")

    async def aclose(self) -> None:
        for stream in (self.rpc, self.stdout, self.stderr):
            if stream is not None:
                await trio.aclose_forcefully(stream)


def spawn(launch: Launch, containment: Containment | None = None) -> ChildProcess:
    """Start a worker, in its bounds: about 2 ms, in which the event loop waits.

    In the calling thread, and by vfork: trio's own way goes through a worker thread. `posix_spawn` knows no working
    directory, so this process enters the child's for the moment of the call; nothing here uses relative paths.

    Raises:
        OSError: it cannot be started; nothing is left open.
    """
    with Descriptors() as fds:
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
        pid, pidfd, ward = _start(launch, actions, fds, Containment() if containment is None else containment)
        rpc = trio.SocketStream(trio.socket.socket(fileno=fds.give(ours))) if ours is not None else None
        return ChildProcess(
            pid,
            rpc=rpc,
            stdout=trio.lowlevel.FdStream(fds.give(out)),
            stderr=trio.lowlevel.FdStream(fds.give(err)),
            pidfd=fds.give(pidfd),
            ward=ward,
        )


def _start(
    launch: Launch, actions: list[tuple[int, int, int]], fds: Descriptors, containment: Containment
) -> tuple[int, int, Ward]:
    group = containment.make_group(launch)
    bounded = group is not None or containment.bounds(launch)
    gate = Gate(launch.argv, fds) if bounded and can_be_held(launch.argv[0]) else None
    try:
        pid = _spawn_in(launch, gate.argv if gate else launch.argv, actions + (gate.actions if gate else []))
        try:
            pidfd, ward = fds.keep(os.pidfd_open(pid)), containment.enclose(pid, launch, group)
            if gate:
                gate.open()
            return pid, pidfd, ward
        except OSError:
            # Nobody would ever know of it: it must not live.
            _end_unborn(pid)
            raise
    except OSError:
        if group:
            group.kill()
            group.remove()
        raise


def _end_unborn(pid: int) -> None:
    """It has just begun, so that it ends at once; if not, it is reaped as an orphan is."""
    os.killpg(pid, signal.SIGKILL)
    until = time.monotonic() + _UNBORN_S
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > until:
            log.error("worker.not_reaped", pid=pid)
            return
        time.sleep(0.001)


def _spawn_in(launch: Launch, argv: tuple[str, ...], actions: list[tuple[int, int, int]]) -> int:
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(launch.cwd)
        try:
            return os.posix_spawn(
                argv[0],
                argv,
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
