"""Workers in processes of their own, as plugind starts them: stop, hang-up, signals, exit codes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgpack
import pytest

from supervisor.core.errors import CallCancelled, PluginError, Unavailable
from supervisor.sdk.testing import Host, Started

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "supervisor" / "daemon" / "examples"
PLUGINS = ROOT / "tests" / "plugins"


SITE = sysconfig.get_paths()["purelib"]


# Puts the socket on fd 3, whatever its number is, and becomes the worker.
LAUNCHER = """
import os, sys
number = int(sys.argv[1])
if number != 3:
    os.dup2(number, 3)
    os.close(number)
os.execvp(sys.argv[2], sys.argv[2:])
"""


@contextmanager
def worker(
    command: list[str], tmp_path: Path, *, needs: Sequence[str] = (), **host_options: object
) -> Iterator[tuple[subprocess.Popen[bytes], Host]]:
    """A child with the far end of a socket pair as fd 3, and the host at the near end."""
    ours, theirs = socket.socketpair()
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *needs]),
        "PLUGIND_PLUGIN_KEY": "test.plugin",
        "PLUGIND_DATA_DIR": str(tmp_path),
    }
    number = theirs.fileno()
    launcher = [sys.executable, "-ISc", LAUNCHER, str(number), *command]
    child = subprocess.Popen(
        launcher,
        pass_fds=[number],
        cwd=tmp_path,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    theirs.close()
    host = Host(ours, data_dir=str(tmp_path), **host_options)  # type: ignore[arg-type]
    try:
        yield child, host
    finally:
        host.close()
        child.kill()
        child.communicate()


def plugin(tmp_path: Path, body: str) -> list[str]:
    path = tmp_path / "main.py"
    path.write_text(
        "import time, sys, os, threading, signal\nfrom supervisor.sdk import *\nplugin = Plugin()\n"
        f'{body}\nif __name__ == "__main__":\n    run(plugin)\n',
    )
    return [sys.executable, str(path)]


STUCK = """
@plugin.on_start
def start(ctx):
    print("up", flush=True)
@plugin.method("stuck")
def stuck(ctx):
    ctx.emit("stuck")
    time.sleep(60)
@plugin.on_stop
def stop(ctx):
    print("bye")
"""


def test_shutdown(tmp_path: Path) -> None:
    with worker(plugin(tmp_path, STUCK), tmp_path) as (child, host):
        assert host.initialize() == {"api_version": 1, "methods": ["stuck"]}
        host.shutdown()
        assert child.wait(5) == 0
        assert child.communicate()[0] == b"up\nbye\n"


def test_shutdown_does_not_wait_for_ever(tmp_path: Path) -> None:
    with worker(plugin(tmp_path, STUCK), tmp_path) as (child, host):
        host.initialize()
        call_nowait(host)
        started = time.monotonic()
        host.shutdown(0.5)
        assert child.wait(5) == 0
        assert time.monotonic() - started < 3


def test_sigterm(tmp_path: Path) -> None:
    with worker(plugin(tmp_path, STUCK), tmp_path) as (child, host):
        host.initialize()
        child.send_signal(signal.SIGTERM)
        assert child.wait(5) == 0
        assert child.communicate()[0] == b"up\nbye\n"


@pytest.mark.parametrize("busy", [False, True])
def test_hang_up_ends_it(tmp_path: Path, busy: bool) -> None:
    with worker(plugin(tmp_path, STUCK), tmp_path) as (child, host):
        host.initialize()
        if busy:
            call_nowait(host)
        started = time.monotonic()
        with socket.socket(fileno=os.dup(host._connection._fd)) as near:
            near.shutdown(socket.SHUT_RDWR)
        assert child.wait(5) == 1
        assert time.monotonic() - started < 2.5


FLOOD = """
@plugin.method("flood")
def flood(ctx):
    while True:
        ctx.log.info("x" * 1000)
@plugin.on_stop
def stop(ctx):
    time.sleep(60)
