import datetime
import socket
import subprocess
import sys

import pytest

from supervisor.core.errors import InvalidParams
from supervisor.lifecycle.schemas import schema_faults, validate

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
