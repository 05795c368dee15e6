"""What a schema marks writeOnly is taken out of a configuration, wherever the mark stands."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.core.secrets import divide, marked

SECRET = {"writeOnly": True}


def below(**properties: Any) -> dict[str, Any]:
    return {"properties": properties}


@pytest.mark.parametrize(
    ("schema", "config", "shown", "secrets"),
    [
        ({}, {"a": 1}, {"a": 1}, {}),
        (True, {"a": 1}, {"a": 1}, {}),
        (below(a=SECRET), {"a": 1, "b": 2}, {"b": 2}, {"a": 1}),
        (below(a=SECRET), {}, {}, {}),
        (below(a={"writeOnly": False}), {"a": 1}, {"a": 1}, {}),
        (below(a={"writeOnly": "yes"}), {"a": 1}, {"a": 1}, {}),
        (below(writeOnly={"type": "string"}), {"writeOnly": 1}, {"writeOnly": 1}, {}),
        (below(a=below(b=below(c=SECRET))), {"a": {"b": {"c": 1, "d": 2}}}, {"a": {"b": {"d": 2}}}, {"a.b.c": 1}),
        (SECRET, {"a": 1, "b": {}}, {}, {"a": 1, "b": {}}),
        (below(a={**SECRET, **below(b={})}), {"a": {"b": 1}}, {}, {"a": {"b": 1}}),
        ({"allOf": [{"anyOf": [below(a=SECRET)]}]}, {"a": 1}, {}, {"a": 1}),
        ({"if": {}, "then": below(a=SECRET)}, {"a": 1}, {}, {"a": 1}),
        ({"dependentSchemas": {"b": below(a=SECRET)}}, {"a": 1}, {}, {"a": 1}),
        ({"patternProperties": {"_key$": SECRET}}, {"x_key": 1, "x": 2}, {"x": 2}, {"x_key": 1}),
        ({"additionalProperties": SECRET, **below(a={})}, {"a": 1, "b": 2}, {"a": 1}, {"b": 2}),
        (below(a={"$ref": "#/$defs/s"}) | {"$defs": {"s": SECRET}}, {"a": 1}, {}, {"a": 1}),
        (below(a={"$ref": "#s"}) | {"$defs": {"x": {"$anchor": "s", **SECRET}}}, {"a": 1}, {}, {"a": 1}),
        (below(a={"$ref": "#/nowhere"}), {"a": 1}, {}, {"a": 1}),
        (below(a={"$ref": "https://elsewhere/"}), {"a": 1}, {}, {"a": 1}),
        (below(k={"$ref": "#"}, s=SECRET), {"k": {"k": {"s": 1}, "x": 2}}, {"k": {"k": {}, "x": 2}}, {"k.k.s": 1}),
        (below(a={"items": SECRET}), {"a": [1, 2]}, {}, {"a": [1, 2]}),
        (below(a={"items": SECRET}), {"a": "no list"}, {"a": "no list"}, {}),
        (below(a={"items": below(t=SECRET)}), {"a": [{"t": 1}]}, {}, {"a": [{"t": 1}]}),
        (below(a={"items": below(t=SECRET)}), {"a": [{"u": 1}]}, {"a": [{"u": 1}]}, {}),
        (below(a={"items": {"items": below(t=SECRET)}}), {"a": [[{"t": 1}]]}, {}, {"a": [[{"t": 1}]]}),
    ],
)
def test_divided(schema: Any, config: dict[str, Any], shown: dict[str, Any], secrets: dict[str, Any]) -> None:
    assert divide(schema, config) == (shown, secrets)


def test_a_schema_that_refers_to_itself_ends() -> None:
    loop = {"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}}
    assert divide(loop, {"x": {"y": 1}}) == ({"x": {"y": 1}}, {})


def test_where_it_is_marked() -> None:
    schema = below(a=SECRET, b={"items": [below(c=SECRET)]}, d={"default": SECRET}) | {"$defs": {"writeOnly": SECRET}}
    assert marked(schema) == ["properties.a", "properties.b.items[0].properties.c", "$defs.writeOnly"]
    assert marked(SECRET) == [""]
    assert marked("no schema") == marked(None) == []
