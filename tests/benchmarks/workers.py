"""Boot and stop of many workers against bare children: what supervision adds."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from harness import daemon, show, timed

from client import Client

MANIFEST = """
[plugin]
key = "bench.p{number}"
version = "1"
api_version = 1
display_name = "Sleeper"
description = "Sleeps."
author = "bench"
categories = ["automation"]
capabilities = []
[worker]
command = ["sleep", "infinity"]
transport = "none"
start_grace_s = 0
"""


def bare(count: int) -> tuple[float, float]:
    """Seconds to start, and to end, so many children by hand."""
    children: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        for _ in range(count):
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            children.append(subprocess.Popen(["sleep", "infinity"], start_new_session=True, **pipes))

    def stop() -> None:
        for child in children:
            child.terminate()
        for child in children:
            child.communicate()

    return timed(start), timed(stop)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=100, help="workers")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    starts, stops, floor_starts, floor_stops = [], [], [], []
    with tempfile.TemporaryDirectory() as directory, daemon() as plugind:
        with Client(plugind.socket) as client:
            for number in range(options.n):
                package = Path(directory) / f"p{number}"
                package.mkdir(mode=0o755)
                (package / "plugin.toml").write_text(MANIFEST.format(number=number))
                (package / "plugin.toml").chmod(0o644)
                client.plugins.load(client.plugins.install(str(package))["key"])
        for _ in range(options.rounds):
            start, stop = bare(options.n)
            floor_starts.append(start)
            floor_stops.append(stop)
            stops.append(timed(plugind.stop))
            started = time.perf_counter()
            plugind.start()
            with Client(plugind.socket) as client:
                while client.daemon.status()["workers"].get("running", 0) < options.n:
                    time.sleep(0.01)
            starts.append(time.perf_counter() - started)
            memory = Path(f"/proc/{plugind.pid}/smaps_rollup").read_text()
    show(f"start {options.n}, the program's own start included", ("Popen in a loop", floor_starts), ("plugind", starts))
    show(f"stop {options.n}, until the program is gone", ("SIGTERM and wait", floor_stops), ("plugind", stops))
    print(
        "\nmemory of the daemon:", next(line for line in memory.splitlines() if line.startswith("Pss:")).split(":")[1]
    )


if __name__ == "__main__":
    main()
