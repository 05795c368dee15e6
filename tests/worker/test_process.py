"""Real children without a cgroup: what they may use, and what is known of those who hide."""

# ruff: noqa: ASYNC110  -- that a process has come or gone raises no event
from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from supervisor.core.worker_spec import Limits
from supervisor.worker import rlimits
from supervisor.worker.containment import Containment, Ward
from supervisor.worker.crash import Crash, Reason
from supervisor.worker.kin import Identity, Kin, below, send_signal, tracer_of
from supervisor.worker.launch import Launch
from supervisor.worker.limits import MIB, data_rlimit
from supervisor.worker.process import ChildProcess, Exit, spawn
from supervisor.worker.procfs import children, read_stat, start_ticks
from supervisor.worker.rlimits import TaskCount, TaskLimit
from tests.daemon.processes import ORPHAN, all_reaped, as_subreaper, orphan

SLEEP = "import time; time.sleep(600)"
BARE_SLEEP = "os.setsid(); os.execve('/bin/sleep', ['sleep', '600'], {})"


@pytest.fixture(autouse=True)
def _reaped() -> Iterator[None]:
    with all_reaped():
        yield


class Child:
    def __init__(self, process: ChildProcess, ward: Ward, containment: Containment) -> None:
        self.process = process
        self.ward = ward
        self.containment = containment
        self._lines = bytearray()

    async def line(self) -> str:
        while b"\n" not in self._lines:
            self._lines += await self.process.stdout.receive_some()
        text, _, rest = bytes(self._lines).partition(b"\n")
        self._lines = bytearray(rest)
        return text.decode()

    async def rest(self) -> str:
        async for data in self.process.stdout:
            self._lines += data
        return self._lines.decode()


@asynccontextmanager
async def running(
    code: str, limits: Limits | None = None, containment: Containment | None = None
) -> AsyncIterator[Child]:
    """It is killed, and has been reaped, at the end; nothing that is known to be its lives on."""
    contain = containment or Containment()
    launch = Launch(
        argv=(sys.executable, "-S", "-c", "import os, resource, sys\n" + textwrap.dedent(code)),
        env={"A": "b"},
        cwd=Path("/"),
        rpc=False,
        limits=limits or Limits(),
    )
    process = spawn(launch, contain)
    ward = contain.ward(process.pid)
    assert ward is not None
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(process.watch)
            try:
                yield Child(process, ward, contain)
            finally:
                process.kill()
                for stray in ward.strays():
                    send_signal(stray, signal.SIGKILL)
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                    await process.wait()
                    await process.aclose()
        while ward.look():
            await trio.sleep(0.005)


def alive(pid: int) -> bool:
    found = read_stat(pid)
    return found is not None and not found.is_dead


async def gone(*pids: int) -> None:
    while any(map(alive, pids)):
        await trio.sleep(0.005)


# Limits.


async def test_too_much_memory() -> None:
    async with running("kept = b'x' * (80 << 20); import time; time.sleep(600)", Limits(memory_mb=50)) as child:
        crash = await child.process.wait_breach()
    assert crash.reason is Reason.OUT_OF_MEMORY
    used = int(crash.cause.split()[1])
    assert crash.cause == f"used {used} MB of memory, more than its limit of 50 MB"
    assert 50 < used < 120  # the look may come while it is still taking it


async def test_what_processes_share_counts_once() -> None:
    code = """
        import time
        kept = b'x' * (40 << 20)
        for _ in range(5):
            if os.fork() == 0: break
        else: print(flush=True)
        time.sleep(600)"""
    async with running(code, Limits(memory_mb=100)) as child:
        await child.line()
        while len(child.ward.look()) < 6:
            await trio.sleep(0.005)
        pid = child.process.pid
        usage = await child.containment.usage([pid, pid + 1])
        assert list(usage) == [pid]
        assert usage[pid]["rss_bytes"] > 200 * MIB
        with trio.move_on_after(1.5):
            pytest.fail((await child.process.wait_breach()).cause)


async def test_however_many_ask_what_is_used_it_is_looked_at_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running("print(flush=True); import time; time.sleep(600)") as child:
        await child.line()
        looks, renew, told = [], child.ward.meter.renew, []

        def counted(*args: Any) -> Any:
            looks.append(threading.get_ident())
            return renew(*args)

        monkeypatch.setattr(child.ward.meter, "renew", counted)

        async def ask() -> None:
            told.append(await child.containment.usage([child.process.pid]))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(ask)
        assert len(looks) == 1
        assert looks[0] != threading.get_ident()
        assert told == [told[0]] * 20
        assert told[0][child.process.pid]["processes"] == 1


