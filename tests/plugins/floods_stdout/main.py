"""20,000 lines at once, one with invalid UTF-8 and one of 200 KiB among them, then a thousand a second."""

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


def write(data):
    while data:
        data = data[os.write(1, data) :]


def flood():
    for n in range(20_000):
        write(b"line %d\n" % n)
        if n == 10:
            write(b"no utf-8: \xff\xfe\xc3(\n")
            write(b"x" * (200 * 1024) + b"\n")
    write(b"the first flood is over\n")
    while True:
        write(b"one more line\n" * 10)
        time.sleep(0.01)


threading.Thread(target=flood, daemon=True).start()
for _, id_, method, _params in requests():
    answer(id_, {"api_version": 1, "methods": []} if method == "initialize" else {"status": "ok"})
    if method == "shutdown":
        break
