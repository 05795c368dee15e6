"""Frame <-> message: shapes, value profile and depth are checked here. Pure.

The value profile is what every msgpack-RPC client can read: string keys, integers in int64, no ext types, text as str,
bytes as bin, a bounded depth.
"""

from __future__ import annotations

import itertools
from typing import Any, Final

import msgpack

from supervisor.core.errors import LocalProtocolError, RemoteProtocolError
from supervisor.wire.message import Failure, Malformed, Message, Notification, Request, Response

REQUEST: Final = 0
RESPONSE: Final = 1
NOTIFICATION: Final = 2
MAX_ID: Final = 2**32 - 1
MAX_CONTAINERS: Final = 2**17
"""Arrays and maps in one message. Each takes one byte to send and up to 64 to hold, and a look at every one: 4 MiB of
empty maps would keep everybody waiting for seconds."""
MAX_VALUES: Final = 2**18
"""Elements of arrays, and keys and values of maps, in one message: 4 MiB of small numbers would be a second's work."""
_INT64 = range(-(2**63), 2**63)
_KINDS: Final = {
    type(None): "nil",
    bool: "a boolean",
    str: "text",
    bytes: "bytes (msgpack bin)",
    list: "an array",
    dict: "a map",
}
_HARMLESS: Final = frozenset({str, bytes, bool, float, type(None)})
_SCALARS: Final = _HARMLESS | {int}
_CONTAINERS: Final = (dict, list, tuple)
_MANY: Final = 1000
_TOO_MANY: Final = f"a message holds more than {MAX_CONTAINERS} arrays and maps"
_TOO_MANY_VALUES: Final = f"a message holds more than {MAX_VALUES} values"
_UINT64: Final = b"\xcf"
"""How an integer above int64 begins: in a frame without this byte there is none."""


def decode(frame: bytes, *, max_depth: int) -> Message | Malformed:
    """The message in a whole frame; params that are one bare map come as a list of it.

    Raises:
        RemoteProtocolError: no message of the three shapes or a value outside the profile, and no id to answer to.
    """
    try:
        value = msgpack.unpackb(frame, max_ext_len=0, ext_hook=_refuse_ext, **_counting(frame))
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        too_long = "max_array_len" in str(error) or "max_map_len" in str(error)
        why = _TOO_MANY_VALUES if too_long else f"a frame cannot be decoded: {error!r}"
        raise RemoteProtocolError(why) from error
    message = _to_message(value)
    if isinstance(message, Malformed):
        return message
    if problem := profile_problem(_values(value), max_depth, check_integers=_UINT64 in frame):
        if isinstance(message, Request):
            return Malformed(message.id, message.method, problem)
        raise RemoteProtocolError(problem)
    return message


def _to_message(value: Any) -> Message | Malformed:
    # False == 0 and 1.0 == 1, so the kind is checked by its type too.
    if isinstance(value, list) and value and type(value[0]) is int:
        match value:
            case [0, int(id_), str(method), list(params)] if _is_id(id_):
                return Request(id_, method, params)
            case [0, int(id_), str(method), dict(params)] if _is_id(id_):
                return Request(id_, method, [params])
            case [0, int(id_), *rest] if _is_id(id_):
                return _malformed(id_, rest)
            case [1, int(id_), error, result] if _is_id(id_):
                return Response(id_, None if error is None else Failure.from_wire(error), result)
            case [2, str(method), list(params)]:
                return Notification(method, params)
            case [2, str(method), dict(params)]:
                return Notification(method, [params])
    raise RemoteProtocolError(
        f"a frame is no message but {_outline(value)}: "
        "expected [0, id, method, params], [1, id, error, result] or [2, method, params]",
    )


def _outline(value: Any) -> str:
    if not isinstance(value, list):
        return _kind(value)
    first = f" that begins with {value[0]}" if value and type(value[0]) is int else ""
    return f"an array of {len(value)}{first}"


def _malformed(id_: int, rest: list[Any]) -> Malformed:
    match rest:
        case [str(method), params]:
            return Malformed(id_, method, f"params must be an array or one map, not {_kind(params)}; [] for none")
        case [method, _]:
            return Malformed(id_, "", f"the method must be text (msgpack str), not {_kind(method)}")
    return Malformed(id_, "", f"a request has 4 parts, [0, id, method, params], and this one has {len(rest) + 2}")


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "a number")


