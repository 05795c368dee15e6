"""What a schema marks writeOnly is taken out of a configuration, wherever the mark stands."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.core.secrets import MASK, divide, hide, is_reference, marked, mask, spoken, unmask

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


# --- masks ---

WALLET = below(token=SECRET, db=below(host={}, password=SECRET), keys={"items": SECRET}, vault=SECRET)
STORED = {
    "token": "t",
    "db": {"host": "h", "password": "p"},
    "keys": ["a", "b"],
    "vault": {"x": {"y": 1}, "z": 2},
    "plain": MASK,
}


def test_masked() -> None:
    assert mask(WALLET, STORED) == {
        "token": MASK,
        "db": {"host": "h", "password": MASK},
        "keys": MASK,
        "vault": MASK,
        "plain": MASK,
    }
    assert mask(WALLET, {"token": None, "db": {}}) == {"token": MASK, "db": {}}


def test_a_reference_says_where_a_secret_is_and_is_shown() -> None:
    config = {"token": "$file:/run/token", "db": {"password": "$credential:db"}, "vault": {"x": "$file:/a"}}
    shown = {"token": "$file:/run/token", "db": {"password": "$credential:db"}, "vault": MASK}
    assert mask(WALLET, config) == shown
    assert [is_reference(text) for text in ("$file:/a", "$credential:", "$$file:/a", " $file:/a", "$FILE:/a", 1)] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (mask(WALLET, STORED), STORED),
        ({"token": MASK}, {"token": "t"}),
        ({"token": "new", "keys": MASK}, {"token": "new", "keys": ["a", "b"]}),
        ({"vault": {"x": MASK, "z": 3}}, {"vault": {"x": {"y": 1}, "z": 3}}),
        ({"vault": {"x": {"y": MASK}}}, {"vault": {"x": {"y": 1}}}),
        ({"db": {"password": f" {MASK}"}}, {"db": {"password": f" {MASK}"}}),
        ({"plain": MASK, "more": {"deep": MASK}}, {"plain": MASK, "more": {"deep": MASK}}),
    ],
)
def test_unmasked(sent: dict[str, Any], stored: dict[str, Any]) -> None:
    assert unmask(WALLET, sent, STORED) == (stored, [])


@pytest.mark.parametrize(
    ("sent", "paths"),
    [
        ({"token": MASK, "db": {"password": MASK}}, ["token", "db.password"]),
        ({"vault": {"nothing": MASK}}, ["vault.nothing"]),
        ({"keys": ["new", MASK]}, ["keys"]),
        ({"keys": [{"deep": [MASK]}]}, ["keys"]),
        ({"vault": {"x": [MASK]}}, ["vault.x"]),
    ],
)
def test_a_mask_that_stands_for_nothing(sent: dict[str, Any], paths: list[str]) -> None:
    stored: dict[str, Any] = {"token": "t"} if "keys" in sent else {"db": "no table"}
    _, problems = unmask(WALLET, sent, stored)
    assert [path for path, _ in problems] == paths
    assert all(MASK in message for _, message in problems)


# --- messages ---


@pytest.mark.parametrize(
    ("words", "secret", "hidden"),
    [
        ("no secret in it", "s3cret", "no secret in it"),
        ("login with s3cret: s3cret!", "s3cret", f"login with {MASK}: {MASK}!"),
        (repr("a\nb'\"é"), "a\nb'\"é", f"'{MASK}'"),
        ('{"k": "a\\nb\\u00e9"}', "a\nbé", f'{{"k": "{MASK}"}}'),
        ("pin 1234", 1234, f"pin {MASK}"),
        ("it is True, true, None", [True, None], "it is True, true, None"),
        ("b'\\xff'", b"\xff", f"b'{MASK}'"),
        ("a.*b axxb", "a.*b", f"{MASK} axxb"),
        ("**", "*", MASK + MASK),
        ("", "", ""),
        ("abc", {"x": ["ab", {"y": "abc"}]}, MASK),
        ({"tail": ["x s3cret"], "code": 3}, "s3cret", {"tail": [f"x {MASK}"], "code": 3}),
    ],
)
def test_what_no_message_says(words: Any, secret: Any, hidden: Any) -> None:
    assert hide(words, frozenset(spoken(secret))) == hidden
