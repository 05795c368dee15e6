"""Families of Prometheus from plain numbers; each name gets the daemon's prefix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from supervisor.histogram import Distribution

PREFIX: Final = "plugind_"
Sample = tuple[Sequence[str], float]
"""Values of the labels, and the number."""


def gauge(name: str, about: str, labels: Iterable[str], samples: Iterable[Sample]) -> Metric:
    family = GaugeMetricFamily(f"{PREFIX}{name}", about, labels=list(labels))
    for values, number in samples:
        family.add_metric(values, number)
    return family


def counter(name: str, about: str, labels: Iterable[str], samples: Iterable[Sample]) -> Metric:
    family = CounterMetricFamily(f"{PREFIX}{name}", about, labels=list(labels))
    for values, number in samples:
        family.add_metric(values, number)
    return family


def histogram(
    name: str, about: str, labels: Iterable[str], samples: Iterable[tuple[Sequence[str], Distribution]]
) -> Metric:
    family = HistogramMetricFamily(f"{PREFIX}{name}", about, labels=list(labels))
    for values, seen in samples:
        buckets = [(_bound(bound), count) for bound, count in seen.buckets]
        family.add_metric(values, buckets, seen.sum)
    return family


def _bound(bound: float) -> str:
    return "+Inf" if bound == float("inf") else str(float(bound))
