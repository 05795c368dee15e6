"""The numbers of a real daemon, as Prometheus and as `daemon.metrics` get them."""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon.prometheus_lint import numbers, problems_of
from tests.e2e.conftest import PATIENCE_S, Daemon, Refused

GOOD = "test.good"
UP = f'{{plugin="{GOOD}"}}'


def scrape(path: Path) -> str:
    """As Prometheus does it, over a Unix socket."""
    connection = http.client.HTTPConnection("localhost", timeout=PATIENCE_S)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(PATIENCE_S)
    connection.sock.connect(str(path))
    try:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        assert response.status == 200
        return response.read().decode()
    finally:
        connection.close()


def test_what_happened_is_in_the_numbers(daemon: Daemon, plugin: Callable[[str], Path], tmp_path: Path) -> None:
    place = tmp_path / "metrics.sock"
    with daemon.start(PLUGIND_METRICS_LISTEN=str(place)) as rpc:
        first = rpc.load(plugin("good"))
        for value in range(3):
            rpc.call("plugins.call", plugin=GOOD, method="echo", params={"value": value})
        rpc.call("jobs.run", job=f"{GOOD}/tick", wait=True)
        with pytest.raises(Refused, match="PLUGIN_CRASHED"):
            rpc.call("plugins.call", plugin=GOOD, method="crash")
        rpc.up(GOOD, not_pid=first["pid"])
        subscription = rpc.call("events.subscribe")
        text = scrape(place)
        assert problems_of(text) == []
        seen = numbers(text)
        assert seen[f"plugind_plugin_up{UP}"] == seen[f"plugind_plugin_wanted{UP}"] == 1
        assert seen[f"plugind_worker_crashes_total{UP}"] == seen[f"plugind_worker_restarts_total{UP}"] == 1
        assert seen[f"plugind_calls_total{UP}"] == 5
        assert seen[f'plugind_job_runs_total{{plugin="{GOOD}",state="succeeded"}}'] == 1
        assert seen[f"plugind_job_run_duration_seconds_count{UP}"] == 1
        assert seen[f"plugind_worker_resident_memory_bytes{UP}"] > 1_000_000
        assert seen['plugind_rpc_requests_total{code="OK",method="plugins.call"}'] == 3
        assert seen['plugind_rpc_requests_total{code="PLUGIN_CRASHED",method="plugins.call"}'] == 1
        assert seen['plugind_rpc_request_duration_seconds_count{method="plugins.call"}'] == 4
        assert (seen["plugind_connections"], seen["plugind_subscriptions"]) == (1, 1)
        assert seen["plugind_store_fsync_seconds_count"] > 0
        assert seen["plugind_store_fsync_seconds_sum"] > 0
        events = {series: number for series, number in seen.items() if series.startswith("plugind_events_recorded")}
        assert sum(events.values()) == seen["plugind_event_lag_seconds_count"] == subscription["last_seq"]
        told = rpc.call("daemon.metrics", plugins=False)
        assert told["content_type"].startswith("text/plain; version=0.0.4")
        assert problems_of(told["text"]) == []
        rpc.call("plugins.unload", plugin=GOOD, remove_data=True)
        assert GOOD not in rpc.call("daemon.metrics")["text"]
        assert daemon.stop() == 0
    assert not place.exists()


def test_what_plugins_tell_is_in_them_too(daemon: Daemon, plugin: Callable[[str], Path]) -> None:
    source = plugin("good")
    manifest = (source / "plugin.toml").read_text()
    assert "capabilities = [" in manifest
    (source / "plugin.toml").write_text(manifest.replace("capabilities = [", 'capabilities = ["metrics.write", '))
    main = (source / "main.py").read_text()
    use = "ctx.metric('own_hits_total', 2, 'counter', place='Kiel')"
    (source / "main.py").write_text(main.replace("    return value\n", f"    {use}\n    return value\n"))
    with daemon.start() as rpc:
        rpc.load(source)
        rpc.call("plugins.call", plugin=GOOD, method="echo")
        series = f'own_hits_total{{place="Kiel",plugin="{GOOD}"}}'
        assert numbers(rpc.call("daemon.metrics")["text"])[series] == 2
        assert series not in rpc.call("daemon.metrics", plugins=False)["text"]


def test_a_place_that_is_taken_is_a_refusal_with_the_way_out(daemon: Daemon) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        place = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(AssertionError, match=f"cannot listen for scrapes at {place}.*metrics_listen"):
            daemon.start(PLUGIND_METRICS_LISTEN=place)
    assert daemon.wait() == 3
    assert not os.path.exists(daemon.socket)
