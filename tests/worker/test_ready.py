"""Readiness probes: each kind with the real thing, and the timing of tries on a mock clock."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from supervisor.core.worker_spec import ReadyProbe, WorkerSpec
from supervisor.worker.crash import Crash, Reason
from supervisor.worker.launch import Launch
from supervisor.worker.notify import NotifySocket
from supervisor.worker.process import Exit, Process
from supervisor.worker.ready import TRY_S, wait_ready
from tests.worker.fakes import NEVER, FakeProcess, Script

PATIENCE_S = 20.0


@dataclass
class Bench:
    """One waiting: its spec's parts, and the processes that it spawned."""

    cwd: Path
    scripts: list[Script] = field(default_factory=list)
    line_seen: trio.Event = field(default_factory=trio.Event)
    notify: NotifySocket | None = None
    spawned: list[FakeProcess] = field(default_factory=list)
    spawned_at: list[float] = field(default_factory=list)

    def spawn(self, launch: Launch) -> Process:
        assert launch.argv == ("/bin/check", "--up")
        assert all(process.exit is not None for process in self.spawned), "two at once"
        script = self.scripts[min(len(self.spawned), len(self.scripts) - 1)]
        self.spawned.append(FakeProcess(len(self.spawned), script))
        self.spawned_at.append(trio.current_time())
        return self.spawned[-1]

    async def wait(
        self, ready: ReadyProbe | None, spawn: Callable[[Launch], Process] | None = None, **spec: Any
    ) -> Crash | None:
        return await wait_ready(
            WorkerSpec(command=("x",), transport="none", ready=ready, **spec),
            Launch(argv=("/x",), ready_argv=("/bin/check", "--up"), env={}, cwd=self.cwd, rpc=False),
            line_seen=self.line_seen,
            notify=self.notify,
            spawn=spawn or self.spawn,
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def nothing_left_open() -> Iterator[None]:
    before = os.listdir("/proc/self/fd")
    yield
    assert len(os.listdir("/proc/self/fd")) == len(before)


def not_ready(why: str) -> Crash:
    return Crash(Reason.NOT_READY, f"was not ready: {why}")


# On the mock clock.


async def test_without_a_probe_it_is_up_when_it_has_lived_long_enough(bench: Bench, autojump_clock: Any) -> None:
    assert await bench.wait(None, start_grace_s=2.5, start_timeout_s=1) is None
    assert trio.current_time() == 2.5


async def test_a_line(bench: Bench, autojump_clock: Any) -> None:
    async with trio.open_nursery() as nursery:

        async def print_it() -> None:
            await trio.sleep(3)
            bench.line_seen.set()

        nursery.start_soon(print_it)
        assert await bench.wait(ReadyProbe(line="up")) is None
        assert trio.current_time() == 3


async def test_a_line_that_does_not_come(bench: Bench, autojump_clock: Any) -> None:
    crash = await bench.wait(ReadyProbe(line="Ready to accept"), start_timeout_s=4)
    assert crash == not_ready("it printed no line with 'Ready to accept' within 4 s")
    assert trio.current_time() == 4


async def test_a_notification(bench: Bench, autojump_clock: Any) -> None:
    with NotifySocket() as bench.notify:
        async with trio.open_nursery() as nursery:

            async def say_it() -> None:
                await trio.sleep(3)
                bench.notify.ready.set()

            nursery.start_soon(say_it)
            assert await bench.wait(ReadyProbe(notify=True)) is None
            assert trio.current_time() == 3


@pytest.mark.parametrize(("status", "last"), [(None, ""), ("loading", " (last: STATUS=loading)")])
async def test_a_notification_that_does_not_come(
    bench: Bench, status: str | None, last: str, autojump_clock: Any
) -> None:
    with NotifySocket() as bench.notify:
        bench.notify.status = status
        crash = await bench.wait(ReadyProbe(notify=True))
    assert crash == not_ready(f"it did not send READY=1 within 15 s{last}")
    assert trio.current_time() == 15


async def test_a_worker_that_asks_for_more_time_gets_it(bench: Bench, autojump_clock: Any) -> None:
    with NotifySocket() as bench.notify:
        async with trio.open_nursery() as nursery:

            async def ask_twice() -> None:
                await trio.sleep(10)
                bench.notify.extended_until = 20.0
                await trio.sleep(9)
                bench.notify.extended_until = 31.5

            nursery.start_soon(ask_twice)
            assert await bench.wait(ReadyProbe(notify=True)) == not_ready("it did not send READY=1 within 31.5 s")
    assert trio.current_time() == 31.5


async def test_tries_are_spaced_from_the_end_of_the_last(bench: Bench, autojump_clock: Any) -> None:
    takes_1_s = Script(exits_after_s=1, exit=Exit(1, None), rpc=False)
    bench.scripts = [takes_1_s, takes_1_s, Script(exits_after_s=1, exit=Exit(0, None), rpc=False)]
    # A fake closes its pipes as it ends, so that no time goes into the reading of the last output.
    assert await bench.wait(ReadyProbe(command=("check",), interval_s=0.5)) is None
    assert bench.spawned_at == [0, 1.5, 3]
    assert trio.current_time() == 4
    assert all(process.closed for process in bench.spawned)


async def test_a_hung_command_is_killed_and_counts_as_failed(bench: Bench, autojump_clock: Any) -> None:
    hangs = Script(rpc=False)
    bench.scripts = [hangs]
    crash = await bench.wait(ReadyProbe(command=("check",), interval_s=1), start_timeout_s=13)
    assert crash == not_ready(f"its ready command did not succeed within 13 s (last: did not end within {TRY_S:g} s)")
    assert bench.spawned_at == [0, TRY_S + 1, 2 * TRY_S + 2]
    assert trio.current_time() == 13
    assert [process.signals for process in bench.spawned] == [[9]] * 3
    assert all(process.closed for process in bench.spawned)


async def test_the_first_try_may_outlast_the_time(bench: Bench, autojump_clock: Any) -> None:
    bench.scripts = [Script(rpc=False)]
    crash = await bench.wait(ReadyProbe(command=("check",)), start_timeout_s=2)
    assert crash == not_ready("its ready command did not succeed within 2 s (last: the first try was still under way)")


async def test_the_last_words_of_a_failed_command_are_told(bench: Bench, autojump_clock: Any) -> None:
    bench.scripts = [Script(exits_after_s=0.1, exit=Exit(2, None), stderr=b"trying\nno route to it\n", rpc=False)]
    crash = await bench.wait(ReadyProbe(command=("check",)), start_timeout_s=1)
    assert crash == not_ready("its ready command did not succeed within 1 s (last: exited with code 2: no route to it)")


async def test_a_command_that_cannot_be_run_is_tried_again(bench: Bench, autojump_clock: Any) -> None:
    def spawn(launch: Launch) -> Process:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    crash = await bench.wait(ReadyProbe(command=("check",)), spawn, start_timeout_s=1)
    assert crash == not_ready(
        "its ready command did not succeed within 1 s (last: cannot be run: /bin/check: No such file or directory)"
    )
    assert trio.current_time() == 1


@pytest.mark.parametrize("after_s", [0.0, 1.0, 1.5, 2.3])
async def test_a_cancelled_waiting_leaves_no_command(bench: Bench, after_s: float, autojump_clock: Any) -> None:
    bench.scripts = [Script(exits_after_s=1, exit=Exit(1, None), rpc=False), Script(rpc=False, ends_on_kill_in_s=0.5)]
    with trio.move_on_after(after_s) as patience:
        await bench.wait(ReadyProbe(command=("check",), interval_s=1))
    assert patience.cancelled_caught
    assert all(process.closed and process.exit is not None for process in bench.spawned)
    assert trio.current_time() == (2.8 if after_s == 2.3 else after_s)


async def test_a_command_that_outlives_sigkill_is_given_up(bench: Bench, autojump_clock: Any) -> None:
    bench.scripts = [Script(rpc=False, ends_on_kill_in_s=NEVER)]
    with trio.move_on_after(1):
        await bench.wait(ReadyProbe(command=("check",)))
    assert trio.current_time() == 3
    assert bench.spawned[0].closed


# With real sockets.


@pytest.fixture
def port() -> int:
    """Nobody listens there, and nobody is given it by the kernel for a while."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        number: int = taken.getsockname()[1]
        return number


async def listen_later(family: int, address: Any) -> None:
    await trio.sleep(0.1)
    with trio.socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        await listener.bind(address)
        listener.listen()
        await trio.sleep_forever()


@pytest.mark.parametrize(
    ("family", "host", "probe"),
    [
        (socket.AF_INET, "127.0.0.1", "{port}"),
        (socket.AF_INET, "127.0.0.1", "127.0.0.1:{port}"),
        (socket.AF_INET, "127.0.0.1", "localhost:{port}"),
        (socket.AF_INET6, "::1", "[::1]:{port}"),
    ],
)
@pytest.mark.usefixtures("nothing_left_open")
async def test_a_port_that_opens_after_a_while(bench: Bench, port: int, family: int, host: str, probe: str) -> None:
    if family == socket.AF_INET6:
        with socket.socket(family) as there:
            try:
                there.bind((host, 0))
            except OSError:
                pytest.skip("there is no IPv6 here")
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen_later, family, (host, port))
            ready = ReadyProbe(tcp=probe.format(port=port), interval_s=0.01)
            assert await bench.wait(ready) is None
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("probe", "shown"), [("{port}", "127.0.0.1:{port}"), ("[::1]:{port}", "[::1]:{port}")])
@pytest.mark.usefixtures("nothing_left_open")
async def test_a_port_that_never_opens(bench: Bench, port: int, probe: str, shown: str) -> None:
    ready = ReadyProbe(tcp=probe.format(port=port), interval_s=0.01)
    crash = await bench.wait(ready, start_timeout_s=0.2)
    assert crash is not None
    assert crash.cause.startswith(
        f"was not ready: its port {shown.format(port=port)} did not accept a connection within 0.2 s (last: "
    )
    if probe == "{port}":
        assert crash.cause.endswith("(last: connection refused)")


@pytest.mark.usefixtures("nothing_left_open")
async def test_a_connection_to_itself_is_none(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which the kernel makes when it picks the very port that is tried."""
    ended: list[tuple[int, int]] = []

    class Itself:
        def __enter__(self) -> Itself:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        async def connect(self, address: Any) -> None:
            await trio.lowlevel.checkpoint()

        def getsockname(self) -> Any:
            return ("127.0.0.1", 40000)

        getpeername = getsockname

        def setsockopt(self, level: int, option: int, value: bytes) -> None:
            ended.append((level, option))

    monkeypatch.setattr(trio.socket, "socket", lambda *_: Itself())
    crash = await bench.wait(ReadyProbe(tcp="40000", interval_s=1), start_timeout_s=0.1)
    assert crash == not_ready(
        "its port 127.0.0.1:40000 did not accept a connection within 0.1 s (last: connection refused)"
    )
    assert ended == [(socket.SOL_SOCKET, socket.SO_LINGER)]


async def test_a_port_that_swallows_everything(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
) -> None:
    class Deaf:
        def __enter__(self) -> Deaf:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        async def connect(self, address: Any) -> None:
            await trio.sleep_forever()

    monkeypatch.setattr(trio.socket, "socket", lambda *_: Deaf())
    crash = await bench.wait(ReadyProbe(tcp="40000"))
    assert crash == not_ready(
        f"its port 127.0.0.1:40000 did not accept a connection within 15 s (last: no answer within {TRY_S:g} s)"
    )


async def test_a_name_that_nobody_knows(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(host: str, port: int, *, type: int, flags: int = 0) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    crash = await bench.wait(ReadyProbe(tcp="db.invalid:5432", interval_s=0.01), start_timeout_s=0.1)
    assert crash == not_ready(
        "its port db.invalid:5432 did not accept a connection within 0.1 s"
        " (last: no address of db.invalid: name or service not known)"
    )


async def test_a_resolver_that_hangs_blocks_neither_the_loop_nor_threads_of_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = socket.socketpair()
    asked: list[str] = []

    def look_up(host: str, port: int, *, type: int, flags: int = 0) -> list[Any]:
        if flags:
            raise socket.gaierror(socket.EAI_NONAME, "it is a name")
        asked.append(host)
        theirs.recv(1)  # until the test is over
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with ours, theirs, trio.fail_after(PATIENCE_S):
        crash = await bench.wait(ReadyProbe(tcp="slow.test:1", interval_s=0.01), start_timeout_s=0.2)
        assert crash is not None
        assert crash.cause.endswith("(last: the first try was still under way)")
        assert asked == ["slow.test"]
        assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
        ours.send(b"x")


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM])
@pytest.mark.parametrize("depth", [1, 12])
@pytest.mark.usefixtures("nothing_left_open")
async def test_a_unix_socket_that_comes_after_a_while(
    bench: Bench, depth: int, kind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one whose path is longer than an address may be."""
    way = Path(*["a-long-directory-name"] * depth)
    (bench.cwd / way).mkdir(parents=True)
    assert (len(str(bench.cwd / way)) > 108) >= (depth == 12)
    with trio.fail_after(PATIENCE_S), socket.socket(socket.AF_UNIX, kind) as listener:

        async def listen_later() -> None:
            await trio.sleep(0.1)
            monkeypatch.chdir(bench.cwd / way)  # an address cannot hold the whole path
            listener.bind("s")
            if kind != socket.SOCK_DGRAM:
                await trio.sleep(0.1)
                listener.listen()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen_later)
            assert await bench.wait(ReadyProbe(unix=str(way / "s"), interval_s=0.01)) is None


@pytest.mark.usefixtures("nothing_left_open")
async def test_unix_sockets_that_are_none(bench: Bench) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(bench.cwd / "dead"))
    (bench.cwd / "file").write_text("")
    for name, why in (
        ("absent", "no such file or directory"),
        ("file", "connection refused"),
        ("dead", "connection refused"),
        ("file/x", "not a directory"),
        ("x" * 300, "file name too long"),
    ):
        crash = await bench.wait(ReadyProbe(unix=name, interval_s=0.01), start_timeout_s=0.03)
        assert crash == not_ready(f"its socket {name} did not accept a connection within 0.03 s (last: {why})")


@pytest.mark.usefixtures("nothing_left_open")
async def test_a_listener_that_accepts_nobody_does_not_block(bench: Bench) -> None:
    path = bench.cwd / "full"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as waiting:
        listener.bind(str(path))
        listener.listen(0)
        waiting.connect(str(path))
        crash = await bench.wait(ReadyProbe(unix="full", interval_s=0.01), start_timeout_s=0.1)
    assert crash is not None
    assert crash.cause.endswith("(last: resource temporarily unavailable)")


@pytest.mark.parametrize("probe", [ReadyProbe(tcp="{port}"), ReadyProbe(unix="s"), ReadyProbe(line="x")])
@pytest.mark.usefixtures("nothing_left_open")
async def test_cancelled_at_any_time_it_leaves_nothing_open(bench: Bench, probe: ReadyProbe, port: int) -> None:
    ready = replace(probe, tcp=probe.tcp and str(port), interval_s=0.01)
    for hundredths in range(5):
        with trio.move_on_after(hundredths / 100) as patience:
            await bench.wait(ready)
        assert patience.cancelled_caught