"""


@pytest.mark.parametrize("last", [b"", b"\xc1"], ids=["gone", "speaks rubbish"])
def test_it_ends_at_once_whatever_it_is_doing(tmp_path: Path, last: bytes) -> None:
    """Its output is full and nobody reads it, a handler runs and the stop hook hangs: a second is all there is."""
    with worker(plugin(tmp_path, FLOOD), tmp_path) as (child, host):
        host.initialize()
        host._connection.stop()  # Nobody reads at this end any more.
        host._threads[0].join()
        with socket.socket(fileno=os.dup(host._connection._fd)) as near:
            near.setblocking(True)
            near.sendall(msgpack.packb([0, 900, "call", {"method": "flood", "params": None}]))
            assert len(near.recv(65536, socket.MSG_WAITALL)) == 65536  # It floods.
            started = time.monotonic()
            if last:
                near.sendall(last)
            else:
                near.shutdown(socket.SHUT_RDWR)
            assert child.wait(5) == 1
        assert time.monotonic() - started < 1.3


ASYNC = """
import trio
@plugin.on_start
async def start(ctx):
    print("up", flush=True)
@plugin.method("slow")
async def slow(ctx):
    await ctx.emit("begun")
    try:
        await trio.sleep_forever()
    finally:
        print("cleaned up", flush=True)
@plugin.method("shielded")
async def shielded(ctx):
    await ctx.emit("begun")
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()
@plugin.method("deaf")
async def deaf(ctx):
    await ctx.emit("begun")
    time.sleep(60)
@plugin.background
async def poll(ctx):
    while True:
        if await ctx.state.get("broken"):
            raise ConnectionResetError("the feed went away")
        await trio.sleep(0.01)
@plugin.on_stop
async def stop(ctx):
    print("bye", flush=True)
