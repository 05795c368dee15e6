"""Forks until it may not any more: at most 100 children, that all sleep and end with its group."""

import os
import socket
import threading
import time

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
    for count in range(100):
        try:
            pid = os.fork()
        except BlockingIOError as error:
            os.write(2, f"{count} children: {error.strerror}\n".encode())
            os._exit(8)
        if pid == 0:
            time.sleep(600)
            os._exit(0)
    time.sleep(600)


for _, id_, method, _params in requests():
    answer(id_, {"api_version": 1, "methods": []} if method == "initialize" else {"status": "ok"})
    if method == "initialize":
        threading.Timer(0.2, misbehave).start()
    if method == "shutdown":
        break
