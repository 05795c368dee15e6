"""Real children on the real clock: every badly behaved plugin of tests/plugins, and what a spawn leaves behind."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio

from supervisor.core.event import WorkerCrashed, WorkerStarted
from supervisor.core.plugin import Plugin
from supervisor.core.stored_manifest import parse_stored_manifest
from supervisor.core.worker_spec import Limits
from supervisor.worker.ending import Ending
from supervisor.worker.launch import CannotLaunch, Launch, Surroundings, plan_launch
from supervisor.worker.life import Life
from supervisor.worker.logfile import Entry, LogFile
from supervisor.worker.manager import WorkerManager
from supervisor.worker.output import Line
from supervisor.worker.phase import Phase
from supervisor.worker.process import Exit, spawn
from supervisor.worker.procfs import children, read_stat
from supervisor.worker.shutdown import Graces, Stage
from supervisor.worker.tools import Tools
from supervisor.worker.view import WorkerView
from tests.logs import read_log
from tests.worker.fakes import PLUGIN_ID, Even, FakeHost, make_plugin, policy

PLUGINS = Path(__file__).parent.parent / "plugins"
SOURCE = Path(__file__).parent.parent.parent
GRACES = Graces(term_s=0.3, kill_s=2)
SLEEP = ("sleep", "1000")
ALONE = "PLUGIND_TEST_ALONE"


def load(name: str) -> Plugin:
    manifest = parse_stored_manifest(tomllib.loads((PLUGINS / name / "plugin.toml").read_text()))
    plain = make_plugin(manifest.key)
    return replace(plain, manifest=manifest, approved=frozenset(manifest.capabilities))


class WatchedLog(LogFile):
    """Tells when a message has been written."""

    def __init__(self, path: Path, events: dict[str, trio.Event]) -> None:
        super().__init__(path, max_bytes=10**7, files=5)
        self._events = events

    def write(self, entries: list[Entry]) -> None:
        super().write(entries)
        self._note_written({entry.message for entry in entries})

    def write_lines(
        self, lines: Sequence[Line], *, time_ms: int, stream: str, level: str, run_id: str | None = None
    ) -> None:
        super().write_lines(lines, time_ms=time_ms, stream=stream, level=level, run_id=run_id)
        self._note_written({line.text for line in lines})

    def _note_written(self, messages: set[str]) -> None:
        for message in self._events.keys() & messages:
            self._events[message].set()


class Bench:
    """One plugin's worker, from its launch to its log."""

    def __init__(self, tmp_path: Path, plugin: Plugin, package_dir: Path) -> None:
        self.plugin = plugin
        self.package_dir = package_dir
        self.data_dir = tmp_path / "data"
        self.data_dir.mkdir()
        self.log_path = tmp_path / "plugin.log"
        self.host = FakeHost()
        self.up = trio.Event()
        self.awaited: dict[str, trio.Event] = {}
        self.fds_before = open_files()

    def prepare(self, plugin: Plugin) -> Launch:
        launch = plan_launch(
            plugin,
            package_dir=self.package_dir,
            data_dir=self.data_dir,
            around=Surroundings(python=sys.executable, environ={"LD_PRELOAD": "", "SECRET": "x"}, state_id="S1"),
            is_file=Path.is_file,
            which=lambda name, path: shutil.which(name, path=path),
        )
        # The plugins' SDK comes from this source tree, installed or not.
        python = {"PYTHONPATH": f"{self.package_dir}:{SOURCE}"} if launch.argv[0] == sys.executable else {}
        return replace(launch, env={**launch.env, **python})

    async def get_ready(self, plugin: Plugin) -> Launch:
        return self.prepare(plugin)

    def open_log(self, _: Plugin) -> LogFile:
        return WatchedLog(self.log_path, self.awaited)

    def manager(self) -> WorkerManager:
        return WorkerManager(
            Tools(
                host=self.host,
                graces=GRACES,
                prepare=self.get_ready,
                spawn=spawn,
                open_log=self.open_log,
                now_ms=lambda: int(trio.current_time() * 1000),
                random=Even(),
            )
        )

    async def live(self, act: Callable[[Life], Awaitable[None]]) -> Ending:
        """One life; `act` when it is up."""
        log, endings = self.open_log(self.plugin), []

        async def came_up() -> None:
            self.up.set()

        life = Life(
            self.plugin,
            host=self.host,
            log=log,
            graces=GRACES,
            now_ms=lambda: int(trio.current_time() * 1000),
            came_up=came_up,
            stopping=lambda: None,
            stuck=lambda error: pytest.fail(str(error)),
        )
        async with trio.open_nursery() as nursery:

            async def whole_life() -> None:
                with trio.CancelScope(shield=True):
                    endings.append(await life.live(self.prepare(self.plugin), spawn))
                nursery.cancel_scope.cancel()

            nursery.start_soon(whole_life)
            try:
                await self.up.wait()
                await act(life)
                await trio.sleep_forever()
            except BaseException:
                life.ask_to_stop()  # A test that fails leaves no child behind.
                raise
        log.close()
        return endings[0]

    def messages(self, tail: int = 10**6) -> list[str]:
        return [line["message"] for line in read_log(self.log_path, tail=tail)]

    def check_clean(self, pid: int | None) -> None:
        assert open_files() == self.fds_before
        assert self.host.known == set()
        if pid is not None:
            with pytest.raises(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            check_gone(pid)


def open_files() -> list[str]:
    """What is open here, by number and target; the listing's own directory apart."""
    found = {fd: read_link(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}
    return sorted(f"{fd} {target}" for fd, target in found.items() if target and not target.startswith("/proc/"))


def check_childless() -> None:
    assert [read_stat(pid) for pid in children()] == []


def check_gone(pgid: int) -> None:
    """All of a group have been killed before its leader is reaped; until the last is dead may take a moment."""
    until = time.monotonic() + 5
    while left := members(pgid):
        assert time.monotonic() < until, f"still alive: {[read_stat(pid) for pid in left]}"
        time.sleep(0.005)


def read_link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return None


def members(pgid: int) -> list[int]:
    """Living processes of a group; zombies that someone else has to reap do not count."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, group, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(group) == pgid and state != "Z":
                found.append(int(entry.name))
    return found


async def until(manager: WorkerManager, condition: Callable[[WorkerView], bool]) -> None:
    while True:
        changed = manager.changed(PLUGIN_ID)
        if condition(manager.view(PLUGIN_ID)):
            return
        await changed.wait()


async def stop(life: Life) -> None:
    life.ask_to_stop()


async def leave(_: Life) -> None:
    """It ends by itself."""


@dataclass(frozen=True)
class Expected:
    cause: str | None
    exit: Exit
    stage: Stage | None = None
    came_up: bool = True
    last_words: str = ""


KILLED = Exit(None, signal.SIGKILL)
ENDINGS = {
    "answers_rubbish": Expected("broke the RPC protocol: the bytes are no msgpack", KILLED, Stage.KILL, came_up=False),
    "closes_fd3": Expected("closed its RPC connection", KILLED, Stage.KILL),
    "dies_after_handshake": Expected("exited with code 5", Exit(5, None), last_words="out of luck"),
    "exits_at_once": Expected("exited with code 0", Exit(0, None), came_up=False),
    "exits_before_handshake": Expected(
        "exited with code 3",
        Exit(3, None),
        came_up=False,
        last_words="cannot find the license file\nlast words: giving up",
    ),
    "floods_stdout": Expected(None, Exit(0, None), Stage.DRAIN),
    "good": Expected(None, Exit(0, None), Stage.DRAIN),
    "grandchild_holds_stdout": Expected("exited with code 1", Exit(1, None), came_up=False),
    "ignores_shutdown": Expected(None, Exit(None, signal.SIGTERM), Stage.TERM),
    "ignores_sigterm": Expected(None, KILLED, Stage.KILL),
    "never_answers": Expected("did not answer initialize within 0.7 s", KILLED, Stage.KILL, came_up=False),
    "plain_program": Expected(None, Exit(None, signal.SIGTERM), Stage.TERM),
    "refuses_handshake": Expected(
        "refused initialize: FAILED_PRECONDITION: the license has run out", KILLED, Stage.KILL, came_up=False
    ),
    "setsid_grandchild": Expected(None, Exit(0, None), Stage.DRAIN),
    "slow_job": Expected(None, Exit(0, None), Stage.DRAIN),
    "stops_reading": Expected(
        "does not read what it is sent on fd 3: it failed 2 health checks in a row; the last one: no answer within 0.3",
        KILLED,
        Stage.KILL,
    ),
}


def test_each_plugin_has_its_expected_ending() -> None:
    assert {*ENDINGS, "missing_program"} <= {path.name for path in PLUGINS.iterdir()}  # test_zoo.py has them all


@pytest.mark.parametrize("name", ENDINGS)
async def test_how_it_ends(tmp_path: Path, name: str) -> None:
    expected, bench = ENDINGS[name], Bench(tmp_path, load(name), PLUGINS / name)
    began = trio.current_time()
    with trio.fail_after(20):
        ending = await bench.live(leave if expected.cause else stop)
    if name == "setsid_grandchild":
        (grandchild,) = [int(line.split()[1]) for line in bench.messages() if line.startswith("grandchild: ")]
        os.kill(grandchild, signal.SIGKILL)
    assert (ending.exit, ending.stage) == (expected.exit, expected.stage)
    assert (ending.ran_s is not None) == bench.up.is_set() == expected.came_up
    if expected.cause is None:
        assert ending.cause is None
    else:
        assert (ending.cause or "").startswith(expected.cause)
    assert ending.last_words == expected.last_words
    assert trio.current_time() - began < 5
    bench.check_clean(ending.pid)


async def test_a_missing_program_is_named(tmp_path: Path) -> None:
    bench = Bench(tmp_path, load("missing_program"), PLUGINS / "missing_program")
    with pytest.raises(
        CannotLaunch, match=r"there is no program '\./no-such-program', neither in the package nor in PATH"
    ):
        bench.prepare(bench.plugin)
    bench.check_clean(None)


@pytest.mark.parametrize(
    ("program", "reason"),
    [("/no/such/program", "No such file or directory"), ("/etc/passwd", "Permission denied")],
)
async def test_a_program_that_cannot_be_executed(tmp_path: Path, program: str, reason: str) -> None:
    bench = Bench(tmp_path, make_plugin(command=(program,)), tmp_path)
    log = bench.open_log(bench.plugin)
    life = Life(
        bench.plugin,
        host=bench.host,
        log=log,
        graces=GRACES,
        now_ms=lambda: 0,
        came_up=trio.lowlevel.checkpoint,
        stopping=lambda: None,
        stuck=lambda _: None,
    )
    ending = await life.live(bench.prepare(bench.plugin), spawn)
    assert (ending.cause, ending.pid) == (f"cannot be started: {program}: {reason}", None)
    bench.check_clean(None)


async def test_a_crash_loop_after_the_handshake(tmp_path: Path) -> None:
    bench = Bench(tmp_path, load("dies_after_handshake"), PLUGINS / "dies_after_handshake")
    manager = bench.manager()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(manager.run)
            manager.want(bench.plugin)
            await until(manager, lambda view: view.gave_up)
            nursery.cancel_scope.cancel()
    assert bench.host.types() == ["started", "crashed"] * 4
    crashes = bench.host.of(WorkerCrashed)
    # The last one is at the cap of 0.2, where waits are spread downwards only.
    waits = [crash.restart_in_s for crash in crashes]
    assert waits == [*map(pytest.approx, (0.05, 0.1, 0.175)), None]
    assert {(crash.exit_code, crash.stderr_tail) for crash in crashes} == {(5, "out of luck")}
    assert len({started.pid for started in bench.host.of(WorkerStarted)}) == 4
    for crash in crashes:
        bench.check_clean(crash.pid)


async def test_a_grandchild_that_holds_stdout_does_not_delay_the_restart(tmp_path: Path) -> None:
    bench = Bench(tmp_path, load("grandchild_holds_stdout"), PLUGINS / "grandchild_holds_stdout")
    manager = bench.manager()
    began = trio.current_time()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(manager.run)
            manager.want(bench.plugin)
            await until(manager, lambda view: view.gave_up)
            nursery.cancel_scope.cancel()
    assert trio.current_time() - began < 5
    crashes = bench.host.of(WorkerCrashed)
    assert [crash.exit_code for crash in crashes] == [1] * 4
    assert len(bench.messages()) == 4
    for crash in crashes:
        bench.check_clean(crash.pid)


async def test_a_grandchild_out_of_reach_does_not_delay_the_stop(tmp_path: Path) -> None:
    """It holds stdout in a session of its own, where no signal to the group finds it."""
    bench = Bench(tmp_path, load("setsid_grandchild"), PLUGINS / "setsid_grandchild")
    times: list[float] = []

    async def stop_and_look(life: Life) -> None:
        times.append(trio.current_time())
        life.ask_to_stop()

    with trio.fail_after(10):
        ending = await bench.live(stop_and_look)
    assert trio.current_time() - times[0] < 1
    (line,) = bench.messages()
    grandchild = int(line.split()[1])
    os.kill(grandchild, signal.SIGKILL)  # It was there: this raises otherwise.
    bench.check_clean(ending.pid)


async def test_a_flood_arrives_whole_in_bounded_memory(tmp_path: Path) -> None:
    bench = Bench(tmp_path, load("floods_stdout"), PLUGINS / "floods_stdout")
    before = rss_bytes()
    bench.awaited["the first flood is over"] = trio.Event()

    async def wait_for_the_flood(life: Life) -> None:
        await bench.awaited["the first flood is over"].wait()
        assert rss_bytes() - before < 40 * 1024 * 1024
        life.ask_to_stop()

    with trio.fail_after(20):
        ending = await bench.live(wait_for_the_flood)
    assert (ending.cause, ending.stage) == (None, Stage.DRAIN)
    lines = read_log(bench.log_path, tail=10**6)
    assert [line["message"] for line in lines if line["message"].startswith("line ")] == [
        f"line {n}" for n in range(20_000)
    ]
    assert "no utf-8: \\xff\\xfe\\xc3(" in {line["message"] for line in lines}
    assert [len(line["message"]) for line in lines if line["truncated"]] == [64 * 1024]
    bench.check_clean(ending.pid)


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


# What a child finds.

LOOK = """
import json, os, resource, signal
def target(fd):
    try: return os.readlink(f"/proc/self/fd/{fd}")
    except OSError: return None
fds = {fd: target(fd) for fd in os.listdir("/proc/self/fd")}
environ = open("/proc/self/environ", "rb").read().decode().split("\\0")[:-1]
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
print(json.dumps({
    "fds": {fd: t for fd, t in fds.items() if t}, "env": dict(v.split("=", 1) for v in environ), "sid": os.getsid(0),
    "pgid": os.getpgid(0), "pid": os.getpid(), "cwd": os.getcwd(), "blocked": status["SigBlk"],
    "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
}))
"""


@pytest.mark.parametrize("transport", ["rpc", "none"])
async def test_what_a_child_finds(tmp_path: Path, transport: str) -> None:
    plugin = make_plugin(
        command=("python", "-c", LOOK), transport=transport, env={"EXTRA": "1"}, limits=Limits(nofile=64)
    )
    bench = Bench(tmp_path, plugin, tmp_path)
    here = os.getcwd()
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2 and read_link(f"/proc/self/fd/{fd}"):
            os.set_inheritable(fd, False)  # As the daemon does with what whoever started it left open.
    with (tmp_path / "open").open("w"):
        process = spawn(bench.prepare(plugin))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(process.watch)
            with trio.fail_after(10):
                out = await process.stdout.receive_some()
                ended = await process.wait()
        await process.aclose()
    found = json.loads(out)
    assert ended == Exit(0, None)
    assert set(found["fds"]) == {"0", "1", "2", "3"} - ({"3"} if transport == "none" else set())
    assert found["fds"]["0"] == "/dev/null"
    assert found["fds"]["1"].startswith("pipe:")
    assert transport == "none" or found["fds"]["3"].startswith("socket:")
    assert found["env"] == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(bench.data_dir),
        "EXTRA": "1",
        "PYTHONPATH": f"{tmp_path}:{SOURCE}",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PLUGIND_PLUGIN_KEY": "test.fake",
        "PLUGIND_PLUGIN_ID": PLUGIN_ID,
        "PLUGIND_DATA_DIR": str(bench.data_dir),
        "PLUGIND_PACKAGE_DIR": str(tmp_path),
        "PLUGIND_API_VERSION": "1",
        "PLUGIND_STATE_ID": "S1",
    }
    assert found["sid"] == found["pgid"] == found["pid"] == process.pid != os.getsid(0)
    assert (found["cwd"], os.getcwd()) == (str(bench.data_dir), here)
    assert int(found["blocked"], 16) == 0
    assert found["nofile"] == [64, 64]
    bench.check_clean(process.pid)


async def test_what_the_daemon_was_started_to_ignore_stops_its_workers(tmp_path: Path) -> None:
    """As by nohup: a stop_signal of SIGHUP would never arrive."""
    bench = Bench(tmp_path, make_plugin(command=SLEEP, transport="none"), tmp_path)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = spawn(bench.prepare(bench.plugin))
    finally:
        signal.signal(signal.SIGHUP, before)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(process.watch)
        process.signal_group(signal.SIGHUP)
        with trio.move_on_after(5):
            await process.wait()
        process.kill()
        ended = await process.wait()
    await process.aclose()
    assert ended == Exit(None, signal.SIGHUP)
    bench.check_clean(process.pid)


async def test_a_signal_after_the_end_hits_nobody(tmp_path: Path) -> None:
    bench = Bench(tmp_path, make_plugin(command=("true",), transport="none"), tmp_path)
    process = spawn(bench.prepare(bench.plugin))
    with trio.fail_after(10):
        await process.watch()
    process.signal_group(signal.SIGKILL)
    assert await process.wait() == Exit(0, None)
    await process.aclose()
    bench.check_clean(process.pid)


# Descriptors.


@contextmanager
def few_descriptors(count: int) -> Iterator[None]:
    """No descriptor number from `count` on is to be had."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_spawn_that_runs_out_of_descriptors_anywhere_leaves_nothing() -> None:
    """In a process of its own: without descriptors, whatever else runs in this one would suffer too."""
    command = [sys.executable, "-m", "pytest", "-n0", "-s", "-p", "no:cacheprovider", __file__, "-k", "runs_out_alone"]
    alone = subprocess.run(
        command, env={**os.environ, ALONE: "1"}, cwd=SOURCE, capture_output=True, text=True, timeout=60
    )
    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert "1 passed" in alone.stdout


@pytest.mark.skipif(ALONE not in os.environ, reason="runs in a process of its own, see above")
async def test_a_spawn_that_runs_out_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path, make_plugin(command=SLEEP, limits=Limits(nofile=64)), tmp_path)
    launch = bench.prepare(bench.plugin)
    highest = max(int(line.split()[0]) for line in bench.fds_before)
    outcomes = []
    for count in range(3, highest + 20):
        process = None
        with few_descriptors(count):
            try:
                process = spawn(launch)
            except OSError as error:
                outcomes.append(error.strerror)
        if process is not None:
            outcomes.append("spawned")
            process.signal_group(signal.SIGKILL)
            with trio.fail_after(10):
                await process.watch()
            await process.aclose()
        assert open_files() == bench.fds_before, f"with {count} descriptors"
        check_childless()
    assert set(outcomes) == {"Too many open files", "spawned"}


@pytest.mark.parametrize("transport", ["rpc", "none"])
async def test_fifty_cycles_of_kill_9_leave_the_descriptors_flat(tmp_path: Path, transport: str) -> None:
    plugin = make_plugin(
        command=SLEEP,
        transport=transport,
        start_grace_s=0,
        restart=policy(backoff_s=0.01, max_backoff_s=0.01, max_restarts=1000),
    )
    bench = Bench(tmp_path, plugin, tmp_path)
    manager, counts, pids = bench.manager(), [], set()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(manager.run)
            manager.want(plugin)
            for _ in range(50):
                await until(manager, lambda view: view.pid is not None and view.pid not in pids)
                pid = manager.view(PLUGIN_ID).pid
                assert pid is not None
                counts.append(len(open_files()))
                pids.add(pid)
                os.kill(pid, signal.SIGKILL)
            nursery.cancel_scope.cancel()
    assert len(set(counts)) == 1
    assert len(bench.host.of(WorkerCrashed)) >= 49
    for pid in pids:
        bench.check_clean(pid)
    assert manager.phase(PLUGIN_ID) is Phase.STOPPED
