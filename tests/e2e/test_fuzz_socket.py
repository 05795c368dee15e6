"""The live socket under fire: no traceback, no growth, and the admin is answered all the while.

`PLUGIND_TEST_FRAMES=1000000` makes it a long run, `PLUGIND_TEST_SEED` repeats one.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import trio

from supervisor.wire.limits import MIB
from tests.e2e.conftest import Daemon
from tests.e2e.hostile_frames import FIRST_SENTINEL, Frames, sentinel

FRAMES = int(os.environ.get("PLUGIND_TEST_FRAMES", "20000"))
SEED = int(os.environ.get("PLUGIND_TEST_SEED", str(random.SystemRandom().randrange(1 << 32))))
ATTACKERS = 6
BATCH = 40
ANSWERED_S = 5.0
"""The admin's longest wait, on a machine that is busy with other tests as well."""
MANIFEST = """
[plugin]
key = "test.program"
version = "1.0.0"
api_version = 1
display_name = "Program"
description = "Any program."
author = "plugind's tests"
categories = ["automation"]

[worker]
command = ["sleep", "600"]
transport = "none"
start_grace_s = 0
"""


class Attack:
    def __init__(self, path: Path, frames: Frames) -> None:
        self._path = path
        self.frames = frames
        self.sent = 0
        self.answers = 0
        self.closed = 0
        self._last_sentinel = FIRST_SENTINEL

    async def run(self, count: int) -> None:
        """Send so many frames, over as many connections as it takes."""
        enough = self.sent + count
        while self.sent < enough:
            async with await trio.open_unix_socket(str(self._path)) as stream:
                talk = Talk(stream)
                while self.sent < enough and await self._batch(talk):
                    pass
                self.answers += len(talk.answered)
            self.closed += 1

    async def _batch(self, talk: Talk) -> bool:
        """Whether the connection can be used for more."""
        self.sent += BATCH
        if self.frames.chance(0.7):
            self._last_sentinel += 1
            data = b"".join(self.frames.decent(BATCH)) + sentinel(self._last_sentinel)
            assert await talk.exchange(data, self._last_sentinel), "a decent connection was closed"
            return True
        data = self.frames.hostile(BATCH)
        if self.frames.chance(0.3):
            await _send(talk.stream, data)  # And gone, with all that is under way.
        else:
            await talk.exchange(data, None)
        return False


class Talk:
    """One connection; what was answered stays whole over several exchanges."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.answered = set[int]()
        self._unpacker = msgpack.Unpacker(max_buffer_size=16 * MIB)

    async def exchange(self, data: bytes, last: int | None) -> bool:
        """Send, and read up to the answer `last`, or to the end of the stream; whether it was answered."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_and_end, data, last is None)
            found = await self._read(last)
            nursery.cancel_scope.cancel()
        return found

    async def _send_and_end(self, data: bytes, end: bool) -> None:
        if await _send(self.stream, data) and end:
            try:
                await self.stream.send_eof()
            except OSError:
                return

    async def _read(self, last: int | None) -> bool:
        while True:
            for message in self._unpacker:
                self._check(message, last)
                if last is not None and message[:2] == [1, last]:
                    return True
            try:
                data = await self.stream.receive_some(1 << 18)
            except trio.BrokenResourceError:
                return False  # What it had not read of us when it hung up.
            if not data:
                return False
            self._unpacker.feed(data)

    def _check(self, message: Any, last: int | None) -> None:
        if message[0] == 2:
            assert message[1] in {"rpc.event", "rpc.log", "rpc.progress", "rpc.error"}, message
            return
        kind, id_, error, _ = message
        assert kind == 1, message
        assert "INTERNAL" not in str(error)[:200], error
        assert last is None or id_ not in self.answered, f"request {id_} was answered twice"
        self.answered.add(id_)


async def _send(stream: trio.SocketStream, data: bytes) -> bool:
    try:
        await stream.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return False  # It has hung up on us: rightly, the answers tell.
    return True


class Admin:
    """Asks all the while; `waits` are the seconds that each answer took. It is systemd as well, and listens."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self.waits: list[float] = []

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with await trio.open_unix_socket(str(self._daemon.socket)) as stream:
            task_status.started()
            while True:
                self._daemon.read_notifications()  # Of each reload there are two.
                began = time.perf_counter()
                with trio.fail_after(ANSWERED_S):
                    await stream.send_all(sentinel(1))
                    answer = msgpack.unpackb(await stream.receive_some(4096))
                assert answer[:3] == [1, 1, None], answer
                self.waits.append(time.perf_counter() - began)
                await trio.sleep(0.01)


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def sockets_of(pid: int) -> int:
    """Open ones; what workers need besides comes and goes with them."""
    links = Path(f"/proc/{pid}/fd")
    return sum(
        os.readlink(links / name).startswith("socket:") for name in os.listdir(links) if (links / name).is_symlink()
    )


def complaints(log: Path) -> list[str]:
    """What the daemon never says about a client, however that behaves."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    odd = [line for line in log.read_text().splitlines() if not line.startswith("{")]
    return odd + [str(line) for line in lines if "exception" in line or "Traceback" in str(line)]


def program(directory: Path) -> Path:
    directory.mkdir()
    (directory / "plugin.toml").write_text(MANIFEST)
    return directory


async def test_the_socket_under_fire(daemon: Daemon, plugin: Callable[[str], Path], tmp_path: Path) -> None:
    good, other = plugin("good"), program(tmp_path / "program")
    with daemon.start() as rpc:
        rpc.load(good)
        rpc.load(other)
        texts = ["test.good", "test.program", "test.good/tick", "echo", "*", "plugin.*", "running", "ready", str(other)]
        attacks = [Attack(daemon.socket, Frames(SEED + n, texts)) for n in range(ATTACKERS)]
        admin = Admin(daemon)
        sockets, sizes = sockets_of(daemon.pid), []
        print(f"PLUGIND_TEST_SEED={SEED}")
        async with trio.open_nursery() as nursery:
            await nursery.start(admin.run)
            for _ in range(4):
                async with trio.open_nursery() as firing:
                    for attack in attacks:
                        firing.start_soon(attack.run, FRAMES // ATTACKERS // 4)
                sizes.append(resident_bytes(daemon.pid) / MIB)
            nursery.cancel_scope.cancel()
        waits = sorted(admin.waits)
        print(
            f"{sum(a.sent for a in attacks)} frames, {sum(a.answers for a in attacks)} answers, "
            f"{sum(a.closed for a in attacks)} connections; admin p50 {waits[len(waits) // 2] * 1e3:.1f} ms, "
            f"max {waits[-1] * 1e3:.0f} ms; RSS {[round(size, 1) for size in sizes]} MiB"
        )
        assert complaints(daemon.log) == []
        assert sizes[-1] - sizes[0] < 40, f"memory grows: {sizes} MiB"
        deadline = time.monotonic() + 10
        while sockets_of(daemon.pid) > sockets + 2:
            assert time.monotonic() < deadline, f"{sockets_of(daemon.pid)} sockets are open, and {sockets} were"
            await trio.sleep(0.05)
        assert rpc.call("daemon.ping")["pong"] is True
    shutil.rmtree(other)
