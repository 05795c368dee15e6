"""Stores values of 1 MB as fast as they are taken, and reads no answer."""

import socket
import threading

import msgpack

rpc = socket.socket(fileno=3)
unread = threading.Event()


def requests():
    """What the daemon asks, until it hangs up."""
    unpacker = msgpack.Unpacker()
    while not unread.is_set() and (data := rpc.recv(65536)):
        unpacker.feed(data)
        yield from (message for message in unpacker if message[0] == 0)


def answer(id_, result, error=None):
    rpc.sendall(msgpack.packb([1, id_, error, result]))


def misbehave():
    unread.set()
    value = msgpack.packb(b"x" * 1_000_000)
    for id_ in range(100_000):
        rpc.sendall(
            b"\x94\x00" + msgpack.packb(id_) + msgpack.packb("state.set") + b"\x91\x82\xa3key\xa1k\xa5value" + value
        )


for _, id_, method, _params in requests():
    answer(id_, {"api_version": 1, "methods": []} if method == "initialize" else {"status": "ok"})
    if method == "initialize":
        threading.Timer(0.2, misbehave).start()
    if method == "shutdown":
        break