def encode(message: Message, *, max_bytes: int, max_depth: int = 16, plain_errors: bool = False) -> bytes:
    """The frame of a message; `plain_errors` puts an error as a string.

    Raises:
        LocalProtocolError: a value outside the profile, or a frame longer than `max_bytes`.
    """
    match message:
        case Request(id_, method, params):
            value: list[Any] = [REQUEST, id_, method, params]
        case Response(id_, None, result):
            value = [RESPONSE, id_, None, result]
        case Response(id_, Failure() as failure, _):
            value = [RESPONSE, id_, failure.to_text() if plain_errors else failure.to_map(), None]
        case Notification(method, params):
            value = [NOTIFICATION, method, params]
    try:
        frame: bytes = msgpack.packb(value)
    except Exception as error:  # a subclass of list or dict raises what it likes
        raise LocalProtocolError(f"a value cannot be sent: {error}") from error
    if len(frame) > max_bytes:
        raise LocalProtocolError(
            f"a message of {len(frame)} bytes is longer than the limit of {max_bytes}",
            max_frame_bytes=max_bytes,
        )
    # After packing, which has bounded the size: a value that holds itself, or one part many times, is no trap here.
    if problem := profile_problem(_values(value), max_depth, check_integers=_UINT64 in frame):
        raise LocalProtocolError(f"a value cannot be sent: {problem}")
    return frame


def packed_size(value: Any) -> int:
    """Bytes that a value takes in a frame."""
    return len(msgpack.packb(value))


def count_values(value: Any, most: int = MAX_VALUES) -> int:
    """How many values a value holds, as a message counts them; counting ends somewhere above `most`."""
    count, level = 0, [value]
    while level and count <= most:
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                count += 2 * len(item)
                inner.extend(item.values())
            elif isinstance(item, list | tuple):
                count += len(item)
                inner.extend(item)
            if count > most:
                break
        level = [item for item in inner if isinstance(item, _CONTAINERS)]
    return count


def _values(envelope: list[Any]) -> list[Any]:
    """What a message carries: each of its params, or error and result."""
    if envelope[0] == RESPONSE:
        return envelope[2:]
    params = envelope[-1]
    return params if isinstance(params, list) else [params]


def profile_problem(values: list[Any], max_depth: int, *, check_integers: bool = True) -> str | None:
    """Why one of `values` is outside the value profile, or None. Walks once, without recursion."""
    level, containers, held = values, 0, 0
    for depth in range(max_depth + 1):
        inner: list[Any] = []
        for item in level if len(level) < _MANY else _remarkable(level, check_integers):
            if type(item) in _HARMLESS:
                continue
            if isinstance(item, _CONTAINERS):
                containers += 1
                if depth == max_depth:
                    return f"a value is nested deeper than {max_depth} levels"
                held += len(item)
                if held > MAX_VALUES:
                    return _TOO_MANY_VALUES
                if not isinstance(item, dict):
                    inner.extend(item)
                    continue
                held += len(item)
                if not all(issubclass(kind, str) for kind in set(map(type, item))):
                    return "map keys must be strings"
                inner.extend(item.values())
            elif isinstance(item, int) and item not in _INT64:
                return "integers must fit in 64 bits with sign"
        if containers > MAX_CONTAINERS:
            return _TOO_MANY
        if held > MAX_VALUES:
            return _TOO_MANY_VALUES
        if not inner:
            return None
        level = inner
    return None


def _remarkable(level: list[Any], check_integers: bool) -> list[Any]:
    """What may be outside the profile, or holds other values: of millions of numbers the outermost, without a step of
    the walk for each."""
    found = [item for item in level if type(item) not in _SCALARS]
    if check_integers and (numbers := [item for item in level if type(item) is int]):
        found += (min(numbers), max(numbers))
    return found


def _counting(frame: bytes) -> dict[str, Any]:
    """Hooks for a frame that is long enough to hold too much: decoding stops at the first container too many, at the
    length of one that is too long, and when those that are built hold too many values together."""
    if len(frame) <= MAX_CONTAINERS:
        return {}
    count, held = itertools.count(1), 0

    def hold(container: Any, values: int) -> Any:
        nonlocal held
        held += values
        if held > MAX_VALUES:
            raise ValueError(_TOO_MANY_VALUES)
        if next(count) > MAX_CONTAINERS:
            raise ValueError(_TOO_MANY)
        return container

    return {
        "list_hook": lambda items: hold(items, len(items)),
        "object_hook": lambda items: hold(items, 2 * len(items)),
        "max_array_len": MAX_VALUES,
        "max_map_len": MAX_VALUES // 2,
    }


def _is_id(value: int) -> bool:
    return not isinstance(value, bool) and 0 <= value <= MAX_ID


def _refuse_ext(code: int, _data: bytes) -> Any:
    raise ValueError(f"ext type {code} is outside the value profile")
