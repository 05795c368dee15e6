"""Shakes hands and dies a second later, every time."""

import os
import socket
import sys
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


def die():
    print("out of luck", file=sys.stderr, flush=True)
    os._exit(5)


for _, id_, method, _params in requests():
    answer(id_, {"api_version": 1, "methods": []} if method == "initialize" else {"status": "ok"})
    if method == "initialize":
        timer = threading.Timer(1.0, die)
        timer.daemon = True
        timer.start()