async def test_measuring_remembers_nobody() -> None:
    code = "c = os.fork()\nif c == 0: os.setsid()\nprint(flush=True); import time; time.sleep(600)"
    async with running(code) as child:
        for _ in range(2):
            await child.line()
        usage = await child.containment.usage([child.process.pid])
        assert usage[child.process.pid]["processes"] == 2
        assert child.ward.strays() == []
        child.ward.look()
        assert len(child.ward.strays()) == 1


async def test_too_much_at_once_is_refused_by_the_kernel() -> None:
    async with running("b'x' * (400 << 20)", Limits(memory_mb=50)) as child:
        assert await child.process.wait() == Exit(1, None)
        assert b"MemoryError" in await child.process.stderr.receive_some()
        assert child.process.post_mortem() is None


BOMB = """
    import time
    for n in range(150):
        if os.fork() == 0:
            if n % 2: os.setsid()
            break
    else: print(flush=True)
    time.sleep(600)"""


async def test_too_many_processes_are_ended_for_good() -> None:
    async with running(BOMB, Limits(pids=20)) as child:
        await child.line()
        crash = await child.process.wait_breach()
        assert crash == Crash(Reason.LIMIT_EXCEEDED, "had 151 processes and threads, more than its limit of 20")
        bombs = [found.pid for found in child.ward.look()]
        assert len(bombs) == 151
        child.process.kill()
        await child.process.wait()
        await gone(*bombs)
        assert child.process.post_mortem() is None  # We did it.


async def test_too_many_threads() -> None:
    code = """
        import threading, time
        for _ in range(9): threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
        time.sleep(600)"""
    async with running(code, Limits(pids=5)) as child:
        crash = await child.process.wait_breach()
    assert crash.cause == "had 10 processes and threads, more than its limit of 5"


async def test_too_many_open_files() -> None:
    before = len(os.listdir("/proc/self/fd"))
    code = """
        kept = []
        try:
            while True: kept.append(os.open("/dev/null", os.O_RDONLY))
        except OSError as error: print(error.errno, len(kept), flush=True)"""
    async with running(code, Limits(nofile=64)) as child:
        number, count = (await child.rest()).split()
        assert await child.process.wait() == Exit(0, None)
    assert (number, 50 < int(count) <= 61) == ("24", True)  # EMFILE
    assert len(os.listdir("/proc/self/fd")) == before


async def test_who_keeps_the_limits_lives() -> None:
    async with running(SLEEP, Limits(memory_mb=100, pids=5, nofile=64)) as child:
        with trio.move_on_after(1.2):
            pytest.fail((await child.process.wait_breach()).cause)
        assert child.process.exit is None


async def test_what_enforces_them_is_told() -> None:
    limits = Limits(memory_mb=10, pids=5, nofile=64, cpu_percent=50)
    async with running(SLEEP, limits) as child:
        told = {info["limit"]: info["enforced_by"] for info in child.ward.limits}
        assert told == {"memory_mb": "watch", "pids": "watch", "nofile": "rlimit", "cpu_percent": "nothing"}
        assert child.ward.limits == Containment().foresee(limits)
        pid = child.process.pid
        assert resource.prlimit(pid, resource.RLIMIT_DATA) == (data_rlimit(10), data_rlimit(10))
        if os.geteuid() != 0:
            assert resource.prlimit(pid, resource.RLIMIT_NPROC)[0] >= 5 + 256


async def test_the_daemons_own_hard_limit_is_lower() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= 1 << 20:
        pytest.skip("there is no lower hard limit here")
    async with running(SLEEP, Limits(nofile=hard + 1)) as child:
        assert [info["note"] for info in child.ward.limits] == [f"the daemon's own hard limit is {hard}"]


async def test_the_limit_of_tasks_follows_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    everybody = TaskCount()
    count = iter([1000, 1050, 2000])
    monkeypatch.setattr(everybody, "read", lambda: next(count))
    monkeypatch.setattr(rlimits.os, "geteuid", lambda: 1000)
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    if hard != resource.RLIM_INFINITY and hard < 4000:
        pytest.skip("the hard limit is too low")
    async with running(SLEEP) as child:
        pid, limit = child.process.pid, TaskLimit(20, everybody)
        for wanted in (999 + 276, 999 + 276, 1999 + 276):  # 50 more are within the slack
            limit.renew(child.ward.look())
            assert resource.prlimit(pid, resource.RLIMIT_NPROC) == (wanted, hard)


