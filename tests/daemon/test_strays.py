# ruff: noqa: ASYNC110  -- that a grandchild has come raises no event
import errno
import os
import resource
import signal

import pytest
import trio

from supervisor.daemon.strays import kill_strays, left_by
from supervisor.worker.host import Stray
from supervisor.worker.kin import Identity, Kin, pidfd_of, send_signal
from supervisor.worker.procfs import children, has_variable, read_stat, start_ticks
from tests.daemon.processes import ORPHAN, SLEEPER, all_pids, as_subreaper, orphan, refusing, sleeping


@pytest.fixture(autouse=True)
def _subreaper():
    with as_subreaper():
        yield


async def stray(code: str = SLEEPER, **options) -> int:
    return await trio.to_thread.run_sync(lambda: orphan(code, **options))


def identity(pid: int, **changes) -> Identity:
    found = read_stat(pid)
    return Identity(**{"pid": pid, "start_ticks": found.start_ticks, "name": found.name, **changes})


def alive(pid: int) -> bool:
    found = read_stat(pid)
    return found is not None and not found.is_dead


async def test_strays_are_killed_with_what_they_leave():
    with trio.fail_after(20), sleeping() as ours:
        # Its child becomes ours only when it dies.
        parent = await stray(ORPHAN + "c = os.fork()\nif c == 0: os.setsid()\nos.close(1); time.sleep(600)")
        while not (grandchildren := [p for p in all_pids() if (s := read_stat(p)) and s.ppid == parent]):
            await trio.sleep(0.005)
        killed = await kill_strays({ours.pid} | (set(children()) - {parent}))
        assert {it.pid for it in killed} == {parent, *grandchildren}
        assert {it.name for it in killed} == {read_stat(ours.pid).name}
        assert ours.poll() is None
        assert not any(alive(it.pid) for it in killed)


async def test_by_the_environment_or_the_session_and_nobody_else():
    with trio.fail_after(20), sleeping() as ours:
        marked, other = await stray(env={"OF": "me"}), await stray(env={"OF": "me2"})
        name = read_stat(marked).name
        assert await kill_strays({ours.pid}, which=left_by(1, b"OF=me")) == [Stray(pid=marked, name=name)]
        assert alive(other)
        # It leads a session and a group of the same number: as the worker's own group it has been signalled before.
        assert await kill_strays({ours.pid}, which=left_by(other, b"OF=me")) == []
        moved = await stray(ORPHAN + "os.close(1)\nif os.fork(): time.sleep(600)\nos.setpgid(0, 0); time.sleep(600)")
        while not (
            member := [p for p in all_pids() if (s := read_stat(p)) and s.sid == moved and s.pgid == p != moved]
        ):
            await trio.sleep(0.005)
        os.kill(moved, signal.SIGKILL)
        while member[0] not in children():
            await trio.sleep(0.005)
        killed = await kill_strays({ours.pid}, which=left_by(moved, b"OF=me"))
        assert [it.pid for it in killed] == member
        assert await kill_strays({ours.pid}, which=lambda found: found.pid in {other, moved}) != []
        assert ours.poll() is None


async def test_one_that_never_stops_to_become_another_program():
    """In the middle of an exec there is no environment to be seen."""
    again = 'exec /bin/sh -c "$AGAIN"'
    code = ORPHAN + "os.close(1); os.execv('/bin/sh', ['sh', '-c', os.environ['AGAIN']])"
    with trio.fail_after(30):
        for _ in range(5):
            pid = await stray(code, env={"OF": "me", "AGAIN": again})
            try:
                while read_stat(pid).name != "sh":
                    await trio.sleep(0.005)
                assert False not in {has_variable(pid, b"OF=me") for _ in range(2000)}
                killed = await kill_strays(set(children()) - {pid}, which=left_by(1, b"OF=me"))
                assert [it.pid for it in killed] == [pid]
            finally:
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)  # It would take a whole core for ever.


async def test_whose_environment_is_not_to_be_seen_yet_is_looked_at_again(monkeypatch):
    answers = [None, None, None]
    monkeypatch.setattr(
        "supervisor.daemon.strays.has_variable", lambda *asked: answers.pop() if answers else has_variable(*asked)
    )
    with trio.fail_after(20):
        pid = await stray(env={"OF": "me"})
        killed = await kill_strays(set(children()) - {pid}, which=left_by(1, b"OF=me"))
        assert ([it.pid for it in killed], answers) == ([pid], [])
        # Of one of whom it is never to be seen nobody waits for ever.
        other = await stray()
        assert await kill_strays(set(children()) - {other}, which=lambda _: None) == []
        assert alive(other)
        assert [it.pid for it in await kill_strays(set(children()) - {other})] == [other]


