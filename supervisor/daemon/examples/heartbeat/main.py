"""A job that keeps a number in the plugin's state: it goes on counting after every restart."""

from supervisor.sdk import Plugin, RunContext, run

plugin = Plugin()


@plugin.job("beat")
def beat(ctx: RunContext) -> dict:
    count = ctx.state.get("count", 0) + 1
    ctx.state.set("count", count)
    ctx.emit("beat", {"count": count})
    ctx.log.info("beat", count=count, due=ctx.scheduled_at.isoformat())
    return {"count": count}


if __name__ == "__main__":
    run(plugin)
