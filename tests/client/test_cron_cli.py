"""pluginctl cron: schedules for people and for programs, without a daemon."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from client.cli import main as cli

BERLIN = ["--zone", "Europe/Berlin"]
SPRING = [*BERLIN, "--after", "2026-03-28T12:00"]
FIXED = """\
     schedule: at 02:30 every day
    time zone: Europe/Berlin
        after: Sat 28 Mar 2026 12:00:00 +01:00
         next: Sun 29 Mar 2026  03:00  +02:00  in 14 h
               Mon 30 Mar 2026  02:30  +02:00  in 1 d 13 h
clock changes: on Sun 29 Mar 2026 the clock goes from 02:00 to 03:00: the run of 02:30 is at 03:00 instead
               on Sun 25 Oct 2026 the clock goes back and the time from 02:00 to 03:00 comes twice: \
the run of 02:30 is in the first pass only
"""
NARROW = """\
     schedule: at 02:30 every day
    time zone: Europe/Berlin
        after: Sat 28 Mar 2026 12:00:00 +01:00
         next: Sun 29 Mar 2026  03:00  +02:00  in 14 h
clock changes: on Sun 29 Mar 2026 the clock goes from 02:00 to 03:00: the run of
                 02:30 is at 03:00 instead
               on Sun 25 Oct 2026 the clock goes back and the time from 02:00 to
                 03:00 comes twice: the run of 02:30 is in the first pass only
"""
DRAWN = """\
     schedule: at minute {minute} of every hour
    time zone: UTC
        after: Sun 1 Mar 2026 00:00:00 +00:00 (now)
         next: Sun 1 Mar 2026  00:{minute}  +00:00  in {minute} min
