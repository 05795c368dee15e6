"""Where values stand in a TOML text, held against what tomllib finds in it."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from supervisor.core.problem import joined
from supervisor.core.toml_lines import MAX_DEPTH, TomlLines, TooDeep
from tests.core.bad_manifests import BAD, GOOD

ODD = '''\
# a comment = 1
"quoted key" = 1
'literal key' = "#"
a.b . "c.d" = 2
text = """
[no.table]
no = "key" \\""" ""
"""
raw = \'\'\'
no = 1 'quote' \'\'\'
quotes = """"two" before and after"""""
list = [ # of
  1, "]",
  [ "x", { y = 1, z.w = [2] } ], # nested
  """
  long
  """,
]
date = 1979-05-27 07:32:00
"u\\u00e4\\U0001F600\\"" = 1
empty = {}
none = []
[table]
x = { y.z = 1 }
[table."sub table"]
x = 1
[[many]]
x = 1
[many.inner]
y = 1
[[many.inner.deeper]]
z = 1
[[many.inner.deeper]]
z = 2
[[many]]
x = 2
[many.inner]
y = 2
[ spaced . header ]
k = 1
'''


def paths(value: Any, path: str = "") -> list[tuple[str, str]]:
    """Every place in a document, and the key or text that its line must hold."""
    found: list[tuple[str, str]] = []
    if isinstance(value, dict):
        for name, entry in value.items():
            below = joined(path, name)
            found += [(below, name), *paths(entry, below)]
    elif isinstance(value, list):
        for i, entry in enumerate(value):
            below = f"{path}[{i}]"
            found += [(below, entry if isinstance(entry, str) and "\n" not in entry else ""), *paths(entry, below)]
    return found


def well_formed() -> list[str]:
    texts = [GOOD, ODD, ODD.replace("\n", "\r\n")]
    for _, text, _ in BAD:
        try:
            tomllib.loads(text if isinstance(text, str) else text.decode())
            TomlLines(str(text))
        except (ValueError, RecursionError):
            continue
        texts.append(str(text))
    return texts


@pytest.mark.parametrize("text", well_formed())
def test_every_value_has_the_line_on_which_it_begins(text: str) -> None:
    lines, written = TomlLines(text), text.split("\n")
    for path, name in paths(tomllib.loads(text))[:2000]:
        assert path in lines._starts or path.rpartition("[")[0] in lines._starts, path
        line = lines.line(path)
        assert line is not None
        if name.isascii() and name.isidentifier():
            assert name in written[line - 1], path


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ('"quoted key"', 2),
        ('a.b."c.d"', 4),
        ("text", 5),
        ("raw", 9),
        ("list", 12),
        ("list[1]", 13),
        ("list[2][1].z.w[0]", 14),
        ("list[3]", 15),
        ("table.x.y.z", 24),
        ('table."sub table".x', 26),
        ("many[0].inner.deeper[1].z", 34),
        ("many[1]", 35),
        ("many[1].inner.y", 38),
        ("spaced.header.k", 40),
        # What is not there is told where the table is that lacks it.
        ("many[1].nothing", 35),
        ('table."sub table"."no such"', 25),
        ("list[2][1].nothing", 14),
        ("nothing", None),
        ("nothing.at.all[3]", None),
        ("", None),
    ],
)
def test_lines(path: str, line: int | None) -> None:
    tomllib.loads(ODD)
    assert TomlLines(ODD).line(path) == line


def test_what_is_malformed_ends_it_without_a_word() -> None:
    for end in range(len(ODD)):
        lines = TomlLines(ODD[:end])
        assert lines.line("a.b") in {None, 4}
    assert TomlLines("a = 1\n= 2\nb = 3").line("a") == 1


@pytest.mark.parametrize(
    "text",
    [
        "\n" + "a." * MAX_DEPTH + "a = 1",
        "\n[" + "'a' . " * MAX_DEPTH + "a]",
        "\na = " + "[" * (MAX_DEPTH + 1),
        "\na = " + "{ a = " * (MAX_DEPTH + 1),
        f"\n[{'.'.join('a' * 40)}]\n{'.'.join('b' * 40)} = 1".replace("\n[", "[", 1),
    ],
)
def test_what_is_too_deep(text: str) -> None:
    with pytest.raises(TooDeep, match=f"line 2: is nested more than {MAX_DEPTH} deep"):
        TomlLines(text)


def test_what_is_just_deep_enough() -> None:
    text = ".".join("a" * MAX_DEPTH) + " = 1"
    tomllib.loads(text)
    assert TomlLines(text).line(".".join("a" * MAX_DEPTH)) == 1
