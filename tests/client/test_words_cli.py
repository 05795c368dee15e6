"""What a wrong word is answered with, and what holds for all commands: streams, signals, messages."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from client.cli import main as cli
from client.cli.render import table
from client.errors import InvalidParams, InvalidTransition, NotFound, PermissionDenied
from supervisor.core.lifecycle import Command, Status, next_status
from tests.client import samples
from tests.client.fake_daemon import FakeDaemon, Turns

KEY, JOB = "acme.weather", "acme.weather/refresh"


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("plugins describe x", "did you mean 'status'?"),
        ("up", "did you mean 'start'?"),
        ("down", "did you mean 'stop'?"),
        ("daemon restart", "`systemctl restart plugind` does that"),
        ("help nope", "known are approve, "),
        ("list -o yaml", "(choose from "),
        ("list --quiet", "did you mean '-o name'?"),
        ("list -q", "did you mean '-o name'?"),
        ("ping --quiet", "unrecognized arguments: --quiet\n"),
        ("list --format json", "did you mean '-o'?"),
        ("list -j", "did you mean '--json'?"),
        (f"rollback {KEY} --no-such", "unrecognized arguments: --no-such\n"),
        (f"rollback {KEY} --no-wiat", "did you mean '--no-wait'?"),
        ("reset-failed", "did you mean 'enable'?"),
        ("is-active", "did you mean 'wait' or 'status'?"),
        ("mask", "did you mean 'disable'?"),
        ("--sockt x list", "no option '--sockt' before the command; did you mean '--socket'?"),
        ("-x list", "there are --json, --socket"),
        ("logs a.b c.d", "pluginctl logs takes one KEY: run it once for each"),
        ("--socket= list", "--socket needs a path"),
        ("list --socket=", "--socket needs a path"),
    ],
)
def test_what_was_meant(capsys: Any, words: str, meant: str) -> None:
    assert cli.main(words.split()) == 2
    assert meant in capsys.readouterr().err


def test_programs_are_told_that_a_command_is_missing(capsys: Any) -> None:
    assert cli.main(["--json"]) == 2
    out, err = capsys.readouterr()
    assert (out, json.loads(err)["error"]["name"]) == ("", "USAGE")


def test_a_job_without_its_plugin(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["jobs.run"] = NotFound("there is no job 'refresh'", job="refresh")
    daemon.answers["jobs.list"] = [samples.job(job=JOB)]
    assert ctl("run refresh") == 4
    assert f"did you mean {JOB!r}?" in capsys.readouterr().err
    daemon.answers["jobs.list"] = [samples.job(job=JOB), samples.job(job="other.one/refresh")]
    assert ctl("run refresh") == 4
    assert "did you mean" not in capsys.readouterr().err


@pytest.mark.parametrize(("verb", "status"), [("enable", "ready"), ("disable", "disabled")])
def test_what_is_so_already(ctl: Any, daemon: FakeDaemon, capsys: Any, verb: str, status: str) -> None:
    already = InvalidTransition("no", plugin=KEY, status=status, command=verb, to=[status])
    other = InvalidTransition("no", plugin=KEY, status="installed", command=verb, to=[status])
    daemon.answers[f"plugins.{verb}"] = already
    daemon.answers["plugins.get"] = lambda params: samples.details(key=params["plugin"], status=status)
    assert ctl(f"{verb} {KEY}") == 0
    assert capsys.readouterr().out.startswith(f"{KEY}: {verb}d already. ")
    daemon.answers[f"plugins.{verb}"] = Turns([already, samples.plugin(key="acme.b"), already])
    assert ctl(f"{verb} acme.a acme.b acme.c") == 0
    assert capsys.readouterr().out.count(" already. ") == 2
    daemon.answers[f"plugins.{verb}"] = other
    assert ctl(f"{verb} {KEY}") == 3


def test_a_reason_does_not_get_lost(ctl: Any, daemon: FakeDaemon) -> None:
    daemon.answers["plugins.disable"] = InvalidTransition(
        "no", plugin=KEY, status="disabled", command="disable", to=["disabled"]
    )
    assert ctl(f"disable {KEY} --reason x") == 3


@pytest.mark.parametrize(
    ("words", "keys"),
    [("acme.*", ["acme.a", "acme.b"]), ("other.c acme.a", ["acme.a", "other.c"]), ("z*", []), ("OTHER.C", ["other.c"])],
)
def test_list_of_some(ctl: Any, daemon: FakeDaemon, capsys: Any, words: str, keys: list[str]) -> None:
    plugins = [samples.plugin(key=key, id=key.upper()) for key in ("acme.a", "acme.b", "other.c")]
    daemon.answers["plugins.list"] = plugins
    assert ctl(f"list {words} -o name") == 0
    assert capsys.readouterr().out.split() == keys
    assert ctl("list nobody.here") == 4
    assert "there is no plugin 'nobody.here'" in capsys.readouterr().err


def test_jobs_and_runs_of_a_plugin(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["jobs.list"] = Turns([[samples.job(job=JOB)], []])
    assert ctl(f"jobs list {KEY}") == 0
    assert daemon.asked("jobs.list")[-1]["plugin"] == KEY
    assert ctl(f"jobs list {KEY} --plugin {KEY}") == 2
    daemon.answers["jobs.get"] = NotFound("no such job")
    daemon.answers["jobs.runs"] = []
    assert ctl(f"runs list {KEY}") == 0
    assert [daemon.asked("jobs.runs")[-1][name] for name in ("job", "plugin")] == [None, KEY]
    daemon.answers["jobs.get"] = samples.job(job=JOB)
    assert ctl("runs list 0a1b") == 0
    assert [daemon.asked("jobs.runs")[-1][name] for name in ("job", "plugin")] == ["0a1b", None]


def test_the_role_is_told_once_and_of_the_command(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["plugins.restart"] = PermissionDenied(
        "plugins.restart needs the role operator, and uid 7 has no role here", required="operator", granted_to=[]
    )
    assert ctl("restart acme.a acme.b") == 3
    said = capsys.readouterr().err
    assert said.count("`pluginctl restart` needs the role operator, and uid 7 has no role here") == 1
    assert "plugins.restart" not in said
    assert len(daemon.asked("plugins.restart")) == 1


def test_a_cause_is_told_once(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["plugins.get"] = samples.details(
        summary="Crashed (exited with code 3); next start in 5s.", last_error="the worker of 'a.b' exited with code 3"
    )
    assert ctl(f"status {KEY}") == 0
    assert capsys.readouterr().out.count("exited with code 3") == 1
    daemon.answers["plugins.get"] = samples.details(
        summary="Crashed (exited with code 3).", last_error="the worker of 'a.b' exited with code 3\nits last words"
    )
    assert ctl(f"status {KEY}") == 0
    assert "its last words" in capsys.readouterr().out


def test_where_nothing_waits(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    with pytest.raises(InvalidTransition) as refused:
        next_status(KEY, Status.READY, Command.REJECT)
    daemon.answers["plugins.reject"] = refused.value
    assert ctl(f"reject {KEY}") == 3
    assert capsys.readouterr().err == (
        f"pluginctl: cannot reject plugin {KEY!r} while it is ready: no upgrade waits to be decided\n"
    )


def test_what_was_set_is_told_once(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["plugins.config_set"] = samples.config(revision=4, restarted=False, changed=True)
    assert ctl(f"config set {KEY} city=Rome") == 0
    out = capsys.readouterr().out
    assert (out.count("revision 4"), out.count("uid")) == (1, 0)


def test_a_source_that_is_nowhere(ctl: Any, daemon: FakeDaemon, capsys: Any, tmp_path: Path) -> None:
    where = tmp_path / "nope"
    daemon.answers["plugins.install"] = InvalidParams(f"there is no file or directory {where}", source=str(where))
    assert ctl(f"install {where} --yes") == 4
    assert "pluginctl list" not in capsys.readouterr().err
    where.mkdir()
    assert ctl(f"install {where} --yes") == 3
    assert ctl(f"check {tmp_path}/nowhere") == 4


def test_a_server_of_another_kind(tmp_path: Path, capsys: Any) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()

        def answer() -> None:
            peer, _ = server.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                peer.recv(4096)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        assert cli.main(["--socket", path, "list"]) == 1
        thread.join(5)
    err = capsys.readouterr().err
    assert f"what answers at {path} is not plugind" in err
    assert "msgpack" not in err


@pytest.mark.parametrize("width", [40, 80])
def test_tables_fit(width: int) -> None:
    heads = ("KEY", "STATUS", "PHASE", "RESTARTS", "UPTIME", "WHAT")
    rows = [("acme." + "x" * 30, "upgrade_pending", "stopping", 12, "12d 3h", "what is wrong " * 9)]
    lines = table(heads, rows, width=width, colour=False).splitlines()
    assert max(map(len, lines)) <= width
    assert "what" in lines[1]
    assert all(width - 4 <= len(line) for line in lines[1:])
    whole = table(heads, rows, width=None, colour=False)
    assert rows[0][0] in whole
    assert "…" not in whole


def test_an_event_is_a_line_on_a_terminal(
    ctl: Any, daemon: FakeDaemon, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.emit("plugin.error", error="x" * 300)
    monkeypatch.setattr("client.cli.output.Context.width", 60)
    assert ctl("events") == 0
    assert [len(line) for line in capsys.readouterr().out.splitlines()] == [60]


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_closed_streams(daemon: FakeDaemon, closed: tuple[int, ...]) -> None:
    shut = " ".join({0: "<&-", 1: ">&-", 2: "2>&-"}[fd] for fd in closed)
    for words, code in ((f"--socket {daemon.path} list", 0), ("no-such-command", 2)):
        command = f"exec {sys.executable} -m client.cli.entry {words} {shut}"
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, timeout=30)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["--help"], ["list", "--help"]])
def test_help_that_cannot_be_written(words: list[str], unbuffered: str) -> None:
    with open("/dev/full", "w") as full:
        argv = [sys.executable, "-m", "client.cli.entry", *words]
        environ = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environ)
    assert (done.returncode, "No space left" in done.stderr) == (1, True)


# Where Python looks for this module, an interrupt comes; from then on it goes on as if nothing had been.
_INTERRUPTING = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
from client.cli.entry import main
sys.argv = ["pluginctl", "--socket", {path!r}, "list"]
sys.exit(main())
"""


@pytest.mark.parametrize("name", ["client.cli.main", "client.cli.output", "argparse", "client.sync_client", "msgpack"])
def test_ctrl_c_while_it_begins(daemon: FakeDaemon, name: str) -> None:
    code = _INTERRUPTING.format(name=name, path=daemon.path)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_ctrl_c_that_is_ignored_stays_so(daemon: FakeDaemon) -> None:
    ignoring = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{_INTERRUPTING}"
    code = ignoring.format(name="client.cli.main", path=daemon.path)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


def test_new_on_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    real = Path.open

    def full(self: Path, *args: Any, **kwargs: Any) -> Any:
        if self.name == "main.py":
            raise OSError(28, "No space left on device")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full)
    (tmp_path / "there").mkdir()
    for where in (tmp_path / "a" / "b", tmp_path / "there"):
        assert cli.main(["new", KEY, str(where)]) == 3
        assert "No space left" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert list((tmp_path / "there").iterdir()) == []
