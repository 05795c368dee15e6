"""pluginctl metrics: the numbers that a plugin tells of itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from client.cli.command import PLUGIN, Command, Options
from client.cli.output import Context
from client.cli.render import now_ms, table, when

if TYPE_CHECKING:
    from supervisor.wire.results import MetricInfo


def _metrics(context: Context, options: Options) -> None:
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


METRICS = Command(_metrics, "The numbers that a plugin tells of itself.", "metrics acme.weather", PLUGIN)
