"""What plugins tell of themselves: under their own names, and never instead of the daemon's or another plugin's."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from supervisor.core.plugin import PluginId
from supervisor.daemon import metrics_plugins
from supervisor.daemon.metrics_plugins import own_families
from supervisor.daemon.metrics_text import to_text
from supervisor.metrics import Metrics
from supervisor.wire.results import MetricInfo
from supervisor.wire.worker import Metric
from tests.daemon.metrics_world import a_metric, a_snapshot
from tests.daemon.prometheus_lint import problems_of

Told = list[tuple[str, list[MetricInfo]]]


def lines(told: Told) -> list[str]:
    """Those of the plugins alone."""
    text = to_text(a_snapshot(own=told))
    assert problems_of(text) == []
    return text.splitlines()[len(to_text(a_snapshot(own=[])).splitlines()) :]


def left_out(told: Told) -> dict[str, int]:
    return {reason: count for reason, count in own_families(told)[1].items() if count}


def test_names_kinds_and_labels_are_kept_and_the_plugin_is_named() -> None:
    told = [("acme.b", [a_metric("b_celsius", 2, place="Kiel")]), ("acme.a", [a_metric("a_total", 3, "counter")])]
    assert lines(told) == [
        "# HELP a_total Told by plugins themselves.",
        "# TYPE a_total counter",
        'a_total{plugin="acme.a"} 3.0',
        "# HELP b_celsius Told by plugins themselves.",
        "# TYPE b_celsius gauge",
        'b_celsius{place="Kiel",plugin="acme.b"} 2.0',
    ]


def test_one_name_of_several_plugins_is_one_family() -> None:
    told = [(f"acme.{n}", [a_metric("hits_total", n, "counter", at="x"), a_metric("other", n)]) for n in range(3)]
    assert sum(line.startswith("# TYPE hits_total") for line in lines(told)) == 1
    assert 'hits_total{at="x",plugin="acme.2"} 2.0' in lines(told)
    assert left_out(told) == {}


def test_a_counter_of_another_name_keeps_its_name() -> None:
    assert lines([("acme.a", [a_metric("hits", 3, "counter")])]) == [
        "# HELP hits Told by plugins themselves.",
        "# TYPE hits untyped",
        'hits{plugin="acme.a"} 3.0',
    ]


def test_the_daemons_names_are_not_for_plugins() -> None:
    told = [("acme.a", [a_metric("plugind_plugin_up", 1), a_metric("process_cpu_seconds_total", 1, "counter")])]
    assert lines(told) == []
    assert left_out(told) == {"reserved": 2}
    assert 'plugind_plugin_series_left_out{reason="reserved"} 2.0' in to_text(a_snapshot(own=told))


def test_a_name_is_what_the_first_says_it_is() -> None:
    told = [("acme.a", [a_metric("n", 1)]), ("acme.b", [a_metric("n", 2, "counter"), a_metric("m", 3)])]
    assert left_out(told) == {"kind": 1}
    assert [line for line in lines(told) if not line.startswith("#")] == [
        'm{plugin="acme.b"} 3.0',
        'n{plugin="acme.a"} 1.0',
    ]


def test_a_label_cannot_hide_the_plugin() -> None:
    told = [("acme.a", [a_metric("n", 1, plugin="another", exported_plugin="third")])]
    [sample] = own_families(told)[0][0].samples
    assert sample.labels == {
        "plugin": "acme.a",
        "exported_plugin": "third",
        "exported_exported_plugin": "another",
    }


def test_labels_may_say_anything() -> None:
    value = 'a"b\\c\nd é 世'
    text = to_text(a_snapshot(own=[("acme.a", [a_metric("n", 1, what=value)])]))
    [family] = [one for one in text_string_to_metric_families(text) if one.name == "n"]
    assert family.samples[0].labels == {"plugin": "acme.a", "what": value}


def test_so_much_and_no_more() -> None:
    many = [a_metric("n", 1, what=f"{n:0900}") for n in range(1000)]
    told = [(f"acme.{n:03}", many) for n in range(20)]
    families, missing = own_families(told)
    kept = sum(len(family.samples) for family in families)
    assert kept + missing["too_much"] == 20_000
    assert 0 < kept * 900 <= metrics_plugins.MAX_BYTES


def test_whatever_the_daemon_takes_from_plugins_can_be_told() -> None:
    metrics = Metrics(lambda: 0)
    plugin = PluginId("p")
    names = ["_", "a:b", "A", "x_bucket", "x_count", "x_created", "x_info", "x_total", "le"]
    samples = [Metric(name=name, kind=kind, value=1.0, labels={"le": "1", "quantile": "2"}) for name in names
               for kind in ["counter" if name == "x_total" else "gauge"]]  # fmt: skip
    metrics.write(plugin, samples)
    text = to_text(a_snapshot(own=[("acme.a", metrics.read(plugin))]))
    told = {line.partition("{")[0] for line in text.splitlines() if 'plugin="acme.a"' in line and line[0] != "#"}
    assert told == set(names)
