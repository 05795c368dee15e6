"""The SDK against what no worker in Python can do without: its imports, an idle worker's memory, a round trip."""

from __future__ import annotations

import argparse
import os
import re
import socket
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from harness import show, timed

from supervisor.sdk.testing import Host

ROOT = Path(__file__).parents[2]
# Without `site`, which costs as much as the rest and differs from one installation to the next.
PYTHON = [sys.executable, "-S"]
ENVIRON = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), sysconfig.get_paths()["purelib"]])}
SDK = "supervisor.sdk"
SLEEPER = "import msgpack, time; print(flush=True); time.sleep(1e9)"
PLUGIN = """
from supervisor.sdk import Plugin, run
plugin = Plugin()
@plugin.method("echo")
def echo(ctx, value):
    return value
run(plugin)
"""
ASYNC_PLUGIN = PLUGIN.replace("def echo", "async def echo")
# Puts the socket on fd 3 and becomes the worker.
LAUNCHER = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.execv(sys.argv[2], sys.argv[2:])"


def import_s(module: str, *, own: bool = False) -> float:
    """Seconds that importing it takes, with all that it imports or its `own` modules alone."""
    command = [*PYTHON, "-X", "importtime", "-c", f"import {module}"]
    report = subprocess.run(command, env=ENVIRON, capture_output=True, text=True, check=True).stderr
    rows = re.findall(r"^import time: +(\d+) \| +(\d+) \| +(\S+)$", report, re.MULTILINE)
    if own:
        return sum(int(self_us) for self_us, _, name in rows if name.startswith("supervisor")) / 1e6
    return next(int(cumulative_us) for _, cumulative_us, name in rows if name == module) / 1e6


def resident_kib(pid: int) -> tuple[float, float]:
    """RSS and PSS."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    rss, pss = re.findall(r"^(?:Rss|Pss): +(\d+)", text, re.MULTILINE)
    return float(rss), float(pss)


class Worker:
    def __init__(self, code: str) -> None:
        ours, theirs = socket.socketpair()
        number = str(theirs.fileno())
        command = [sys.executable, "-ISc", LAUNCHER, number, *PYTHON, "-c", code]
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=ENVIRON)
        theirs.close()
        self.host = Host(ours)
        self.host.initialize()

    def close(self) -> None:
        self.host.shutdown()
        self.process.wait(10)
        self.host.close()


def bare_memory() -> tuple[float, float]:
    with subprocess.Popen([*PYTHON, "-c", SLEEPER], env=ENVIRON, stdout=subprocess.PIPE) as bare:
        assert bare.stdout is not None
        bare.stdout.readline()
        memory = resident_kib(bare.pid)
        bare.kill()
    return memory


def show_memory(rounds: int) -> None:
    bare = [bare_memory() for _ in range(rounds)]
    print("\nan idle worker's memory")
    for name, code in (("import msgpack and sleep", None), ("SDK", PLUGIN), ("SDK, async handlers", ASYNC_PLUGIN)):
        sizes = bare if code is None else [idle_memory(code) for _ in range(rounds)]
        for kind, part in (("RSS", 0), ("PSS", 1)):
            floor = statistics.median(size[part] for size in bare)
            median = statistics.median(size[part] for size in sizes)
            print(f"  {name + ', ' + kind:<40} {median / 1024:>10.1f} MB  {median / floor:>6.2f} x floor")


def idle_memory(code: str) -> tuple[float, float]:
    worker = Worker(code)
    worker.host.health()
    memory = resident_kib(worker.process.pid)
    worker.close()
    return memory


def start_s(code: str) -> float:
    """Seconds from the start of Python to its end."""
    return timed(lambda: subprocess.run([*PYTHON, "-c", code], env=ENVIRON, check=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=20, help="rounds; a call is made a hundred times as often")
    rounds = parser.parse_args().n
    names = ("import msgpack", "import supervisor.sdk", "of which its own modules")
    times: dict[str, list[float]] = {name: [] for name in names}
    starts: dict[str, list[float]] = {name: [] for name in names[:2]}
    for _ in range(rounds):  # In turns: whatever else the machine does, it does to all of them.
        for name, part in zip(names, (import_s("msgpack"), import_s(SDK), import_s(SDK, own=True)), strict=True):
            times[name].append(part)
        for name, taken in starts.items():
            taken.append(start_s(name))
    show("imports, by -X importtime", *times.items())
    show("a whole start of Python", *starts.items())
    show_memory(max(1, rounds // 4))
    workers = {"plain handler": Worker(PLUGIN), "async handler": Worker(ASYNC_PLUGIN)}
    health = [timed(workers["plain handler"].host.health) for _ in range(rounds * 100)]
    calls = {
        name: [timed(lambda host=worker.host: host.call("echo", value=1)) for _ in range(rounds * 100)]
        for name, worker in workers.items()
    }
    for worker in workers.values():
        worker.close()
    show("a call, as the harness makes it", ("health, answered by the reader", health), *calls.items())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        main()
