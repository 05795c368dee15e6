"""Completion: what is offered at each place, and the scripts in the shells themselves."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.cli import main as cli
from client.cli.complete_words import after_first
from client.cli.completion import SCRIPTS
from tests.client import samples
from tests.client.fake_daemon import NEVER, FakeDaemon
from tests.client.test_weight import HEAVY, modules

ROOT = Path(__file__).parents[2]
PATIENCE_S = 20.0
Complete = Callable[..., list[str]]


@pytest.fixture
def offered(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Complete:
    monkeypatch.setenv("PLUGIND_SOCKET", daemon.path)
    daemon.answers["plugins.list"] = [
        samples.plugin(),
        samples.plugin(key="acme.clock", status="disabled", phase="stopped"),
        samples.plugin(key="old.one", status="uninstalled", phase="stopped"),
    ]

    def complete(*words: str) -> list[str]:
        assert cli.main(["__complete", *words]) == 0
        told = capsys.readouterr()
        assert told.err == ""
        return [line.partition("\t")[0] for line in told.out.splitlines()]

    return complete


PLUGINS = ["acme.weather", "acme.clock"]


def test_what_a_plugin_stored_and_what_there_is_to_filter_by(offered: Complete, daemon: FakeDaemon) -> None:
    daemon.answers["rpc.describe"] = {
        **samples.description(),
        "methods": {
            "plugins.call": {**samples.method(), "role": "operator"},
            "plugins.list": {**samples.method(), "role": "observer"},
        },
        "events": {"plugin.enabled": {"summary": "It is on."}},
    }
    daemon.answers["plugins.state_list"] = {"entries": [{"key": "count", "value": 1, "revision": 1}], "next": None}
    assert offered("state", "get", "acme.weather", "c") == ["count"]
    assert daemon.asked("plugins.state_list")[-1]["plugin"] == "acme.weather"
    assert offered("config", "get", "acme.weather", "") == []
    assert offered("audit", "--method", "") == ["plugins.call"]
    assert offered("events", "--type", "pl") == ["plugin.enabled"]
    assert offered("events", "list", "--type=pl") == ["--type=plugin.enabled"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["stat"], ["status", "state"]),
        (["--json", "enab"], ["enable"]),
        (["help", "enab"], ["enable"]),
        (["--j"], ["--json"]),
        (["--socket", "x"], [":files"]),
        (["nonsense", ""], []),
        (["jobs", "p"], ["pause"]),
        (["runs", "c"], ["cancel"]),
        (["config", "res"], ["restore"]),
        (["jobs", "nonsense", ""], []),
        (["enable", ""], PLUGINS),
        (["enable", "acme.w"], ["acme.weather"]),
        (["enable", "acme.weather", ""], ["acme.clock"]),
        (["purge", ""], ["old.one"]),
        (["plugins", "enable", "--json", "acme.c"], ["acme.clock"]),
        (["events", "--plugin", "acme.c"], ["acme.clock"]),
        (["events", "--plugin=acme.c"], ["--plugin=acme.clock"]),
        (["events", "--plugin", "=", "acme.c"], ["acme.clock"]),
        (["events", "--plugin", "="], PLUGINS),
        (["logs", "acme.c"], ["acme.clock"]),
        (["logs", "--level", ""], ["debug", "info", "warning", "error", "critical"]),
        (["logs", "--le"], ["--level"]),
        (["logs", "--level", "info", "--le"], []),
        (["events", "--plugin", "x", "--plu"], ["--plugin"]),
        (["logs", "-f", "--level", "info", "acme.w"], ["acme.weather"]),
        (["logs", "acme.weather", ""], []),
        (["logs", "--", "--le"], []),
        (["list", "--status", "inst"], ["installed"]),
        (["list", "-o", ""], ["wide", "json", "name"]),
        (["ping", "-o", ""], ["json"]),
        (["wait", "acme.weather", "--phase", "run"], ["running"]),
        (["load", "acme.weather", "--no-w"], ["--no-wait"]),
        (["jobs", "pause", ""], ["acme.weather/refresh"]),
        (["run", "acme.weather/"], ["acme.weather/refresh"]),
        (["runs", "show", ""], ["r1"]),
        (["logs", "acme.weather", "--run", ""], ["r1"]),
        (["call", "acme.weather", ""], ["forecast"]),
        (["call", "acme.weather", "forecast", ""], []),
        (["rollback", "acme.weather", "--version", ""], ["1.2.0"]),
        (["install", "./"], [":files"]),
        (["new", "acme.x", ""], [":dirs"]),
        (["backup", ""], [":files"]),
        (["completion", "z"], ["zsh"]),
        (["describe", "plugins.ca"], ["plugins.call"]),
    ],
)
def test_what_is_offered(offered: Complete, daemon: FakeDaemon, words: list[str], expected: list[str]) -> None:
    daemon.answers["jobs.list"] = [samples.job()]
    daemon.answers["jobs.runs"] = [samples.run(id="r1")]
    daemon.answers["plugins.versions"] = [samples.version()]
    daemon.answers["rpc.describe"] = {**samples.description(), "methods": {"plugins.call": samples.method()}}
    assert offered(*words) == expected


def test_every_command_is_completed(offered: Complete) -> None:
    for noun in cli.NOUNS:
        assert set(offered(noun, "")) >= set(cli._verbs(noun))
        for verb in cli._verbs(noun):
            assert "--json" in offered(noun, verb, "-")
    assert set(offered("")) == {*cli.NOUNS, *cli.SHORT, *cli.FIRST_WORDS, "help", "version"}


def test_names_that_a_shell_would_read_are_not_offered(offered: Complete, daemon: FakeDaemon) -> None:
    names = ["$(reboot)", "a b", "x;y", "\x1b[2J", "`id`", "good"]
    methods = [{"name": name, "description": "two\nlines"} for name in names]
    daemon.answers["plugins.get"] = samples.details(methods=methods)
    assert offered("call", "acme.weather", "") == ["good"]


def test_a_daemon_that_is_down_is_no_noise(offered: Complete, daemon: FakeDaemon) -> None:
    daemon.stop()
    assert offered("enable", "") == []
    assert "follow" in offered("logs", "")


def test_a_daemon_that_does_not_answer_is_not_waited_for(offered: Complete, daemon: FakeDaemon) -> None:
    daemon.answers["plugins.list"] = NEVER
    began = time.monotonic()
    assert offered("enable", "") == []
    assert time.monotonic() - began < 3


def test_the_socket_on_the_line_is_asked(offered: Complete, daemon: FakeDaemon, monkeypatch: Any) -> None:
    monkeypatch.setenv("PLUGIND_SOCKET", "/nonexistent")
    assert offered("--socket", daemon.path, "enable", "") == PLUGINS
    assert offered(f"--socket={daemon.path}", "enable", "") == PLUGINS
    assert offered("enable", "--socket", daemon.path, "") == PLUGINS


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], ([], "", 0)),
        ([""], ([], "", 0)),
        (["a", "b"], (["a"], "b", 0)),
        (["a", "--x", "=", "b"], (["a"], "--x=b", 4)),
        (["a", "--x", "="], (["a"], "--x=", 4)),
        (["a", "--x", "=", "b", ""], (["a", "--x=b"], "", 0)),
        (["a", '"b'], (["a"], "b", 0)),
        (["="], ([], "=", 0)),
    ],
)
def test_words_as_bash_tells_them(words: list[str], found: tuple[list[str], str, int]) -> None:
    assert after_first(words) == found


def test_it_imports_no_more_than_it_needs(daemon: FakeDaemon) -> None:
    for words, most in ((["ena"], {"client.cli.plugins"}), (["enable", ""], {"client.cli.jobs"})):
        loaded = modules(f"from client.cli.main import main; assert main({['__complete', *words]!r}) == 0", daemon)
        assert loaded & (HEAVY | most) == set()


# The shells


@pytest.fixture
def environment(daemon: FakeDaemon, tmp_path: Path) -> dict[str, str]:
    """With `pluginctl` in the path, as it is installed; no shell reads anybody's files."""
    program = tmp_path / "bin/pluginctl"
    program.parent.mkdir()
    paths = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={paths} exec {sys.executable} -m client.cli.main "$@"\n')
    program.chmod(0o755)
    (tmp_path / "some file.toml").touch()
    (tmp_path / "some-dir").mkdir()
    path = f"{program.parent}:{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(tmp_path), "PLUGIND_SOCKET": daemon.path, "TERM": "dumb", "LANG": "C.UTF-8"}


