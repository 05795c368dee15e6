"""What is said of a bad manifest: all of it, word for word, and soon."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from supervisor.core.manifest import InvalidManifest
from supervisor.daemon.checks import schedule_problem
from supervisor.lifecycle.checking import MAX_MANIFEST_BYTES, check_manifest, standard_checks
from tests.core.bad_manifests import BAD, COMMAND, CONFIG_SCHEMA, GOOD, SCHEDULE, VERSION, edited


def refused(text: str | bytes) -> InvalidManifest:
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(InvalidManifest) as caught:
        check_manifest(data, standard_checks(schedule_problem, Path("/nonexistent")), where="plugin.toml")
    return caught.value


def test_the_good_one_they_are_made_from() -> None:
    check_manifest(GOOD.encode(), standard_checks(schedule_problem, Path("/nonexistent")))


@pytest.mark.parametrize(("text", "lines"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_bad_one(text: str | bytes, lines: list[str]) -> None:
    error = refused(text)
    assert [str(problem) for problem in error.problems] == lines
    assert error.message.splitlines()[1:] == [f"  {line}" for line in lines]
    for problem, told in zip(error.problems, error.details["problems"], strict=True):
        assert set(told) == {"path", "message", "value", "hint", "line"}
        assert told["path"] == problem.path
    assert "\x1b" not in error.message
    assert len(error.message) < 50_000


def test_how_many_there_are() -> None:
    many = next(text for name, text, _ in BAD if name == "many jobs, each wrong")
    error = refused(many)
    assert error.message.startswith("plugin.toml has 150 problems; the first 100:\n")
    assert (error.details["count"], len(error.details["problems"])) == (150, 100)


def full(head: str, piece: str, tail: str = "") -> str:
    """As many pieces as a manifest may hold."""
    room = MAX_MANIFEST_BYTES - len(head.encode()) - len(tail.encode())
    pieces, i = [], 0
    while (room := room - len(text := piece.replace("%", str(i)))) >= 0:
        pieces.append(text)
        i += 1
    return head + "".join(pieces) + tail


def hostile() -> Iterator[tuple[str, str]]:
    yield "jobs", full(GOOD, '[[jobs]]\nkey="j%"\ndisplay_name="J"\nschedule="0 0 29 2 0#5"\n')
    yield (
        "schedules that are rare",
        full(GOOD, '[[jobs]]\nkey="j%"\ndisplay_name="J"\nschedule="H H 29 2 *"\ntimezone="Europe/Berlin"\n'),
    )
    yield "empty jobs", full(GOOD, "[[jobs]]\n")
    yield "methods with schemas", full(GOOD, '[[methods]]\nname="m%"\nparams_schema.properties.a.type="string"\n')
    yield "keys", full(GOOD.replace(CONFIG_SCHEMA, ""), "k%=1\n")
    yield "keys alike", edited((VERSION, VERSION + "\n" + "".join(f"versio{i}=1\n" for i in range(9_000))))
    yield "tables", full(GOOD, "[t%]\n")
    yield "tables in a table", full(GOOD, "[t.t%]\n")
    yield "dotted keys", full(GOOD, "a%." + ".".join("abcdefgh") + "=1\n")
    yield "a dotted key", full(GOOD, "a.", "a=1\n")
    yield "a quoted dotted key", full(GOOD, '"a" . ', "a=1\n")
    yield "a long name of a table", full(GOOD + "[", "a.", "a]\n")
    yield "lists", full(GOOD + "x=", "[")
    yield "inline tables", full(GOOD + "x=", "{a=")
    yield "a list of tables", full(GOOD + "x=[", "{a=1},", "]\n")
    yield "a list of strings", full(GOOD + "x=[", '"",', "]\n")
    yield "a list of numbers", full(GOOD + "x=[", "1,", "]\n")
    yield "words of a command", full(edited((COMMAND, 'command = ["python", "%')), '","x', '"]\n')
    yield "a long string", full(GOOD + "x='", "x", "'\n")
    yield "escapes", full(GOOD + 'x="', "\\u0041", '"\n')
    yield "quotes", full(GOOD + "x=", '"')
    yield "lines of a string", full(GOOD + 'x="""', "\n\\\n", '"""\n')
    yield "blanks", full(GOOD, " ")
    yield "line ends", full(GOOD, "\n")
    yield "comments", full(GOOD, "#\n")
    yield "hexadecimal digits", full(GOOD + "x=0x", "f", "\n")
    yield "decimal digits", full(GOOD + "x=", "9", "\n")
    yield "digits of a fraction", full(GOOD + "x=0.", "9", "\n")
    yield "a long key", full(GOOD, "k", "=1\n")
    yield "a schema", full(edited((CONFIG_SCHEMA, "[config_schema.properties]\n")), "p%.type='string'\n")
    yield "a schema of strings", full(edited((CONFIG_SCHEMA, "[config_schema]\nrequired=[")), '"r%",', "]\n")
    yield "a choice", full(edited((CONFIG_SCHEMA, "[config_schema]\nenum=[")), "%,", "]\n")
    yield "a wrong schema", full(edited((CONFIG_SCHEMA, "[config_schema]\nallOf=[")), "{type='x'},", "]\n")
    yield "references", full(edited((CONFIG_SCHEMA, "[config_schema]\nallOf=[")), "{'$ref'='#/$defs/a'},", "]\n")
    yield "secrets", full(edited((CONFIG_SCHEMA, "[config_schema.properties]\n")), "p%.writeOnly=true\n")
    yield "a schedule", full(edited((SCHEDULE, "schedule='")), "1,", "'\n")


@pytest.mark.parametrize("text", [text for _, text in hostile()], ids=[name for name, _ in hostile()])
def test_a_hostile_one_is_read_in_bounded_time(text: str) -> None:
    assert MAX_MANIFEST_BYTES * 0.8 < len(text.encode()) <= MAX_MANIFEST_BYTES
    began = time.process_time()
    with suppress(InvalidManifest):  # blanks and comments are no fault
        check_manifest(text.encode(), standard_checks(schedule_problem, Path("/nonexistent")))
    # A second of ours, of which a slow and busy machine makes several.
    assert time.process_time() - began < 8
