import datetime
import socket
import subprocess
import sys
import time
from contextlib import suppress

import pytest
import trio
from jsonschema import Draft202012Validator

from supervisor.core.errors import InvalidParams, ResourceExhausted
from supervisor.lifecycle import schemas
from supervisor.lifecycle.schema_budget import Budget, Overrun
from supervisor.lifecycle.schema_checks import schema_faults as faults_within
from supervisor.lifecycle.schema_engine import errors_of
from supervisor.lifecycle.schemas import SchemaChecks
from supervisor.lifecycle.schemas import validate as validate_within

GOOD = {
    "type": "object",
    "required": ["city"],
    "additionalProperties": False,
    "properties": {
        "city": {"type": "string", "minLength": 2},
        "days": {"type": "integer", "maximum": 10},
        "tree": {"$ref": "#/$defs/tree"},
        "$ref": {"type": "string"},
    },
    "$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
}


def schema_faults(schema: object):
    return faults_within(schema, Budget(20))


def validate(schema: dict, value: object, what: str = "the value") -> None:
    validate_within(schema, value, what, Budget(20, references=20_000))


def faults(schema: object) -> list[str]:
    return [f"{place}: {fault.message}; {fault.hint}" for place, fault in schema_faults(schema)]


def test_a_good_schema_and_value():
    assert schema_faults(GOOD) == []
    validate(GOOD, {"city": "Ulm", "days": 3, "tree": [[], [[]]], "$ref": "x"}, "the configuration")


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ([], "must be a table"),
        ({"type": "strange"}, "type"),
        ({"properties": {"a": {"minimum": "x"}}}, "properties.a.minimum"),
        ({"pattern": "("}, "pattern: must be a valid regex"),
        ({"$ref": "https://example.com/schema"}, "only references inside"),
        ({"items": [{"$ref": "file:///etc/passwd"}]}, "items"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "only references inside"),
        ({"allOf": [{"$ref": "#/$defs/none"}]}, "leads nowhere"),
        ({"$ref": "#"}, "refers to itself without end"),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "without end"),
        ({"default": datetime.date(2026, 1, 1)}, "default: a date is no JSON value"),
        ({"maximum": float("inf")}, "maximum: inf is no JSON number"),
    ],
)
def test_what_is_no_schema(schema, message):
    assert any(message in told for told in faults(schema))


def test_a_schema_that_is_nested_without_end():
    schema: dict = {}
    for _ in range(5000):
        schema = {"not": schema}
    assert [told.partition("not: ")[2] for told in faults(schema)] == ["is nested more than 32 deep; None"]


def test_data_is_no_reference():
    assert schema_faults({"const": {"$ref": "https://example.com"}, "default": {"$ref": "x"}}) == []


def test_all_problems_are_told_and_no_value_is():
    with pytest.raises(InvalidParams) as caught:
        validate(GOOD, {"days": 11, "city": "s", "extra": "s3cret", "tree": ["s3cret"]}, "the configuration")
    problems = {problem["path"] for problem in caught.value.details["problems"]}
    assert problems == {"(the whole)", "city", "days", "tree[0]"}
    assert "the configuration has 4 problems" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert "'extra'" in str(caught.value)
    assert "tree[0]: must be array" in str(caught.value)


def test_a_value_that_is_nested_without_end():
    value: list = []
    for _ in range(5000):
        value = [value]
    with pytest.raises(InvalidParams, match="nested too deeply"):
        validate(GOOD, {"city": "Ulm", "tree": value}, "the configuration")


def test_nothing_is_fetched(monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    # Even when it was stored by somebody who did not check it.
    with pytest.raises(InvalidParams, match="leads nowhere"):
        validate({"$ref": "http://127.0.0.1:9/schema"}, 1, "x")


def test_importing_it_costs_no_jsonschema():
    code = "import sys, supervisor.lifecycle.schemas; print('jsonschema' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, '"$schema": names another draft'),
        ({"properties": {"a": {"$id": "https://example.com/a"}}}, 'properties.a."$id": is for the whole schema only'),
        ({"type": "objekt"}, "type: must be one of array, boolean, integer, null, number, object, string; did you"),
        ({"properties": {"a b": {"minLength": -1}}}, 'properties."a b".minLength: does not fit'),
        ({"allOf": [{}, {"$ref": "#/$defs/x"}]}, "allOf[1].\"$ref\": '#/$defs/x' leads nowhere"),
        ({"anyOf": [True, {"$ref": "#"}]}, ": refers to itself without end"),
        ({"dependentSchemas": {"a": {"$ref": "#"}}}, ": refers to itself without end"),
        ({"maximum": 2**63}, "maximum: is a number of more than 64 bits"),
    ],
)
def test_the_place_and_the_way_out(schema, told):
    assert any(each.startswith(told) for each in faults(schema)), faults(schema)


def test_all_faults_of_a_schema_at_once():
    places = [place for place, _ in schema_faults({"type": "x", "required": "a", "properties": {"b": {"type": 1}}})]
    assert places == ["properties.b.type", "required", "type"]


