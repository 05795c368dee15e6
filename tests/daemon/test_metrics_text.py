"""The Prometheus text: what is in it, by which names, and that the rules that such texts are held to are kept."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.parser import text_string_to_metric_families

from supervisor.core.lifecycle import Status
from supervisor.daemon.metrics_text import to_text
from supervisor.metrics import CONTENT_TYPE
from supervisor.worker.phase import Phase
from supervisor.worker.view import WorkerView
from tests.daemon.metrics_world import a_plugin, a_snapshot
from tests.daemon.prometheus_lint import numbers, problems_of

SERIES = {
    "plugind_build_info",
    "plugind_calls_in_flight",
    "plugind_calls_total",
    "plugind_connections",
    "plugind_connections_held_bytes",
    "plugind_connections_refused_total",
    "plugind_connections_shed_total",
    "plugind_event_lag_seconds",
    "plugind_event_loop_lag_seconds",
    "plugind_events_recorded_total",
    "plugind_job_run_duration_seconds",
    "plugind_job_runs_running",
    "plugind_job_runs_total",
    "plugind_job_runs_waiting",
    "plugind_job_start_lateness_seconds",
    "plugind_plugin_info",
    "plugind_plugin_phase",
    "plugind_plugin_series_left_out",
    "plugind_plugin_up",
    "plugind_plugin_wanted",
    "plugind_plugins",
    "plugind_rpc_request_duration_seconds",
    "plugind_rpc_requests_total",
    "plugind_schedule_paused",
    "plugind_start_time_seconds",
    "plugind_store_fsync_seconds",
    "plugind_store_transactions_total",
    "plugind_store_transactions_waiting",
    "plugind_subscription_overflows_total",
    "plugind_subscriptions",
    "plugind_warnings",
    "plugind_worker_cpu_seconds_total",
    "plugind_worker_crashes_total",
    "plugind_worker_open_fds",
    "plugind_worker_processes",
    "plugind_worker_resident_memory_bytes",
    "plugind_worker_restarts_total",
    "plugind_worker_threads",
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
}
"""Dashboards and alerts are made of these: we add, we do not rename."""


@pytest.fixture(scope="module")
def text() -> str:
    return to_text(a_snapshot())


def test_it_keeps_the_rules(text: str) -> None:
    assert problems_of(text) == []


def test_nothing_going_on_keeps_the_rules_too() -> None:
    nothing = to_text(a_snapshot(plugins=[], statuses={}, methods=[], events={}, own=[]))
    assert problems_of(nothing) == []
    assert names(nothing) == SERIES


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, of the package prometheus, is not installed")
def test_promtool_finds_nothing(text: str) -> None:
    found = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def names(text: str) -> set[str]:
    return {line.split(" ")[2] for line in text.splitlines() if line.startswith("# TYPE")}


def test_the_names_are_those_that_dashboards_know(text: str) -> None:
    assert names(text) == SERIES | {"weather_temperature_celsius"}


def test_its_content_type_is_that_of_the_format() -> None:
    assert CONTENT_TYPE == CONTENT_TYPE_PLAIN_0_0_4


@pytest.mark.parametrize(
    ("series", "number"),
    [
        ("plugind_start_time_seconds", 1_772_366_400.5),
        ('plugind_plugins{status="ready"}', 1),
        ('plugind_plugins{status="error"}', 0),
        ('plugind_plugin_info{plugin="acme.up",status="ready",version="1.2.0"}', 1),
        ('plugind_plugin_up{plugin="acme.up"}', 1),
        ('plugind_plugin_up{plugin="acme.down"}', 0),
        ('plugind_plugin_wanted{plugin="acme.up"}', 1),
        ('plugind_plugin_wanted{plugin="acme.down"}', 0),
        ('plugind_plugin_phase{phase="running",plugin="acme.up"}', 1),
        ('plugind_plugin_phase{phase="backoff",plugin="acme.up"}', 0),
        ('plugind_plugin_phase{phase="stopped",plugin="acme.down"}', 1),
        ('plugind_worker_restarts_total{plugin="acme.up"}', 2),
        ('plugind_worker_crashes_total{plugin="acme.up"}', 3),
        ('plugind_worker_cpu_seconds_total{plugin="acme.up"}', 12.5),
        ('plugind_worker_resident_memory_bytes{plugin="acme.up"}', 20_000_000),
        ('plugind_worker_open_fds{plugin="acme.up"}', 7),
        ('plugind_worker_threads{plugin="acme.up"}', 3),
        ('plugind_worker_processes{plugin="acme.up"}', 2),
        ('plugind_calls_total{plugin="acme.up"}', 9),
        ('plugind_calls_in_flight{plugin="acme.up"}', 1),
        ('plugind_job_runs_total{plugin="acme.up",state="succeeded"}', 4),
        ('plugind_job_run_duration_seconds_bucket{le="0.5",plugin="acme.up"}', 1),
        ('plugind_job_run_duration_seconds_bucket{le="14400.0",plugin="acme.up"}', 2),
        ('plugind_job_run_duration_seconds_bucket{le="+Inf",plugin="acme.up"}', 3),
        ('plugind_job_run_duration_seconds_sum{plugin="acme.up"}', 20_002.3),
        ("plugind_job_start_lateness_seconds_sum", 0.02),
        ("plugind_job_runs_waiting", 5),
        ("plugind_job_runs_running", 6),
        ("plugind_schedule_paused", 1),
        ('plugind_rpc_requests_total{code="INTERNAL",method="daemon.ping"}', 1),
        ('plugind_rpc_request_duration_seconds_bucket{le="0.00025",method="daemon.ping"}', 1),
        ("plugind_connections", 2),
        ('plugind_connections_refused_total{reason="uid"}', 3),
        ("plugind_connections_shed_total", 1),
        ("plugind_connections_held_bytes", 100),
        ("plugind_subscriptions", 4),
        ("plugind_subscription_overflows_total", 1),
        ('plugind_events_recorded_total{type="emitted"}', 7),
        ("plugind_event_lag_seconds_sum", 0.003),
        ('plugind_store_transactions_total{connection="writer"}', 30),
        ('plugind_store_transactions_waiting{connection="reader"}', 2),
        ("plugind_store_fsync_seconds_count", 2),
        ('weather_temperature_celsius{place="Kiel",plugin="acme.up"}', 21.5),
    ],
)
def test_numbers_stand_where_they_belong(text: str, series: str, number: float) -> None:
    assert numbers(text)[series] == number


def test_without_a_process_nothing_is_said_of_its_use(text: str) -> None:
    used = ("cpu_seconds_total", "resident_memory_bytes", "threads", "processes", "open_fds")
    assert not [name for name in used if f'plugind_worker_{name}{{plugin="acme.down"}}' in numbers(text)]


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("wanted", [True, False, None])
def test_wanted_is_what_is_ready_and_was_not_stopped(status: Status, wanted: bool | None) -> None:
    plugin = a_plugin(status=str(status), worker=WorkerView(wanted=wanted))
    found = numbers(to_text(a_snapshot(plugins=[plugin])))['plugind_plugin_wanted{plugin="acme.up"}']
    assert found == (status is Status.READY and wanted is not False)


@pytest.mark.parametrize("phase", Phase)
def test_one_phase_at_a_time(phase: Phase) -> None:
    found = numbers(to_text(a_snapshot(plugins=[a_plugin(worker=WorkerView(phase=phase))])))
    phases = {each: found[f'plugind_plugin_phase{{phase="{each}",plugin="acme.up"}}'] for each in Phase}
    assert [each for each, number in phases.items() if number] == [phase]
    assert found['plugind_plugin_up{plugin="acme.up"}'] == (phase is Phase.RUNNING)


def test_a_version_may_be_any_text() -> None:
    text = to_text(a_snapshot(plugins=[a_plugin(version='1.0+"a\\b\n')]))
    assert problems_of(text) == []
    [family] = [one for one in text_string_to_metric_families(text) if one.name == "plugind_plugin_info"]
    assert family.samples[0].labels["version"] == '1.0+"a\\b\n'


GOOD = "# HELP a_total What it is.\n# TYPE a_total counter\na_total 1\n"
HISTOGRAM = (
    "# HELP h_seconds It.\n# TYPE h_seconds histogram\n"
    'h_seconds_bucket{le="1.0"} 1\nh_seconds_bucket{le="+Inf"} 2\nh_seconds_count 2\nh_seconds_sum 3\n'
)


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (GOOD.removesuffix("\n"), "no end"),
        (GOOD.replace("# HELP a_total What it is.\n", ""), "no HELP and TYPE"),
        (GOOD.replace("What it is.", "what"), "no sentence"),
        (GOOD.replace("a_total", "a"), "ends in _total"),
        (GOOD.replace("counter", "gauge"), "ends in _total"),
        (GOOD.replace("a_total", "a_ms_total"), "no base unit"),
        (GOOD.replace("a_total", "aB_total"), "lower_case"),
        (GOOD.replace("a_total", "a_counter_total"), "its type"),
        (GOOD + GOOD, "a second HELP"),
        (GOOD + "a_total 2\n", "2 times"),
        (GOOD + HISTOGRAM + "a_total{b=\"c\"} 1\n", "not together"),
        (GOOD + "???\n", "no line"),
        (GOOD.replace("a_total 1", "a_total -1"), "never below 0"),
        (GOOD.replace("a_total 1", 'a_total{le="1"} 1'), "label le"),
        (HISTOGRAM.replace('{le="1.0"} 1', '{le="1.0"} 3'), "a wider bucket has less"),
        (HISTOGRAM.replace("count 2", "count 9"), "does not have all"),
        (HISTOGRAM.replace("h_seconds_sum 3\n", ""), "no _count and _sum"),
        (HISTOGRAM.replace("h_seconds", "h_seconds_count"), "part of a histogram"),
    ],
)  # fmt: skip
def test_the_rules_are_looked_at(bad: str, problem: str) -> None:
    assert problems_of(GOOD + HISTOGRAM) == []
    assert problem in "\n".join(problems_of(bad))
