# ruff: noqa: ASYNC110  -- a status that is to come raises no event
"""NOTIFY_SOCKET: what is understood, who is heard, and that nobody is blocked or harmed by what is sent."""

from __future__ import annotations

import array
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import trio

from supervisor.worker.notify import STATUS_CHARACTERS, NotifySocket

PATIENCE_S = 20.0
SENDER = """
import os, socket, sys
to = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
to.connect("\\0" + os.environ["NOTIFY_SOCKET"][1:])
"""


class Log:
    """Stands for the logger: what was told at debug level."""

    def __init__(self) -> None:
        self.records: list[tuple[str, dict[str, Any]]] = []

    def debug(self, event: str, **fields: Any) -> None:
        self.records.append((event, fields))

    async def wait_told(self) -> None:
        while not self.records:
            await trio.sleep(0.001)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    made = Log()
    monkeypatch.setattr("supervisor.worker.notify.get_logger", lambda: made)
    return made


@contextmanager
def sender(notify: NotifySocket) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        to.connect("\0" + notify.address[1:])
        to.setblocking(False)
        yield to


@asynccontextmanager
async def heard(leader: int | None = None) -> AsyncIterator[NotifySocket]:
    """A socket that listens to this process's own session, or to another's."""
    with trio.fail_after(PATIENCE_S), NotifySocket() as notify:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(notify.run, os.getsid(0) if leader is None else leader)
            yield notify
            nursery.cancel_scope.cancel()


async def wait_status(notify: NotifySocket, status: str) -> None:
    while notify.status != status:
        await trio.sleep(0.001)


async def run_sender(
    notify: NotifySocket, code: str, *, new_session: bool = False, pass_fds: tuple[int, ...] = ()
) -> None:
    """A process that runs `code` with `to` connected."""
    await trio.run_process(
        [sys.executable, "-S", "-c", SENDER + code],
        env={"NOTIFY_SOCKET": notify.address},
        start_new_session=new_session,
        pass_fds=pass_fds,
    )


async def test_the_address_fits_wherever_the_state_is_kept() -> None:
    with NotifySocket() as one, NotifySocket() as another:
        assert one.address != another.address
        assert one.address.startswith("@")
        assert len(one.address) < 100


async def test_ready_and_status() -> None:
    async with heard() as notify:
        with sender(notify) as to:
            to.send(b"STATUS=loading")
            await wait_status(notify, "loading")
            assert not notify.ready.is_set()
            to.send("MAINPID=1\nREADY=1\nSTATUS=läuft".encode())
            await notify.ready.wait()
            await wait_status(notify, "läuft")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\n\n",
        b"READY",
        b"READY=",
        b"READY=0",
        b"READY=11",
        b" READY=1",
        b"XREADY=1",
        b"ready=1",
        b"\xff\0=\0",
        b"=",
    ],
)
async def test_what_does_not_say_ready(message: bytes) -> None:
    async with heard() as notify:
        with sender(notify) as to:
            to.send(message)
            to.send(b"STATUS=behind it")
            await wait_status(notify, "behind it")
        assert not notify.ready.is_set()


async def test_a_status_is_bounded_and_always_text() -> None:
    async with heard() as notify:
        with sender(notify) as to:
            to.send(b"STATUS=\xff" + b"x" * 3000)
            await wait_status(notify, ("\\xff" + "x" * 3000)[:STATUS_CHARACTERS])


async def test_a_datagram_that_is_too_long_is_passed_over_whole() -> None:
    async with heard() as notify:
        with sender(notify) as to:
            to.send(b"READY=1\n" + b"x" * 5000)
            to.send(b"STATUS=behind it")
            await wait_status(notify, "behind it")
        assert not notify.ready.is_set()


@pytest.mark.parametrize(
    ("microseconds", "seconds"),
    [(b"2500000", 2.5), (b"99999999999999", 3600), (b"-1", None), (b"", None), (b"1e9", None), (b"9" * 1000, None)],
)
async def test_more_time_to_become_ready(microseconds: bytes, seconds: float | None) -> None:
    async with heard() as notify:
        before = trio.current_time()
        with sender(notify) as to:
            to.send(b"EXTEND_TIMEOUT_USEC=" + microseconds)
            to.send(b"STATUS=behind it")
            await wait_status(notify, "behind it")
        if seconds is None:
            assert notify.extended_until == float("-inf")
        else:
            assert before + seconds <= notify.extended_until <= trio.current_time() + seconds


async def test_an_extension_is_never_shortened() -> None:
    async with heard() as notify:
        with sender(notify) as to:
            to.send(b"EXTEND_TIMEOUT_USEC=60000000\nEXTEND_TIMEOUT_USEC=1\nSTATUS=read")
            await wait_status(notify, "read")
        assert notify.extended_until > trio.current_time() + 30