def test_the_draft_may_be_named():
    assert schema_faults({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object"}) == []
    assert schema_faults({"$id": "https://example.com/s", "$ref": "#/$defs/a", "$defs": {"a": {}}}) == []
    assert schema_faults(True) == []


def chain(levels):
    defs = {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(levels)}
    return {"$ref": "#/$defs/a0", "$defs": {**defs, f"a{levels}": {"type": "object"}}}


def test_references_that_double_at_each_step():
    assert schema_faults(chain(4)) == []
    [told] = faults(chain(14))
    assert "schemas to check one value; 1000 is the most" in told
    [told] = faults(chain(40))
    assert "over more than 32 schemas" in told


def test_references_that_branch_with_the_value():
    schema = {"properties": {"a": {"allOf": [{"$ref": "#"}] * 30}}}
    assert schema_faults(schema) == []
    value: dict = {}
    for _ in range(15):
        value = {"a": value}
    with pytest.raises(InvalidParams, match="takes too many references"):
        validate(schema, value, "the configuration")
    validate(schema, {"a": {"a": {}}}, "the configuration")


ENDLESS = r"(?:^(a+)+$)|^(?:a|aa)+$"
HOSTILE = "a" * 60 + "!"

AGREED = [
    ({"pattern": "^a+$"}, ["", "a", "aab", 1]),
    ({"pattern": r"^\d{2}$"}, ["12", "1", "12\n"]),
    (
        {"patternProperties": {"^x": {"type": "string"}, "z$": {"maxLength": 1}}},
        [{}, {"xz": 1}, {"xz": "ab"}, [], {"a": 1}],
    ),
    (
        {"properties": {"a": True}, "patternProperties": {"^x": True}, "additionalProperties": False},
        [{"a": 1, "x": 1}, {"b": 1}, []],
    ),
    ({"properties": {"a": True}, "additionalProperties": {"type": "string"}}, [{"a": 1, "b": "s"}, {"b": 1}]),
    ({"additionalProperties": True}, [{"b": 1}]),
    (
        {"allOf": [{"properties": {"a": True}}, {"patternProperties": {"^x": True}}], "unevaluatedProperties": False},
        [{"a": 1, "x": 2}, {"b": 1}, {}],
    ),
    (
        {"$ref": "#/$defs/a", "$defs": {"a": {"properties": {"a": True}}}, "unevaluatedProperties": {"type": "null"}},
        [{"a": 1}, {"a": 1, "b": None}, {"b": 1}],
    ),
    (
        {
            "if": {"properties": {"a": {"const": 1}}},
            "then": {"properties": {"b": True}},
            "unevaluatedProperties": False,
        },
        [{"a": 1, "b": 1}, {"a": 2}, {"b": 2}, {"a": 1, "c": 1}],
    ),
    (
        {"dependentSchemas": {"a": {"properties": {"a": True, "b": True}}}, "unevaluatedProperties": False},
        [{"a": 1, "b": 1}, {"b": 1}],
    ),
    (
        {"anyOf": [{"additionalProperties": {"type": "null"}}, {}], "unevaluatedProperties": False},
        [{"a": None}, {"a": 1}],
    ),
    (
        {"prefixItems": [True], "contains": {"type": "string"}, "unevaluatedItems": False},
        [[1, "a"], [1, "a", 2], ["a"]],
    ),
    ({"anyOf": [{"items": {"type": "string"}}, {}], "unevaluatedItems": False}, [["a"], [1], []]),
    ({"oneOf": [{"prefixItems": [{"const": 1}]}, False], "unevaluatedItems": {"const": 7}}, [[1, 7], [1, 8]]),
    (
        {"uniqueItems": True},
        [[1, True], [1, 1.0], [0, False], ["1", 1], [[1], [True]], [{"a": 1}, {"a": 1.0}], [{}, []]],
    ),
    ({"uniqueItems": True}, [[{"a": 1, "b": 2}, {"b": 2, "a": 1}], [None, None], [[], []], "aa"]),
    ({"uniqueItems": False}, [[1, 1]]),
    ({"items": {"type": "string"}, "prefixItems": [True]}, [[1, "a"], [1, 1]]),
    ({"items": False}, [[], [1]]),
    ({"contains": {"type": "string"}, "minContains": 2, "maxContains": 3}, [["a"], ["a"] * 2, ["a"] * 4, [], "a"]),
    ({"contains": True}, [[], [1]]),
    ({"contains": False, "minContains": 0}, [[], [1]]),
]


@pytest.mark.parametrize(("schema", "values"), AGREED, ids=lambda each: str(each)[:40])
def test_the_keywords_of_our_own_say_what_jsonschema_says(schema, values):
    stock = Draft202012Validator(schema)
    for value in values:
        wanted = sorted((list(error.absolute_path), error.validator) for error in stock.iter_errors(value))
        ours = errors_of(schema, value, Budget(20))
        assert sorted((list(error.absolute_path), error.validator) for error in ours) == wanted, value


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": ENDLESS}, HOSTILE),
        ({"patternProperties": {ENDLESS: True}}, {HOSTILE: 1}),
        ({"patternProperties": {ENDLESS: True}, "additionalProperties": False}, {HOSTILE: 1}),
        ({"allOf": [{"patternProperties": {ENDLESS: True}}], "unevaluatedProperties": False}, {HOSTILE: 1}),
        (
            {"properties": {"a": {"$schema": "http://json-schema.org/draft-07/schema#", "pattern": ENDLESS}}},
            {"a": HOSTILE},
        ),
        ({"items": {"contains": False}}, [list(range(100_000))] * 50),
        ({"contains": {"title": "x"}, "maxContains": 10**9}, list(range(1_000_000))),
        ({"unevaluatedItems": {"title": "x"}}, list(range(1_000_000))),
        ({"uniqueItems": True}, [[{"a": i}] for i in range(400_000)]),
        ({"anyOf": [{"items": {"type": "string"}}] * 20}, list(range(100_000))),
        ({"allOf": [{"type": "null"}] * 900}, ["x" * 2_000_000]),
    ],
    ids=lambda each: str(each)[:40],
)
def test_every_check_ends(schema, value):
    begun = time.process_time()
    with suppress(Overrun):
        validate_within(schema, value, "x", Budget(0.05))
    assert time.process_time() - begun < 2


