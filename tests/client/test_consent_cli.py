"""pluginctl's questions and what stands beside its results: typed ahead, mistyped, interrupted, and for programs."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from client.cli import main as cli
from client.errors import ActivationFailed, ApprovalRequired, InvalidParams, InvalidTransition, NotFound
from tests.client import samples
from tests.client.fake_daemon import NEVER, FakeDaemon, Operating
from tests.client.terminal import Terminal
from tests.client.test_cli import KEY, pluginctl
from tests.client.test_packages_cli import PENDING, PENDING_DETAILS, PROGRESS, WANTED

INDEX = "https://packages.example/simple"


@pytest.fixture
def ctl(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PLUGIND_SOCKET", daemon.path)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    daemon.answers["daemon.settings"]["index_url"] = "https://me:secret@packages.example/simple"
    return lambda words: cli.main(words.split())


@pytest.fixture
def console() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal: the person's, the program's."""
    with ExitStack() as stack:
        person, program = pty.openpty()
        stack.callback(os.close, person)
        stack.callback(os.close, program)
        yield person, program


def type_ahead(console: tuple[int, int], text: bytes) -> None:
    """Return when a program that reads would get it."""
    os.write(console[0], text)
    deadline = time.monotonic() + 5
    while not struct.unpack("i", fcntl.ioctl(console[1], termios.FIONREAD, b"\0" * 4))[0]:
        assert time.monotonic() < deadline


def read_until(person: int, what: bytes) -> bytes:
    seen = b""
    while what not in seen:
        seen += os.read(person, 4096)
    return seen


def test_what_was_typed_before_the_question_is_no_answer(daemon: FakeDaemon, console: tuple[int, int]) -> None:
    def want(_: dict[str, Any]) -> Any:
        type_ahead(console, b"y\n")
        return WANTED

    daemon.answers["plugins.install"] = want
    argv = [sys.executable, "-m", "client.cli.main", "--socket", daemon.path, "install", "./weather"]
    program = console[1]
    with subprocess.Popen(argv, stdin=program, stdout=program, stderr=program) as process:
        assert b"network.outbound" in read_until(console[0], b"[y/N] ")
        os.write(console[0], b"n\n")
        assert process.wait(10) == 1
    assert len(daemon.asked("plugins.install")) == 1


def test_every_question_forgets_what_was_typed(ctl: Any, terminal: Any, typed_ahead: list[object]) -> None:
    terminal("n\n")
    assert ctl(f"uninstall {KEY} --remove-data") == 1
    terminal("n\n")
    assert ctl("daemon stop") == 1
    assert len(typed_ahead) == 2


