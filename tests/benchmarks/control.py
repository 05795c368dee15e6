"""A request to the daemon against a bare trio echo of msgpack; and a measured request against one that is not.

Medians of many single calls, in turns.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import msgpack

sys.path.insert(0, str(Path(__file__).parent))
from harness import daemon, show, timed

ECHO = """
import sys, socket, msgpack, trio
async def serve(stream):
    unpacker = msgpack.Unpacker()
    while data := await stream.receive_some(65536):
        unpacker.feed(data)
        for message in unpacker:
            await stream.send_all(msgpack.packb([1, message[1], None, message[3]]))
async def main():
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen()
    print("ready", flush=True)
    await trio.serve_listeners(serve, [trio.SocketListener(trio.socket.from_stdlib_socket(listener))])
trio.run(main)
"""

UNMEASURED = """
from supervisor.control.latency import Latency
from supervisor.daemon.main import main
Latency.timing = lambda self, on_request: on_request
raise SystemExit(main())
"""
"""The daemon without its numbers of requests."""


class Caller:
    """The barest client: what it costs is the same on both sides."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._unpacker = msgpack.Unpacker()

    def call(self, method: str, *params: object) -> object:
        self._socket.sendall(msgpack.packb([0, 1, method, params]))
        while True:
            self._unpacker.feed(self._socket.recv(65536))
            for _, _, error, result in self._unpacker:
                assert error is None, error
                return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=3000, help="calls of each kind")
    count = parser.parse_args().n
    with tempfile.TemporaryDirectory() as directory, daemon() as plugind, daemon(("-c", UNMEASURED)) as plain:
        path = f"{directory}/echo.sock"
        command = [sys.executable, "-c", textwrap.dedent(ECHO), path]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as echo:
            assert echo.stdout is not None
            echo.stdout.readline()
            floor, ours, bare = Caller(path), Caller(plugind.socket), Caller(plain.socket)
            status = ours.call("daemon.status")
            names = ("echo", "echo of a status", "ping", "unmeasured ping", "measured ping", "status", "metrics")
            times: dict[str, list[float]] = {name: [] for name in names}
            for _ in range(count):
                times["echo"].append(timed(lambda: floor.call("x")))
                times["ping"].append(timed(lambda: ours.call("daemon.ping")))
                times["echo of a status"].append(timed(lambda: floor.call("x", status)))
                times["status"].append(timed(lambda: ours.call("daemon.status")))
            # In bursts: a daemon that was just busy answers faster.
            for _ in range(max(1, count // 50)):
                for name, caller in (("unmeasured ping", bare), ("measured ping", ours)):
                    times[name] += [timed(lambda: caller.call("daemon.ping")) for _ in range(51)][1:]  # noqa: B023
            for _ in range(max(1, count // 100)):
                times["metrics"].append(timed(lambda: ours.call("daemon.metrics")))
            echo.terminate()
    show("the cheapest call", ("bare trio echo", times["echo"]), ("daemon.ping", times["ping"]))
    show("a status", ("bare trio echo of as much", times["echo of a status"]), ("daemon.status", times["status"]))
    show("being measured", ("an unmeasured ping", times["unmeasured ping"]), ("daemon.ping", times["measured ping"]))
    show("all numbers as text", ("bare trio echo", times["echo"]), ("daemon.metrics", times["metrics"]))


if __name__ == "__main__":
    main()
