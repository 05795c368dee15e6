"""Every command of pluginctl against the real daemon: its answer, its JSON, its exit codes and its help."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest

from client.cli import main as cli
from client.cli.exits import REFUSED
from tests.e2e.conftest import PATIENCE_S, ROOT, Daemon
from tests.e2e.fork_server import ForkServer
from tests.e2e.operated import KEEPER, Operated, formatted
from tests.e2e.pluginctl_commands import COMMANDS, FURTHER, Case

NOBODY = "test.nobody"
ERROR = {
    "type": "object",
    "required": ["name", "message", "data"],
    "additionalProperties": False,
    "properties": {"name": {"pattern": "^[A-Z_]+$"}, "message": {"minLength": 1}, "data": {"type": "object"}},
}
EVERY = [f"{noun} {verb}" for noun in cli.NOUNS for verb in cli._verbs(noun)]
FORMS = [
    "",
    *cli.NOUNS,
    *cli.FIRST_WORDS,
    *EVERY,
    *cli.SHORT,
    *(f"{first} {verb}" for first, verbs in cli.FIRST_WORDS.items() for verb in verbs),
]


class Told(NamedTuple):
    code: int
    out: str
    err: str


Ctl = Callable[[list[str]], Told]


def start(directory: Path, forks: ForkServer) -> Iterator[Operated]:
    daemon = Daemon(directory, forks)
    try:
        with daemon.start() as rpc:
            operated = Operated(rpc, directory, daemon.socket)
            operated.keep()
            yield operated
    finally:
        daemon.close()


@pytest.fixture(scope="module")
def operated(tmp_path_factory: pytest.TempPathFactory, forks: ForkServer) -> Iterator[Operated]:
    yield from start(tmp_path_factory.mktemp("pluginctl"), forks)


@pytest.fixture
def its_own(tmp_path: Path, forks: ForkServer) -> Iterator[Operated]:
    yield from start(tmp_path, forks)


@pytest.fixture
def ctl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ctl:
    """Run it in this process, with nobody at a terminal, and an editor that changes nothing."""
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setenv("EDITOR", "true")
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("COLUMNS", "80")

    def run(words: list[str]) -> Told:
        capsys.readouterr()
        return Told(cli.main(words), *capsys.readouterr())

    return run


def prepared(operated: Operated, case: Case, **instead: str) -> list[str]:
    """The words, with what they name brought about, save for what is named `instead`."""
    values: dict[str, object] = {"keeper": KEEPER, "new": operated.new_path("new")}
    if "{run}" in case.words or "{key}" in case.words or case.state:
        values["key"] = instead.get("key") or (operated.bring(case.state) if case.state else operated.new_key())
        values["run"] = instead.get("run") or (operated.run(values["key"], case.run) if case.run else "0123456789")
    if "{source}" in case.words:
        values["source"] = operated.write(values.get("key", operated.new_key()), "3.0")
    return ["--socket", str(operated.socket), *formatted(case.words, **(values | instead))]


def test_no_command_is_left_out() -> None:
    assert sorted(COMMANDS) == sorted(EVERY), "each has its case in pluginctl_commands.py"
    targets = [*cli.SHORT.values(), *(target for verbs in cli.FIRST_WORDS.values() for target in verbs.values())]
    assert {*targets} <= {*EVERY}


@pytest.mark.parametrize("form", FORMS)
def test_help(ctl: Ctl, form: str) -> None:
    told = ctl([*form.split(), "--help"])
    assert (told.code, told.err) == (0, "")
    assert "example: pluginctl " in told.out
    assert [line for line in told.out.splitlines() if len(line) > 80] == []


@pytest.fixture(scope="module")
def schemas(operated: Operated) -> dict[str, Any]:
    """Method -> JSON Schema of its result, as the daemon tells."""
    return {name: method["result"] for name, method in operated.rpc.call("rpc.describe")["methods"].items()}


@pytest.mark.parametrize(
    "command", [name for name, case in COMMANDS.items() if not (case.stops or case.goes_on or case.on_terminal)]
)
def test_answer(ctl: Ctl, operated: Operated, schemas: dict[str, Any], command: str) -> None:
    check_answer(ctl, operated, schemas, COMMANDS[command])


@pytest.mark.parametrize("case", FURTHER.values(), ids=FURTHER)
def test_further_answer(ctl: Ctl, operated: Operated, schemas: dict[str, Any], case: Case) -> None:
    check_answer(ctl, operated, schemas, case)


@pytest.mark.parametrize("command", [name for name, case in COMMANDS.items() if case.stops])
def test_answer_that_ends_the_daemon(ctl: Ctl, its_own: Operated, schemas: dict[str, Any], command: str) -> None:
    words = [*prepared(its_own, COMMANDS[command]), "--json"]
    check_json(ctl(words), COMMANDS[command], schemas)


def test_doctor_finds_what_is_wrong(ctl: Ctl, its_own: Operated) -> None:
    words = ["--socket", str(its_own.socket), "doctor"]
    told = ctl(words)
    assert (told.code, told.err) == (0, ""), told.out
    assert "problem  " not in told.out
    key = its_own.bring("ready")
    its_own.rpc.call("plugins.mark_error", plugin=key, error="broken")
    told = ctl([*words, "--json"])
    assert (told.code, told.err) == (1, "")
    [problem] = [finding for finding in json.loads(told.out) if finding["state"] == "problem"]
    assert (problem["check"], problem["text"].partition(":")[0]) == ("plugins", key)
    assert f"`pluginctl enable {key}`" in problem["remedy"]


def check_answer(ctl: Ctl, operated: Operated, schemas: dict[str, Any], case: Case) -> None:
    """To people, and to programs."""
    told = ctl(prepared(operated, case))
    assert told.code == case.code, told.err
    assert told.out.strip()
    assert "\x1b" not in told.out + told.err
    check_json(ctl([*prepared(operated, case), "--json"]), case, schemas)


def check_json(told: Told, case: Case, schemas: dict[str, Any]) -> None:
    assert (told.code, told.err) == (case.code, "")
    value = json.loads(told.out)
    assert value != [], "there is to be something to look at"
    schema = schemas[case.shows] if isinstance(case.shows, str) else case.shows
    jsonschema.validate(value, schema, cls=jsonschema.Draft202012Validator)


def check_failure(ctl: Ctl, words: list[str], code: int, *names: str) -> None:
    """To people in one sentence, and to programs as one object; both on stderr."""
    told = ctl(words)
    assert (told.code, told.out) == (code, ""), told.err
    assert told.err.startswith("pluginctl: ")
    told = ctl([*words, "--json"])
    assert (told.code, told.out) == (code, ""), told.err
    error = json.loads(told.err)["error"]
    jsonschema.validate(error, ERROR)
    assert error["name"] in names


@pytest.mark.parametrize("command", EVERY)
def test_wrong_usage(ctl: Ctl, command: str) -> None:
    check_failure(ctl, [*command.split(), "--no-such-option"], 2, "USAGE")


@pytest.mark.parametrize("command", [name for name, case in COMMANDS.items() if case.names_something])
def test_not_found(ctl: Ctl, operated: Operated, command: str) -> None:
    nowhere = {"key": NOBODY, "keeper": NOBODY, "run": "0123456789"}
    check_failure(ctl, prepared(operated, COMMANDS[command], **nowhere), 4, "NOT_FOUND")


@pytest.mark.parametrize("command", [name for name, case in COMMANDS.items() if case.refused])
def test_refused(ctl: Ctl, operated: Operated, command: str) -> None:
    case = COMMANDS[command]
    refused = Case(words=case.refused, shows={}, state=case.refused_state)
    check_failure(ctl, prepared(operated, refused), 3, *REFUSED)


@pytest.mark.parametrize("command", [name for name, case in COMMANDS.items() if not (case.local or case.on_terminal)])
def test_unavailable(ctl: Ctl, operated: Operated, command: str) -> None:
    words = prepared(operated, Case(words=COMMANDS[command].words, shows={}))
    words[1] = str(operated.new_path("nobody.sock"))
    check_failure(ctl, words, 5, "UNAVAILABLE")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("list --json", 0),
        ("status test.nobody", 4),
        (f"call {KEEPER} nothing", 4),
        ("list --no-such-option", 2),
        (f"load {KEEPER}", 3),
        ("ping --socket nothing.sock", 5),
        (f"call {KEEPER} sleep [60] --timeout 0.05", 1),
    ],
)
def test_as_a_program(operated: Operated, words: str, code: int) -> None:
    """What main() returns is what a shell sees, and nothing is said besides."""
    command = [sys.executable, "-m", "client.cli.main", *words.split()]
    environment = {**os.environ, "PLUGIND_SOCKET": str(operated.socket), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == code, done.stderr
    if code == 0:
        assert KEEPER in {plugin["key"] for plugin in json.loads(done.stdout)}
    else:
        assert done.stderr.startswith("pluginctl: ")
