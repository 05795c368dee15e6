"""pluginctl describe: schemas in words."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from client.cli.schema_text import properties, type_text
from client.errors import NotFound
from supervisor.control.describe import describe
from supervisor.wire.control import REQUESTS
from tests.client import samples
from tests.client.fake_daemon import FakeDaemon

Ctl = Callable[[str], int]
NESTED: dict[str, Any] = {
    "$ref": "#/$defs/A",
    "$defs": {"A": {"title": "A", "type": "object", "properties": {"self": {"$ref": "#/$defs/A"}}}},
}


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({}, "anything"),
        ({"type": "string"}, "text"),
        ({"anyOf": [{"type": "number"}, {"type": "null"}]}, "number or none"),
        ({"type": ["integer", "null"]}, "whole number or none"),
        ({"type": "array", "items": {"type": "boolean"}}, "list of true or false"),
        ({"type": "object"}, "map"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "map of whole number"),
        ({"enum": ["a", 1]}, '"a" | 1'),
        ({"type": "of_a_newer_daemon"}, "of_a_newer_daemon"),
        ({"$ref": "#/$defs/nowhere"}, "anything"),
        (NESTED, "A"),
        ({"type": "array", "items": {"$ref": "#/$defs/A"}, "$defs": NESTED["$defs"]}, "list of A"),
    ],
)
def test_types(schema: dict[str, Any], text: str) -> None:
    assert type_text(schema, schema) == text


def test_what_a_map_holds() -> None:
    whole = {
        "type": "object",
        "required": ["a"],
        "properties": {
            "a": {"type": "string"},
            "b": {"type": "integer", "default": 5},
            "c": {"type": "array", "items": {"type": "string"}},
        },
    }
    assert properties(whole, whole) == {
        "a": "text",
        "b": "whole number; may be left out (5)",
        "c": "list of text; may be left out ([])",
    }
    assert properties(NESTED, NESTED) == {"self": "A; may be left out (null)"}


@pytest.mark.parametrize("method", REQUESTS)
def test_every_method_of_the_daemon(
    ctl: Ctl, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capsys: Any, method: str
) -> None:
    daemon.answers["rpc.describe"] = {**samples.description(), "methods": describe()["methods"]}
    monkeypatch.setattr("client.cli.output.Context.width", 80)
    assert ctl(f"describe {method}") == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{method}\n\n")
    assert f"role: {REQUESTS[method].ROLE.name.lower()} or above" in out
    assert max(map(len, out.splitlines())) <= 80
    names = [field.name for field in dataclasses.fields(REQUESTS[method])]
    params = out.partition("params:")[2].partition("\nresult:")[0]
    assert all(f"{name}: " in params for name in names)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("methods", "plugins.get"),
        ("events", "plugin.enabled"),
        ("errors", "NOT_FOUND"),
        ("notifications", "rpc.event"),
        ("limits", "frame_bytes: 1048576"),
        ("roles", "observer\noperator\nadmin"),
        ("plugin.enabled", "It is ready."),
        ("NOT_FOUND", "try again: does not help"),
        ("rpc.event", "An event."),
    ],
)
def test_what_else_there_is(ctl: Ctl, daemon: FakeDaemon, capsys: Any, word: str, says: str) -> None:
    assert ctl(f"describe {word}") == 0
    assert says in capsys.readouterr().out
    assert ctl(f"describe {word} --json") == 0
    assert json.loads(capsys.readouterr().out)


def test_what_is_not_there(ctl: Ctl, daemon: FakeDaemon, capsys: Any) -> None:
    assert ctl("describe acme.weather") == 4
    assert "`pluginctl status acme.weather` tells of the plugin" in capsys.readouterr().err
    daemon.answers["plugins.get"] = NotFound("no such plugin")
    assert ctl("describe plugins.gett") == 4
    assert "no method 'plugins.gett'; did you mean 'plugins.get'?" in capsys.readouterr().err
    assert ctl("describe zzz") == 4
    assert "`pluginctl describe` lists them" in capsys.readouterr().err


def test_the_whole_for_programs(ctl: Ctl, capsys: Any) -> None:
    assert ctl("describe --json") == 0
    assert json.loads(capsys.readouterr().out) == samples.description()
