"""pluginctl against a fake daemon: every command, exit codes, JSON, help, errors."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from client.cli import exits
from client.cli import main as cli
from client.cli.command import parse
from client.errors import (
    ActivationFailed,
    DeadlineExceeded,
    NotFound,
    PluginCrashed,
    SupervisorError,
    Unavailable,
)
from supervisor.core.errors import CLASSES
from supervisor.core.manifest import Checks, parse_manifest
from tests.client import samples
from tests.client.fake_daemon import FakeDaemon
from tests.client.terminal import Terminal

KEY, JOB = "acme.weather", "acme.weather/refresh"
# Words, the method asked for last, and its params that matter.
COMMANDS: list[tuple[str, str, dict[str, Any]]] = [
    ("list", "plugins.list", {"status": None, "include_uninstalled": False, "usage": False}),
    ("list --usage", "plugins.list", {"usage": True}),
    ("plugins list --status error --all", "plugins.list", {"status": "error", "include_uninstalled": True}),
    (f"plugins get {KEY}", "plugins.get", {"plugin": KEY}),
    ("status", "plugins.list", {}),
    (f"status {KEY} -n 3", "logs.read", {"plugin": KEY, "tail": 3}),
    (f"load {KEY}", "plugins.load", {"plugin": KEY}),
    (f"enable {KEY}", "plugins.enable", {"plugin": KEY}),
    (f"disable {KEY} --reason later", "plugins.disable", {"plugin": KEY, "reason": "later"}),
    (f"start {KEY}", "plugins.start", {"plugin": KEY}),
    (f"stop {KEY}", "plugins.stop", {"plugin": KEY}),
    (f"restart {KEY}", "plugins.restart", {"plugin": KEY}),
    (f"unload {KEY}", "plugins.unload", {"plugin": KEY, "remove_data": False}),
    (f"uninstall --remove-data --yes {KEY}", "plugins.unload", {"plugin": KEY, "remove_data": True}),
    (f"uninstall {KEY} --purge -y", "plugins.unload", {"plugin": KEY, "remove_data": True}),
    (f"plugins mark-error {KEY} broken", "plugins.mark_error", {"plugin": KEY, "error": "broken"}),
    (f"plugins mark_upgrade_pending {KEY}", "plugins.mark_upgrade_pending", {"plugin": KEY}),
    ("install --no-load --yes rel/dir", "plugins.install", {"source": str(Path("rel/dir").absolute())}),
    (f"upgrade --yes {KEY}", "plugins.upgrade", {"plugin": KEY, "source": None, "version": None}),
    (f"upgrade {KEY} --version 1.1", "plugins.upgrade", {"source": None, "version": "1.1", "approve": False}),
    (f"approve {KEY} --yes", "plugins.approve", {"plugin": KEY, "version": None}),
    (f"reject {KEY}", "plugins.reject", {"plugin": KEY}),
    (f"rollback {KEY} --version 1.1", "plugins.rollback", {"plugin": KEY, "version": "1.1"}),
    (f"versions {KEY}", "plugins.versions", {"plugin": KEY}),
    (f"config get {KEY}", "plugins.config_get", {"plugin": KEY}),
    (f"config get {KEY} db.port", "plugins.config_get", {"plugin": KEY}),
    (f"config set {KEY} city=Oslo db.port=1", "plugins.config_set", {"config": {"city": "Oslo", "db": {"port": 1}}}),
    (f"config unset {KEY} db.port", "plugins.config_set", {"config": {"db": {"port": None}}, "expected_revision": 3}),
    (f"config test {KEY}", "plugins.config_test", {"config": None}),
    (f"plugins config-test {KEY} city=1", "plugins.config_test", {"config": {"city": 1}, "merge": True}),
    (f"config history {KEY}", "plugins.config_history", {"plugin": KEY}),
    (f"config restore {KEY} 2", "plugins.config_restore", {"plugin": KEY, "revision": 2}),
    ("install --yes rel/dir", "plugins.load", {"plugin": KEY}),
    (f"wait {KEY} --phase running --timeout 3", "plugins.wait", {"plugin": KEY, "phase": "running", "status": None}),
    (f"wait {KEY} --status disabled", "plugins.wait", {"status": "disabled", "phase": None}),
    (f"health {KEY}", "plugins.health", {"plugin": KEY}),
    (f"plugins can-transition {KEY} disabled", "plugins.can_transition", {"to": "disabled"}),
    (f'call {KEY} forecast {{"city":"Rome"}}', "plugins.call", {"method": "forecast", "params": {"city": "Rome"}}),
    (f"state get {KEY} count", "plugins.state_get", {"plugin": KEY, "key": "count"}),
    (f"metrics {KEY}", "plugins.metrics", {"plugin": KEY}),
    ("metrics", "daemon.metrics", {"plugins": True}),
    ("daemon metrics --own", "daemon.metrics", {"plugins": False}),
    (f"state list {KEY} --prefix c -n 7", "plugins.state_list", {"prefix": "c", "limit": 7, "after": None}),
    (f"jobs list --plugin {KEY}", "jobs.list", {"plugin": KEY, "include_inactive": False}),
    (f"jobs get {JOB}", "jobs.get", {"job": JOB}),
    (f"jobs next {JOB} -n 2", "jobs.next", {"job": JOB, "count": 2}),
    ("jobs next --hours 24", "jobs.next", {"job": None, "count": 100, "hours": 24.0, "plugin": None}),
    (f"jobs next --plugin {KEY}", "jobs.next", {"job": None, "count": 100, "hours": None, "plugin": KEY}),
    (f"jobs run --no-wait {JOB}", "jobs.run", {"job": JOB, "wait": False, "params": None}),
    (f"run {JOB} --param city=Rome --param days=3", "jobs.run", {"params": {"city": "Rome", "days": 3}}),
    (f'run {JOB} --params {{"a":[1]}}', "jobs.run", {"params": {"a": [1]}}),
    (f"jobs pause {JOB}", "jobs.pause", {"job": JOB, "plugin": None}),
    (f"jobs pause --plugin {KEY}", "jobs.pause", {"job": None, "plugin": KEY}),
    ("jobs pause --all", "jobs.pause", {"job": None, "plugin": None}),
    (f"jobs resume {JOB}", "jobs.resume", {"job": JOB, "plugin": None}),
    ("jobs resume --all", "jobs.resume", {"job": None, "plugin": None}),
    (f"runs list {JOB} --state failed -n 3", "jobs.runs", {"job": JOB, "states": ["failed"], "limit": 3}),
    (f"runs list {JOB} --state failed --state missed", "jobs.runs", {"states": ["failed", "missed"], "triggers": []}),
    (f"runs list --job {JOB} --trigger retry", "jobs.runs", {"job": JOB, "triggers": ["retry"], "before_ms": None}),
    (
        "runs list --since 2026-01-01T00:00:00+00:00 --before r1",
        "jobs.runs",
        {"since_ms": 1767225600000, "before": "r1"},
    ),
    ("runs list --before 2026-01-01T00:00:00+00:00", "jobs.runs", {"before_ms": 1767225600000, "before": None}),
    ("runs show r1", "jobs.get_run", {"run": "r1"}),
    ("jobs get_run r1", "jobs.get_run", {"run": "r1"}),
    ("runs cancel r1", "jobs.cancel", {"run": "r1"}),
    ("runs retry r1", "jobs.retry", {"run": "r1", "wait": False}),
    ("events list --after 0 -n 5", "events.list", {"after_seq": 0, "limit": 5}),
    (f"events --type job.* --plugin {KEY}", "events.list", {"types": ["job.*"], "plugins": [KEY], "after_seq": None}),
    (f"logs -n 4 {KEY} --level warning", "logs.read", {"plugin": KEY, "tail": 4, "level": "warning"}),
    (f"logs read {KEY} --run r1", "logs.read", {"plugin": KEY, "run": "r1"}),
    (f"events --job {JOB}", "events.list", {"jobs": [JOB], "limit": 20}),
    ("events list --until 2026-01-01T00:00:00+00:00", "events.list", {"until_ms": 1767225600000, "since_ms": None}),
    ("audit", "audit.list", {"limit": 49, "methods": [], "uid": None, "target": None, "before": 7}),
    (f"audit {KEY} -n 1 --user root --result ok", "audit.list", {"target": KEY, "limit": 1, "uid": 0, "result": "ok"}),
    ("audit list -n 1 --method jobs.* --before 9", "audit.list", {"methods": ["jobs.*"], "before": 9}),
    (
        "audit -n 1 --since 2026-01-01T00:00:00+00:00 --until 2026-01-01T00:00:01+00:00",
        "audit.list",
        {"since_ms": 1767225600000, "until_ms": 1767225601000},
    ),
    ("reload", "daemon.reload", {}),
    ("ping", "daemon.ping", {}),
    ("daemon info", "daemon.info", {}),
    ("daemon status", "daemon.status", {}),
    ("daemon settings", "daemon.settings", {}),
    ("daemon stop --yes", "daemon.stop", {}),
    ("backup rel.db", "daemon.backup", {"path": str(Path("rel.db").absolute())}),
    ("describe", "rpc.describe", {}),
    ("describe plugins.get", "rpc.describe", {}),
    ("describe errors", "rpc.describe", {}),
]


@pytest.fixture
def ctl(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PLUGIND_SOCKET", daemon.path)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    # The samples tell of one instant; the clock stands still at it, however long ago they were made.
    still = SimpleNamespace(time=lambda: samples.NOW / 1000, strftime=time.strftime, localtime=time.localtime)
    monkeypatch.setattr("client.cli.render.time", still)
    daemon.emit()
    return lambda words: cli.main(words if isinstance(words, list) else words.split())


@pytest.mark.parametrize("json_flag", ["", "--json"])
@pytest.mark.parametrize(("words", "method", "params"), COMMANDS)
def test_every_command(
    ctl: Any, daemon: FakeDaemon, capsys: Any, words: str, method: str, params: dict[str, Any], json_flag: str
) -> None:
    assert ctl(f"{words} {json_flag}") == 0
    out, err = capsys.readouterr()
    asked = daemon.asked(method)[-1]
    assert {name: asked.get(name) for name in params} == params
    assert err == ""
    assert out.strip()
    if json_flag:
        json.loads(out)


def test_list_as_json_has_what_programs_look_for(ctl: Any, capsys: Any) -> None:
    assert ctl("--json list") == 0
    wanted = {"id", "key", "version", "status", "phase", "pid", "restarts", "last_error"}
    assert wanted <= json.loads(capsys.readouterr().out)[0].keys()


@pytest.mark.parametrize(
    "words", ["--json {s} list", "list --json {s}", "plugins --json {s} list", "{s} plugins list --json"]
)
def test_options_before_and_after_the_verb(daemon: FakeDaemon, capsys: Any, words: str) -> None:
    assert cli.main(words.replace("{s}", f"--socket={daemon.path}").split()) == 0
    assert cli.main(words.replace("{s}", f"--socket {daemon.path}").split()) == 0
    first, _ = capsys.readouterr().out.split("\n]\n", 1)
    json.loads(first + "]")


EXITS = dict.fromkeys(CLASSES, 1) | dict.fromkeys(exits.REFUSED, 3) | {"NOT_FOUND": 4, "UNAVAILABLE": 3}


@pytest.mark.parametrize("code", CLASSES)
def test_errors_and_their_exit_codes(ctl: Any, daemon: FakeDaemon, capsys: Any, code: str) -> None:
    daemon.answers["plugins.load"] = CLASSES[code]("bad \x1b thing", plugin=KEY)
    assert ctl(f"load {KEY}") == EXITS[code]
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[0]) == ("", "pluginctl: bad \\x1b thing")
    assert ctl(f"load {KEY} --json") == EXITS[code]
    assert json.loads(capsys.readouterr().err) == {
        "error": {"name": code, "message": "bad \x1b thing", "data": {"plugin": KEY}}
    }


def test_no_daemon(capsys: Any) -> None:
    assert cli.main(["--socket", "/nonexistent/s", "ping"]) == 5
    err = capsys.readouterr().err
    assert "plugind is not running: there is no socket /nonexistent/s (--socket)\n" in err
    assert " starts it" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("stauts", "did you mean 'status'"),
        ("plugins lst", "did you mean 'list'"),
        ("load", "required: KEY"),
        ("list --nonsense", "--nonsense"),
        ("list --uage", "did you mean '--usage'?"),
        (f"logs {KEY} --lvel=error", "did you mean '--level'?"),
        ("list --status redy", "did you mean 'ready'?"),
        ("list -o yaml", "invalid choice: 'yaml'"),
        ("ps", "did you mean 'list'?"),
        ("inspect x", "did you mean 'plugins get'?"),
        ("daemon-reload", "did you mean 'reload'?"),
        ("jobs resme", "did you mean 'resume'?"),
        ("status -o name", "invalid choice: 'name'"),
        (f"call {KEY} forecast city=Rome", """such as '{"city": "Rome"}'"""),
        (f"call {KEY} forecast {{city:Rome}}", "in single quotes"),
        ("events -f --until 1m", "-f goes on for ever"),
        (f"logs {KEY} -n 20000 --until 1m", "at most 10000"),
        ("audit --user no-such-user", "neither a user of this machine nor a number"),
        (f"metrics {KEY} --own", "cannot stand with KEY"),
        ("call a m {bad", "must be JSON"),
        ("logs a --since soon", "--since"),
        ("logs a --until soon", "--until"),
        ("logs a -f --until 1m", "-f goes on for ever"),
        ("logs a --stream stdin", "invalid choice: 'stdin'"),
        ("--socket", "needs a path"),
        ("runs nothing-like-it", "known are"),
        (f"logs {KEY} -n 0", "from 1 to 1000000, not '0'"),
        (f"logs {KEY} --level loud", "invalid choice: 'loud'"),
        (f"wait {KEY} --phase runing", "invalid choice: 'runing'"),
        (f"wait {KEY} --status redy", "invalid choice: 'redy'"),
        (f"wait {KEY} --timeout -1", "above 0, not '-1'"),
        (f"call {KEY} forecast --timeout nan", "above 0, not 'nan'"),
        ("list --status redy", "invalid choice: 'redy'"),
        ("runs list --state done", "invalid choice: 'done'"),
        (f"runs list {JOB} --job {JOB}", "named twice"),
        ("runs list --since soon", "--since"),
        ("jobs pause", "say what to pause: JOB, --plugin KEY"),
        ("jobs resume", "--all for the whole schedule"),
        (f"jobs pause {JOB} --all", "say one thing to pause"),
        (f"jobs next {JOB} --plugin {KEY}", "cannot stand with --plugin"),
        ("jobs next --hours 0", "above 0"),
        ("jobs next --hours nan", "above 0"),
        ("jobs next -n 1001", "from 1 to 1000"),
        (f"run {JOB} --params [1]", "must be a map"),
        (f"run {JOB} --params {{", "must be JSON"),
        (f"run {JOB} --params {'[' * 100_000}", "nested too deeply"),
        (f"run {JOB} --param city", "no NAME=VALUE"),
        (f"run {JOB} --params {{}} --param a=1", "keep one of them"),
        ("events --since soon", "neither a span"),
        ("events --since 1m --after 3", "cannot stand together"),
        (f"call {KEY} forecast {'[' * 100_000}", "nested too deeply"),
        (f"uninstall {KEY} --remove-data", "needs --yes"),
        ("daemon stop", "needs --yes"),
    ],
)
def test_wrong_words(ctl: Any, capsys: Any, words: str, says: str) -> None:
    assert ctl(words) == 2
    assert says in capsys.readouterr().err
    if words != "--socket":
        assert ctl(f"{words} --json") == 2
        assert says in json.loads(capsys.readouterr().err)["error"]["message"]


def test_help_everywhere_has_an_example(capsys: Any) -> None:
    for words in (["--help"], ["help"], *([noun, "--help"] for noun in [*cli.NOUNS, *cli.FIRST_WORDS])):
        assert cli.main(words) == 0
        assert "example: pluginctl " in capsys.readouterr().out
    for noun in cli.NOUNS:
        for verb in cli._verbs(noun):
            command = cli._command(noun, verb)
            assert cli.main([noun, verb, "--help"]) == 0
            out = capsys.readouterr().out
            assert "example: pluginctl " in out
            assert "--json" in out
            words = command.example.split()
            assert words[0] in {*cli.SHORT, *cli.NOUNS, *cli.FIRST_WORDS}
    assert cli.main([]) == 2
    assert cli.main(["--version"]) == 0


@pytest.mark.parametrize(
    ("error", "code", "hint"),
    [
        (PluginCrashed("gone"), 1, f"`pluginctl restart {KEY}` tries again"),
        (Unavailable("takes no calls now", plugin=KEY), 3, f"`pluginctl status {KEY}`"),
        (Unavailable("the daemon is stopping"), 5, ""),
        (DeadlineExceeded("no answer within 1 s"), 1, "`--timeout S`"),
    ],
)
def test_a_call_that_fails(
    ctl: Any, daemon: FakeDaemon, capsys: Any, error: SupervisorError, code: int, hint: str
) -> None:
    daemon.answers["plugins.call"] = error
    assert ctl(f"call {KEY} forecast") == code
    err = capsys.readouterr().err
    assert hint in err
    assert ("hint" in err) == bool(hint)
    if error.code == "DEADLINE_EXCEEDED":
        assert f"method forecast of {KEY}: no answer" in err


@pytest.mark.parametrize(
    ("status", "hint"), [("error", f"`pluginctl enable {KEY}` tries again with the installed"), ("ready", "restart")]
)
def test_the_way_back_depends_on_the_status(ctl: Any, daemon: FakeDaemon, capsys: Any, status: str, hint: str) -> None:
    daemon.answers["plugins.get"] = samples.details(status=status)
    daemon.answers["plugins.enable"] = ActivationFailed("exit code 1")
    assert ctl(f"enable {KEY}") == 1
    assert hint in capsys.readouterr().err


def test_an_unknown_run_is_not_looked_for_among_plugins(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["jobs.cancel"] = NotFound("there is no run 'x'", run="x")
    assert ctl("runs cancel x") == 4
    assert capsys.readouterr().err == "pluginctl: there is no run 'x'\n"  # no word of plugins and jobs


def test_events_since(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.events.clear()
    for i in range(1, 1501):
        daemon.events.append(
            {
                "seq": i,
                "at_ms": samples.NOW - (1501 - i) * 1000,
                "type": "plugin.enabled",
                "plugin_id": "id",
                "plugin": KEY,
                "data": {},
            }
        )
    assert ctl("events list --since 20m --json") == 0
    events = json.loads(capsys.readouterr().out)["events"]
    assert events[-1]["seq"] == 1500
    assert len(events) == 1200
    assert [event["seq"] for event in events] == list(range(1501 - len(events), 1501))
    assert ctl("events --since 2d -n 3") == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert ctl("events --since 2030-01-01") == 0
    assert capsys.readouterr().out == "nothing happened\n"


def test_uninstalled_plugins_are_named_and_have_no_workers(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["daemon.status"] |= {"plugins": {"ready": 1, "uninstalled": 2}, "workers": {"stopped": 2}}
    assert ctl("status") == 0
    out = capsys.readouterr().out
    assert "1 ready, 2 uninstalled (`pluginctl list -a` shows them)" in out
    assert "workers: 1 running\n" in out


def test_a_table_on_a_narrow_terminal_says_what_is_wrong(
    ctl: Any, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    words = f"the worker of {KEY!r} exited with code 1\nTraceback (most recent call last):\n  File x\nSyntaxError: bad"
    daemon.answers["plugins.list"] = [samples.plugin(status="error", phase="stopped", last_error=words)]
    assert ctl("list") == 0
    assert capsys.readouterr().out.endswith("SyntaxError: bad (exited with code 1)\n")
    monkeypatch.setattr("client.cli.output.Context.width", 80)
    assert ctl("list") == 0
    head, row = capsys.readouterr().out.splitlines()
    assert "PID" not in head
    assert "  SyntaxError: bad (" in row
    assert row.endswith("…")
    assert len(row) == 80


def test_output_that_cannot_be_written_is_one_line(daemon: FakeDaemon) -> None:
    environ = {**os.environ, "PLUGIND_SOCKET": daemon.path}
    argv = [sys.executable, "-m", "client.cli.main", "status"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(argv, env=environ, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "pluginctl: cannot write the output: No space left on device\n")


def test_a_stop_that_takes_long_says_so_on_a_terminal(
    ctl: Any, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = threading.Event()

    class Told(Terminal):
        def write(self, text: str) -> int:
            if "waiting" in text:
                told.set()
            return super().write(text)

    def stop(_: dict[str, Any]) -> dict[str, Any]:
        assert told.wait(5)
        return samples.plugin()

    monkeypatch.setattr("client.cli.wait.PATIENCE_S", 0.01)
    monkeypatch.setattr("sys.stderr", terminal := Told())
    daemon.answers["plugins.stop"] = stop
    assert ctl(f"stop {KEY}") == 0
    assert terminal.getvalue() == "waiting for the worker to finish, at most 17 s …\n"


def test_negative_answers_are_exit_code_1(ctl: Any, daemon: FakeDaemon) -> None:
    daemon.answers["plugins.health"] = {"healthy": False, "phase": "backoff", "message": "m", "answer_ms": None}
    daemon.answers["plugins.can_transition"] = {"allowed": False, "status": "ready", "to": "installed"}
    assert ctl(f"health {KEY}") == 1
    assert ctl(f"plugins can-transition {KEY} installed") == 1


def test_install_shows_capabilities_and_says_what_stays_when_loading_fails(
    ctl: Any, daemon: FakeDaemon, capsys: Any, tmp_path: Path
) -> None:
    assert ctl(["new", "acme.new", str(tmp_path / "new")]) == 0
    daemon.answers["plugins.load"] = ActivationFailed("exit code 1", stderr_tail="Traceback\nboom\x1b")
    assert ctl(["install", "--yes", str(tmp_path / "new")]) == 1
    err = capsys.readouterr().err
    assert "is installed, but could not be loaded: exit code 1" in err
    assert "  boom\\x1b\n" in err
    assert f"pluginctl logs {KEY}" in err


@pytest.mark.parametrize("answer", ["y\n", "n\n", ""])
def test_what_is_piped_in_answers_no_question(
    ctl: Any, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capsys: Any, answer: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert ctl(f"uninstall {KEY} --remove-data") == 2
    assert "needs --yes" in capsys.readouterr().err
    assert daemon.asked("plugins.unload") == []


@pytest.mark.parametrize(("answer", "code", "asked"), [("y\n", 0, 1), ("\n", 1, 0), ("", 1, 0)])
def test_a_question_on_a_terminal(
    ctl: Any, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, asked: int
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    monkeypatch.setattr("sys.stderr", Terminal())
    assert ctl(f"uninstall {KEY} --remove-data") == code
    assert len(daemon.asked("plugins.unload")) == asked


def test_new_writes_what_the_manifest_check_accepts(capsys: Any, tmp_path: Path) -> None:
    where = tmp_path / "deep" / "w"
    assert cli.main(["new", "acme.weather", str(where), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == [str(where / "plugin.toml"), str(where / "main.py")]
    trust = Checks(
        version=lambda _: None, supervisor_version=lambda _: None, schema=lambda _: (), schedule=lambda _, __: None
    )
    manifest = parse_manifest(tomllib.loads((where / "plugin.toml").read_text()), trust)
    assert (manifest.key, [job.key for job in manifest.jobs]) == ("acme.weather", ["refresh"])
    compile((where / "main.py").read_text(), "main.py", "exec")
    assert cli.main(["new", "acme.weather", str(where)]) == 3
    assert cli.main(["new", "Not A Key", str(tmp_path / "x")]) == 2
    assert not (tmp_path / "x").exists()


def test_check_says_every_problem(capsys: Any, tmp_path: Path) -> None:
    assert cli.main(["new", "acme.weather", str(tmp_path / "w")]) == 0
    assert cli.main(["check", str(tmp_path / "w")]) == 0
    manifest = tmp_path / "w" / "plugin.toml"
    text = manifest.read_text().replace("*/5 * * * *", "99 * * * *").replace('version = "0.1.0"', "")
    manifest.write_text(text)
    capsys.readouterr()
    assert cli.main(["check", str(tmp_path / "w")]) == 3
    err = capsys.readouterr().err
    assert "plugin.version" in err
    assert "jobs[0].schedule" in err
    manifest.write_text(text.replace("99 * * * *", "5 * * * *").replace("[plugin]", '[plugin]\nversion = "1"'))
    assert cli.main(["check", str(tmp_path / "w")]) == 0
    assert "is well: 1 job, 1 method\n" in capsys.readouterr().out
    os.mkfifo(tmp_path / "w" / "pipe")
    assert cli.main(["check", str(tmp_path / "w")]) == 3
    assert "is a named pipe; a package holds regular files" in capsys.readouterr().err
    assert cli.main(["check", str(tmp_path / "nothing")]) in {3, 4}


def test_colours_only_on_a_terminal(ctl: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert ctl("list") == 0
    assert "\x1b" not in capsys.readouterr().out
    monkeypatch.setattr("client.cli.output.Context.width", None)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout", terminal := Terminal())
    assert ctl("list") == 0
    assert "\x1b[32mready" in terminal.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("sys.stdout", terminal := Terminal())
    assert ctl("list") == 0
    assert "\x1b" not in terminal.getvalue()


def test_defaults_of_the_parser_are_left_to_what_stood_before() -> None:
    assert not hasattr(parse("list", cli._command("plugins", "list"), []), "json")


def pluginctl(daemon: FakeDaemon, *words: str) -> subprocess.Popen[str]:
    environ = {**os.environ, "PLUGIND_SOCKET": daemon.path}
    argv = [sys.executable, "-m", "client.cli.main", *words]
    return subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_following_events_until_ctrl_c(daemon: FakeDaemon) -> None:
    daemon.emit()
    with pluginctl(daemon, "events", "-f", "--json") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["seq"] == 1
        daemon.wait_asked("events.subscribe")
        daemon.emit()
        assert json.loads(process.stdout.readline())["seq"] == 2
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=5)
    assert (process.returncode, err) == (130, "")


def test_following_logs(daemon: FakeDaemon) -> None:
    daemon.write_log(samples.line("one", 1000))
    with pluginctl(daemon, "logs", "-f", KEY) as process:
        assert process.stdout is not None
        assert process.stdout.readline().endswith("one\n")
        daemon.write_log(samples.line("two", 1000, stream="log", level="error", fields={"city": "Rome"}))
        assert process.stdout.readline().endswith(" error   two city=Rome\n")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=5)
    assert (process.returncode, out, err) == (130, "", "")


def test_following_logs_over_a_restart_of_the_daemon(daemon: FakeDaemon) -> None:
    with pluginctl(daemon, "logs", "-f", KEY, "-n", "5", "--json", "--level", "error") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        daemon.wait_asked("logs.follow")
        daemon.write_log(samples.line("one"))
        assert json.loads(process.stdout.readline())["message"] == "one"
        daemon.stop()
        assert "was lost; waiting for it" in process.stderr.readline()
        daemon.write_log(samples.line("two"), samples.line("three"))
        daemon.forget_log(2)
        daemon.start()
        assert "is back" in process.stderr.readline()
        assert json.loads(process.stdout.readline())["message"] == "three"
        assert "100 bytes of lines are missing here" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=5)
    assert (process.returncode, out, err) == (130, "", "")
    first, second = daemon.asked("logs.follow")
    assert (first["tail"], first["since_ms"], first["level"]) == (5, None, "error")
    assert (second["after"], second["level"], "tail" in second) == ("1", "error", False)


def test_following_the_log_of_a_plugin_that_is_not_there(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["logs.follow"] = NotFound("there is no plugin 'nobody'", plugin="nobody")
    assert ctl("logs -f nobody") == exits.NOT_FOUND
    assert "there is no plugin 'nobody'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ("", {"tail": 100, "since_ms": None, "until_ms": None, "stream": None}),
        ("--since 2026-01-01T00:00:00+00:00", {"tail": 1, "since_ms": 1_767_225_600_000}),
        ("--since 2026-01-01T00:00:00+00:00 -n 9", {"tail": 9, "since_ms": 1_767_225_600_000}),
        ("--until 2026-01-01T00:00:00+00:00 -n 3", {"tail": 3, "until_ms": 1_767_225_600_000}),
        ("--stream stderr --run r1 --level error", {"stream": "stderr", "run": "r1", "level": "error"}),
    ],
)
def test_reading_logs(ctl: Any, daemon: FakeDaemon, words: str, asked: dict[str, Any]) -> None:
    daemon.log = [samples.line()]
    assert ctl(f"logs {KEY} {words}") == 0
    assert {name: daemon.asked("logs.read")[-1][name] for name in asked} == asked


@pytest.mark.parametrize("json_flag", ["", "--json"])
def test_reading_more_lines_than_one_answer_holds(ctl: Any, daemon: FakeDaemon, capsys: Any, json_flag: str) -> None:
    lines = [samples.line(f"line {n}", samples.NOW - 12_000 + n) for n in range(12_000)]
    daemon.log = lines
    daemon.answers["logs.read"] = lambda params: lines[-params["tail"] :][-10_000:]
    assert ctl(f"logs {KEY} --since 1d {json_flag}") == 0
    out = capsys.readouterr().out
    shown = [line["message"] for line in json.loads(out)] if json_flag else out.splitlines()
    assert (len(shown), shown[0].endswith("line 0"), shown[-1].endswith("line 11999")) == (12_000, True, True)
    assert ctl(f"logs {KEY} -n 11000 {json_flag}") == 0
    assert capsys.readouterr().out.count("line ") == 11_000


def test_an_answer_that_left_lines_out_is_not_taken_for_all(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    lines = [samples.line(f"{n} {'x' * 60_000}", samples.NOW - 100 + n) for n in range(30)]
    daemon.log = lines
    daemon.answers["logs.read"] = lambda params: lines[-params["tail"] :][-20:]
    assert ctl(f"logs {KEY} -n 25") == 0
    assert len(capsys.readouterr().out.splitlines()) == 25
    assert ctl(f"logs {KEY} -n 25 --until 1s") == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 20
    assert "--since shows all since then" in err


@pytest.mark.parametrize(
    "words",
    ["-f -n 50 {k} --since 10m", "{k} -f --since 10m -n 50", "--since 10m {k} -n 50 -f", "-n 50 -f {k} --since=10m"],
)
def test_options_of_logs_in_any_order(words: str) -> None:
    options = parse("logs", cli._command("logs", "follow"), words.format(k=KEY).split())
    assert (options.plugin, options.follow, options.tail, options.since) == (KEY, True, 50, "10m")


def test_a_closed_pipe_is_quiet(daemon: FakeDaemon) -> None:
    daemon.answers["plugins.list"] = [samples.plugin(key=f"p{i}") for i in range(4000)]
    with pluginctl(daemon, "list") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 0