async def test_a_living_process_of_another_session_is_not_heard(log: Log) -> None:
    async with heard(os.getsid(0) + 1) as notify:
        with sender(notify) as to:
            to.send(b"READY=1\nSTATUS=forged")
            await log.wait_told()
        assert (notify.ready.is_set(), notify.status) == (False, None)
    fields = {"pid": os.getpid(), "uid": os.getuid(), "worker": os.getsid(0) + 1}
    assert log.records == [("notify.stranger_ignored", fields)]


async def test_a_descendant_in_a_session_of_its_own_is_heard() -> None:
    async with heard() as notify:
        code = "to.send(b'STATUS=it'); sys.stdin.read()"
        child = await trio.lowlevel.open_process(
            [sys.executable, "-S", "-c", SENDER + code],
            env={"NOTIFY_SOCKET": notify.address},
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        assert child.stdin is not None
        async with child.stdin:
            await wait_status(notify, "it")
        await child.wait()


async def test_who_has_gone_already_is_known_by_the_user() -> None:
    """As the systemd-notify of a shell script, which does not wait for us."""
    with trio.fail_after(PATIENCE_S), NotifySocket() as notify:
        await run_sender(notify, "to.send(b'READY=1')", new_session=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(notify.run, os.getpid())
            await notify.ready.wait()
            nursery.cancel_scope.cancel()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
async def test_another_user_is_heard_only_while_it_is_seen_to_be_of_the_worker(log: Log) -> None:
    drop = "os.setuid(65534); to.send(b'STATUS=gone')"
    with trio.fail_after(PATIENCE_S), NotifySocket() as notify:
        await run_sender(notify, drop)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(notify.run, os.getsid(0))
            await log.wait_told()
            assert (notify.status, log.records[0][1]["uid"]) == (None, 65534)
            child = await trio.lowlevel.open_process(
                [sys.executable, "-S", "-c", SENDER + drop.replace("gone", "there") + "; sys.stdin.read()"],
                env={"NOTIFY_SOCKET": notify.address},
                stdin=subprocess.PIPE,
            )
            assert child.stdin is not None
            async with child.stdin:
                await wait_status(notify, "there")
            await child.wait()
            nursery.cancel_scope.cancel()


@pytest.mark.skipif(shutil.which("systemd-notify") is None, reason="there is no systemd-notify here")
async def test_systemds_own_tool() -> None:
    async with heard() as notify:
        await trio.run_process(["systemd-notify", "--ready", "--status=up"], env={"NOTIFY_SOCKET": notify.address})
        await notify.ready.wait()
        await wait_status(notify, "up")


async def test_descriptors_that_are_sent_along_are_closed_and_never_ours() -> None:
    """BARRIER=1: its sender waits until the descriptor is closed."""
    async with heard() as notify:
        ours, theirs = os.pipe()
        before = os.listdir("/proc/self/fd")
        with sender(notify) as to, os.fdopen(ours, "rb") as barrier:
            descriptors = array.array("i", [theirs] * 50)
            to.sendmsg([b"BARRIER=1"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
            os.close(theirs)
            await trio.lowlevel.wait_readable(barrier)
            assert barrier.read() == b""
            to.send(b"STATUS=behind it")
            await wait_status(notify, "behind it")
            assert len(os.listdir("/proc/self/fd")) == len(before) - 1 + 1  # without `theirs`, with `to`
        assert not notify.ready.is_set()


async def test_a_flood_blocks_nobody_else_and_ends_in_its_sender() -> None:
    async with heard() as notify:
        with sender(notify) as to:
            sent = 0
            with trio.move_on_after(0.3):
                while True:
                    try:
                        sent += to.send(b"WATCHDOG=1") // 10
                    except BlockingIOError:
                        pass
                    await trio.lowlevel.checkpoint()
            # The kernel's queue, and one each 10 ms.
            assert sent < 1000
            to.setblocking(True)
            await trio.to_thread.run_sync(to.send, b"READY=1")
            await notify.ready.wait()


async def test_closing_ends_the_listening_and_refuses_senders() -> None:
    with trio.fail_after(PATIENCE_S):
        notify = NotifySocket()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(notify.run, os.getsid(0))
            with sender(notify) as to:
                to.send(b"STATUS=last")
                await wait_status(notify, "last")
                notify.close()
                with pytest.raises(ConnectionRefusedError):
                    to.send(b"READY=1")


async def test_no_descriptor_is_left_where_no_socket_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr("supervisor.worker.notify.secrets.token_hex", lambda _: "x" * 200)
    with pytest.raises(OSError, match="path too long"):
        NotifySocket()
    assert len(os.listdir("/proc/self/fd")) == len(before)
