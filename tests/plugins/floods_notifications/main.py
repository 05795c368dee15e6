"""Sends notifications as fast as they are read, from another thread, and serves beside it."""

import os
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


turn = threading.Lock()


def answer(id_, result, error=None):
    with turn:
        rpc.sendall(msgpack.packb([1, id_, error, result]))


def misbehave():
    portion = msgpack.packb([2, "run.progress", [{"run_id": "x"}]]) * 1000
    while True:
        with turn:
            rpc.sendall(portion)


for _, id_, method, _params in requests():
    answer(id_, {"api_version": 1, "methods": []} if method == "initialize" else {"status": "ok"})
    if method == "initialize":
        threading.Timer(0.2, misbehave).start()
    if method == "shutdown":
        os._exit(0)
