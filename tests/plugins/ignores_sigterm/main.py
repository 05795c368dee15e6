"""Only SIGKILL ends it."""

import signal
import socket

import msgpack

rpc = socket.socket(fileno=3)


def requests():
    """What the daemon asks, until it hangs up."""
    unpacker = msgpack.Unpacker()
    while data := rpc.recv(65536):
        unpacker.feed(data)
        yield from (message for message in unpacker if message[0] == 0)


def answer(id_, result, error=None):
    rpc.sendall(msgpack.packb([1, id_, error, result]))


signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _, id_, method, _params in requests():
    if method == "initialize":
        answer(id_, {"api_version": 1, "methods": []})
    elif method == "health":
        answer(id_, {"status": "ok"})
while True:
    signal.pause()