"""
SLEEPER = ["slow", "shielded", "deaf"]


def begin(host: Host, name: str) -> Started:
    started = host.start_call(name)
    host.wait_until(lambda: host.events)
    host.health()  # Behind the answer to what it emitted: that has come too.
    return started


@pytest.mark.parametrize("turn", range(3))
def test_async_cancel(tmp_path: Path, turn: int) -> None:
    with worker(plugin(tmp_path, ASYNC), tmp_path) as (child, host):
        host.initialize()
        slow = begin(host, "slow")
        slow.cancel()
        with pytest.raises(CallCancelled):
            slow.result()
        host.shutdown()
        assert child.wait(5) == 0
        assert child.communicate()[0] == b"up\ncleaned up\nbye\n"


def test_async_shutdown(tmp_path: Path) -> None:
    with worker(plugin(tmp_path, ASYNC), tmp_path) as (child, host):
        host.initialize()
        slow = begin(host, "slow")
        host.shutdown(0.5)
        assert child.wait(5) == 0
        with pytest.raises(CallCancelled):
            slow.result()
        assert child.communicate()[0] == b"up\ncleaned up\nbye\n"


@pytest.mark.parametrize("name", ["shielded", "deaf"])
def test_async_shutdown_does_not_wait_for_ever(tmp_path: Path, name: str) -> None:
    body = ASYNC if name == "shielded" else ASYNC.replace("on_stop\nasync def", "on_stop\ndef")
    with worker(plugin(tmp_path, body), tmp_path) as (child, host):
        host.initialize()
        call = begin(host, name)
        started = time.monotonic()
        host.shutdown(0.5)
        assert child.wait(5) == 0
        assert time.monotonic() - started < 3
        with pytest.raises(CallCancelled, match="the worker stopped before"):
            call.result()


def test_async_sigterm(tmp_path: Path) -> None:
    with worker(plugin(tmp_path, ASYNC), tmp_path) as (child, host):
        host.initialize()
        slow = begin(host, "slow")
        child.send_signal(signal.SIGTERM)
        child.send_signal(signal.SIGTERM)
        assert child.wait(5) == 0
        with pytest.raises(CallCancelled):
            slow.result()
        assert child.communicate()[0] == b"up\ncleaned up\nbye\n"


@pytest.mark.parametrize("name", SLEEPER)
def test_async_hang_up_ends_it(tmp_path: Path, name: str) -> None:
    with worker(plugin(tmp_path, ASYNC), tmp_path) as (child, host):
        host.initialize()
        begin(host, name)
        started = time.monotonic()
        with socket.socket(fileno=os.dup(host._connection._fd)) as near:
            near.shutdown(socket.SHUT_RDWR)
        assert child.wait(5) == 1
        assert time.monotonic() - started < 2.5
        assert (b"cleaned up\nbye\n" in child.communicate()[0]) == (name == "slow")


def test_a_background_task_that_raises(tmp_path: Path) -> None:
    with worker(plugin(tmp_path, ASYNC), tmp_path) as (child, host):
        host.initialize()
        host.state["broken"] = True
        assert child.wait(5) == 1
        out, err = child.communicate()
        assert out == b"up\n"  # A crash is no stop.
        assert b"the background task 'poll' failed:\nTraceback" in err
        assert b"ConnectionResetError: the feed went away" in err


def call_nowait(host: Host) -> None:
    """Let the handler `stuck` begin; it says so by an event."""
    with pytest.raises(Exception, match="was not answered"):
        host._connection.call("call", [{"method": "stuck", "params": None}], 0.3)
    deadline = time.monotonic() + 5
    while not host.events and time.monotonic() < deadline:
        host.health()
    assert host.events == [("stuck", None)]


def test_print_cannot_break_the_protocol_and_is_seen_at_once(tmp_path: Path) -> None:
    body = '@plugin.method("m")\ndef m(ctx):\n    print("line \\udcff")\n    return os.get_inheritable(3)\n'
    with worker(plugin(tmp_path, body), tmp_path) as (child, host):
        host.initialize()
        assert host.call("m") is False
        assert child.stdout
        assert child.stdout.readline() == b"line \\udcff\n"


def test_by_hand(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(plugin(tmp_path, ""), capture_output=True, text=True, env=env, check=False, timeout=20)
    assert done.returncode == 2
    assert done.stderr == f"This is a plugin, and plugind starts it: install it with 'pluginctl install {tmp_path}'.\n"


def test_the_daemon_speaks_rubbish(tmp_path: Path) -> None:
    with worker(plugin(tmp_path, STUCK), tmp_path) as (child, host):
        host.initialize()
        os.write(host._connection._fd, b"\xc1")
        assert child.wait(5) == 1
        assert b"plugind broke the protocol" in child.communicate()[1]


# What a worker that waits for its first job has no use for. `inspect` comes with the first call of a method.
NEEDLESS = {
    "asyncio", "dataclasses", "fnmatch", "inspect", "jsonschema", "logging", "msgspec", "peewee", "socket", "structlog",
    "subprocess", "tempfile", "trio",
}  # fmt: skip


@pytest.mark.parametrize("run", [False, True], ids=["imported", "idle"])
def test_what_the_sdk_does_not_import(tmp_path: Path, run: bool) -> None:
    tell = "print('modules', *sorted(set(sys.modules) - known), flush=True)"
    start = f"import sys\nknown = set(sys.modules)\nimport supervisor.sdk\n{tell}\n"
    if not run:
        done = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, cwd=ROOT, check=True)
        loaded = done.stdout.split()
    else:
        body = f'@plugin.job("j")\ndef j(ctx):\n    known = set()\n    {tell}\n'
        with worker([sys.executable, "-S", *plugin(tmp_path, body)[1:]], tmp_path, needs=[SITE]) as (child, host):
            host.initialize()
            assert host.health() == {"status": "ok"}
            host.run_job("j")
            assert child.stdout
            loaded = child.stdout.readline().decode().split()
    assert {"modules", "msgpack", "supervisor.sdk.connection"} <= set(loaded)
    assert not set(loaded) & NEEDLESS


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_node_clock(tmp_path: Path) -> None:
    main = EXAMPLES / "node-clock" / "main.js"
    with worker(["node", str(main)], tmp_path, state={"ticks": 70_000, "other": {"a": [None, -5, 1.5, "ü"]}}) as (
        child,
        host,
    ):
        assert host.initialize() == {"api_version": 1, "methods": ["now"]}
        assert host.health() == {"status": "ok"}
        assert host.run_job("tick", run_id="r1") == {"ticks": 70_001}
        assert host.state["ticks"] == 70_001
        assert host.events == [("tick", {"ticks": 70_001})]
        answer = host.call("now", zone="Asia/Tokyo")
        assert answer["zone"] == "Asia/Tokyo"
        assert len(answer["time"]) == 8
        with pytest.raises(Exception, match="RangeError"):
            host.call("now", zone="Atlantis")
        assert host.logs[0].run_id == "r1"
        host.shutdown()
        assert child.wait(5) == 0
    assert len(main.read_text().splitlines()) <= 200


@pytest.mark.parametrize("name", ["heartbeat", "greeter"])
def test_examples(tmp_path: Path, name: str) -> None:
    manifest = tomllib.loads((EXAMPLES / name / "plugin.toml").read_text())
    with worker([sys.executable, str(EXAMPLES / name / "main.py")], tmp_path) as (child, host):
        host.initialize(manifest)
        if name == "heartbeat":
            assert [host.run_job("beat"), host.run_job("beat")] == [{"count": 1}, {"count": 2}]
            assert host.events[1] == ("beat", {"count": 2})
        else:
            assert host.call("greet", name="Ada", loud=True) == {"greeting": "HELLO, ADA!"}
            assert host.call("languages") == ["de", "en", "no"]
        host.shutdown()
        assert child.wait(5) == 0


def test_flaky_dies_by_itself(tmp_path: Path) -> None:
    with worker([sys.executable, str(EXAMPLES / "flaky" / "main.py")], tmp_path) as (child, host):
        host.initialize()
        assert child.wait(10) == 3
        with pytest.raises(Unavailable):
            host.health()
        assert b"the database went away" in child.communicate()[1]


def test_the_good_plugin(tmp_path: Path) -> None:
    manifest = tomllib.loads((PLUGINS / "good" / "plugin.toml").read_text())
    with worker([sys.executable, str(PLUGINS / "good" / "main.py")], tmp_path) as (child, host):
        host.initialize(manifest)
        assert host.call("pid") == child.pid
        assert host.call("echo", value=[1]) == [1]
        assert host.run_job("tick")["pid"] == child.pid
        with pytest.raises(Unavailable):
            host.call("crash")
        assert child.wait(5) == 7


FORKS = """
import multiprocessing
from supervisor.core.errors import Unavailable
FORK = multiprocessing.get_context("fork")
def forked(code):
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code is None:
        raise RuntimeError("in the child")
    if code:
        sys.exit(code)
    return "from the child"
