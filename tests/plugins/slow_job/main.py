"""A job of 30 s that ends soon when it is cancelled."""

from supervisor.sdk import Plugin, RunContext, run

plugin = Plugin()


@plugin.job("slow")
def slow(ctx: RunContext) -> str:
    ctx.log.info("slow job begins")
    ctx.wait_cancelled(30)
    ctx.raise_if_cancelled()
    return "done"


if __name__ == "__main__":
    run(plugin)
