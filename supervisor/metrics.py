"""Metrics: the numbers that plugins tell of themselves, in memory, by Prometheus' rules for names.

They outlive their worker and not the daemon.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from supervisor.core.errors import InvalidParams, ResourceExhausted
from supervisor.core.plugin import PluginId
from supervisor.core.problem import shown
from supervisor.wire.results import MetricInfo
from supervisor.wire.worker import Metric

MAX_SERIES: Final = 1000
"""Of one plugin."""
MAX_SAMPLES: Final = 1000
"""In one request."""
MAX_SERIES_BYTES: Final = 1000
"""Of a series' name and labels together, as UTF-8."""
MAX_LABELS: Final = 64
"""Of a series, so that all of a plugin's fit into an answer."""
KINDS: Final = ("gauge", "counter")
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Of Prometheus text, as the daemon writes it."""
_NAME = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_LABEL = re.compile(r"(?!__)[A-Za-z_][A-Za-z0-9_]*")
_Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Series:
    value: float
    at_ms: int


class _Book:
    """Of one plugin."""

    def __init__(self) -> None:
        self.kinds: dict[str, str] = {}
        self.series: dict[tuple[str, _Labels], _Series] = {}


class Metrics:
    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._books: dict[PluginId, _Book] = {}

    def write(self, plugin_id: PluginId, samples: Sequence[Metric]) -> None:
        """Set gauges and add to counters: all of `samples`, or none.

        Raises:
            InvalidParams: a name, a kind, a label or a value that cannot be; it names the sample.
            ResourceExhausted: the plugin would have more than MAX_SERIES.
        """
        if len(samples) > MAX_SAMPLES:
            raise InvalidParams(f"metrics may have {MAX_SAMPLES} entries, not {len(samples)}: send the rest later")
        book = self._books.get(plugin_id) or _Book()
        kinds: dict[str, str] = {}
        values: dict[tuple[str, _Labels], float] = {}
        for i, sample in enumerate(samples):
            if problem := _problem(sample, kinds.get(sample.name) or book.kinds.get(sample.name)):
                raise InvalidParams(f"metrics[{i}] ({shown(sample.name)}): {problem}", index=i)
            kinds[sample.name] = sample.kind
            series = (sample.name, tuple(sorted(sample.labels.items())))
            value = sample.value
            if sample.kind == "counter":
                value += values[series] if series in values else _value(book, series)
                if math.isinf(value):
                    raise InvalidParams(f"metrics[{i}] ({sample.name}): the counter would exceed every number", index=i)
            values[series] = value
        count = len(book.series.keys() | values.keys())
        if count > MAX_SERIES:
            raise ResourceExhausted(
                f"the plugin would have {count} metric series, the limit is {MAX_SERIES}: use fewer different labels",
                limit=MAX_SERIES,
            )
        at_ms = self._now_ms()
        book.kinds |= kinds
        book.series |= {series: _Series(value, at_ms) for series, value in values.items()}
        self._books[plugin_id] = book

    def read(self, plugin_id: PluginId) -> list[MetricInfo]:
        """By name and labels."""
        book = self._books.get(plugin_id) or _Book()
        return [
            MetricInfo(name=name, kind=book.kinds[name], value=one.value, labels=dict(labels), at_ms=one.at_ms)
            for (name, labels), one in sorted(book.series.items(), key=lambda item: item[0])
        ]

    def forget(self, plugin_id: PluginId) -> None:
        """The plugin has gone, with its data."""
        self._books.pop(plugin_id, None)


def _value(book: _Book, series: tuple[str, _Labels]) -> float:
    former = book.series.get(series)
    return former.value if former else 0.0


def _problem(sample: Metric, former_kind: str | None) -> str | None:
    if not _NAME.fullmatch(sample.name):
        return "a name must match [a-zA-Z_:][a-zA-Z0-9_:]*"
    if sample.kind not in KINDS:
        return f"kind must be {' or '.join(KINDS)}, not {shown(sample.kind)}"
    if former_kind not in {None, sample.kind}:
        return f"it is a {former_kind} already, and cannot be a {sample.kind} too"
    if not math.isfinite(sample.value):
        return f"value must be finite, not {sample.value}"
    if sample.kind == "counter" and sample.value < 0:
        return f"a counter only grows: value must be 0 or more, not {sample.value:g}"
    return _labels_problem(sample.name, sample.labels)


def _labels_problem(name: str, labels: Mapping[str, str]) -> str | None:
    if len(labels) > MAX_LABELS:
        return f"it has {len(labels)} labels, the limit is {MAX_LABELS}"
    for label in labels:
        if not _LABEL.fullmatch(label):
            return f"label {shown(label)}: a label's name must match [a-zA-Z_][a-zA-Z0-9_]* and not begin with __"
    size = len(name) + sum(len(label) + len(value.encode()) for label, value in labels.items())
    if size > MAX_SERIES_BYTES:
        return f"its name and labels have {size} bytes together, the limit is {MAX_SERIES_BYTES}"
    return None
