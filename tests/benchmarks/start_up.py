"""Programs that start often, against the bare imports that they cannot do without."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from harness import daemon, show, timed


def times(command: Sequence[str], rounds: int) -> list[float]:
    return [timed(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)) for _ in range(rounds)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=30, help="starts of each")
    rounds = parser.parse_args().n
    python = sys.executable
    with daemon() as plugind:
        ctl = [
            python,
            "-c",
            "import sys; from client.cli.entry import main; sys.exit(main())",
            "--socket",
            plugind.socket,
        ]
        floor = times([python, "-c", "import msgpack, socket"], rounds)
        show(
            "pluginctl, an answer of the daemon included",
            ("python -c 'import msgpack, socket'", floor),
            ("pluginctl ping", times([*ctl, "ping"], rounds)),
            ("pluginctl list", times([*ctl, "list"], rounds)),
        )
    show(
        "the SDK",
        ("python -c 'import msgpack, socket'", times([python, "-c", "import msgpack, socket"], rounds)),
        ("import supervisor.sdk", times([python, "-c", "import supervisor.sdk"], rounds)),
    )


if __name__ == "__main__":
    main()
