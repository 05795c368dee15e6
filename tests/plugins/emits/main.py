"""A worker without an SDK that always has four events on their way."""

import socket

import msgpack

daemon = socket.socket(fileno=3)
emitted = 0


def send(*message):
    daemon.sendall(msgpack.packb(message))


def emit():
    global emitted
    emitted += 1
    name = "even" if emitted % 2 == 0 else "odd"
    send(0, emitted, "events.emit", [{"name": name, "payload": {"n": emitted}}])


unpacker = msgpack.Unpacker()
leaving = False
while not leaving and (data := daemon.recv(65536)):
    unpacker.feed(data)
    for message in unpacker:
        if message[0] == 1:
            emit()
        elif message[0] == 0:
            leaving = message[2] == "shutdown"
            result = {"initialize": {"api_version": 1, "methods": []}, "health": {"status": "ok"}}.get(message[2])
            send(1, message[1], None, result)
            if message[2] == "initialize":
                for _ in range(4):
                    emit()
