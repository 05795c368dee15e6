"""Frames that nobody should send, and those that anybody may, from one seed."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any, Final

import msgpack

from supervisor.wire.control import REQUESTS

FIRST_SENTINEL: Final = 1 << 31
"""Ids from here on are not used by what is made here."""
_LEFT_OUT: Final = {"daemon.stop"}
_HEADERS: Final = (
    b"\xdd\xff\xff\xff\xff",  # an array of 4 Gi values
    b"\xdf\xff\xff\xff\xff",  # a map
    b"\xdb\xff\xff\xff\xff",  # text of 4 GiB
    b"\xc6\xff\xff\xff\xff",  # bytes
    b"\xc9\xff\xff\xff\xff\x05",  # ext
    b"\x94\x00\x01\xdb\xff\xff\xff\xffdaemon.ping",
    b"\x94\x00\x01\xabdaemon.ping\xdd\x7f\xff\xff\xff",
)
_ODD_VALUES: Final = (
    b"\xa4\xff\xfe\x80\x81",  # text that is no UTF-8
    b"\xd4\x05\x00",  # an ext
    b"\xd6\xff\x00\x00\x00\x01",  # a timestamp
    b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",  # beyond int64
    b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",  # not a number
    b"\xcb\xff\xf0\x00\x00\x00\x00\x00\x00",  # minus infinity
    b"\x81\x01\x02",  # a key that is no text
    b"\xc1",  # no msgpack
)
_METHODS: Final = sorted(REQUESTS.keys() - _LEFT_OUT)


class Frames:
    """`texts`: names that mean something to the daemon, to be met now and then."""

    def __init__(self, seed: int, texts: Sequence[str]) -> None:
        self._random = random.Random(seed)
        self._texts = texts
        self._last_id = 0

    def decent(self, count: int) -> Iterator[bytes]:
        """Messages that a connection survives, each request under an id of its own."""
        for _ in range(count):
            kind = self._random.random()
            if kind < 0.75:
                yield self.request()
            elif kind < 0.9:
                yield self.cancel()
            elif kind < 0.95:
                yield msgpack.packb([2, self.text(), [self.value(2)]])
            else:
                yield msgpack.packb([0, self._next_id(), self.value(1), self.value(2)])

    def hostile(self, count: int) -> bytes:
        """What may end the connection at any byte."""
        return b"".join(self._hostile(frame) for frame in self.decent(count))

    def _hostile(self, frame: bytes) -> bytes:
        rng = self._random
        match rng.randrange(16):
            case 0:
                return rng.randbytes(rng.randrange(1, 40))
            case 1:
                return frame[: rng.randrange(1, len(frame))]
            case 2:
                place = rng.randrange(len(frame))
                return frame[:place] + bytes([rng.randrange(256)]) + frame[place + 1 :]
            case 3:
                return rng.choice(_HEADERS)
            case 4:
                return rng.choice((b"\x91", b"\x81\xa1a")) * rng.randrange(1, 3000)
            case 5:
                return b"\x94\x00" + msgpack.packb(self._next_id()) + b"\xabdaemon.ping\x91" + rng.choice(_ODD_VALUES)
            case 6:
                return frame * 2  # One id twice at once.
            case 7:
                return msgpack.packb([1, rng.randrange(100), None, self.value(2)])  # Nobody asked.
            case 8:
                return msgpack.packb([0, self._next_id(), "plugins.call", [{"plugin": "x" * rng.randrange(100_000)}]])
        return frame

    def request(self) -> bytes:
        """To any method, with params that are nearly right."""
        rng, method = self._random, self._random.choice(_METHODS)
        names = [field.name for field in fields(REQUESTS[method])]
        if rng.random() < 0.2:
            params: Any = [self.value(2) for _ in range(rng.randrange(len(names) + 2))]
        else:
            named = {name: self.value(2, name) for name in names if rng.random() < 0.6}
            for key in ("$deadline_ms", "$request_id", "$progress"):
                if rng.random() < 0.05:
                    named[key] = self.value(0)
            # So that what waits does not wait for ever.
            named.setdefault("$deadline_ms", rng.randrange(1, 200))
            params = [named] if rng.random() < 0.9 else named
        return bytes(msgpack.packb([0, self._next_id(), method, params]))

    def cancel(self) -> bytes:
        """Of what was asked a moment ago, mostly; or of what never was."""
        id_ = max(self._last_id - self._random.randrange(5), 0)
        return bytes(msgpack.packb([2, "rpc.cancel", [id_ if self._random.random() < 0.9 else self.value(1)]]))

    def text(self) -> str:
        rng = self._random
        if rng.random() < 0.7:
            return rng.choice((*self._texts, *_METHODS))
        return "".join(chr(rng.choice((0, 10, 47, 97, 0x2028, 0x1F980))) for _ in range(rng.randrange(8)))

    def value(self, depth: int, name: str = "") -> Any:
        rng = self._random
        if name in {"plugin", "job", "key", "name"} and rng.random() < 0.7:
            return rng.choice(self._texts)
        match rng.randrange(10 if depth else 7):
            case 0:
                return rng.choice((None, True, False))
            case 1:
                return rng.choice((0, 1, -1, 50, 2**31, 2**63 - 1, -(2**63)))
            case 2:
                return rng.choice((0.0, 0.01, -1.5, 1e300, float("nan"), float("inf")))
            case 3:
                return rng.randbytes(rng.randrange(8))
            case 4 | 5 | 6:
                return self.text()
            case 7 | 8:
                return [self.value(depth - 1) for _ in range(rng.randrange(4))]
        return {self.text(): self.value(depth - 1) for _ in range(rng.randrange(4))}

    def _next_id(self) -> int:
        self._last_id = (self._last_id + 1) % FIRST_SENTINEL
        return self._last_id

    def chance(self, share: float) -> bool:
        return self._random.random() < share


def sentinel(id_: int) -> bytes:
    return b"\x94\x00" + struct.pack(">BI", 0xCE, id_) + b"\xabdaemon.ping\x90"
