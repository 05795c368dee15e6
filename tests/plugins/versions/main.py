"""Says which of two lives it is; the version is what the manifest's environment says."""

import os
import sys
import time

from supervisor.sdk import Context, Plugin, run

plugin = Plugin()
VERSION = os.environ["VERSION"]
print(f"this is {VERSION}", flush=True)


@plugin.method("who")
def who(ctx: Context) -> dict:
    return {"version": VERSION, "pid": os.getpid()}


@plugin.method("slowly")
def slowly(ctx: Context, s: float) -> dict:
    time.sleep(s)
    ctx.state.set("last", VERSION)
    return {"version": VERSION, "pid": os.getpid()}


@plugin.method("orphan")
def orphan(ctx: Context) -> int:
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        if os.fork() == 0:
            os.setsid()
            os.write(write, str(os.getpid()).encode())
            os.execv(sys.executable, [sys.executable, "-S", "-c", "import time; time.sleep(300)"])
        os._exit(0)
    os.waitpid(child, 0)
    return int(os.read(read, 20))


if __name__ == "__main__":
    run(plugin)
