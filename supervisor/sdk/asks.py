"""Each request of a handler to plugind: its method, its params and how its answer is read. Pure.

The blocking and the async context have the same requests; they differ in how they wait.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from supervisor.core.errors import InvalidParams

TIMEOUT_S: Final = 30.0
UPDATE_ATTEMPTS: Final = 100
"""Of `state.update`. Each that fails is another's success, so that more of them mean a mistake."""
_PAGE: Final = 500
_KINDS: Final = ("gauge", "counter")
_AFTERWARDS_S: Final = 5.0
"""How much longer to wait than plugind was told to: its own answer says more than our giving up."""


class Ask(NamedTuple):
    method: str
    params: Mapping[str, Any]
    read: Callable[[Any], Any]
    timeout_s: float | None = TIMEOUT_S


def emit(name: str, payload: Any) -> Ask:
    return Ask("events.emit", {"name": name, "payload": payload}, lambda answer: int(answer["seq"]))


def get_config() -> Ask:
    return Ask("config.get", {}, lambda answer: answer["config"])


def secret(name: str) -> Ask:
    return Ask("secrets.get", {"name": name}, lambda answer: answer["value"])


def metric(name: str, value: float, kind: str, labels: Mapping[str, Any]) -> Ask:
    """Raises: InvalidParams: the kind is none, or the value no number."""
    if kind not in _KINDS:
        raise InvalidParams(f"metric {name!r}: the kind must be gauge or counter, not {kind!r}", kind=kind)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidParams(f"metric {name!r}: the value must be a number, not {value!r}")
    texts = {label: str(text) for label, text in labels.items()}
    sample = {"name": name, "value": float(value), "kind": kind, "labels": texts}
    return Ask("metrics.write", {"metrics": [sample]}, _nothing)


def plugins() -> Ask:
    return Ask("plugins.list", {}, lambda answer: answer["plugins"])


def call(plugin: str, method: str, params: Any, timeout_s: float | None) -> Ask:
    asked = {"plugin": plugin, "method": method, "params": params, "timeout_s": timeout_s}
    patience = None if timeout_s is None else timeout_s + _AFTERWARDS_S
    return Ask("plugins.call", asked, lambda answer: answer["result"], patience)


def state_get(key: str, default: Any) -> Ask:
    return Ask("state.get", {"key": key}, lambda answer: answer["value"] if answer["found"] else default)


def state_get_with_revision(key: str, default: Any) -> Ask:
    """Its answer is read as (value, revision), revision 0 where there is no such key."""

    def read(answer: Any) -> tuple[Any, int]:
        return (answer["value"] if answer["found"] else default), answer["revision"]

    return Ask("state.get", {"key": key}, read)


def state_set(key: str, value: Any, if_revision: int | None) -> Ask:
    asked = {"key": key, "value": value, "if_revision": if_revision}
    return Ask("state.set", asked, lambda answer: int(answer["revision"]))


def state_delete(key: str, if_revision: int | None) -> Ask:
    return Ask("state.delete", {"key": key, "if_revision": if_revision}, lambda answer: bool(answer["found"]))


def state_page(prefix: str, after: str | None) -> Ask:
    """Its answer is read as ([(key, value), …], the next page's `after` or None)."""

    def read(answer: Any) -> tuple[list[tuple[str, Any]], str | None]:
        return [(entry["key"], entry["value"]) for entry in answer["entries"]], answer["next"]

    return Ask("state.list", {"prefix": prefix, "after": after, "limit": _PAGE}, read)


def progress(run_id: str, fraction: float | None, message: str | None) -> dict[str, Any]:
    """The params of the notification `run.progress`.

    Raises:
        InvalidParams: the fraction is not from 0 to 1.
    """
    if fraction is not None and not 0 <= fraction <= 1:
        raise InvalidParams(f"progress is a fraction from 0 to 1, or None, not {fraction!r}")
    return {"run_id": run_id, "fraction": None if fraction is None else float(fraction), "message": message}


def _nothing(_: Any) -> None:
    return None
