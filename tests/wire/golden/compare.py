"""What `rpc.describe` has promised against what it tells now: additions are welcome, changes are not. Pure.

The words for people (summaries, descriptions, titles) are no promise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

Map = Mapping[str, Any]
_WORDS: Final = frozenset({"title", "description", "$defs", "$ref"})
_STRUCTURE: Final = frozenset({"anyOf", "properties", "required", "items", "prefixItems", "additionalProperties"})
_MAY_BECOME_TRUE: Final = frozenset({"progress", "repeatable"})
"""More than was promised of a method breaks nobody."""


def changes(old: Map, new: Map) -> list[str]:
    """Each broken promise as a sentence, in order; none means that all who rely on `old` can live with `new`."""
    found = [
        *_facts("", old, new, ["protocol"]),
        *_limits(old["limits"], new["limits"]),
        *_roles(old["roles"], new["roles"]),
        *_each("method", old["methods"], new["methods"], _method),
        *_each("event", old["events"], new["events"], _event),
        *_each("notification", old["notifications"], new["notifications"], _notification),
        *_each("error", old["errors"], new["errors"], _error),
    ]
    return sorted(found)


def with_additions(old: Any, new: Any) -> Any:
    """`old`, and what `new` has beside it; the words for people are those of `new`."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return {
        **{name: with_additions(value, new[name]) if name in new else value for name, value in old.items()},
        **{name: value for name, value in new.items() if name not in old},
    }


def _each(what: str, old: Map, new: Map, compare: Callable[[str, Map, Map], Iterator[str]]) -> Iterator[str]:
    for name, promised in old.items():
        if name in new:
            yield from compare(f"{what} {name}", promised, new[name])
        else:
            yield f"{what} {name} is gone"


def _facts(of: str, old: Map, new: Map, names: list[str]) -> Iterator[str]:
    for name in names:
        now = new.get(name)
        if old[name] != now and not (name in _MAY_BECOME_TRUE and now is True):
            yield f"{of}: {name} was {old[name]!r}, and is {now!r}".removeprefix(": ")


def _limits(old: Map, new: Map) -> Iterator[str]:
    yield from _facts("limits", old, new, list(old))


def _roles(old: list[str], new: list[str]) -> Iterator[str]:
    if new[: len(old)] != old:
        yield f"roles were {old!r}, and are {new!r}"


def _method(of: str, old: Map, new: Map) -> Iterator[str]:
    yield from _facts(of, old, new, ["role", "deadline_ms", "survives_disconnect", "progress", "repeatable"])
    yield from _Comparison(old["params"], new["params"], is_result=False).run(f"{of}: params")
    yield from _positions(of, old["params"], new["params"])
    yield from _Comparison(old["result"], new["result"], is_result=True).run(f"{of}: result")


def _positions(of: str, old: Map, new: Map) -> Iterator[str]:
    """What is added to positional params comes last."""
    before, now = (list(_resolved(schema, schema).get("properties", {})) for schema in (old, new))
    if [name for name in now[: len(before)] if name in before] != [name for name in before if name in now]:
        yield f"{of}: the order of params was {', '.join(before)}, and is {', '.join(now)}"


def _event(of: str, old: Map, new: Map) -> Iterator[str]:
    yield from _Comparison(old["data"], new["data"], is_result=True).run(f"{of}: data")


def _notification(of: str, old: Map, new: Map) -> Iterator[str]:
    yield from _Comparison(old["params"], new["params"], is_result=True).run(f"{of}: params")


def _error(of: str, old: Map, new: Map) -> Iterator[str]:
    yield from _facts(of, old, new, ["code", "retryable"])


def _resolved(schema: Map, root: Map) -> Map:
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


class _Comparison:
    """Of two schemas. What clients say may come to be more, what they are told may not come to be less."""

    def __init__(self, old: Map, new: Map, *, is_result: bool) -> None:
        self._old, self._new = old, new
        self._is_result = is_result
        self._seen: set[tuple[str, str]] = set()

    def run(self, at: str) -> Iterator[str]:
        return self._compare(at, self._old, self._new)

    def _compare(self, at: str, old: Map, new: Map) -> Iterator[str]:
        names = (old.get("$ref", ""), new.get("$ref", ""))
        if all(names):
            if names in self._seen:
                return
            self._seen.add(names)
        old, new = _resolved(old, self._old), _resolved(new, self._new)
        if "anyOf" in old or "anyOf" in new:
            yield from self._compare_choices(at, old, new)
            return
        for key in sorted((old.keys() | new.keys()) - _WORDS - _STRUCTURE):
            if old.get(key) != new.get(key):
                yield f"{at}: {key} was {old.get(key)!r}, and is {new.get(key)!r}"
        yield from self._compare_fields(at, old, new)
        for key in ("items", "additionalProperties"):
            if isinstance(old.get(key), dict) and isinstance(new.get(key), dict):
                yield from self._compare(f"{at}[]", old[key], new[key])
            elif old.get(key) != new.get(key):
                yield f"{at}: {key} was {old.get(key)!r}, and is {new.get(key)!r}"
        if old.get("prefixItems") != new.get("prefixItems"):
            yield f"{at}: prefixItems was {old.get('prefixItems')!r}, and is {new.get('prefixItems')!r}"

    def _compare_choices(self, at: str, old: Map, new: Map) -> Iterator[str]:
        if old.get("default") != new.get("default"):
            yield f"{at}: default was {old.get('default')!r}, and is {new.get('default')!r}"
        before, now = (
            {self._kind(choice): choice for choice in schema.get("anyOf", [schema])} for schema in (old, new)
        )
        gone, added = before.keys() - now.keys(), now.keys() - before.keys()
        if gone or (added and self._is_result):
            yield f"{at}: type was {' | '.join(sorted(before))}, and is {' | '.join(sorted(now))}"
            return
        for kind in sorted(before):
            yield from self._compare(at, _without_default(before[kind]), _without_default(now[kind]))

    def _kind(self, schema: Map) -> str:
        return str(schema.get("$ref") or schema.get("type") or "anything").rpartition("/")[2]

    def _compare_fields(self, at: str, old: Map, new: Map) -> Iterator[str]:
        before, now = old.get("properties", {}), new.get("properties", {})
        needed_before, needed_now = set(old.get("required", [])), set(new.get("required", []))
        for name in before:
            if name not in now:
                yield f"{at}.{name} is gone"
                continue
            yield from self._compare(f"{at}.{name}", before[name], now[name])
            if self._is_result and name in needed_before - needed_now:
                yield f"{at}.{name} was always there, and is not"
        if not self._is_result:
            for name in sorted(needed_now - needed_before):
                yield f"{at}.{name} is required, and was not"


def _without_default(schema: Map) -> Map:
    return {name: value for name, value in schema.items() if name != "default"}
