"""pluginctl metrics: the daemon's numbers for Prometheus, or those that a plugin tells of itself."""

from __future__ import annotations

import json

from client.cli.command import Argument, Command, Commands, Options, UsageError
from client.cli.output import Context
from client.cli.render import escaped, now_ms, table, when

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from supervisor.wire.results import MetricInfo


def _metrics(context: Context, options: Options) -> None:
    if options.plugin is None:
        _of_daemon(context, options)
    elif options.own:
        raise UsageError("--own is of plugind's numbers, so it cannot stand with KEY: keep one of them")
    else:
        _of_plugin(context, options)


def _of_daemon(context: Context, options: Options) -> None:
    metrics = context.client.daemon.metrics(plugins=not options.own)
    context.show(metrics, escaped(metrics["text"], lines=True))


def _of_plugin(context: Context, options: Options) -> None:
    metrics = context.client.plugins.metrics(options.plugin)
    now = now_ms()
    rows = [(_series(m), m["kind"], f"{m['value']:.12g}", when(m["at_ms"], now)) for m in metrics]
    heads = ("METRIC", "KIND", "VALUE", "WRITTEN")
    text = table(heads, rows, width=context.width, colour=context.colour) if rows else "no metrics"
    context.show(metrics, text)


def _series(metric: MetricInfo) -> str:
    """As Prometheus writes it."""
    labels = ",".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in metric["labels"].items())
    return f"{metric['name']}{{{labels}}}" if labels else metric["name"]


COMMANDS: Commands = {
    "metrics": Command(
        _metrics,
        "The numbers that a plugin tells of itself; without KEY those of plugind, as Prometheus reads them.",
        "metrics acme.weather",
        Argument("plugin", metavar="KEY", nargs="?", help="the plugin's key or id"),
        Argument("--own", action="store_true", help="without KEY: plugind's own, not those of plugins beside them"),
    ),
}
