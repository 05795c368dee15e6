"""pluginctl config: values from words, files and stdin; and the editor."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from client.cli import config_edit
from client.cli import main as cli
from client.cli.command import UsageError
from client.cli.config_values import read_settings, removed
from client.errors import Conflict, InvalidParams
from tests.client import samples
from tests.client.fake_daemon import FakeDaemon, Turns
from tests.client.terminal import Terminal
from tests.client.test_cli import KEY

BAD = {"ok": False, "problems": [{"path": "city", "message": "must be a string"}], "asked_worker": False}


@pytest.fixture
def ctl(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PLUGIND_SOCKET", daemon.path)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    # The samples tell of one instant; the clock stands still at it, however long ago they were made.
    monkeypatch.setattr("client.cli.render.time", SimpleNamespace(time=lambda: samples.NOW / 1000))
    return lambda *words: cli.main(list(words))


@pytest.mark.parametrize(
    ("words", "config"),
    [
        (["a=1", "b=1.5", "c=true", "d=null", "e=Rome", "f=two words"],
         {"a": 1, "b": 1.5, "c": True, "d": None, "e": "Rome", "f": "two words"}),
        (["a.b.c=1", "a.d=2"], {"a": {"b": {"c": 1}, "d": 2}}),
        (['a="1"', "b=[1, 2]", 'c={"d": 1}', "e=", "f=x=y"],
         {"a": "1", "b": [1, 2], "c": {"d": 1}, "e": "", "f": "x=y"}),
        (['a="@x"', 'b="-"'], {"a": "@x", "b": "-"}),
    ],
)  # fmt: skip
def test_words(words: list[str], config: dict[str, Any]) -> None:
    assert read_settings(words) == config


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["city"], "'city' is no NAME=VALUE"),
        (["=1"], "'' is no name"),
        (["a..b=1"], "'a..b' is no name"),
        (["a=1", "a=2"], "a is given twice"),
        (["a=1", "a.b=2"], "a.b cannot be in a"),
        (["a.b=1", "a=2"], "a is given twice"),
        (["a=[1"], "the value of a is no JSON"),
        (["a=@/nonexistent/x"], "cannot read /nonexistent/x: No such file"),
        (["a=-", "b=-"], "only one value"),
    ],
)
def test_wrong_words(words: list[str], says: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_settings(words)
    assert says in str(refused.value)


def test_what_takes_away() -> None:
    assert removed(["a", "b.c"]) == {"a": None, "b": {"c": None}}


def test_secrets_need_not_be_in_argv(
    ctl: Any, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("pass word\r\n"))
    assert ctl("config", "set", KEY, f"token=@{tmp_path}/token", "db.password=-") == 0
    assert daemon.asked("plugins.config_set")[-1] == {
        "plugin": KEY,
        "config": {"token": "s3cret", "db": {"password": "pass word"}},
        "merge": True,
        "expected_revision": None,
    }


def test_a_secret_on_a_terminal_is_not_shown(ctl: Any, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("getpass.getpass", lambda prompt: f"typed at {prompt}")
    assert ctl("config", "set", KEY, "token=-") == 0
    assert daemon.asked("plugins.config_set")[-1]["config"] == {"token": "typed at token: "}


@pytest.mark.parametrize(
    ("name", "text", "config"),
    [
        ("c.toml", 'city = "Rome"\n[db]\nport = 1\n', {"city": "Rome", "db": {"port": 1}}),
        ("c.json", '{"a": 1}', {"a": 1}),
    ],
)
def test_the_whole_from_a_file(
    ctl: Any, daemon: FakeDaemon, tmp_path: Path, name: str, text: str, config: dict[str, Any]
) -> None:
    (tmp_path / name).write_text(text)
    assert ctl("config", "set", KEY, "--file", str(tmp_path / name), "--revision", "3") == 0
    asked = daemon.asked("plugins.config_set")[-1]
    assert (asked["config"], asked["merge"], asked["expected_revision"]) == (config, False, 3)


@pytest.mark.parametrize(
    ("text", "words", "says"),
    [
        ("[1]", [], "holds no table"),
        ("{", [], "is no JSON"),
        ("[" * 100_000, [], "is no JSON"),
        (None, [], "cannot read"),
        ("{}", ["a=1"], "cannot stand beside it"),
    ],
)
def test_wrong_files(
    ctl: Any, daemon: FakeDaemon, capsys: Any, tmp_path: Path, text: str | None, words: list[str], says: str
) -> None:
    if text is not None:
        (tmp_path / "c.json").write_text(text)
    assert ctl("config", "set", KEY, "--file", str(tmp_path / "c.json"), *words) == 2
    assert says in capsys.readouterr().err
    assert daemon.asked("plugins.config_set") == []


def test_nothing_to_set(ctl: Any, capsys: Any) -> None:
    assert ctl("config", "set", KEY) == 2
    assert "name what to set" in capsys.readouterr().err


def test_get(ctl: Any, capsys: Any) -> None:
    assert ctl("config", "get", KEY) == 0
    assert capsys.readouterr().out.splitlines() == [
        "NAME         VALUE",
        'city         "Rome"',
        "db.port      5432",
        'db.password  "********"',
        "",
        "revision 3, set 1m ago by root; a worker has taken it",
    ]
    assert ctl("config", "get", KEY, "db") == 0
    assert json.loads(capsys.readouterr().out) == {"port": 5432, "password": "********"}
    assert ctl("config", "get", KEY, "db.host") == 4
    assert "has no 'db.host'" in capsys.readouterr().err


def test_unset_what_is_there(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    assert ctl("config", "unset", KEY, "citty") == 4
    assert "has no 'citty'" in capsys.readouterr().err
    assert daemon.asked("plugins.config_set") == []


def test_what_does_not_hold(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["plugins.config_test"] = BAD
    assert ctl("config", "test", KEY, "city=1") == 1
    assert capsys.readouterr().out == f"{KEY}: the configuration has 1 problem:\n  city: must be a string\n"


def test_a_restart_is_told(ctl: Any, capsys: Any) -> None:
    assert ctl("config", "restore", KEY) == 0
    assert (
        capsys.readouterr().out == f"{KEY}: the configuration is set (revision 4); its worker was restarted with it\n"
    )


class Editor:
    """An $EDITOR that writes the next of some texts; what it was given stays to be seen."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.program = directory / "editor"
        self.program.write_text(
            f'#!/bin/sh\ncd {directory}\necho "$1" >> paths\nstat -c %a "$1" >> modes\ncp "$1" given\n'
            'n=$(wc -l < paths)\n[ -e text.$n ] && cp text.$n "$1"\nexit 0\n'
        )
        self.program.chmod(0o755)

    def types(self, *texts: str) -> None:
        for number, text in enumerate(texts, 1):
            (self.directory / f"text.{number}").write_text(text)

    def lines(self, name: str) -> list[str]:
        return (self.directory / name).read_text().splitlines()