@plugin.method("plain")
def plain(ctx, code=0):
    return forked(code)
@plugin.method("loop")
async def loop(ctx, code=0):
    return forked(code)
@plugin.health
def health(ctx):
    return str(forked(0))
@plugin.method("ask")
def ask(ctx):
    ours, theirs = FORK.Pipe()
    def child():
        ctx.log.info("a line of the child")
        try:
            ctx.state.get("k")
        except Unavailable as error:
            theirs.send(str(error))
    process = FORK.Process(target=child)
    process.start()
    process.join()
    return [process.exitcode, ours.recv()]
@plugin.method("terminate")
def terminate(ctx):
    process = FORK.Process(target=time.sleep, args=(60,))
    process.start()
    process.terminate()
    process.join()
    return process.exitcode
@plugin.method("fd")
def fd(ctx):
    pid = os.fork()
    if pid == 0:
        try:
            os.fstat(3)
        except OSError:
            os._exit(7)
        os._exit(8)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


@pytest.mark.parametrize("method", ["plain", "loop"])
def test_a_forked_child_that_returns_from_the_handler_ends(tmp_path: Path, method: str) -> None:
    with worker(plugin(tmp_path, FORKS), tmp_path) as (child, host):
        host.initialize()
        # Each answer comes once and from the worker: a second one would break the protocol, and the next call fail.
        assert [host.call(method, code) for code in (0, 5, None)] == [0, 5, 1]
        assert host.health() == {"status": "degraded", "message": "0"}
        host.shutdown()
        assert child.wait(5) == 0
        assert b"RuntimeError: in the child" in child.communicate()[1]


def test_a_forked_child_has_no_part_in_the_connection(tmp_path: Path) -> None:
    with worker(plugin(tmp_path, FORKS), tmp_path, state={"k": 1}) as (child, host):
        host.initialize()
        assert host.call("ask") == [0, "this is a forked child: ask in the worker itself"]
        assert host.call("fd") == 7
        assert host.logs == []
        host.shutdown()
        assert child.wait(5) == 0
        assert b"a line of the child" in child.communicate()[1]


def test_a_signal_to_a_forked_child_does_not_end_the_worker(tmp_path: Path) -> None:
    with worker(plugin(tmp_path, FORKS), tmp_path) as (child, host):
        host.initialize()
        assert host.call("terminate") == -signal.SIGTERM
        assert host.call("plain") == 0
        host.shutdown()
        assert child.wait(5) == 0


def test_a_closed_stderr_costs_no_answer(tmp_path: Path) -> None:
    body = """
@plugin.method("close")
def close(ctx):
    sys.stderr.close()
    raise RuntimeError("x")
"""
    with worker(plugin(tmp_path, body), tmp_path) as (child, host):
        host.initialize()
        for _ in range(2):
            with pytest.raises(PluginError, match="RuntimeError: x"):
                host.call("close")
        host.shutdown()
        assert child.wait(5) == 0