async def test_tasks_are_counted_once_a_second(autojump_clock: object, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []

    def processes(uid: int) -> list[object]:
        counts.append(uid)
        return []

    monkeypatch.setattr(rlimits, "processes_of", processes)
    everybody = TaskCount()
    for _ in range(9):
        everybody.read()
        await trio.sleep(0.125)
    assert counts == [os.geteuid()] * 2


async def test_a_child_whose_limits_cannot_be_set_does_not_live(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(children())

    def refuse(*_: object) -> None:
        raise PermissionError(1, "no")

    monkeypatch.setattr(resource, "prlimit", refuse)
    with pytest.raises(PermissionError):
        async with running(SLEEP, Limits(nofile=64)):
            pytest.fail("it lives")
    assert set(children()) == before


# What its end was about.


@pytest.mark.parametrize(
    ("number", "kills", "told"),
    [(signal.SIGKILL, [5, 6], True), (signal.SIGKILL, [5, 5], False), (signal.SIGTERM, [5, 6], False)],
)
async def test_the_kernels_killer_was_at_work(
    number: int, kills: list[int], told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter(kills)
    monkeypatch.setattr("supervisor.worker.containment.oom_kills", lambda: next(counts))
    async with running(SLEEP) as child:
        os.kill(child.process.pid, number)
        await child.process.wait()
        found = child.process.post_mortem()
    cause = "was killed by SIGKILL, and the kernel's out-of-memory killer was at work meanwhile"
    assert found == (Crash(Reason.OUT_OF_MEMORY, cause) if told else None)


# Those who hide.


async def test_who_has_left_group_and_environment_is_known_by_descent() -> None:
    code = f"""
        child = os.fork()
        if child == 0: {BARE_SLEEP}
        print(child, flush=True)
        sys.stdin = open("/proc/self/fd/1"); import time; time.sleep(600)"""
    async with running(code) as child:
        hidden = int(await child.line())
        while (found := read_stat(hidden)) is None or found.name != "sleep":
            await trio.sleep(0.005)
        child.process.note_kin()
        os.kill(child.process.pid, signal.SIGKILL)
        await child.process.wait()
        known = child.ward.strays()
        assert known == [Identity(hidden, start_ticks(hidden) or 0, "sleep")]
        assert alive(hidden)
        child.process.kill()  # Its leader is gone, and its pid may be a stranger's: still it is found.
        await gone(hidden)
        assert child.ward.strays() == []


async def test_a_stop_signal_notes_who_is_below() -> None:
    code = f"""
        import signal, time
        child = os.fork()
        if child == 0: {BARE_SLEEP}
        print(child, flush=True)
        time.sleep(600)"""
    async with running(code) as child:
        hidden = int(await child.line())
        while (found := read_stat(hidden)) is None or found.name != "sleep":
            await trio.sleep(0.005)
        child.process.signal_group(signal.SIGTERM)
        assert await child.process.wait() == Exit(None, signal.SIGTERM)
        assert [stray.pid for stray in child.ward.strays()] == [hidden]


def test_a_worker_that_has_ended_vouches_for_nobody() -> None:
    """Its pid is a stranger's by now."""
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as stranger:
        try:
            kin = Kin(stranger.pid, list)
            found = read_stat(stranger.pid)
            assert found is not None
            assert [process.pid for process in kin.look()] == [stranger.pid]
            kin._leader = Identity(stranger.pid, found.start_ticks - 1, "worker")
            kin._known = {stranger.pid: Identity(stranger.pid, found.start_ticks - 1, "child")}
            assert kin.look() == []
            assert kin.strays() == []
            assert below(found) == []
        finally:
            stranger.kill()


def test_orphans_of_its_session_are_its_own() -> None:
    """Without a subreaper they go to init; as the daemon's children they are looked for by their session."""
    # The subshell ends at once: what it began is in the leader's session, and no longer below it.
    program = "(sleep 600 & echo $!); echo gone; exec sleep 600"
    with subprocess.Popen(["sh", "-c", program], start_new_session=True, stdout=subprocess.PIPE) as leader:
        try:
            assert leader.stdout is not None
            orphan = int(leader.stdout.readline())
            assert leader.stdout.readline() == b"gone\n"
            found = read_stat(orphan)
            assert found is not None
            assert found.ppid != leader.pid
            assert orphan not in [process.pid for process in Kin(leader.pid, list).look()]
            assert orphan in [process.pid for process in Kin(leader.pid, lambda: [found]).look()]
        finally:
            os.killpg(leader.pid, signal.SIGKILL)


# Those whom a tracer keeps.

TRACED = """
    import ctypes, time
    libc = ctypes.CDLL(None)
    libc.prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)
    me = os.getpid()
    told, tell = os.pipe()
    def trace():
        os.setsid()
        refused = libc.ptrace(0x4206, me, None, None)
        os.write(tell, b"%d %d" % (os.getpid(), refused))
        time.sleep(600)"""
BY_A_CHILD = "    if os.fork() == 0: trace()"
BY_A_GRANDCHILD = """
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0: trace()
        time.sleep(600)"""
BY_A_THREAD = """
    import threading
    if os.fork() == 0:
        threading.Thread(target=trace).start()
        time.sleep(600)"""
TELLS_AND_ENDS = """
    print(os.read(told, 99).decode(), flush=True)
    os._exit(3)"""


@pytest.mark.parametrize("tracer", [BY_A_CHILD, BY_A_GRANDCHILD, BY_A_THREAD])
async def test_its_own_tracer_does_not_keep_it_from_being_reaped(tracer: str) -> None:
    before = set(children())
    with as_subreaper():
        async with running(TRACED + "\n" + tracer + TELLS_AND_ENDS) as child:
            pid, refused = map(int, (await child.line()).split())
            if refused:
                pytest.skip("this kernel lets nobody trace")
            assert await child.process.wait() == Exit(3, None)
            await gone(pid)
        for left in set(children()) - before:
            os.kill(left, signal.SIGKILL)


async def test_a_strange_tracer_is_left_alone_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supervisor.worker.process._LONGEST_PAUSE_S", 0.04)
    pid = None
    try:
        async with running(
            "import ctypes; ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)\n"
            "print(flush=True); os.read(os.open('/proc/self/fd/2', os.O_RDONLY), 1)"
        ) as child:
            await child.line()
            code = (
                "import ctypes\n"
                f"told = ctypes.CDLL(None).ptrace(0x4206, {child.process.pid}, None, None)\n"
                "r, w = os.pipe()\n"
            )
            # Of no kin to us: it goes to init.
            seize = ORPHAN + code + "os.close(1); time.sleep(600)"
            pid = await trio.to_thread.run_sync(orphan, seize)
            while not (tracer := tracer_of(child.process.pid)):
                await trio.sleep(0.005)
            assert tracer.pid == pid
            with trio.move_on_after(0.1):
                pytest.fail((await child.process.wait_breach()).cause)
            os.kill(child.process.pid, signal.SIGKILL)
            crash = await child.process.wait_breach()
            assert crash == Crash(Reason.EXITED, "has ended, and a process that traces it keeps it from being reaped")
            with trio.move_on_after(0.1):
                pytest.fail(f"it was reaped: {await child.process.wait()}")
            assert alive(pid)
            os.kill(pid, signal.SIGKILL)
            assert await child.process.wait() == Exit(None, signal.SIGKILL)
    finally:
        if pid is not None and alive(pid):
            os.kill(pid, signal.SIGKILL)


# Out of descriptors.


@contextmanager
def no_descriptor() -> Iterator[None]:
    """Not one more is to be had."""
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            os.open(os.devnull, os.O_RDONLY)
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_without_descriptors_the_group_ends_with_its_leader(number: int) -> None:
    code = f"""
        import signal, time
        signal.signal({signal.SIGTERM:d}, signal.SIG_IGN)
        child = os.fork()
        if child: signal.signal({signal.SIGTERM:d}, signal.SIG_DFL); print(child, flush=True)
        time.sleep(600)"""
    async with running(code) as child:
        member = int(await child.line())
        with no_descriptor():
            child.process.note_kin()
            if number == signal.SIGKILL:
                os.kill(child.process.pid, number)
            else:
                child.process.signal_group(number)
            assert await child.process.wait() == Exit(None, number)
            assert child.process.post_mortem() is None
            child.process.kill()
        await gone(member)


async def test_who_could_not_be_seen_stays_known() -> None:
    code = f"""
        child = os.fork()
        if child == 0: {BARE_SLEEP}
        print(child, flush=True)
        import time; time.sleep(600)"""
    async with running(code) as child:
        hidden = int(await child.line())
        while (found := read_stat(hidden)) is None or found.name != "sleep":
            await trio.sleep(0.005)
        child.process.note_kin()
        with no_descriptor():
            child.process.kill()
            await child.process.wait()
            assert [stray.pid for stray in child.ward.strays()] == [hidden]


async def test_workers_get_the_soft_limit_that_the_daemon_had() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    contain = Containment(soft_nofile=77)
    async with running(SLEEP, containment=contain) as child:
        assert resource.prlimit(child.process.pid, resource.RLIMIT_NOFILE) == (77, hard)
    async with running(SLEEP, Limits(nofile=99), contain) as child:
        assert resource.prlimit(child.process.pid, resource.RLIMIT_NOFILE) == (99, 99)


def test_the_daemon_takes_what_it_may_have() -> None:
    soft, hard = before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    try:
        assert rlimits.raise_files() == soft - 1
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_one_that_cannot_be_reaped_at_once_does_not_hold_up_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def refuse(*_: object) -> None:
        raise PermissionError(1, "no")

    def waitpid(pid: int, options: int) -> tuple[int, int]:
        asked.append(options)
        return 0, 0

    monkeypatch.setattr(resource, "prlimit", refuse)
    monkeypatch.setattr("supervisor.worker.process.os.waitpid", waitpid)
    with pytest.raises(PermissionError), trio.fail_after(5):
        async with running(SLEEP, Limits(nofile=64)):
            pytest.fail("it lives")
    assert set(asked) == {os.WNOHANG}
