"""Requests to bytes, bytes to answers: the asking half of wire.Peer for the blocking client. Pure.

The same messages as `supervisor.wire.peer`, to which its tests hold it. That one is built of dataclasses, and importing
those would more than double the start-up of every small program and of pluginctl.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgpack

from supervisor.core.errors import (
    NUMBERS,
    InvalidParams,
    LocalProtocolError,
    RemoteProtocolError,
    SupervisorError,
    error_from_code,
)

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from typing import Any

MAX_FRAME_IN_BYTES = 4 * 1024 * 1024
MAX_FRAME_OUT_BYTES = 1024 * 1024
_MAX_ID = 2**32 - 1
_REQUEST, _RESPONSE, _NOTIFICATION = 0, 1, 2


class Answer:
    """The answer to request `id`."""

    __slots__ = ("error", "id", "result")

    def __init__(self, id_: int, error: SupervisorError | None, result: Any) -> None:
        self.id = id_
        self.error = error
        self.result = result


class Said:
    """A notification."""

    __slots__ = ("method", "params")

    def __init__(self, method: str, params: list[Any]) -> None:
        self.method = method
        self.params = params


class Asked:
    """A request of the daemon's, which we do not serve: send `reply`."""

    __slots__ = ("reply",)

    def __init__(self, reply: bytes) -> None:
        self.reply = reply


class Frames:
    """One connection's ids and half-read frames."""

    def __init__(self) -> None:
        self._next_id = 0
        self._unpacker = msgpack.Unpacker(max_buffer_size=MAX_FRAME_IN_BYTES, max_ext_len=0)

    def request(self, method: str, params: list[Any]) -> tuple[int, bytes]:
        """A new call: its id and its frame.

        Raises:
            InvalidParams: a text in them is no Unicode, such as a file name of other bytes.
            LocalProtocolError: the params cannot be sent.
        """
        id_ = self._next_id
        try:
            frame: bytes = msgpack.packb([_REQUEST, id_, method, params])
        except UnicodeEncodeError as error:
            raise InvalidParams(
                f"'{_with_bytes(error.object)}' is no UTF-8, and plugind takes no other names and texts: rename it"
            ) from None
        except (ValueError, TypeError, OverflowError) as error:
            raise LocalProtocolError(f"a param of {method} cannot be sent: {error}") from None
        if len(frame) > MAX_FRAME_OUT_BYTES:
            raise LocalProtocolError(
                f"the params of {method} make {len(frame)} bytes; at most {MAX_FRAME_OUT_BYTES} can be sent",
                max_frame_bytes=MAX_FRAME_OUT_BYTES,
            )
        self._next_id = (id_ + 1) & _MAX_ID
        return id_, frame

    def notification(self, method: str, params: list[Any]) -> bytes:
        """Its frame."""
        frame: bytes = msgpack.packb([_NOTIFICATION, method, params])
        return frame

    def receive(self, data: bytes) -> Iterator[Answer | Said | Asked]:
        """What is whole now, in order.

        Raises:
            RemoteProtocolError: the connection cannot go on.
        """
        try:
            self._unpacker.feed(data)
            for message in self._unpacker:
                yield _classify(message)
        except msgpack.BufferFull:
            raise RemoteProtocolError(f"a frame is longer than {MAX_FRAME_IN_BYTES} bytes") from None
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise RemoteProtocolError(f"what plugind sent cannot be read: {error!r}") from None


def to_error(value: Any) -> SupervisorError:
    """The exception for what stands in an error slot: a map, or a string `NAME: message`."""
    if isinstance(value, dict):
        data = value.get("data")
        name, message = str(value.get("name", "INTERNAL")), str(value.get("message", ""))
        return error_from_code(name, message, data if isinstance(data, dict) else {})
    text = value if isinstance(value, str) else repr(value)
    name, colon, message = text.partition(": ")
    if colon and name in NUMBERS:
        return error_from_code(name, message, {})
    return error_from_code("INTERNAL", text, {})


def _with_bytes(text: str) -> str:
    """As in `caf\\xe9`: what Python puts for bytes that it could not read is put back."""
    odd = (f"\\x{ord(c) - 0xDC00:02x}" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in text)
    return "".join(odd).encode(errors="backslashreplace").decode()


def _classify(message: Any) -> Answer | Said | Asked:
    match message:
        case [1, int(id_), error, result]:
            return Answer(id_, None if error is None else to_error(error), result)
        case [2, str(method), list(params)]:
            return Said(method, params)
        case [0, int(id_), str(method), list(_)]:
            refusal = f"METHOD_NOT_FOUND: {method!r} is not served at this end"
            return Asked(msgpack.packb([_RESPONSE, id_, refusal, None]))
    raise RemoteProtocolError("what plugind sent is no message of msgpack-RPC")
