"""Help: complete, with examples, and none of its lines wider than the terminal."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from client.cli import main as cli
from client.cli.command import parse, terminal_columns
from client.cli.meant import MEANT, nearest
from client.cli.output import Context
from client.cli.overview import overview

HEADS = [*cli.NOUNS, *cli.FIRST_WORDS]
EVERY = [[noun, verb] for noun in cli.NOUNS for verb in cli._verbs(noun)]


@pytest.mark.parametrize("words", [["help"], ["-h"], *([head, "-h"] for head in HEADS), *([*w, "-h"] for w in EVERY)])
def test_no_line_is_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: Any, words: list[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("usage: pluginctl ")
    assert any(line.startswith("example: pluginctl ") for line in lines[-3:])
    assert [line for line in lines if len(line) > 80] == []


README = (Path(__file__).parents[2] / "README.md").read_text()
SHOWN = [*re.findall(r"^pluginctl .*", README, re.MULTILINE)]
EXAMPLES = [f"pluginctl {cli._command(noun, verb).example}" for noun, verb in EVERY]


@pytest.mark.parametrize("line", [*SHOWN, *EXAMPLES])
def test_what_is_shown_is_understood(line: str) -> None:
    """In the README and in every example of the help."""
    words = shlex.split(line.partition(" > ")[0], comments=True)[1:]
    name, command = cli._find(Context(json=False, socket=None), words)
    assert command is not None, line
    parse(name, command, words)


@pytest.mark.parametrize(
    ("words", "same"), [("help status", "status -h"), ("help jobs", "jobs -h"), ("help runs show", "runs show --help")]
)
def test_help_in_front_is_the_same(capsys: Any, words: str, same: str) -> None:
    assert cli.main(words.split()) == 0
    first = capsys.readouterr().out
    assert cli.main(same.split()) == 0
    assert capsys.readouterr().out == first


def test_every_short_form_is_in_the_overview() -> None:
    text = " ".join(overview(cli.NOUNS, cli.SHORT).split())
    words = {word for part in text.replace("|", " ").split() for word in [part.strip(",")]}
    assert {*cli.SHORT, *cli.NOUNS, *cli.FIRST_WORDS} - {"unload"} <= words


def test_what_other_programs_call_it_leads_to_words_that_there_are() -> None:
    first = {*cli.NOUNS, *cli.SHORT, *cli.FIRST_WORDS}
    assert {each.split()[0] for meant in MEANT.values() for each in meant.split("|")} <= first
    assert first & MEANT.keys() == set()


def test_a_width_that_nobody_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    for told, columns in {"": 80, "nonsense": 80, "10": 40, "132": 132}.items():
        monkeypatch.setenv("COLUMNS", told)
        assert terminal_columns() == columns


def test_what_is_near_is_suggested() -> None:
    assert nearest("stauts", ["status", "list"]) == "; did you mean 'status'?"
    assert nearest("xyz", ["status"], "; known are status") == "; known are status"