clock changes: UTC has none
"""
NOTE = "         note: H draws from the name of the job: without --job PLUGIN/KEY its place is only an example\n"
NOW_MS = 1_772_323_200_000  # 2026-03-01T00:00:00Z

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cron(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Run:
    monkeypatch.setattr("client.cli.cron.now_ms", lambda: NOW_MS)

    def run(*words: str) -> tuple[int, str, str]:
        return (cli.main(["cron", *words]), *capsys.readouterr())

    return run


def test_for_people(cron: Run) -> None:
    assert cron("30 2 * * *", *SPRING, "-n", "2") == (0, FIXED, "")


def test_on_a_terminal_of_80_columns(cron: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.cli.output.Context.width", 80)
    assert cron("30 2 * * *", *SPRING, "-n", "1") == (0, NARROW, "")


def test_for_programs(cron: Run) -> None:
    code, out, err = cron("30 2 * * *", *SPRING, "-n", "2", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "words": "at 02:30 every day",
        "zone": "Europe/Berlin",
        "after": "2026-03-28T12:00:00+01:00",
        "next": ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"],
        "dst": [
            {
                "at": "2026-03-29T03:00:00+02:00",
                "effect": "moved",
                "text": "on Sun 29 Mar 2026 the clock goes from 02:00 to 03:00: the run of 02:30 is at 03:00 instead",
            },
            {
                "at": "2026-10-25T02:00:00+01:00",
                "effect": "first_pass",
                "text": "on Sun 25 Oct 2026 the clock goes back and the time from 02:00 to 03:00 comes twice: "
                "the run of 02:30 is in the first pass only",
            },
        ],
        "example": False,
    }


def next_of(cron: Run, *words: str) -> list[str]:
    code, out, err = cron(*words, "--json")
    assert (code, err) == (0, "")
    return list(json.loads(out)["next"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["*/15 * * * *"], ["2026-03-01T00:15:00+00:00", "2026-03-01T00:30:00+00:00"]),
        (["*/15", "*", "*", "*", "*"], ["2026-03-01T00:15:00+00:00", "2026-03-01T00:30:00+00:00"]),
        (["--seconds", "*/20 * * * * *"], ["2026-03-01T00:00:20+00:00", "2026-03-01T00:00:40+00:00"]),
        (["@daily", "--zone", "Asia/Kolkata"], ["2026-03-02T00:00:00+05:30", "2026-03-03T00:00:00+05:30"]),
        (["--every", "90s"], ["2026-03-01T00:01:30+00:00", "2026-03-01T00:03:00+00:00"]),
        (["--at", "2027-01-01T00:00+01:00"], ["2026-12-31T23:00:00+00:00"]),
        (["--at", "2027-01-01T00:00", *BERLIN], ["2027-01-01T00:00:00+01:00"]),
        (["@reboot"], []),
        # --after: an instant with an offset, else a time of the zone's clock; times come strictly after it
        (["@daily", *BERLIN, "--after", "2026-03-02"], ["2026-03-03T00:00:00+01:00", "2026-03-04T00:00:00+01:00"]),
        (
            ["@daily", *BERLIN, "--after", "2026-03-01T22:59:59Z"],
            ["2026-03-02T00:00:00+01:00", "2026-03-03T00:00:00+01:00"],
        ),
        (
            ["30 2 * * *", *BERLIN, "--after", "2026-03-29T02:45"],
            ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"],
        ),
    ],
)
def test_next(cron: Run, words: list[str], expected: list[str]) -> None:
    assert next_of(cron, *words, "-n", "2") == expected


def test_five_by_default(cron: Run) -> None:
    assert len(next_of(cron, "* * * * *")) == 5
    assert len(next_of(cron, "* * * * *", "-n", "1000")) == 1000


def test_h_is_an_example_unless_the_job_is_named(cron: Run) -> None:
    code, out, _ = cron("H * * * *", "-n", "1")
    minute = out.partition("minute ")[2].partition(" ")[0]
    assert (code, out) == (0, DRAWN.format(minute=minute) + NOTE)
    named = ["H * * * *", "--job", "acme.weather/refresh", "-n", "1"]
    code, out, _ = cron(*named)
    assert (code, out) == (0, DRAWN.format(minute=46))
    assert json.loads(cron("H * * * *", "--json")[1])["example"] is True
    assert json.loads(cron(*named, "--json")[1])["example"] is False
    assert json.loads(cron("0 9 * * thu", "--json")[1])["example"] is False


def test_at_start(cron: Run) -> None:
    code, out, err = cron("@reboot", *BERLIN)
    assert (code, err) == (0, "")
    assert "schedule: once at each start of plugind\n" in out
    assert "next: at the next start of plugind\n" in out


WRONG = [
    (["61 * * * *"], "minute", "'61' is out of range 0-59", "  61 * * * *\n  ^^\n"),
    (["0 0  31 2 *"], "day of month", "'31' never comes", "  0 0  31 2 *\n       ^^\n"),
    (["* * * * * sux", "--seconds"], "day of week", "'SUX' is not a value", "  * * * * * sux\n            ^^^\n"),
    (["* * * *"], "expression", "4 fields where 5", "--help` says how to write it"),
    (["* * * * * *"], "expression", "6 fields where 5 are expected; say --seconds if the first one is", "--help`"),
    (["* * * * *", "--seconds"], "expression", "put the second in front, or leave out --seconds", "--help`"),
    (["a.txt", "b.txt"], "expression", "2 fields where 5", "quote the expression"),
    (["@fortnightly"], "expression", "is not a known name", "--help`"),
    (["\N{NO-BREAK SPACE}* * * *"], "expression", "is not a plain ASCII character", "--help`"),
    (["* * * * *", "--zone", "Mars/Base"], "zone", "is not an IANA time zone", "--help`"),
    (["--every", "90"], "every", "is not an interval", "--help`"),
    (["--at", "soon"], "at", "is not a date and time", "--help`"),
    (["--at", "2020-01-01T00:00"], "at", "so it never fires; write a later time", "--help`"),
    (["--at", "2026-03-01T00:00"], "at", "is not after Sun 1 Mar 2026 00:00:00 +00:00", "--help`"),
]


@pytest.mark.parametrize(("words", "field", "reason", "hint"), WRONG)
def test_what_is_wrong_with_a_schedule(cron: Run, words: list[str], field: str, reason: str, hint: str) -> None:
    code, out, err = cron(*words)
    assert (code, out) == (2, "")
    assert err.startswith(f"pluginctl: {field}: ")
    assert reason in err.splitlines()[0]
    assert hint in err
    code, out, err = cron(*words, "--json")
    assert (code, out) == (2, "")
    error = json.loads(err)["error"]
    assert (error["name"], error["data"]["field"]) == ("USAGE", field)
    assert reason in error["data"]["reason"]
    assert error["message"] == f"{field}: {error['data']['reason']}"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "one of EXPR, --every and --at"),
        (["* * * * *", "--every", "5m"], "one of EXPR, --every and --at"),
        (["* * * * *", "--after", "soon"], "--after 'soon' is no date and time"),
        (["* * * * *", "--after", "9999-12-31"], "not within the years 1970 to 2199"),
        (["* * * * *", "--after", "0001-01-01T00:00+05:00"], "not within the years 1970 to 2199"),
        (["* * * * *", "-n", "0"], "from 1 to 1000, not '0'"),
        (["* * * * *", "-n", "-1"], "from 1 to 1000, not '-1'"),
        (["* * * * *", "--job", "weather"], "PLUGIN/KEY, such as"),
        (["* * * * *", "--job", "acme/../x"], "PLUGIN/KEY, such as"),
        (["* * * * *", "--nonsense"], "--nonsense"),
    ],
)
def test_wrong_words(cron: Run, words: list[str], reason: str) -> None:
    code, out, err = cron(*words)
    assert (code, out) == (2, "")
    assert reason in err.splitlines()[0]
    code, out, err = cron(*words, "--json")
    assert (code, out) == (2, "")
    assert reason in json.loads(err)["error"]["message"]


def test_under_its_noun_too(capsys: Any) -> None:
    assert cli.main(["develop", "cron", "@daily", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["words"] == "at 00:00 every day"


CODE = "import sys; from client.cli.main import main; sys.exit(main())"


def test_it_starts_quickly() -> None:
    code = (
        "import sys; before = set(sys.modules); from client.cli.main import main; "
        "assert main(['cron', '*/5 * * * *', '--zone', 'Europe/Berlin']) == 0; "
        "heavy = {'trio', 'peewee', 'rich', 'msgpack', 'msgspec', 'structlog', 'sqlite3', 'client.sync_client'}; "
        "print(sorted(heavy & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_goes_away_is_no_error() -> None:
    words = [sys.executable, "-c", CODE, "cron", "* * * * *", "-n", "1000", *BERLIN]
    reading, writing = os.pipe()
    process = subprocess.Popen(words, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    os.close(reading)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def interrupted() -> int:
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the signal came first")

    monkeypatch.setattr("client.cli.cron.now_ms", interrupted)
    assert cli.main(["cron", "@daily"]) == 130
    assert capsys.readouterr() == ("", "")


def test_now_is_now(capsys: Any) -> None:
    assert cli.main(["cron", "* * * * *", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    after, following = datetime.fromisoformat(facts["after"]), datetime.fromisoformat(facts["next"][0])
    assert 0 < (following - after).total_seconds() <= 60
    assert abs((datetime.now(after.tzinfo) - after).total_seconds()) < 60