@pytest.fixture
def editor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Editor:
    editor = Editor(tmp_path)
    monkeypatch.setenv("EDITOR", str(editor.program))
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setattr(config_edit, "_has_terminal", lambda: True)
    return editor


def test_edit(ctl: Any, daemon: FakeDaemon, editor: Editor, capsys: Any) -> None:
    editor.types('{"city": "Oslo", "db": {"password": "********"}}')
    assert ctl("config", "edit", KEY) == 0
    assert json.loads("".join(editor.lines("given"))) == samples.config()["config"]
    assert editor.lines("modes") == ["600"]
    (path,) = editor.lines("paths")
    assert not os.path.lexists(os.path.dirname(path))
    assert daemon.asked("plugins.config_set") == [
        {
            "plugin": KEY,
            "config": {"city": "Oslo", "db": {"password": "********"}},
            "merge": False,
            "expected_revision": 3,
        }
    ]
    assert "revision 4" in capsys.readouterr().out


def test_edit_nothing(ctl: Any, daemon: FakeDaemon, editor: Editor, capsys: Any) -> None:
    assert ctl("config", "edit", KEY) == 0
    assert capsys.readouterr().out == "nothing was changed\n"
    assert daemon.asked("plugins.config_set") == []


def test_back_in_until_it_is_right(
    ctl: Any, daemon: FakeDaemon, editor: Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor.types("{", "[1]", '{"city": 1}', '{"city": "x"}', '{"city": "y"}', '{"city": "z"}')
    daemon.answers["plugins.config_get"] = Turns([samples.config(), samples.config(revision=5)])
    well = {"ok": True, "problems": [], "asked_worker": True}
    daemon.answers["plugins.config_test"] = Turns([BAD, well, well, well])
    daemon.answers["plugins.config_set"] = Turns(
        [InvalidParams("a city has a name"), Conflict("somebody has set revision 5"), samples.config(revision=6)]
    )
    monkeypatch.setattr("sys.stdin", Terminal("y\n" * 5))
    monkeypatch.setattr("sys.stderr", shown := Terminal())
    assert ctl("config", "edit", KEY) == 0
    assert [asked["expected_revision"] for asked in daemon.asked("plugins.config_set")] == [3, 3, 5]
    for told in ("no JSON", "is a table", "city: must be a string", "a city has a name", "somebody has set"):
        assert told in shown.getvalue()
    assert len(editor.lines("paths")) == 6


def test_nobody_wants_to_go_back_in(
    ctl: Any, daemon: FakeDaemon, editor: Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor.types("{")
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    monkeypatch.setattr("sys.stderr", Terminal())
    assert ctl("config", "edit", KEY) == 1
    assert daemon.asked("plugins.config_set") == []
    assert not os.path.lexists(editor.lines("paths")[0])


@pytest.mark.parametrize(
    ("program", "code", "says"), [("false", 1, "exit code 1"), ("/nonexistent/ed", 3, "set EDITOR")]
)
def test_an_editor_that_fails(
    ctl: Any,
    daemon: FakeDaemon,
    editor: Editor,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
    program: str,
    code: int,
    says: str,
) -> None:
    monkeypatch.setenv("VISUAL", program)
    assert ctl("config", "edit", KEY) == code
    assert says in capsys.readouterr().err
    assert daemon.asked("plugins.config_set") == []


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_no_editor_without_a_terminal(ctl: Any, daemon: FakeDaemon, capsys: Any, words: list[str]) -> None:
    assert ctl("config", "edit", KEY, *words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "an editor needs a terminal" in err
    assert daemon.asked("plugins.config_get") == []


def test_who_is_ended_leaves_no_copy_behind(daemon: FakeDaemon, tmp_path: Path) -> None:
    """Nor its editor."""
    program = tmp_path / "editor"
    program.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    program.chmod(0o755)
    environ = {**os.environ, "EDITOR": str(program), "VISUAL": "", "TMPDIR": str(tmp_path)}
    code = "import sys; from client.cli import config_edit, main; config_edit._has_terminal = lambda: True; "
    words = ["--socket", daemon.path, "config", "edit", KEY]
    argv = [sys.executable, "-c", f"{code}sys.exit(main.main({words!r}))"]
    with subprocess.Popen(argv, env=environ, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 10
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert list(tmp_path.glob("pluginctl-*"))
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (128 + signal.SIGTERM, "")
    assert not list(tmp_path.glob("pluginctl-*"))
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