def test_uniqueness_does_not_compare_each_with_each():
    begun = time.process_time()
    validate({"uniqueItems": True}, [{"a": i} for i in range(3000)])
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"properties": {"a": {"pattern": "("}}}, "properties.a.pattern: must be a valid regex: '(': "),
        ({"patternProperties": {"[": {}}}, "patternProperties: must be a valid regex: '[': "),
        ({"pattern": "a" * 3000}, "has more than 2000 characters"),
        ({"pattern": "(?R)a"}, "calls itself"),
        ({"pattern": "(" * 1000 + ")" * 1000}, "is nested too deeply"),
        ({"const": {"pattern": "("}, "$ref": "#/const"}, "'#/const' leads to no schema"),
        ({"x": {"pattern": 5}, "$ref": "#/x"}, '"$ref".pattern: must be string'),
    ],
)
def test_what_cannot_be_checked_with(schema, told):
    assert any(told in each for each in faults(schema)), faults(schema)


def test_a_schema_that_takes_for_ever_to_look_at():
    begun = time.process_time()
    values = [value for i in range(20_000) for value in (i, str(i))]
    [(place, fault)] = faults_within({"required": values}, Budget(0.2))
    assert (place, "cannot be checked within 0.2 s" in str(fault)) == ("", True)
    assert time.process_time() - begun < 3


async def longest_stall(until: trio.Event) -> float:
    longest, before = 0.0, time.monotonic()
    while not until.is_set():
        await trio.sleep(0.001)
        now = time.monotonic()
        longest, before = max(longest, now - before), now
    return longest


async def test_the_event_loop_goes_on_meanwhile(monkeypatch):
    monkeypatch.setattr(schemas, "ASIDE_S", 0.5)
    checks, over, told = SchemaChecks(), trio.Event(), []
    await checks.validate("warm", {"pattern": "a"}, "a", "x")

    async def check(plugin: str, schema: dict, value: object) -> None:
        with pytest.raises((InvalidParams, ResourceExhausted)) as caught:
            await checks.validate(plugin, schema, value, "params of m")
        told.append(str(caught.value))

    async def watch() -> None:
        stalls.append(await longest_stall(over))

    stalls: list[float] = []
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            async with trio.open_nursery() as hostile:
                for i in range(4):
                    hostile.start_soon(check, f"p{i}", {"pattern": ENDLESS}, HOSTILE)
                    hostile.start_soon(check, f"q{i}", {"items": {"contains": False}}, [list(range(100_000))] * 50)
            over.set()
    assert any("params of m: cannot be checked against its schema within 0.5 s: simplify" in each for each in told)
    assert stalls[0] < 1, stalls  # a twentieth of a second where nothing else runs


async def test_one_plugin_takes_one_thread():
    checks, ended = SchemaChecks(), []
    await checks.validate("warm", {"pattern": "a"}, "a", "x")

    async def check(plugin: str, schema: dict, value: object) -> None:
        with suppress(InvalidParams):
            await checks.validate(plugin, schema, value, "x")
        ended.append(plugin)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(check, "hostile", {"pattern": ENDLESS}, HOSTILE)
            await check("other", {"uniqueItems": True}, [[{"a": i}] for i in range(40_000)])
            assert ended == ["other"]
            nursery.cancel_scope.cancel()


async def test_who_waits_too_long_is_told_and_the_next_one_is_served(monkeypatch):
    monkeypatch.setattr(schemas, "ASIDE_S", 0.3)
    checks, refused = SchemaChecks(), []

    async def check() -> None:
        try:
            await checks.validate("acme", {"pattern": ENDLESS}, HOSTILE, "x")
        except ResourceExhausted as error:
            refused.append(error.details)
        except InvalidParams:
            pass

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(check)
        assert refused
        assert refused[0] == {"plugin": "acme"}
        await checks.validate("acme", {"pattern": "^a+$"}, "aaa", "x")
