"""A worker with a short life: after a random while it says so and exits with code 3."""

import os
import random
import sys
import threading
import time

from supervisor.sdk import Context, Plugin, run

plugin = Plugin()
STARTED = time.monotonic()


def crash() -> None:
    print(f"giving up after {time.monotonic() - STARTED:.1f} s: the database went away", file=sys.stderr, flush=True)
    os._exit(3)


@plugin.on_start
def start_the_clock(ctx: Context) -> None:
    timer = threading.Timer(random.uniform(1.2, 3.0), crash)  # noqa: S311  chance, not secrecy
    timer.daemon = True
    timer.start()


@plugin.method("age")
def age(ctx: Context) -> float:
    return round(time.monotonic() - STARTED, 3)


if __name__ == "__main__":
    run(plugin)
