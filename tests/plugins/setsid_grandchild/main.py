"""After the handshake it starts a child in a session of its own, which no signal to the group reaches."""

import socket
import subprocess

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


for _, id_, method, _params in requests():
    if method == "initialize":
        child = subprocess.Popen(["sleep", "300"], start_new_session=True)
        print(f"grandchild: {child.pid}", flush=True)
        answer(id_, {"api_version": 1, "methods": []})
    else:
        answer(id_, {"status": "ok"})
    if method == "shutdown":
        break
