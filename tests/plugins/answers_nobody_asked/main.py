"""Answers a request that was never made."""

import socket
import threading

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


def misbehave():
    answer(12345, "unasked")


for _, id_, method, _params in requests():
    answer(id_, {"api_version": 1, "methods": []} if method == "initialize" else {"status": "ok"})
    if method == "initialize":
        threading.Timer(0.2, misbehave).start()
    if method == "shutdown":
        break
