"""pluginctl jobs and runs against a fake daemon: what people see, exit codes, waiting for a run."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from client.cli import main as cli
from client.cli import run_wait
from client.cli.run_text import bar, short_ids
from client.errors import NotFound, Unavailable
from tests.client import samples
from tests.client.fake_daemon import FakeDaemon
from tests.client.terminal import Terminal

KEY, JOB = "acme.weather", "acme.weather/refresh"
BEGUN = f"{JOB}: run r1 has begun\n"
QUEUED = f"{JOB}: run r1 is queued"


@pytest.fixture
def ctl(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PLUGIND_SOCKET", daemon.path)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    still = SimpleNamespace(time=lambda: samples.NOW / 1000, strftime=time.strftime, localtime=time.localtime)
    monkeypatch.setattr("client.cli.render.time", still)
    daemon.emit()
    daemon.answers["logs.read"] = []  # of the run: what is there is waited for
    return lambda words: cli.main(words if isinstance(words, list) else words.split())


# Lists and times


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, "in 1h"),
        ({"held_by": "job", "paused": True}, "paused"),
        ({"held_by": "plugin"}, "plugin paused"),
        ({"held_by": "scheduler"}, "maintenance"),
        ({"active": False, "next_fire_ms": None}, "gone"),
        ({"active": False, "next_fire_ms": None, "schedule": None}, "gone"),
        ({"active": False, "next_fire_ms": None, "held_by": "job", "paused": True}, "gone"),
        ({"schedule": "@reboot", "next_fire_ms": None}, "at start"),
        ({"schedule": None, "next_fire_ms": None, "held_by": "plugin"}, "-"),
        ({"schedule": None, "next_fire_ms": None, "held_by": "plugin", "paused": True}, "paused"),
    ],
)
def test_when_a_job_is_next(ctl: Any, daemon: FakeDaemon, capsys: Any, changes: dict[str, Any], shown: str) -> None:
    daemon.answers["jobs.list"] = [samples.job(**changes)]
    assert ctl("jobs list") == 0
    out = capsys.readouterr().out
    assert re.search(rf"refresh +(\*/5 \* \* \* \*|@reboot|by hand) +{shown} +10m ago", out), out
    assert out.startswith("the whole schedule is paused") == (shown == "maintenance")


@pytest.mark.parametrize(
    ("running", "waiting", "shown", "line"),
    [(0, 0, "-", "no"), (1, 0, "1", "1"), (2, 1, "1 + 1 waiting", "1 + 1 waiting"), (3, 3, "3 waiting", "3 waiting")],
)
def test_what_runs_and_what_waits(
    ctl: Any, daemon: FakeDaemon, capsys: Any, running: int, waiting: int, shown: str, line: str
) -> None:
    daemon.answers["jobs.list"] = [samples.job(running=running, waiting=waiting)]
    daemon.answers["jobs.get"] = samples.job(running=running, waiting=waiting)
    assert ctl("jobs list") == 0
    assert capsys.readouterr().out.rstrip().endswith(f"succeeded   {shown}")
    assert ctl(f"jobs get {JOB}") == 0
    assert f"running: {line}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "state: scheduled"),
        ({"scheduled": False}, "state: not scheduled"),
        ({"active": False, "held_by": "job"}, "state: gone: its plugin does not have it any more"),
        ({"held_by": "job", "paused": True}, f"until `pluginctl jobs resume {JOB}`"),
        ({"held_by": "plugin"}, f"with its plugin, until `pluginctl jobs resume --plugin {KEY}`"),
        ({"held_by": "scheduler", "paused": True}, "until `pluginctl jobs resume --all`; and by itself"),
        ({"command": ["pg_dump", "x"]}, 'command: ["pg_dump", "x"]'),
    ],
)
def test_one_job(ctl: Any, daemon: FakeDaemon, capsys: Any, changes: dict[str, Any], says: str) -> None:
    daemon.answers["jobs.get"] = samples.job(**changes)
    assert ctl(f"jobs get {JOB}") == 0
    assert says in capsys.readouterr().out


def test_times_of_many(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["jobs.next"] = samples.times(JOB, "acme.other/tick", JOB, more=True)
    assert ctl("jobs next") == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "AT                         IN        JOB",
        "2026-01-01T00:00:00+00:00  in 1h     acme.weather/refresh",
        "2026-01-01T00:01:00+00:00  in 1h 1m  acme.other/tick",
        "2026-01-01T00:02:00+00:00  in 1h 2m  acme.weather/refresh",
    ]
    assert err == "there are more: `-n N` shows N of them, up to 1000\n"


@pytest.mark.parametrize(
    ("words", "job", "held", "says"),
    [
        (f"jobs next {JOB}", {"schedule": "@reboot"}, None, "at the next start of plugind\n"),
        (f"jobs next {JOB}", {"active": False}, None, "never: its plugin does not have this job any more\n"),
        (f"jobs next {JOB}", {"schedule": None}, None, "never: this job is run by hand only\n"),
        (f"jobs next {JOB}", {"schedule": "at 2020-01-01T00:00"}, None, "not due any more\n"),
        (f"jobs next {JOB} --hours 2", {}, None, "not due within 2 h\n"),
        ("jobs next", {}, None, "no job is due; `pluginctl jobs list` says of each when it is\n"),
        ("jobs next --hours 1.5", {}, None, "no job is due within 1.5 h; "),
        ("jobs next", {}, 1000, "the whole schedule is paused"),
    ],
)
def test_no_times(
    ctl: Any, daemon: FakeDaemon, capsys: Any, words: str, job: dict[str, Any], held: int | None, says: str
) -> None:
    daemon.answers |= {"jobs.next": samples.times(), "jobs.get": samples.job(**job)}
    daemon.answers["daemon.status"]["jobs_held_since_ms"] = held
    assert ctl(words) == 0
    assert capsys.readouterr().out.startswith(says)
    assert ctl(f"{words} --json") == 0
    assert json.loads(capsys.readouterr().out)["next"] == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"scheduled": True}, None),
        ({"held_by": "job"}, f"paused, until `pluginctl jobs resume {JOB}`"),
        ({"held_by": "plugin"}, f"paused with its plugin, until `pluginctl jobs resume --plugin {KEY}`"),
        ({"held_by": "scheduler"}, "paused with the whole schedule, until `pluginctl jobs resume --all`"),
        ({}, f"not scheduled now; `pluginctl status {KEY}` tells of its plugin"),
    ],
)
def test_times_that_are_not_kept(
    ctl: Any, daemon: FakeDaemon, capsys: Any, changes: dict[str, Any], says: str | None
) -> None:
    daemon.answers["jobs.next"] = samples.times(JOB, **{"scheduled": False, **changes})
    assert ctl(f"jobs next {JOB}") == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert lines == ([] if says is None else [f"the clock starts none of these: {says}"])


# Pausing


@pytest.mark.parametrize(
    ("words", "job", "status", "says"),
    [
        (JOB, {}, "ready", "; by hand it runs all the same"),
        (JOB, {}, "disabled", "; its plugin is disabled, so nothing of it runs now"),
        (JOB, {"active": False}, "ready", "; its plugin does not have it any more"),
        (f"--plugin {KEY}", {}, "ready", "; by hand they run all the same"),
        (f"--plugin {KEY}", {}, "error", "; its plugin is error, so nothing of it runs now"),
        ("--all", {}, "disabled", "; by hand they run all the same"),
    ],
)
def test_what_still_runs_by_hand(
    ctl: Any, daemon: FakeDaemon, capsys: Any, words: str, job: dict[str, Any], status: str, says: str
) -> None:
    scope, name = ("plugin", KEY) if "plugin" in words else ("scheduler", None) if "all" in words else ("job", JOB)
    daemon.answers |= {
        "jobs.pause": samples.hold(scope, name, held=True),
        "jobs.get": samples.job(**job),
        "plugins.get": samples.details(status=status),
    }
    assert ctl(f"jobs pause {words}") == 0
    assert capsys.readouterr().out.strip().endswith(says)


@pytest.mark.parametrize(
    ("words", "answer", "says"),
    [
        (
            f"pause {JOB}",
            samples.hold("job", JOB, held=True),
            f"{JOB}: paused until `pluginctl jobs resume {JOB}`; by hand it runs",
        ),
        (
            f"pause --plugin {KEY}",
            samples.hold("plugin", KEY, held=True, jobs=3),
            f"{KEY}: 3 jobs paused until `pluginctl jobs resume --plugin {KEY}`",
        ),
        (
            "pause --all",
            samples.hold("scheduler", None, held=True, jobs=312),
            "the whole schedule, 312 jobs: paused until `pluginctl jobs resume --all`",
        ),
        (
            f"resume {JOB}",
            samples.hold("job", JOB, held=False, next_fire_ms=samples.NOW + 60_000),
            f"{JOB}: resumed; next: in 1m\n",
        ),
        (
            f"resume --plugin {KEY}",
            samples.hold("plugin", KEY, held=False),
            f"{KEY}: 1 job resumed; not due by the clock\n",
        ),
        ("resume --all", samples.hold("scheduler", None, held=False, jobs=0), "the whole schedule, 0 jobs: resumed"),
        (
            f"resume {JOB}",
            samples.hold("job", JOB, held=True),
            f"its plugin are paused until `pluginctl jobs resume --plugin {KEY}`\n",
        ),
    ],
)
def test_what_a_pause_comes_to(
    ctl: Any, daemon: FakeDaemon, capsys: Any, words: str, answer: dict[str, Any], says: str
) -> None:
    daemon.answers["jobs.pause"] = daemon.answers["jobs.resume"] = answer
    assert ctl(f"jobs {words}") == 0
    assert says in capsys.readouterr().out
    assert ctl(f"jobs {words} --json") == 0
    assert json.loads(capsys.readouterr().out) == answer


def test_resumed_during_maintenance(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["jobs.resume"] = samples.hold("plugin", KEY, held=True)
    daemon.answers["daemon.status"]["jobs_held_since_ms"] = samples.NOW
    assert ctl(f"jobs resume --plugin {KEY}") == 0
    assert "until `pluginctl jobs resume --all`\n" in capsys.readouterr().out


def test_status_tells_of_maintenance(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    assert ctl("status") == 0
    assert "paused" not in capsys.readouterr().out
    daemon.answers["daemon.status"]["jobs_held_since_ms"] = samples.NOW - 120_000
    assert ctl("status") == 0
    assert "jobs: all paused 2m ago, until `pluginctl jobs resume --all`\n" in capsys.readouterr().out


# History


def test_runs_on_a_narrow_terminal(ctl: Any, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    runs = [
        samples.run(id="4f1c0d1e-aaaa", state="failed", error="boom", retry_at_ms=samples.NOW + 60_000),
        samples.run(id="4f1c0d1e-bbbb", state="missed", error="plugind was down", times=37),
        samples.run(id="5f1c0d1e-bbbb", state="queued", waiting_for="its worker is in backoff"),
    ]
    daemon.answers["jobs.runs"] = runs
    assert ctl("runs list") == 0
    wide = capsys.readouterr().out.splitlines()
    assert wide[1].startswith("4f1c0d1e-aaaa  acme.weather/refresh  manual   failed")
    assert wide[1].endswith("boom (again in 1m)")
    assert wide[2].endswith("37 times: plugind was down")
    assert wide[3].endswith("its worker is in backoff")
    monkeypatch.setattr("client.cli.output.Context.width", 80)
    assert ctl("runs list") == 0
    narrow = capsys.readouterr().out.splitlines()
    assert "TRIGGER" not in narrow[0]
    assert [line.split()[0] for line in narrow[1:]] == ["4f1c0d1e-a", "4f1c0d1e-b", "5f1c0d1e-b"]
    assert max(map(len, narrow)) <= 80


@pytest.mark.parametrize(
    ("in_s", "says"),
    [(60, "in 1m"), (0.5, "now"), (-0.5, "now"), (-4.9, "now"), (-5.1, "when resumed"), (-9999, "when resumed")],
)
def test_when_it_is_tried_again(ctl: Any, daemon: FakeDaemon, capsys: Any, in_s: float, says: str) -> None:
    failed = samples.run(state="failed", error="boom", result=None, retry_at_ms=samples.NOW + int(1000 * in_s))
    daemon.answers |= {"jobs.runs": [failed], "jobs.get_run": failed, "jobs.run": failed}
    assert ctl("runs list") == 0
    assert capsys.readouterr().out.endswith(f"boom (again {says})\n")
    assert ctl("runs show r1") == 0
    assert re.search(rf"tried again: \S+ \S+ \({says}\)\n", capsys.readouterr().out)
    assert ctl(f"run {JOB} --wait") == 1
    assert capsys.readouterr().out.endswith(f"it is tried again {says}\n")


def test_ids_are_as_short_as_tells_them_apart() -> None:
    runs: Any = [{"id": "0123456789a"}, {"id": "0123456789b"}]
    assert short_ids(runs, None) == ["0123456789a", "0123456789b"]
    assert short_ids(runs[:1], 80) == ["01234567"]
    assert short_ids(runs, 80) == ["0123456789a", "0123456789b"]
    assert short_ids([*runs, runs[0]], 80)[0] == "0123456789a"


def test_one_run(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["jobs.get_run"] = samples.run(
        state="failed", error="boom\nat 3\x1b", exit_code=3, params={"city": "Rome"}, attempt=2, retry_at_ms=samples.NOW
    )
    assert ctl("runs show r1") == 0
    out = capsys.readouterr().out
    for line in ("run: r1", "attempt: 2", "exit code: 3", 'params: {"city": "Rome"}', "took: 1.5s"):
        assert f" {line}\n" in out
    assert "\n\nerror:\n  boom\n  at 3\\x1b\n\nresult:\n" in out
    assert "waits for" not in out


@pytest.mark.parametrize(
    ("state", "says"), [("cancelled", "run r1 cancelled"), ("failed", "run r1 failed, and is not tried again")]
)
def test_what_was_cancelled(ctl: Any, daemon: FakeDaemon, capsys: Any, state: str, says: str) -> None:
    daemon.answers["jobs.cancel"] = samples.run(state=state)
    assert ctl("runs cancel r1") == 0
    assert says in capsys.readouterr().out


def test_an_unknown_run_is_not_looked_for_among_plugins(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    for method, words in (("jobs.cancel", "runs cancel x"), ("jobs.get_run", "runs logs x")):
        daemon.answers[method] = NotFound("there is no run 'x'", run="x")
        assert ctl(words) == 4
        assert capsys.readouterr().err == "pluginctl: there is no run 'x'\n"  # no word of plugins and jobs


# Waiting for a run


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("succeeded", 0),
        ("failed", 1),
        ("timed_out", 1),
        ("interrupted", 1),
        ("missed", 1),
        ("cancelled", 3),
        ("skipped", 3),
    ],
)
@pytest.mark.parametrize("words", [f"run {JOB}", "runs retry r1"])
def test_the_outcome_is_the_exit_code_when_waited_for(
    ctl: Any, daemon: FakeDaemon, state: str, code: int, words: str
) -> None:
    daemon.answers["jobs.run"] = daemon.answers["jobs.retry"] = samples.run(state=state)
    assert ctl(f"{words} --wait") == code
    assert ctl(f"{words} --wait --json") == code
    assert ctl(words) == 0


def under_way(daemon: FakeDaemon, *looks: dict[str, Any], end: dict[str, Any]) -> None:
    """The run is what each look says, one after the other, and its end stays; every look has an event behind it."""
    daemon.answers["jobs.run"] = samples.run(state="queued", result=None)
    coming = iter(looks)

    def look(params: dict[str, Any]) -> dict[str, Any]:
        assert params == {"run": "r1", "$deadline_ms": 30_000.0}
        changes = next(coming, None)
        if changes is None:
            return samples.run(**end)
        daemon.events.append({**daemon.events[0], "seq": len(daemon.events) + 1, "type": "job.run_started"})
        return samples.run(result=None, **changes)

    daemon.answers["jobs.get_run"] = look
    del daemon.answers["logs.read"]
    daemon.answers["logs.read"] = lambda params: daemon.log[-params["tail"] :]


def told(fraction: float | None, message: str | None = None) -> dict[str, Any]:
    return {"run": "r1", "fraction": fraction, "message": message, "at_ms": samples.NOW}


def test_its_lines_and_progress_without_a_terminal(
    ctl: Any, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(run_wait, "LOOK_AT_PROGRESS_S", 0.05)
    under_way(
        daemon,
        {"state": "queued", "waiting_for": "its worker is starting"},
        {"state": "running"},
        {"state": "running", "progress": told(0.41, "copying")},
        {"state": "running", "progress": told(0.42, "copying")},
        {"state": "running", "progress": told(0.5, "copying\x1b")},
        end={"state": "failed", "error": "boom", "retry_at_ms": samples.NOW + 10_000},
    )
    daemon.write_log(samples.line("one", run_id="r1"), samples.line("two", run_id="r1"))
    assert ctl(f"run {JOB} --wait") == 1
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert [line.split()[-1] for line in lines[:2]] == ["one", "two"]
    assert lines[2:4] == [f"{JOB}: run r1 failed in 1.5s", "boom"]
    assert lines[-1] == "it is tried again in 10s"
    assert err.splitlines() == [
        QUEUED,
        "queued: its worker is starting",
        "running: 41 % copying",
        "running: 50 % copying\\x1b",
    ]
    (asked,) = daemon.asked("logs.follow")
    assert (asked["plugin"], asked["run"], asked["since_ms"]) == (KEY, "r1", samples.NOW - 1000)


def test_a_program_gets_nothing_but_the_result(
    ctl: Any, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(run_wait, "LOOK_S", 0.05)
    under_way(daemon, {"state": "running", "progress": told(0.5)}, end={"state": "succeeded"})
    daemon.write_log(samples.line("one", run_id="r1"))
    assert ctl(f"run {JOB} --wait --json") == 0
    out, err = capsys.readouterr()
    assert (json.loads(out)["state"], err) == ("succeeded", "")
    assert daemon.asked("logs.follow") == []


def test_a_bar_on_a_terminal_stays_below_the_lines(
    ctl: Any, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    shown = threading.Event()

    class Screen(Terminal):
        def write(self, text: str) -> int:
            written.append(text)
            if "40 %" in text and not shown.is_set():
                shown.set()
            return len(text)

    looks = iter([0, 1])

    def look(_: dict[str, Any]) -> dict[str, Any]:
        if next(looks, None) is not None:
            return samples.run(state="running", progress=told(0.4, "copying"))
        return samples.run(state="succeeded", result=None)

    def write_when_shown() -> None:
        assert shown.wait(5)
        daemon.write_log(samples.line("a line", run_id="r1"))
        daemon.emit("job.run_succeeded")

    under_way(daemon, end={})
    daemon.answers["jobs.get_run"] = look
    monkeypatch.setattr("client.cli.run_wait.LOOK_AT_PROGRESS_S", 1)
    monkeypatch.setattr("sys.stdout", Screen())
    monkeypatch.setattr("sys.stderr", Screen())
    monkeypatch.setattr("client.cli.output.Context.width", 80)
    other = threading.Thread(target=write_when_shown)
    other.start()
    assert ctl(f"run {JOB} --wait") == 0
    other.join(5)
    text = "".join(written)
    bar_ = "running [########            ] 40 % copying"
    assert text.count(bar_) >= 2
    before, _, after = text.partition("a line\n")
    assert before.partition(bar_)[2].startswith("\r\x1b[K")  # taken away before the line is written
    assert after.startswith(bar_)  # and drawn again below it
    assert text.endswith(f"\r\x1b[K{JOB}: run r1 succeeded in 1.5s\n")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"state": "queued", "waiting_for": "its 8 places are taken"}, "queued: its 8 places are taken"),
        ({"state": "running"}, "running …"),
        ({"state": "running", "progress": told(None, "copying")}, "running … copying"),
        ({"state": "running", "progress": told(1.0)}, "running [####################] 100 %"),
        ({"state": "running", "progress": told(0.5, "x" * 500)}, f"running [##########          ] 50 % {'x' * 42}…"),
        ({"state": "running", "progress": told(0.0, "\x1b[2J")}, "running [                    ] 0 % \\x1b[2J"),
    ],
)
def test_a_bar_fits_its_line(changes: dict[str, Any], line: str) -> None:
    run: Any = samples.run(**changes)
    assert bar(run, 79) == line
    assert len(line) <= 79


def test_lines_that_came_last_are_waited_for(
    ctl: Any, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The run has ended, and its last line is in the log and not here yet."""
    under_way(daemon, end={"state": "succeeded"})
    last = samples.line("the last", samples.NOW, run_id="r1")

    def read(_: dict[str, Any]) -> list[dict[str, Any]]:
        threading.Timer(0.05, daemon.write_log, [last]).start()
        return [last]

    daemon.answers["logs.read"] = read
    assert ctl(f"run {JOB} --wait") == 0
    assert "the last\n" in capsys.readouterr().out
    # One that does not come holds nobody up for long.
    monkeypatch.setattr(run_wait, "LAST_LINES_S", 0.05)
    daemon.answers["logs.read"] = [samples.line("lost", samples.NOW + 1, run_id="r1")]
    assert ctl(f"run {JOB} --wait") == 0
    told = "the end of its log did not come: `pluginctl runs logs r1` shows all of it"
    assert capsys.readouterr().err == f"{QUEUED}\n{told}\n"


