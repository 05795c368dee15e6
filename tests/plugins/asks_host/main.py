"""A worker without an SDK: one loop, that never waits for one thing only."""

import os
import socket

import msgpack

METHODS = ["ask", "heard", "hold", "held", "crash"]


class Worker:
    def __init__(self):
        self.socket = socket.socket(fileno=3)
        self.asked = {}
        self.asked_by = {}
        self.heard = []
        self.wanting = []
        self.holding = set()
        self.cancelled = 0
        self.last_id = 0
        self.leaving = False

    def send(self, *message):
        self.socket.sendall(msgpack.packb(message))

    def answer(self, id_, result):
        self.send(1, id_, None, result)

    def cancel(self, id_):
        if id_ in self.holding:
            self.holding.discard(id_)
            self.cancelled += 1
        elif id_ in self.asked_by:
            # What was asked for it is of no use any more; the answer to that one answers this one.
            self.send(2, "rpc.cancel", [self.asked_by[id_]])
            return
        else:
            return
        given_up = {"code": 14, "name": "CANCELLED", "message": "given up", "data": {}, "retryable": False}
        self.send(1, id_, given_up, None)

    def ask(self, id_, method, params):
        self.last_id += 1
        self.asked[self.last_id], self.asked_by[id_] = id_, self.last_id
        self.send(0, self.last_id, method, [params])

    def told(self, id_, error, result):
        caller = self.asked.pop(id_)
        del self.asked_by[caller]
        self.answer(caller, {"error": error, "result": result})

    def call(self, id_, params):
        given = params["params"] or {}
        match params["method"]:
            case "ask":
                self.ask(id_, given["method"], given.get("params", {}))
            case "heard":
                self.wanting.append((id_, given["count"]))
            case "hold":
                self.holding.add(id_)
            case "held":
                self.answer(id_, [len(self.holding), self.cancelled])
            case "crash":
                os._exit(7)

    def request(self, id_, method, params):
        match method:
            case "initialize":
                self.config = params["config"]
                self.answer(id_, {"api_version": 1, "methods": METHODS})
            case "health":
                self.answer(id_, {"status": "ok", "message": repr(sorted(self.config))})
            case "run_job":
                self.holding.add(id_)
            case "call":
                self.call(id_, params)
            case "shutdown":
                self.answer(id_, None)
                self.leaving = True

    def serve(self):
        unpacker = msgpack.Unpacker()
        while not self.leaving and (data := self.socket.recv(65536)):
            unpacker.feed(data)
            for message in unpacker:
                if message[0] == 0:
                    self.request(message[1], message[2], message[3][0])
                elif message[0] == 1:
                    self.told(*message[1:])
                elif message[1] == "rpc.cancel":
                    self.cancel(message[2][0])
                else:
                    self.heard.append(message[2][0])
            for wanting in self.wanting[:]:
                if len(self.heard) >= wanting[1]:
                    self.wanting.remove(wanting)
                    self.answer(wanting[0], self.heard)


Worker().serve()
