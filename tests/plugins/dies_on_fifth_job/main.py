"""Does four jobs, and dies on the fifth."""

import os
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


jobs = 0
for _, id_, method, _params in requests():
    if method == "run_job":
        jobs += 1
        if jobs == 5:
            os._exit(9)
    answer(id_, {"api_version": 1, "methods": []} if method == "initialize" else {"status": "ok", "jobs": jobs})
    if method == "shutdown":
        break
