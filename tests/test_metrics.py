"""Numbers of plugins: all of a request or nothing of it, within bounds, by Prometheus' rules."""

from __future__ import annotations

import math

import pytest

from supervisor.core.errors import InvalidParams, ResourceExhausted
from supervisor.core.plugin import PluginId
from supervisor.metrics import MAX_SAMPLES, MAX_SERIES, Metrics
from supervisor.wire.worker import Metric

ONE, TWO = PluginId("1"), PluginId("2")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(lambda: 7)


def count(value: float, name: str = "rows", **labels: str) -> Metric:
    return Metric(name=name, value=value, kind="counter", labels=labels)


def test_counters_add_and_gauges_are_set(metrics: Metrics) -> None:
    metrics.write(ONE, [count(1), count(2), count(5, table="a"), Metric(name="g", value=1), Metric(name="g", value=-2)])
    metrics.write(ONE, [count(0.5), Metric(name="g", value=9)])
    told = [(m["name"], m["kind"], m["value"], m["labels"], m["at_ms"]) for m in metrics.read(ONE)]
    assert told == [
        ("g", "gauge", 9, {}, 7),
        ("rows", "counter", 3.5, {}, 7),
        ("rows", "counter", 5, {"table": "a"}, 7),
    ]
    assert metrics.read(TWO) == []
    metrics.forget(ONE)
    metrics.forget(TWO)
    assert metrics.read(ONE) == []


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (Metric(name="", value=1), "must match"),
        (Metric(name="1a", value=1), "must match"),
        (Metric(name="a\n", value=1), "must match"),
        (Metric(name="é", value=1), "must match"),
        (Metric(name="a", value=1, kind="histogram"), "gauge or counter"),
        (Metric(name="a", value=math.inf), "finite"),
        (Metric(name="a", value=math.nan), "finite"),
        (count(-1), "only grows"),
        (Metric(name="rows", value=1), "is a counter already"),
        (Metric(name="a", value=1, labels={"a b": ""}), "label"),
        (Metric(name="a", value=1, labels={"__name__": ""}), "label"),
        (Metric(name="a", value=1, labels={"a": "x" * 1000}), "1001 bytes|1002 bytes"),
        (Metric(name="a", value=1, labels={"a": "é" * 500}), "1002 bytes"),
        (Metric(name="a" * 1001, value=1), "1001 bytes"),
        (count(1e308), "exceed"),
    ],
)
def test_one_wrong_sample_and_none_is_taken(metrics: Metrics, wrong: Metric, told: str) -> None:
    metrics.write(ONE, [count(1e308)])
    before = metrics.read(ONE)
    with pytest.raises(InvalidParams, match=told) as caught:
        metrics.write(ONE, [Metric(name="fine", value=1), wrong])
    assert caught.value.details == {"index": 1}
    assert len(caught.value.message) < 300
    assert metrics.read(ONE) == before


def test_no_more_series_than_there_may_be(metrics: Metrics) -> None:
    metrics.write(ONE, [count(1, n=str(n)) for n in range(MAX_SERIES)])
    with pytest.raises(ResourceExhausted, match="1001 metric series"):
        metrics.write(ONE, [count(1, n="0"), count(1, n="more")])
    metrics.write(ONE, [count(1, n="0")])
    metrics.write(TWO, [count(1)])
    assert sum(m["value"] for m in metrics.read(ONE)) == MAX_SERIES + 1
    with pytest.raises(InvalidParams, match="entries"):
        metrics.write(ONE, [count(1)] * (MAX_SAMPLES + 1))


def test_kinds_are_known_within_one_request(metrics: Metrics) -> None:
    with pytest.raises(InvalidParams, match="is a counter already"):
        metrics.write(ONE, [count(1, "a"), Metric(name="a", value=1)])
    assert metrics.read(ONE) == []