def test_lines_that_keep_coming_are_not_cut_off(
    ctl: Any, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Longer in all than one that stops coming is waited for: each that comes has the whole time for the next."""
    under_way(daemon, end={"state": "succeeded"})
    lines = [samples.line(f"line {n}", samples.NOW + n, run_id="r1") for n in range(12)]
    daemon.answers["logs.read"] = lines[-1:]
    coming = iter(lines)
    limits: list[float | None] = []

    class Came(threading.Condition):
        """The next line comes when it is waited for."""

        def wait(self, timeout: float | None = None) -> bool:
            limits.append(timeout)
            daemon.write_log(next(coming))
            return super().wait(10)

    monkeypatch.setattr(run_wait, "threading", SimpleNamespace(**{**vars(threading), "Condition": Came}))
    assert ctl(f"run {JOB} --wait") == 0
    out, err = capsys.readouterr()
    assert "line 11\n" in out
    assert err == f"{QUEUED}\n"
    assert limits == [run_wait.LAST_LINES_S] * 12


def test_a_daemon_that_comes_back_while_a_run_is_waited_for(ctl: Any, daemon: FakeDaemon) -> None:
    looks = iter([samples.run(state="running"), Unavailable("the daemon is stopping")])

    def look(_: dict[str, Any]) -> Any:
        found = next(looks, samples.run(state="interrupted", error="the daemon ended"))
        daemon.events.append({**daemon.events[0], "seq": len(daemon.events) + 1, "type": "job.run_started"})
        return found

    under_way(daemon, end={})
    daemon.answers["jobs.get_run"] = look
    assert ctl(f"run {JOB} --wait") == 1


def pluginctl(daemon: FakeDaemon, *words: str, **options: Any) -> subprocess.Popen[str]:
    environ = {**os.environ, "PLUGIND_SOCKET": daemon.path}
    argv = [sys.executable, "-m", "client.cli.main", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(argv, env=environ, text=True, **pipes)


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_ctrl_c_says_that_the_run_goes_on(daemon: FakeDaemon, flags: list[str]) -> None:
    daemon.answers["jobs.run"] = daemon.answers["jobs.get_run"] = samples.run(state="running")
    with pluginctl(daemon, "run", JOB, "--wait", *flags) as process:
        daemon.wait_asked("jobs.get_run")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=5)
    assert (process.returncode, out) == (130, "")
    said = "the run goes on; `pluginctl runs cancel r1` ends it"
    if flags:
        assert json.loads(err)["error"] == {"name": "INTERRUPTED", "message": said, "data": {}}
    else:
        assert err.splitlines() == [BEGUN.strip(), said]
    assert daemon.asked("jobs.cancel") == []


def test_a_closed_pipe_ends_the_waiting_with_the_run(daemon: FakeDaemon) -> None:
    daemon.answers["jobs.run"] = samples.run(state="running")
    daemon.answers["jobs.get_run"] = samples.run(state="running")
    with pluginctl(daemon, "run", JOB, "--wait") as process:
        daemon.wait_asked("logs.follow")
        assert process.stdout is not None
        process.stdout.close()
        daemon.write_log(samples.line("one"))
        daemon.answers["jobs.get_run"] = samples.run(state="succeeded")
        daemon.emit("job.run_succeeded")
        assert process.stderr is not None
        assert process.stderr.read() == BEGUN
    assert process.returncode == 0


def test_a_real_terminal(daemon: FakeDaemon) -> None:
    """80 columns, no colours asked for: a bar while it runs, and nothing of it at the end."""
    daemon.answers["jobs.run"] = samples.run(state="running")
    daemon.answers["jobs.get_run"] = samples.run(state="running", progress=told(0.4, "copying " * 30))
    daemon.answers["logs.read"] = []
    ours, theirs = pty.openpty()
    text = ""
    with pluginctl(daemon, "run", JOB, "--wait", stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        try:
            while "40 %" not in text:
                text += os.read(ours, 4096).decode()
            daemon.answers["jobs.get_run"] = samples.run(state="succeeded", result=None)
            daemon.emit("job.run_succeeded")
            while chunk := _read(ours):
                text += chunk
        finally:
            os.close(ours)
    assert process.returncode == 0
    (shown,) = {line for line in re.split(r"\r\n|\r\x1b\[K", text) if "40 %" in line}
    assert len(shown) == 79
    assert text.endswith(f"\r\x1b[K{JOB}: run r1 succeeded in 1.5s\r\n")


def _read(terminal: int) -> str:
    try:
        return os.read(terminal, 4096).decode()
    except OSError:  # nobody has its other end any more
        return ""


@pytest.mark.parametrize(
    ("params", "says"),
    [
        (["--params", '{"n": 18446744073709551616}'], "params cannot be kept: "),
        (["--param", f"text={'x' * 70_000}"], "params may have 65536 bytes as msgpack, not 70"),
        (["--params", f'{{"x": {"[" * 20}{"]" * 20}}}'], "params cannot be kept: "),
    ],
)
def test_params_that_cannot_be_given_are_wrong_usage(
    ctl: Any, daemon: FakeDaemon, capsys: Any, params: list[str], says: str
) -> None:
    assert ctl(["run", JOB, *params]) == 2
    assert says in capsys.readouterr().err
    assert daemon.asked("jobs.run") == []


# The output of a run


def test_following_a_run_until_it_has_ended(
    ctl: Any, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(run_wait, "LOOK_S", 0.05)
    under_way(daemon, {"state": "running"}, {"state": "running"}, end={"state": "succeeded", "result": None})
    daemon.write_log(samples.line("one", run_id="r1"))
    assert ctl("runs logs -f r1 --json") == 0
    out, err = capsys.readouterr()
    assert (json.loads(out)["message"], err) == ("one", "")
    under_way(daemon, {"state": "running"}, end={"state": "failed", "result": None})
    assert ctl("runs logs -f r1") == 0
    out, err = capsys.readouterr()
    assert out.endswith("one\n")
    assert err == f"{JOB}: run r1 failed in 1.5s\n"


@pytest.mark.parametrize(
    ("given", "answer", "asked"),
    [
        ("4f1c", samples.run(id="4f1c0d1e"), "4f1c0d1e"),
        ("4f1c", NotFound("there is no run '4f1c'", run="4f1c"), "4f1c"),
        ("x" * 36, samples.run(id="another"), "x" * 36),
    ],
)
def test_the_log_of_a_run_by_the_beginning_of_its_id(
    ctl: Any, daemon: FakeDaemon, given: str, answer: Any, asked: str
) -> None:
    daemon.answers["jobs.get_run"] = answer
    assert ctl(f"logs {KEY} --run {given}") == 0
    assert daemon.asked("logs.read")[-1]["run"] == asked


def test_a_run_that_has_ended_is_only_read(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["logs.read"] = []
    assert ctl("runs logs -f r1") == 0
    assert capsys.readouterr().err == (
        "its log has no line of this run, or not any more; what a handler prints carries no run: "
        f"`pluginctl logs {KEY}` has it\n"
    )
    assert daemon.asked("logs.follow") == []


def logged(daemon: FakeDaemon, *lines: dict[str, Any]) -> None:
    daemon.write_log(*lines)
    daemon.answers["logs.read"] = lambda params: daemon.log[-params["tail"] :]


def test_all_lines_of_a_run_come_however_many(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    logged(daemon, *(samples.line(f"line {n}", samples.NOW + n // 100, run_id="r1") for n in range(12_345)))
    assert ctl("runs logs r1") == 0
    out, err = capsys.readouterr()
    assert [line.split()[-1] for line in out.splitlines()] == [str(n) for n in range(12_345)]
    assert err == ""
    assert ctl("runs logs r1 -n 3 --json") == 0
    assert [line["message"] for line in json.loads(capsys.readouterr().out)] == [
        "line 12342",
        "line 12343",
        "line 12344",
    ]
    assert daemon.asked("logs.follow")[-1]["tail"] == 3


def test_lines_alike_in_one_millisecond_are_not_taken_for_the_last(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    logged(daemon, *[samples.line("again", run_id="r1")] * 300)
    assert ctl("runs logs r1") == 0
    assert len(capsys.readouterr().out.splitlines()) == 300


def test_lines_that_do_not_come_are_told_of(
    ctl: Any, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    daemon.answers["logs.read"] = [samples.line("lost", run_id="r1")]
    monkeypatch.setattr("client.cli.log_lines._QUIET_S", 0.05)
    assert ctl("runs logs r1") == 0
    assert capsys.readouterr().err == "the rest of its log did not come; try again\n"


def test_the_last_lines_of_a_run_under_way_are_no_question(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["jobs.get_run"] = samples.run(state="running")
    assert ctl("runs logs -f r1 -n 3") == 2
    assert "cannot stand with -n" in capsys.readouterr().err


@pytest.mark.parametrize("flags", ["", "--json"])
def test_a_run_that_takes_longer_than_one_waits_goes_on(ctl: Any, daemon: FakeDaemon, capsys: Any, flags: str) -> None:
    daemon.answers["jobs.run"] = daemon.answers["jobs.get_run"] = samples.run(state="running", result=None)
    daemon.answers["logs.read"] = []
    assert ctl(f"run {JOB} --wait --timeout 0.05 {flags}") == 1
    out, err = capsys.readouterr()
    said = f"{JOB}: no end within 0.05 s; it goes on, `pluginctl runs cancel r1` ends it"
    assert out == ""
    assert (json.loads(err)["error"]["message"] if flags else err.splitlines()[-1].removeprefix("pluginctl: ")) == said
    assert daemon.asked("jobs.cancel") == []
