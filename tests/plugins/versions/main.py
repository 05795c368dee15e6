"""Says which of two lives it is; the version is what the manifest's environment says."""

import os
import sys
import time

from supervisor.sdk import Context, Plugin, run

plugin = Plugin()
VERSION = os.environ["VERSION"]
ORPHAN = """
import os, sys, time
# Only now is its environment to be seen.
os.write(int(sys.argv[1]), str(os.getpid()).encode())
os.close(int(sys.argv[1]))
time.sleep(300)
"""
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
            os.set_inheritable(write, True)
            os.execv(sys.executable, [sys.executable, "-S", "-c", ORPHAN, str(write)])
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with open(read) as told:
        return int(told.read())


if __name__ == "__main__":
    run(plugin)
