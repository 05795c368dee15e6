"""`pluginctl logs` and `logs.follow` of the whole daemon: rotation, restarts, floods, followers who do not read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import PATIENCE_S, ROOT, Daemon, Refused, Rpc

Copy = Callable[[str], Path]
KEY = "test.prints-on-demand"
SMALL = {"PLUGIND_LOG_MAX_BYTES": "100000", "PLUGIND_LOG_FILES": "3"}


@contextmanager
def pluginctl(daemon: Daemon, *words: str) -> Iterator[subprocess.Popen[str]]:
    environ = {**os.environ, "PLUGIND_SOCKET": str(daemon.socket)}
    argv = [sys.executable, "-m", "client.cli.main", *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, env=environ, stdout=pipe, stderr=pipe, text=True, cwd=ROOT) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def numbers(process: subprocess.Popen[str], until: int) -> list[int]:
    """Of the lines that it shows, up to `until`."""
    found: list[int] = []
    assert process.stdout is not None
    while not found or found[-1] != until:
        text = process.stdout.readline()
        assert text, "pluginctl has ended"
        record = json.loads(text)
        if record["stream"] == "stdout":
            found.append(int(record["message"].split()[1]))
    return found


def print_lines(rpc: Rpc, start: int, count: int) -> None:
    rpc.call("plugins.call", plugin=KEY, method="print", params={"start": start, "count": count})


def interrupt(process: subprocess.Popen[str]) -> str:
    """Ctrl-C; what it had to say on stderr."""
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (130, "")
    return err


def test_a_log_is_followed_over_rotations_and_every_restart(daemon: Daemon, plugin: Copy) -> None:
    with daemon.start(**SMALL) as rpc:
        rpc.load(plugin("prints_on_demand"))
        print_lines(rpc, 0, 50)
        following = pluginctl(daemon, "logs", "-f", KEY, "-n", "10", "--json", "--stream", "stdout")
        with following as process:
            assert process.stderr is not None
            assert numbers(process, 49) == list(range(40, 50))
            done = 50
            for step in range(12):
                print_lines(rpc, done, 300)
                assert numbers(process, done + 299) == list(range(done, done + 300))
                done += 300
                match step:
                    case 3:
                        rpc.call("plugins.restart", plugin=KEY)
                    case 5:
                        pid = rpc.call("plugins.get", plugin=KEY)["pid"]
                        os.kill(pid, signal.SIGKILL)
                        rpc.up(KEY, not_pid=pid)
                    case 7:
                        rpc.call("plugins.disable", plugin=KEY)
                        rpc.call("plugins.enable", plugin=KEY)
            log_file = Path(rpc.call("plugins.get", plugin=KEY)["log_file"])
            files = sorted(file.name for file in log_file.parent.glob(f"{KEY}.log*"))
            assert files == [f"{KEY}.log", f"{KEY}.log.1", f"{KEY}.log.2"]
            assert all((log_file.parent / name).stat().st_size <= 100_000 for name in files)
            daemon.stop()
            assert "was lost; waiting for it" in process.stderr.readline()
            with daemon.start(**SMALL) as again:
                again.up(KEY)
                print_lines(again, done, 300)
                assert numbers(process, done + 299) == list(range(done, done + 300))
                assert "is back" in process.stderr.readline()
                assert interrupt(process) == ""


def test_the_end_of_a_log_and_logs_that_are_not_there(daemon: Daemon, plugin: Copy) -> None:
    with daemon.start() as rpc:
        rpc.load(plugin("prints_on_demand"))
        print_lines(rpc, 0, 3)
        with pluginctl(daemon, "logs", "-f", KEY, "--json") as process:
            assert numbers(process, 2) == [0, 1, 2]
            rpc.call("plugins.unload", plugin=KEY, remove_data=True)
            _, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
        assert err == "pluginctl: the log was removed, with its plugin\n"
        with pluginctl(daemon, "logs", "-f", "nobody") as process:
            _, err = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, "nobody" in err) == (4, True)
        with pytest.raises(Refused, match="NOT_FOUND"):
            rpc.call("logs.follow", plugin=KEY)


def rss(pid: int) -> int:
    """Bytes."""
    text = Path(f"/proc/{pid}/statm").read_text()
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_followers_who_never_read_cost_neither_memory_nor_others_time(daemon: Daemon, plugin: Copy) -> None:
    with daemon.start(**SMALL) as rpc:
        rpc.load(plugin("prints_on_demand"))
        rpc.load(plugin("good"))
        rpc.call("plugins.call", plugin=KEY, method="print", params={})
        deaf = [Rpc(daemon.socket) for _ in range(8)]
        try:
            for one in deaf:
                for _ in range(4):
                    one.send("logs.follow", plugin=KEY)
            slow = Rpc(daemon.socket)
            deaf.append(slow)
            slow.call("logs.follow", plugin=KEY, credit=0)
            took, sizes = watch(rpc, daemon.pid, 1.0)
            took, later = watch(rpc, daemon.pid, 3.0)
        finally:
            for one in deaf:
                one.__exit__()
        assert max(later) - max(sizes) < 12 << 20, (sizes, later)
        assert sorted(took)[len(took) // 2] < 0.25, took
        lines = rpc.call("logs.read", plugin=KEY, tail=5)
        counted = [int(line["message"].split()[1]) for line in lines]
        assert counted == list(range(counted[0], counted[0] + 5))


def watch(rpc: Rpc, pid: int, seconds: float) -> tuple[list[float], list[int]]:
    """How long calls to another plugin take, and what the daemon holds meanwhile."""
    took: list[float] = []
    sizes: list[int] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.monotonic()
        answer: Any = rpc.call("plugins.call", plugin="test.good", method="echo", params={"value": 1})
        took.append(time.monotonic() - start)
        assert answer == {"result": 1}
        sizes.append(rss(pid))
    return took, sizes
