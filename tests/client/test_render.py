"""Text for people: alignment, foreign text, times; and JSON for programs."""

from __future__ import annotations

import json

import pytest

from client.cli.plain import to_json
from client.cli.render import duration, escaped, paint, parse_instant, table, when


def test_columns_are_aligned_and_the_last_is_cut() -> None:
    rows = [("a", None, "x" * 50), ("bbbb", True, "short")]
    assert table(("K", "V", "WHAT"), rows, width=20, colour=False).splitlines() == [
        "K     V    WHAT",
        "a     -    xxxxxxxx…",
        "bbbb  yes  short",
    ]


def test_wide_characters_count_twice() -> None:
    first, second = table(("K", "V"), [("日本", 1)], width=None, colour=False).splitlines()
    assert (first, second) == ("K     V", "日本  1")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é", "plain é"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\u202eevil\x9b", "\\u202eevil\\x9b"),
    ],
)
def test_what_drives_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_lines_may_be_kept() -> None:
    assert escaped("a\n\x07\tb", lines=True) == "a\n\\x07\tb"


def test_only_states_are_painted() -> None:
    assert paint("error", colour=True) == "\x1b[31merror\x1b[0m"
    assert paint("error", colour=False) == paint("error", colour=False) == "error"
    assert paint("acme", colour=True) == "acme"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0s"),
        (1.25, "1.2s"),
        (45, "45s"),
        (180, "3m"),
        (7500, "2h 5m"),
        (7200, "2h"),
        (356_400, "4d 3h"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_instants() -> None:
    assert when(None, 0) == "-"
    assert when(500, 0) == "now"
    assert when(0, 180_000) == "3m ago"
    assert when(7_200_000, 0) == "in 2h"
    assert parse_instant("2h30m", 10_000_000_000) == 10_000_000_000 - 9_000_000
    assert parse_instant("1970-01-01T00:00:01+00:00", 0) == 1000
    for wrong in ("", "soon", "10 m", "m"):
        with pytest.raises(ValueError, match=r".*"):
            parse_instant(wrong, 0)


def test_json_is_ascii_and_standard() -> None:
    text = to_json({"a": float("nan"), "b": b"\xff", "c": ["\x9bé", float("inf")]})
    assert text.isascii()
    assert json.loads(text) == {"a": None, "b": {"$base64": "/w=="}, "c": ["\x9bé", None]}
