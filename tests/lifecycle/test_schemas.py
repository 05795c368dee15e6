import datetime
import socket
import subprocess
import sys

import pytest

from supervisor.core.errors import InvalidParams
from supervisor.lifecycle.schemas import schema_problem, validate

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


def test_a_good_schema_and_value():
    assert schema_problem(GOOD) is None
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
    assert message in (schema_problem(schema) or "")


def test_a_schema_that_is_nested_without_end():
    schema: dict = {}
    for _ in range(5000):
        schema = {"not": schema}
    assert "nested more than" in (schema_problem(schema) or "")


def test_data_is_no_reference():
    assert schema_problem({"const": {"$ref": "https://example.com"}, "default": {"$ref": "x"}}) is None


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