def shell(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"there is no {name} here")
    return found


def run(environment: dict[str, str], *words: str) -> str:
    done = subprocess.run(
        words, env=environment, cwd=environment["HOME"], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["pluginctl", "enab"], ["enable"]),
        (["pluginctl", "enable", "acme"], ["acme.weather"]),
        (["pluginctl", "enable", '"acme'], ["acme.weather"]),
        (["pluginctl", "logs", "--level", "=", "e"], ["error"]),
        (["pluginctl", "logs", "--level", "="], ["debug", "info", "warning", "error", "critical"]),
        (["pluginctl", "backup", "some"], ["some file.toml", "some-dir"]),
        (["pluginctl", "new", "acme.x", "some"], ["some-dir"]),
        (["pluginctl", "no", "such"], []),
    ],
)
def test_bash(environment: dict[str, str], typed: list[str], expected: list[str]) -> None:
    script = (
        'eval "$(pluginctl completion bash)"; [[ $(complete -p pluginctl) == "complete -F _pluginctl pluginctl" ]]'
        ' || exit 9; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pluginctl pluginctl; [ ${#COMPREPLY[@]} = 0 ] ||'
        " printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    out = run(environment, shell("bash"), "--norc", "-c", script, "bash", *typed)
    assert sorted(out.splitlines()) == sorted(expected)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("pluginctl enab", ["enable"]),
        ("pluginctl enable acme", ["acme.weather\tready, running"]),
        ("pluginctl logs --level=e", ["--level=error"]),
        ("pluginctl backup some", ["some file.toml", "some-dir/"]),
        ("pluginctl new acme.x some", ["some-dir/"]),
        ("pluginctl no such", []),
    ],
)
def test_fish(environment: dict[str, str], typed: str, expected: list[str]) -> None:
    script = f"pluginctl completion fish | source; complete --do-complete '{typed}'"
    out = run(environment, shell("fish"), "--no-config", "-c", script)
    found = [line if "\t" in line and "acme" in line else line.partition("\t")[0] for line in out.splitlines()]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("pluginctl enab", "pluginctl enable "),
        ("pluginctl enable acme", "pluginctl enable acme.weather "),
        ("pluginctl logs --level=e", "pluginctl logs --level=error "),
        ("pluginctl new acme.x some", "pluginctl new acme.x some-dir/"),
    ],
)
@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_at_a_terminal(environment: dict[str, str], name: str, typed: str, expected: str) -> None:
    """Tab, and the line that the shell then has."""
    begin = {
        "bash": [shell("bash"), "--norc", "--noprofile", "-i"],
        "zsh": [shell(name), "-f", "-i"] if name == "zsh" else [],
    }
    load = {"bash": "bind 'set bell-style none'", "zsh": "autoload -Uz compinit; compinit -u -D"}[name]
    show = {
        "bash": r"""bind -x '"\C-t": echo "<<$READLINE_LINE>>"'""",
        "zsh": r"""show() { print "<<$BUFFER>>" }; zle -N show; bindkey '^T' show""",
    }[name]
    with Terminal(begin[name], environment) as terminal:
        terminal.type(f'{load}; eval "$(pluginctl completion {name})"; {show}; echo re""ady\n')
        terminal.wait(r"ready")
        terminal.type(f"{typed}\t\x14")
        assert terminal.wait(r"<<(.*?)>>").group(1) == expected


class Terminal:
    """A program at a terminal of 200 columns, which is ended with its `with`."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            command,
            env={**environment, "COLUMNS": "200", "PS1": "$ "},
            cwd=environment["HOME"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._seen = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._ours)
        self._process.kill()
        self._process.wait()

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def wait(self, pattern: str) -> re.Match[str]:
        """Until it is shown, behind what was waited for last."""
        deadline = time.monotonic() + PATIENCE_S
        while (found := re.search(pattern, self._seen)) is None:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([self._ours], [], [], left_s)[0]:
                raise AssertionError(f"no {pattern!r} in {self._seen!r}")
            self._seen += os.read(self._ours, 65536).decode(errors="replace")
        self._seen = self._seen[found.end() :]
        return found


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_script_says_how_it_is_installed(capsys: Any, name: str) -> None:
    assert cli.main(["completion", name]) == 0
    first, second = capsys.readouterr().out.splitlines()[:2]
    assert f"Completion of pluginctl for {name}. To install it" in first + second