async def test_a_worker_answers_for_one_in_the_middle_of_an_exec(monkeypatch):
    with trio.fail_after(20), sleeping() as leader:
        kin = Kin(leader.pid, list, b"OF=me")
        pid = await stray(env={"OF": "me"})
        answers = [None, None]
        monkeypatch.setattr(
            "supervisor.worker.kin.has_variable", lambda *asked: answers.pop() if answers else has_variable(*asked)
        )
        assert kin.answers_for(read_stat(pid))
        assert answers == []
        assert [it.pid for it in await kill_strays(set(children()) - {pid})] == [pid]


async def test_one_without_any_variable_holds_up_nobody():
    with trio.fail_after(20):
        pid = await stray("import os\n" + ORPHAN + "os.close(1); os.execve('/bin/sleep', ['sleep', '600'], {})")
        while read_stat(pid).name != "sleep" or has_variable(pid, b"A=b") is None:
            await trio.sleep(0.005)
        assert has_variable(pid, b"A=b") is False
        assert [it.pid for it in await kill_strays(set(children()) - {pid}, which=lambda it: it.pid == pid)] == [pid]


async def test_the_known_are_killed_children_or_not():
    with trio.fail_after(20), sleeping() as ours:
        parent = await stray(
            ORPHAN
            + "os.close(1); c = os.fork()\nif c == 0: os.setsid(); os.execve('/bin/sleep', ['sleep', '600'], {})\n"
            "time.sleep(600)"
        )
        while not (below := [p for p in all_pids() if (s := read_stat(p)) and s.ppid == parent and s.name == "sleep"]):
            await trio.sleep(0.005)
        killed = await kill_strays({ours.pid, parent}, which=lambda _: False, known=[identity(below[0])])
        assert killed == [Stray(pid=below[0], name="sleep")]
        assert alive(parent)
        assert [it.pid for it in await kill_strays((), which=lambda it: it.pid == parent)] == [parent]


async def test_a_stranger_with_a_known_pid_is_never_signalled():
    with trio.fail_after(20), sleeping() as stranger:
        stale = identity(stranger.pid, start_ticks=start_ticks(stranger.pid) - 1)
        assert await kill_strays({stranger.pid}, which=lambda _: False, known=[stale]) == []
        assert not send_signal(stale, signal.SIGKILL)
        assert pidfd_of(stale) is None
        assert stranger.poll() is None
        assert send_signal(identity(stranger.pid), signal.SIGKILL)
        assert stranger.wait() == -signal.SIGKILL


async def test_more_of_them_than_we_may_have_descriptors():
    with trio.fail_after(30), sleeping() as ours:
        parent = await stray(
            ORPHAN + "for _ in range(250):\n    if os.fork() == 0: os.setsid(); break\nos.close(1); time.sleep(600)"
        )
        while len([p for p in all_pids() if (s := read_stat(p)) and s.ppid == parent and s.sid == p]) < 250:
            await trio.sleep(0.02)
        before = len(os.listdir("/proc/self/fd"))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (before + 110, hard))
        try:
            killed = await kill_strays({ours.pid}, which=lambda found: found.pid == parent)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert len(killed) == 251
        assert not any(alive(it.pid) for it in killed)
        assert len(os.listdir("/proc/self/fd")) == before


async def test_out_of_descriptors_it_tries_again(monkeypatch):
    monkeypatch.setattr("supervisor.daemon.strays.children", refusing(3, children))
    with trio.fail_after(20):
        pid = await stray()
        assert [it.pid for it in await kill_strays(set())] == [pid]
        assert not alive(pid)


async def test_out_of_descriptors_for_long_it_ends_all_the_same(monkeypatch):
    def refuse(_):
        raise OSError(errno.EMFILE, "Too many open files")

    with trio.fail_after(20):
        pid = await stray()
        known = identity(pid)
        with monkeypatch.context() as patched:
            patched.setattr("supervisor.daemon.strays.find", refuse)
            assert await kill_strays(set(), which=lambda _: False, known=[known], timeout_s=0.2) == []
        assert alive(pid)
        assert [it.pid for it in await kill_strays(set())] == [pid]
