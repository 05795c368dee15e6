"""The numbers in a Prometheus text, and what is wrong with it by the rules that people and promtool hold it to."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

_HEAD = re.compile(r"# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)")
_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(\{.*\})? (\S+)")
_TYPES = {"counter", "gauge", "histogram", "untyped"}
_HISTOGRAM_SUFFIXES = ("_bucket", "_count", "_sum")
_NO_BASE_UNITS = re.compile(
    r"(^|_)(ms|us|ns|(milli|micro|nano)seconds?|minutes?|hours?|days?|kb|mb|gb|(kilo|mega|giga)bytes?|bits?|percent)(_|$)"
)


def numbers(text: str) -> dict[str, float]:
    """Series as they stand in the text -> number."""
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {series: float(number) for series, _, number in lines}


def problems_of(text: str) -> list[str]:
    return [*_problems_of_lines(text), *_problems_of_samples(text)]


def _problems_of_lines(text: str) -> Iterator[str]:
    heads: dict[str, dict[str, str]] = {}
    open_family, seen = "", set[str]()
    if not text.endswith("\n"):
        yield "the last line has no end"
    for line in text.splitlines():
        if head := _HEAD.fullmatch(line):
            what, name, said = head.groups()
            if what in heads.setdefault(name, {}):
                yield f"{name}: a second {what}"
            heads[name][what] = said
            if name in seen:
                yield f"{name}: {what} after its samples"
        elif sample := _SAMPLE.fullmatch(line):
            family = _family(sample[1], heads)
            if family != open_family and family in seen:
                yield f"{family}: its samples are not together"
            open_family = family
            seen.add(family)
            if set(heads.get(family, {})) != {"HELP", "TYPE"}:
                yield f"{family}: no HELP and TYPE before its samples"
        else:
            yield f"no line of such a text: {line!r}"
    for name, said in heads.items():
        yield from _problems_of_head(name, said.get("TYPE", ""), said.get("HELP", ""))


def _family(sample: str, heads: dict[str, dict[str, str]]) -> str:
    for suffix in _HISTOGRAM_SUFFIXES:
        name = sample.removesuffix(suffix)
        if name != sample and heads.get(name, {}).get("TYPE") == "histogram":
            return name
    return sample


def _problems_of_head(name: str, kind: str, about: str) -> Iterator[str]:
    if kind not in _TYPES:
        yield f"{name}: no such type: {kind!r}"
    if not about.endswith("."):
        yield f"{name}: its HELP is no sentence: {about!r}"
    if name.endswith("_total") != (kind == "counter"):
        yield f"{name}: a counter, and nothing else, ends in _total; this is a {kind}"
    if name.endswith(_HISTOGRAM_SUFFIXES):
        yield f"{name}: it is called as a part of a histogram is"
    if name != name.lower() or ":" in name:
        yield f"{name}: is not in lower_case_with_underscores"
    if _NO_BASE_UNITS.search(name):
        yield f"{name}: its unit is no base unit (seconds, bytes, ratio)"
    if re.search(r"_(gauge|counter|histogram)(_|$)", name):
        yield f"{name}: its type is in its name"


def _problems_of_samples(text: str) -> Iterator[str]:
    try:
        families = list(text_string_to_metric_families(text))
    except ValueError as error:
        yield f"cannot be parsed: {error}"
        return
    samples = [sample for family in families for sample in family.samples]
    for key, count in Counter((sample.name, tuple(sorted(sample.labels.items()))) for sample in samples).items():
        if count > 1:
            yield f"{key}: {count} times"
    for family in families:
        if family.type == "histogram":
            yield from _problems_of_histogram(family.name, family.samples)
        elif any("le" in sample.labels for sample in family.samples):
            yield f"{family.name}: has the label le, and is no histogram"
        if family.type == "counter" and any(not sample.value >= 0 for sample in family.samples):
            yield f"{family.name}: a counter is never below 0"


def _problems_of_histogram(name: str, samples: list[Sample]) -> Iterator[str]:
    series: dict[tuple[tuple[str, str], ...], list[Sample]] = {}
    for sample in samples:
        labels = tuple(sorted((label, value) for label, value in sample.labels.items() if label != "le"))
        series.setdefault(labels, []).append(sample)
    for labels, of_series in series.items():
        buckets = [(float(one.labels["le"]), one.value) for one in of_series if one.name == f"{name}_bucket"]
        if [bound for bound, _ in buckets] != sorted({bound for bound, _ in buckets}):
            yield f"{name}{labels}: its bounds do not grow"
        if [count for _, count in buckets] != sorted(count for _, count in buckets):
            yield f"{name}{labels}: a wider bucket has less"
        whole = {one.name.removeprefix(name): one.value for one in of_series if one.name != f"{name}_bucket"}
        if set(whole) != {"_count", "_sum"}:
            yield f"{name}{labels}: has no _count and _sum"
        elif not buckets or buckets[-1] != (math.inf, whole["_count"]):
            yield f"{name}{labels}: the bucket +Inf does not have all"
