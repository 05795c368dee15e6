"""rpc.describe is whole: whatever a client can ask, hear or be refused with is in it, and is what really comes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any, get_type_hints

import pytest
from jsonschema import Draft202012Validator

from client.protocol import READS
from supervisor.control.describe import describe
from supervisor.core.errors import CLASSES, NUMBERS
from supervisor.core.event import EVENT_TYPES, EVENTS, RUN_ENDS, Event, PluginEmitted
from supervisor.core.job import TERMINAL
from supervisor.core.plugin import PluginId, PluginKey
from supervisor.wire.control import NOTIFICATIONS, REQUESTS, Role

TOLD: Any = describe()
SAMPLES: dict[Any, Any] = {str: "x", int: 1, bool: True, float: 0.5, list[str]: ["x"], list[int]: [1], Any: {"a": 1}}
KINDS = {"string": str, "integer": int, "boolean": bool, "number": float, "array": list, "null": type(None)}


def sample(hint: Any) -> Any:
    """Of a field; of one that may be None, something."""
    hint = str if hint in {PluginId, PluginKey} else hint
    options = getattr(hint, "__args__", ()) if hint not in SAMPLES else ()
    return SAMPLES[hint] if not options else next(SAMPLES[option] for option in options if option is not type(None))


def an(event: type[Event]) -> Event:
    return event(**{name: sample(hint) for name, hint in get_type_hints(event).items() if name != "TYPE"})


def schemas() -> Iterator[tuple[str, Any]]:
    for name, method in TOLD["methods"].items():
        yield f"{name} params", method["params"]
        yield f"{name} result", method["result"]
    yield from ((name, event["data"]) for name, event in TOLD["events"].items())
    yield from ((name, notification["params"]) for name, notification in TOLD["notifications"].items())


def references(value: Any) -> Iterator[str]:
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from references(item)
    if isinstance(value, dict) and "$ref" in value:
        yield value["$ref"].rpartition("/")[2]


def test_everything_is_there_in_order() -> None:
    assert list(TOLD["methods"]) == sorted(REQUESTS)
    assert list(TOLD["events"]) == sorted({*EVENT_TYPES, "emitted.*"})
    assert list(TOLD["notifications"]) == sorted(NOTIFICATIONS)
    assert list(TOLD["errors"]) == list(NUMBERS)
    assert TOLD["roles"] == ["observer", "operator", "admin"]


def test_everything_has_its_sentence() -> None:
    for part in ("methods", "events", "notifications", "errors"):
        for name, one in TOLD[part].items():
            assert one["summary"].endswith((".", ":")), name
            assert len(one["summary"]) < 250, name
            assert "\n" not in one["summary"], name
    for name, method in TOLD["methods"].items():
        assert method["description"].startswith(method["summary"]), name


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_a_method_is_what_it_is_declared(name: str) -> None:
    method, request = TOLD["methods"][name], REQUESTS[name]
    definition = method["params"]["$defs"][request.__name__]
    assert list(definition["properties"]) == [field.name for field in fields(request)]
    assert Role[method["role"].upper()] is request.ROLE
    assert method["survives_disconnect"] is request.CHANGES
    assert method["deadline_ms"] in {None, 30_000}
    assert not (method["survives_disconnect"] and method["repeatable"])


def test_what_may_be_repeated_is_what_the_clients_repeat() -> None:
    assert {name for name, method in TOLD["methods"].items() if method["repeatable"]} == READS


def test_which_methods_tell_progress() -> None:
    assert [name for name, it in TOLD["methods"].items() if it["progress"]] == ["plugins.install", "plugins.upgrade"]


def test_the_method_of_an_operator() -> None:
    told = {
        name: value for name, value in TOLD["methods"]["plugins.enable"].items() if name not in {"params", "result"}
    }
    assert told == {
        "summary": "Make a disabled, failed or upgrade-pending plugin ready again.",
        "description": "Make a disabled, failed or upgrade-pending plugin ready again.",
        "role": "operator",
        "deadline_ms": None,
        "survives_disconnect": True,
        "repeatable": False,
        "progress": False,
    }


@pytest.mark.parametrize("type_", sorted(EVENTS))
def test_an_event_says_what_its_schema_says(type_: str) -> None:
    check_data(an(EVENTS[type_]), TOLD["events"][type_]["data"])


def test_an_emitted_event_says_what_its_schema_says() -> None:
    check_data(an(PluginEmitted), TOLD["events"]["emitted.*"]["data"])


def check_data(event: Event, schema: Any) -> None:
    data = event.data()
    assert set(data) == set(schema["properties"]) == set(schema["required"])
    for name, value in data.items():
        kind = schema["properties"][name]
        allowed = [KINDS[one["type"]] for one in kind.get("anyOf", [kind]) if "type" in one]
        assert not allowed or isinstance(value, tuple(allowed)), name


def test_every_end_of_a_run_is_an_event() -> None:
    assert set(RUN_ENDS) == {str(state) for state in TERMINAL}


def test_errors() -> None:
    for name, kind in CLASSES.items():
        told = TOLD["errors"][name]
        assert (told["code"], told["retryable"]) == (NUMBERS[name], kind.retryable)


def test_no_schema_points_outside_itself() -> None:
    for name, schema in schemas():
        assert set(references(schema)) <= set(schema.get("$defs", {})), name


def test_the_schemas_are_schemas() -> None:
    for _, schema in schemas():
        Draft202012Validator.check_schema(schema)
