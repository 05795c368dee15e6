"""What plugins tell of themselves, as families of Prometheus: under their own names, with the plugin as a label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from prometheus_client.core import Metric

from supervisor.daemon.metrics_families import PREFIX
from supervisor.wire.results import MetricInfo

MAX_BYTES: Final = 8 * 1024 * 1024
"""Of the names and labels of all plugins' series together: the text is about so long."""
RESERVED: Final = (PREFIX, "process_")
"""Beginnings of names that are the daemon's own."""
REASONS: Final = ("reserved", "kind", "too_much")
_HELP: Final = "Told by plugins themselves."


def own_families(told: Sequence[tuple[str, Sequence[MetricInfo]]]) -> tuple[list[Metric], Counter[str]]:
    """By name, and how many series were left out for each of REASONS.

    What a name is says the first plugin in `told` that uses it; where it is something else in another, that is left
    out (`kind`).
    """
    families: dict[str, Metric] = {}
    kinds: dict[str, str] = {}
    left_out = Counter(dict.fromkeys(REASONS, 0))
    left_bytes = MAX_BYTES
    for plugin, metrics in told:
        for metric in metrics:
            name, kind, labels = metric["name"], metric["kind"], _labels(plugin, metric["labels"])
            size = len(name) + sum(len(label) + len(value) for label, value in labels.items())
            if why := _why_not(name, kind, kinds.get(name, kind)):
                left_out[why] += 1
            elif size > left_bytes:
                left_out["too_much"] += 1
            else:
                left_bytes -= size
                kinds[name] = kind
                family = families.get(name) or families.setdefault(name, _family(name, kind))
                family.add_sample(name, labels, metric["value"])
    return [families[name] for name in sorted(families)], left_out


def _why_not(name: str, kind: str, taken_as: str) -> str | None:
    if name.startswith(RESERVED):
        return "reserved"
    return None if kind == taken_as else "kind"


def _family(name: str, kind: str) -> Metric:
    """A counter that is not called so must not get another name: then what it is remains untold."""
    if kind != "counter":
        return Metric(name, _HELP, "gauge")
    return Metric(name.removesuffix("_total"), _HELP, "counter" if name.endswith("_total") else "unknown")


def _labels(plugin: str, labels: Mapping[str, str]) -> dict[str, str]:
    """As Prometheus does it: what would hide the plugin's name gets `exported_` in front."""
    named = {"plugin": plugin}
    for label, value in sorted(labels.items()):
        while label in named:
            label = f"exported_{label}"  # noqa: PLW2901
        named[label] = value
    return named
