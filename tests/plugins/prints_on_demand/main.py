"""Prints so many numbered lines when it is asked to, or without end."""

import os
import socket
import threading

import msgpack

rpc = socket.socket(fileno=3)


def answer(id_, result):
    rpc.sendall(msgpack.packb([1, id_, None, result]))


def write(data):
    while data:
        data = data[os.write(1, data) :]


def print_lines(start, count):
    write(b"".join(b"line %d %s\n" % (n, b"x" * 100) for n in range(start, start + count)))


def flood():
    n = 0
    while True:
        print_lines(n, 500)
        n += 500


unpacker = msgpack.Unpacker()
while data := rpc.recv(65536):
    unpacker.feed(data)
    for message in unpacker:
        if message[0] != 0:
            continue
        _, id_, method, params = message
        if method == "initialize":
            answer(id_, {"api_version": 1, "methods": ["print"]})
        elif method == "call":
            wanted = params[0]["params"]
            if "count" in wanted:
                print_lines(wanted["start"], wanted["count"])
            else:
                threading.Thread(target=flood, daemon=True).start()
            answer(id_, None)
        elif method == "shutdown":
            answer(id_, None)
            raise SystemExit
        else:
            answer(id_, {"status": "ok"})
