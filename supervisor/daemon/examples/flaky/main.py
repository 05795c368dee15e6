"""A worker that crashes: three short lives, so that each wait is longer, then a long one, and all is forgiven."""

import os
import sys
import threading

from supervisor.sdk import Context, Plugin, run

plugin = Plugin()
LIVES_S = (1.0, 1.0, 1.0, 4.5)


def crash(age_s: float) -> None:
    print(f"giving up after {age_s} s: the database went away", file=sys.stderr, flush=True)
    os._exit(3)


@plugin.on_start
def start_the_clock(ctx: Context) -> None:
    file = ctx.data_dir / "lives"
    lives = int(file.read_text()) if file.exists() else 0
    file.write_text(str(lives + 1))
    age_s = LIVES_S[lives % len(LIVES_S)]
    timer = threading.Timer(age_s, crash, [age_s])
    timer.daemon = True
    timer.start()


@plugin.method("lives")
def lives(ctx: Context) -> int:
    return int((ctx.data_dir / "lives").read_text())


if __name__ == "__main__":
    run(plugin)