def test_a_terminal_that_is_gone_is_no_terminal(ctl: Any, terminal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise termios.error(5, "Input/output error")

    monkeypatch.setattr("termios.tcflush", gone)
    terminal("y\n")
    assert ctl(f"uninstall {KEY} --remove-data") == 2


@pytest.mark.parametrize(
    ("words", "details"),
    [
        ("install ./weather", WANTED.details),
        (
            f"upgrade {KEY} ./weather",
            {"plugin": KEY, "what": f"{KEY} from {os.getcwd()}/weather", "capabilities": ["state.read"]},
        ),
        (f"approve {KEY}", {"plugin": KEY, "what": f"{KEY} 2.0 from /src/new", "capabilities": ["network.outbound"]}),
    ],
)
@pytest.mark.parametrize("typed", [None, "y\n"])
def test_programs_are_asked_nothing_and_told_what_it_is_about(
    ctl: Any,
    daemon: FakeDaemon,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    details: dict[str, Any],
    typed: str | None,
) -> None:
    daemon.answers["plugins.install"] = WANTED
    daemon.answers["plugins.upgrade"] = ApprovalRequired("more", plugin=KEY, added=["state.read"])
    daemon.answers["plugins.versions"] = [samples.version(version="2.0", state="staged", source="/src/new")]
    if words.startswith("approve"):
        daemon.answers["plugins.get"] = PENDING_DETAILS
    if typed is not None:
        monkeypatch.setattr("sys.stdin", Terminal(typed))
    assert ctl(f"{words} --json -v" if "approve" not in words else f"{words} --json") == 2
    out, err = capsys.readouterr()
    error = json.loads(err)["error"]
    assert (out, error["name"], error["data"]) == ("", "USAGE", details)
    assert "needs --yes" in error["message"]


def test_programs_hear_no_notes(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["plugins.install"] = Operating(PROGRESS, samples.plugin())
    assert ctl("install acme-weather --yes --json -v") == 0
    assert capsys.readouterr().err == ""
    daemon.answers |= {"plugins.upgrade": PENDING, "plugins.get": PENDING_DETAILS}
    assert ctl(f"upgrade {KEY} ./weather --json") == 3
    out, err = capsys.readouterr()
    assert (json.loads(out)["pending_capabilities"], err) == (["network.outbound"], "")


def test_a_broken_output_is_json_too(daemon: FakeDaemon) -> None:
    argv = [sys.executable, "-m", "client.cli.main", "--json", "--socket", daemon.path, "status"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, json.loads(done.stderr)["error"]["name"]) == (1, "OS_ERROR")


@pytest.mark.parametrize("words", ["install nope", f"upgrade {KEY} nope"])
def test_a_bare_word_is_not_fetched_unasked(
    ctl: Any, daemon: FakeDaemon, capsys: Any, terminal: Any, words: str
) -> None:
    assert ctl(words) == 2
    err = capsys.readouterr().err
    assert (
        f"there is no file or directory ./nope; fetching the distribution 'nope' from {INDEX.replace('//', '//***@')}"
        in err
    )
    assert "secret" not in err
    assert ctl(f"{words} --json") == 2
    assert json.loads(capsys.readouterr().err)["error"]["data"]["source"] == "nope"
    shown = terminal("n\n")
    assert ctl(words) == 1
    assert "Fetch the distribution 'nope' from https://***@packages" in shown.getvalue()
    assert daemon.asked("plugins.install") == daemon.asked("plugins.upgrade") == []
    terminal("y\n")
    assert ctl(words) == 0
    assert ctl(f"{words} --yes") == 0


@pytest.mark.parametrize("meant", ["nope>=1", "nope[x]", "nope --index-url https://i", "nope --find-links ."])
def test_what_says_that_it_is_a_distribution_is_fetched(ctl: Any, daemon: FakeDaemon, meant: str) -> None:
    assert ctl(f"install {meant}") == 0
    assert daemon.asked("plugins.install")[0]["source"] == meant.split()[0]


def test_what_is_to_run_in_place_is_a_path(ctl: Any, daemon: FakeDaemon) -> None:
    assert ctl("install nope --editable --yes") == 0
    assert daemon.asked("plugins.install")[0]["source"] == os.path.abspath("nope")


def test_the_index_is_named_where_consent_is_asked(ctl: Any, daemon: FakeDaemon, terminal: Any) -> None:
    daemon.answers["plugins.install"] = WANTED
    shown = terminal("n\nn\n")
    assert ctl("install acme>=1 --find-links wheels") == 1
    origin = f"{KEY} 2.0 from acme>=1 of https://***@packages.example/simple and {os.path.abspath('wheels')}"
    assert f"{origin} wants to be allowed" in shown.getvalue()
    assert f"Install {origin}, and allow this? [y/N]" in shown.getvalue()
    daemon.answers["daemon.settings"]["index_url"] = ""
    assert ctl("install acme>=1") == 1
    assert "of the index that pip is configured with" in shown.getvalue()


def test_the_source_of_what_waits_is_named(ctl: Any, daemon: FakeDaemon, terminal: Any) -> None:
    daemon.answers["plugins.get"] = PENDING_DETAILS
    daemon.answers["plugins.versions"] = [samples.version(version="2.0", state="staged", source="/src/new")]
    shown = terminal("n\n")
    assert ctl(f"approve {KEY}") == 1
    assert f"Allow this, and run {KEY} 2.0 from /src/new? [y/N]" in shown.getvalue()


@pytest.mark.parametrize("verb", ["approve", "rollback", "reject", "restart", "enable", "uninstall"])
@pytest.mark.parametrize("json_flag", [[], ["--json"]])
def test_ctrl_c_says_that_it_goes_on(daemon: FakeDaemon, verb: str, json_flag: list[str]) -> None:
    method = "plugins.unload" if verb == "uninstall" else f"plugins.{verb}"
    daemon.answers[method] = NEVER
    with pluginctl(daemon, verb, KEY, *json_flag) as process:
        daemon.wait_asked(method)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=5)
    assert (process.returncode, out) == (130, "")
    said = json.loads(err)["error"]["message"] if json_flag else err
    assert "plugind goes on" in said
    assert f"`pluginctl status {KEY}` shows what becomes of it" in said


def test_a_second_ctrl_c_says_what_is_not_known(daemon: FakeDaemon) -> None:
    daemon.answers["plugins.install"] = Operating([], None, NEVER)
    with pluginctl(daemon, "install", "--yes", "./weather") as process:
        daemon.wait_asked("plugins.install")
        process.send_signal(signal.SIGINT)
        daemon.wait_asked("rpc.cancel")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=5)
    assert process.returncode == 130
    assert "was told to cancel" in err
    assert "`pluginctl list` shows what became of it" in err


