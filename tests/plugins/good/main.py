"""A worker that behaves, with a method for each thing that a test may want of it."""

import os
import time

from supervisor.sdk import Context, Plugin, RunContext, run

plugin = Plugin()


@plugin.job("tick")
def tick(ctx: RunContext) -> dict:
    ctx.log.info("tick", attempt=ctx.attempt, trigger=ctx.trigger)
    return {"pid": os.getpid(), "trigger": ctx.trigger}


@plugin.method("echo")
def echo(ctx: Context, value=None):
    return value


@plugin.method("pid")
def pid(ctx: Context) -> int:
    return os.getpid()


@plugin.method("crash")
def crash(ctx: Context) -> None:
    os._exit(7)


@plugin.method("sleep")
def sleep(ctx: Context, s: float) -> float:
    started = time.monotonic()
    ctx.wait_cancelled(s)
    ctx.raise_if_cancelled()
    return time.monotonic() - started


if __name__ == "__main__":
    run(plugin)
