"""The rows and lines of `pluginctl top`, and what its keys do to which plugin."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from client.cli import top_actions
from client.cli.top_actions import Action
from client.cli.top_model import ORDERS, View, arranged, count, event_line, log_line, plugin_table, size, span
from client.cli.top_text import UNLIMITED, Column, fitted, plain, safe, spread, table
from supervisor.core.lifecycle import Status
from tests.client.samples import line, plugin
from tests.client.top_samples import plugins


@pytest.mark.parametrize("width", [1, 5, 20, 40, 60, 79, 80, 99, 100, 120, 200])
def test_every_line_of_a_table_is_as_wide_as_the_terminal(width: int) -> None:
    heads, rows = plugin_table(plugins(), width)
    assert {cell_len("".join(text for text, _ in row)) for row in [heads, *rows]} <= {max(width, 23)} | set(range(24))
    if width >= 24:
        assert {cell_len("".join(text for text, _ in row)) for row in [heads, *rows]} == {width}


def test_what_matters_least_goes_first() -> None:
    kept = {width: plain(plugin_table(plugins(), width)[0]).split() for width in (120, 66, 60, 34)}
    assert kept[120][2:] == ["CPU%", "MEM", "RST", "CALLS", "BUSY", "UP", "LAST", "ERROR"]
    assert "BUSY" not in kept[66]
    assert "LAST" in kept[60]
    assert kept[34][:2] == ["PLUGIN", "STATE"]


def test_nothing_is_cut_where_there_is_no_limit() -> None:
    columns = (Column("A", 1), Column("B", 3))
    _, (row,) = table(columns, [[("a" * 300, ""), ("b" * 3000, "")]], UNLIMITED)
    assert plain(row) == f"{'a' * 300}  {'b' * 3000}"


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [("abc", 5, "abc  "), ("abcdef", 4, "abc…"), ("天気予報", 5, "天気…"), ("天気予報", 4, "天… "), ("ab", 0, "")],
)
def test_a_text_is_cut_by_columns(text: str, columns: int, shown: str) -> None:
    assert fitted(text, columns) == shown
    assert cell_len(fitted(text, columns, right=True)) == columns


def test_the_right_end_stays() -> None:
    assert plain(spread((("left is long", ""),), ("right", ""), 12)) == "left…  right"
    assert plain(spread((("left", ""),), ("right", ""), 12)) == "left   right"


def test_texts_from_elsewhere() -> None:
    assert safe("a\nb\x1b[31m\u202e\ud800") == "a\\nb\\x1b[31m\\u202e\\ud800".replace("\\ud800", safe("\ud800"))
    assert len(safe("x" * 1_000_000)) < 500
    said = log_line(line("m" * 1_000_000, fields={"f" * 1000: "v" * 1_000_000}))  # type: ignore[arg-type]
    assert sum(len(text) for text, _ in said) < 2000
    data = {"payload": {"deep": ["\x1b" * 1_000_000]}, "run_id": "r", "none": None, "empty": []}
    event = {"seq": 1, "at_ms": 0, "type": "emitted.x\x07", "plugin_id": "i", "plugin": "p\r", "data": data}
    text = plain(event_line(event))  # type: ignore[arg-type]
    assert len(text) < 1000
    assert text.isprintable()
    assert "run_id" not in text


@pytest.mark.parametrize("order", ORDERS)
def test_orders(order: str) -> None:
    keys = [p["key"] for p in arranged(plugins(), View(order=order))]
    first = {"name": "acme.db", "state": "天気予報.東京", "cpu": "acme.weather", "memory": "acme.db"}
    assert keys[0] == first.get(order, keys[0])
    assert sorted(keys) == sorted(p["key"] for p in plugins())
    assert [p["key"] for p in arranged(plugins(), View(order=order, reverse=True))] == keys[::-1]


def test_orders_go_round() -> None:
    view, seen = View(), []
    for _ in ORDERS:
        seen.append(view.order)
        view = view.reordered()
    assert seen == list(ORDERS)
    assert view == View()


def test_a_daemon_that_tells_no_usage() -> None:
    old = plugin()
    old.pop("usage", None)
    old.pop("calls", None)
    _, (row,) = plugin_table([old], 120)
    assert plain(row).split() == ["acme.weather", "running", "-", "-", "1", "0", "0", "3m"]


@pytest.mark.parametrize(
    ("number", "shown"), [(0, "0"), (999, "999"), (1000, "1.0k"), (12_345, "12k"), (3_400_000, "3.4M")]
)
def test_counts(number: int, shown: str) -> None:
    assert count(number) == shown


@pytest.mark.parametrize(
    ("number", "shown"), [(None, "-"), (0, "0B"), (1536, "1.5K"), (50 << 20, "50M"), (3 << 40, "3.0T")]
)
def test_sizes(number: int | None, shown: str) -> None:
    assert size(number) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(None, "-"), (0.4, "0s"), (9.99, "9s"), (59.9, "59s"), (3661, "1h 1m")])
def test_spans_do_not_flicker(seconds: float | None, shown: str) -> None:
    assert span(seconds) == shown


@pytest.mark.parametrize("status", Status)
def test_what_each_key_does_in_each_status(status: Status) -> None:
    p = plugin(status=status.value, phase="running" if status is Status.READY else "stopped")
    verbs = {Status.READY: "disable", Status.INSTALLED: "load", Status.UPGRADE_PENDING: None}
    wanted = verbs.get(status, "enable")
    found = top_actions.enable_or_disable(p)
    assert (found.method if isinstance(found, Action) else None) == (f"plugins.{wanted}" if wanted else None)
    for act, verb in ((top_actions.restart, "restart"), (top_actions.start_or_stop, "stop")):
        found = act(p)
        if status is Status.READY:
            assert isinstance(found, Action)
            assert (found.method, found.params) == (f"plugins.{verb}", {"plugin": "acme.weather"})
        else:
            assert isinstance(found, str)
            assert status.value in found


@pytest.mark.parametrize(
    ("phase", "verb"),
    [("running", "stop"), ("starting", "stop"), ("backoff", "stop"), ("stopped", "start"), ("stopping", "start")],
)
def test_the_worker_is_made_what_it_is_not(phase: str, verb: str) -> None:
    found = top_actions.start_or_stop(plugin(phase=phase))
    assert isinstance(found, Action)
    assert found.method == f"plugins.{verb}"