@pytest.mark.parametrize(
    ("words", "method", "details", "hint"),
    [
        (f"rollback {KEY} --version 9", "rollback", {"plugin": KEY, "version": "9", "kept": []}, f"versions {KEY}`"),
        (f"config restore {KEY} 9", "config_restore", {"plugin": KEY, "revision": 9}, f"config history {KEY}`"),
        (f"config restore {KEY}", "config_restore", {"plugin": KEY}, f"config history {KEY}`"),
        (f"load {KEY}", "load", {"plugin": KEY}, "`pluginctl list -a` shows the plugins"),
    ],
)
def test_what_was_not_found_says_where_to_look(
    ctl: Any, daemon: FakeDaemon, capsys: Any, words: str, method: str, details: dict[str, Any], hint: str
) -> None:
    daemon.answers[f"plugins.{method}"] = NotFound("is not there", **details)
    assert ctl(words) == 4
    assert hint in capsys.readouterr().err


def test_a_value_that_is_not_set_says_where_to_look(ctl: Any, capsys: Any) -> None:
    assert ctl(f"config get {KEY} nope") == 4
    assert f"`pluginctl config get {KEY}`" in capsys.readouterr().err


def test_what_is_uninstalled_is_installed_and_not_upgraded(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["plugins.get"] = samples.details(status="uninstalled")
    for words in ("", "./weather", "--version 1"):
        assert ctl(f"upgrade {KEY} {words}") == 3
        assert "`pluginctl install SOURCE`" in capsys.readouterr().err
    assert daemon.asked("plugins.upgrade") == []


def test_uninstalled_twice(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["plugins.unload"] = InvalidTransition("already", plugin=KEY, status="uninstalled", command="unload")
    assert ctl(f"uninstall {KEY}") == 3
    assert f"hint: `pluginctl purge {KEY}`" in capsys.readouterr().err


def test_a_place_of_links_is_a_path_of_here(ctl: Any, daemon: FakeDaemon) -> None:
    assert ctl("install acme>=1 --find-links nosuchdir --find-links https://l --find-links file:///w") == 0
    links = daemon.asked("plugins.install")[0]["find_links"]
    assert links == [os.path.abspath("nosuchdir"), "https://l", "file:///w"]


@pytest.mark.parametrize("status", ["error", "ready"])
def test_files_that_have_changed_are_not_enabled(ctl: Any, daemon: FakeDaemon, capsys: Any, status: str) -> None:
    daemon.answers["plugins.get"] = samples.details(status=status, last_reason="package_changed")
    daemon.answers["plugins.enable"] = ActivationFailed("was not started: 'main.py' has changed")
    assert ctl(f"enable {KEY}") == 1
    hint = capsys.readouterr().err.partition("hint: ")[2]
    assert f"`pluginctl upgrade {KEY}`" in hint
    assert "enable" not in hint


def test_an_upgrade_in_error_says_how_to_start_it(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["plugins.upgrade"] = samples.plugin(version="2.0", status="error", summary="In error: of old.")
    assert ctl(f"upgrade {KEY} ./weather") == 0
    out = capsys.readouterr().out
    assert "upgraded from 1.2.0 to 2.0. It is in place, and has not been started" in out
    assert f"`pluginctl enable {KEY}` starts it" in out
    assert "of old" not in out


@pytest.mark.parametrize("option", ["--index-url https://i", "--find-links .", f"--hash sha256:{'0' * 64}"])
def test_what_is_kept_is_not_fetched(ctl: Any, daemon: FakeDaemon, capsys: Any, option: str) -> None:
    assert ctl(f"upgrade {KEY} --version 1 {option}") == 2
    assert "leave --index-url" in capsys.readouterr().err
    assert daemon.asked("plugins.upgrade") == []


def test_a_number_that_was_meant_as_text(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["plugins.config_set"] = InvalidParams("token: must be a string")
    assert ctl(f"config set {KEY} city=Rome token=12345678") == 3
    err = capsys.readouterr().err
    assert "hint: to set token to a text, quote it twice, as in token='\"…\"', or say --string\n" in err
    assert "12345678" not in err
    assert ctl(f"config set {KEY} city=Rome") == 3
    assert "hint" not in capsys.readouterr().err
    daemon.answers["plugins.config_test"] = {"ok": False, "problems": [], "asked_worker": False}
    assert ctl(f"config test {KEY} token=1") == 1
    assert "token to a text" in capsys.readouterr().err
    daemon.answers["plugins.config_set"] = samples.config()
    assert ctl(f"config set {KEY} token=12345678 --string") == 0
    assert daemon.asked("plugins.config_set")[-1]["config"] == {"token": "12345678"}


def test_a_configuration_that_was_there_already(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["plugins.config_set"] = samples.config(changed=False, notes=["city: $x is a text"])
    assert ctl(f"config set {KEY} city=Rome") == 0
    out, err = capsys.readouterr()
    assert (out, err) == (f"{KEY}: nothing changed (revision 3)\n", "city: $x is a text\n")


@pytest.mark.parametrize("words", [["install", b"./caf\xe9"], ["load", b"caf\xe9"]])
def test_bytes_that_are_no_text(daemon: FakeDaemon, words: list[Any]) -> None:
    argv = [sys.executable, "-m", "client.cli.main", "--socket", daemon.path, *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONUTF8": "1"})
    assert done.returncode == 3
    assert "caf\\xe9' is no UTF-8" in done.stderr
    assert "codec" not in done.stderr


BACK = {"from": "6.0", "to": "1.2.0", "reason": "exited with code 1"}


def test_a_probation_that_failed_is_told(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.emit("plugin.rolled_back", **BACK)
    assert ctl(f"status {KEY}") == 0
    assert "6.0 was given up " in (out := capsys.readouterr().out)
    assert "and 1.2.0 is back: exited with code 1" in out
    assert ctl(f"status {KEY} --json") == 0
    assert json.loads(capsys.readouterr().out)["given_up"]["version"] == "6.0"


@pytest.mark.parametrize(
    ("type_", "data"),
    [
        ("plugin.rolled_back", {**BACK, "reason": None}),
        ("plugin.rolled_back", {**BACK, "to": "1.1"}),
        ("plugin.upgraded", {"from": "6.0", "to": "1.2.0"}),
    ],
)
def test_what_somebody_has_done_since_is_no_probation(
    ctl: Any, daemon: FakeDaemon, capsys: Any, type_: str, data: dict[str, Any]
) -> None:
    daemon.emit("plugin.rolled_back", **BACK)
    daemon.emit(type_, **data)
    assert ctl(f"status {KEY}") == 0
    assert "given up" not in capsys.readouterr().out


def test_the_help_names_what_there_is(capsys: Any) -> None:
    assert cli.main(["--help"]) == 0
    commands = capsys.readouterr().out.partition("every method")[0]
    for word in ("upgrade", "approve", "reject", "rollback", "versions", "config", "purge", "wheel"):
        assert word in commands
