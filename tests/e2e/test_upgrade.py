"""Versions exchanged under a real daemon while clients call: nobody notices, or the version before goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import PATIENCE_S, Daemon, Refused, Rpc
from tests.e2e.versions import CAPABILITIES, KEY, stored, write_version

MORE = (*CAPABILITIES, "events.emit")
Version = Callable[..., str]


@pytest.fixture
def version(tmp_path: Path) -> Version:
    """Write a version, and return its directory."""
    return lambda number, **how: str(write_version(tmp_path / "sources" / f"{KEY}-{number}", number, **how))


@pytest.fixture
def rpc(daemon: Daemon, version: Version) -> Iterator[Rpc]:
    """With version 1.0 loaded."""
    with daemon.start() as rpc:
        rpc.load(Path(version("1.0")))
        yield rpc


@dataclass
class Callers:
    answers: list[Any] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@contextmanager
def calling(socket: Path, method: str = "version", params: Any = None, threads: int = 3) -> Iterator[Callers]:
    """Callers in a loop; on leaving, each ends the call it is in."""
    seen, over = Callers(), threading.Event()

    def loop() -> None:
        with Rpc(socket) as rpc:
            while not over.is_set():
                try:
                    answer = rpc.call("plugins.call", plugin=KEY, method=method, params=params)
                    seen.answers.append(answer["result"])
                except Refused as refused:
                    seen.failures.append(str(refused))

    callers = [threading.Thread(target=loop) for _ in range(threads)]
    for caller in callers:
        caller.start()
    try:
        yield seen
    finally:
        over.set()
        for caller in callers:
            caller.join()


def get(rpc: Rpc) -> Any:
    return rpc.call("plugins.get", plugin=KEY)


def told_since(rpc: Rpc, seq: int) -> list[tuple[str, dict[str, Any]]]:
    page = rpc.call("events.list", after_seq=seq, types=["plugin.*"], limit=200)
    return [(event["type"], event["data"]) for event in page["events"]]


def last_seq(rpc: Rpc) -> int:
    return int(rpc.call("daemon.status")["last_seq"])


def answer(rpc: Rpc) -> Any:
    return rpc.call("plugins.call", plugin=KEY, method="version")["result"]


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def refusal(rpc: Rpc, method: str, **params: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        rpc.call(method, plugin=KEY, **params)
    return caught.value


def test_it_goes_on_to_its_end_though_its_caller_hangs_up(rpc: Rpc, daemon: Daemon, version: Version) -> None:
    def entry() -> Any:
        found = rpc.call("audit.list", methods=["plugins.upgrade"])
        return found[0] if found else None

    before = last_seq(rpc)
    with Rpc(daemon.socket) as caller:
        caller.send("plugins.upgrade", plugin=KEY, source=version("2.0"))
        until(lambda: entry() is not None)
        assert entry()["result"] == "under_way"
    until(lambda: entry()["result"] != "under_way")
    assert (entry()["result"], entry()["target"], get(rpc)["version"], answer(rpc)) == ("ok", KEY, "2.0", "2.0")
    assert [type_ for type_, _ in told_since(rpc, before)].count("plugin.upgraded") == 1


def test_no_call_fails_while_versions_are_exchanged(rpc: Rpc, daemon: Daemon, version: Version) -> None:
    sources = [version(f"1.{n}") for n in range(1, 7)]
    with calling(daemon.socket) as fast, calling(daemon.socket, "slow_version", {"s": 0.1}) as slow:
        for source in sources:
            seen = len(fast.answers)
            rpc.call("plugins.upgrade", plugin=KEY, source=source)
            assert len(fast.answers) > seen
    assert fast.failures == slow.failures == []
    assert {*fast.answers} == {f"1.{n}" for n in range(7)}
    assert answer(rpc) == "1.6"
    info = get(rpc)
    assert (info["version"], info["previous_version"], info["status"]) == ("1.6", "1.5", "ready")


def test_the_events_of_an_upgrade_in_order(rpc: Rpc, version: Version) -> None:
    seq, pid = last_seq(rpc), get(rpc)["pid"]
    rpc.call("plugins.upgrade", plugin=KEY, source=version("2.0"))
    told = told_since(rpc, seq)
    ready = {"previous": "ready", "status": "ready"}
    expected = [
        ("plugin.upgraded", {"from": "1.0", "to": "2.0"}),
        ("plugin.status_changed", ready),
        ("plugin.loaded", {"version": "2.0"}),
        ("plugin.enabled", {"version": "2.0"}),
    ]
    assert [event for event in told if not event[0].startswith("plugin.worker_")] == expected
    started, stopped = (
        [data["pid"] for type_, data in told if type_ == name]
        for name in ("plugin.worker_started", "plugin.worker_stopped")
    )
    assert (started, stopped) == ([get(rpc)["pid"]], [pid])


@pytest.mark.parametrize("how", ["overlap", "stop_first"])
def test_a_version_that_does_not_come_up_leaves_the_one_before(
    rpc: Rpc, daemon: Daemon, version: Version, how: str
) -> None:
    before = get(rpc)
    there = stored(daemon.state)
    source = version("2.0", behaviour="exits", upgrade=how)
    seq = last_seq(rpc)
    with calling(daemon.socket) as callers:
        refused = refusal(rpc, "plugins.upgrade", source=source)
    assert refused.name == "UPGRADE_FAILED"
    assert "cannot work here" in str(refused) + str(refused.data)
    after = get(rpc)
    assert (after["version"], after["status"], after["phase"], answer(rpc)) == ("1.0", "ready", "running", "1.0")
    assert stored(daemon.state) == there
    assert "plugin.upgrade_failed" in dict(told_since(rpc, seq))
    if how == "overlap":
        assert callers.failures == []
        assert after["pid"] == before["pid"]


def test_what_asks_for_more_waits_for_approval(rpc: Rpc, daemon: Daemon, version: Version) -> None:
    info = rpc.call("plugins.upgrade", plugin=KEY, source=version("2.0", capabilities=MORE))
    assert (info["status"], info["phase"], info["version"], info["staged_version"]) == (
        "upgrade_pending",
        "stopped",
        "1.0",
        "2.0",
    )
    assert get(rpc)["pending_capabilities"] == ["events.emit"]
    assert refusal(rpc, "plugins.enable").name == "APPROVAL_REQUIRED"
    # A newer one takes its place.
    rpc.call("plugins.upgrade", plugin=KEY, source=version("2.1", capabilities=MORE))
    assert [entry.partition("-")[0] for entry in stored(daemon.state)[KEY]] == ["1.0", "2.1"]
    assert refusal(rpc, "plugins.approve", version="2.0").name == "CONFLICT"
    seq = last_seq(rpc)
    info = rpc.call("plugins.approve", plugin=KEY, version="2.1")
    assert (info["status"], info["version"], answer(rpc)) == ("ready", "2.1", "2.1")
    approvals = {entry["capability"]: entry for entry in get(rpc)["approvals"]}
    assert set(approvals) == set(MORE)
    assert approvals["events.emit"]["approved_at_ms"] > approvals["jobs.schedule"]["approved_at_ms"]
    types = [type_ for type_, _ in told_since(rpc, seq) if not type_.startswith("plugin.worker_")]
    assert types == [
        "plugin.upgrade_approved",
        "plugin.upgraded",
        "plugin.status_changed",
        "plugin.loaded",
        "plugin.enabled",
    ]


def test_rejected(rpc: Rpc, daemon: Daemon, version: Version) -> None:
    there = stored(daemon.state)
    rpc.call("plugins.upgrade", plugin=KEY, source=version("2.0", capabilities=MORE))
    info = rpc.call("plugins.reject", plugin=KEY)
    assert (info["status"], info["version"], info["staged_version"], answer(rpc)) == ("ready", "1.0", None, "1.0")
    assert stored(daemon.state) == there


def test_an_approved_one_that_does_not_come_up(rpc: Rpc, daemon: Daemon, version: Version) -> None:
    there = stored(daemon.state)
    rpc.call("plugins.upgrade", plugin=KEY, source=version("2.0", capabilities=MORE, behaviour="exits"))
    assert refusal(rpc, "plugins.approve").name == "UPGRADE_FAILED"
    info = get(rpc)
    assert (info["status"], info["version"], info["staged_version"], answer(rpc)) == ("ready", "1.0", None, "1.0")
    assert "events.emit" not in [entry["capability"] for entry in info["approvals"]]
    assert stored(daemon.state) == there


def test_back_and_forth(rpc: Rpc, daemon: Daemon, version: Version) -> None:
    for number in ("2.0", "3.0"):
        rpc.call("plugins.upgrade", plugin=KEY, source=version(number))
    with calling(daemon.socket) as callers:
        rpc.call("plugins.rollback", plugin=KEY)
        assert answer(rpc) == "2.0"
        rpc.call("plugins.rollback", plugin=KEY)
        assert answer(rpc) == "1.0"
        rpc.call("plugins.upgrade", plugin=KEY, version="3.0")
    assert callers.failures == []
    assert answer(rpc) == "3.0"
    assert refusal(rpc, "plugins.rollback", version="9.9").name == "NOT_FOUND"


def test_three_versions_are_kept(rpc: Rpc, daemon: Daemon, version: Version) -> None:
    for number in ("2.0", "3.0", "4.0", "5.0"):
        rpc.call("plugins.upgrade", plugin=KEY, source=version(number))
    assert [entry["version"] for entry in rpc.call("plugins.versions", plugin=KEY)] == ["5.0", "4.0", "3.0"]
    assert [entry.partition("-")[0] for entry in stored(daemon.state)[KEY]] == ["3.0", "4.0", "5.0"]


def test_who_gives_up_on_probation_is_rolled_back(rpc: Rpc, version: Version) -> None:
    seq = last_seq(rpc)
    rpc.call("plugins.upgrade", plugin=KEY, source=version("2.0", behaviour="dies_soon"), probation_s=60)
    deadline = time.monotonic() + PATIENCE_S
    while "plugin.rolled_back" not in dict(told_since(rpc, seq)):
        assert time.monotonic() < deadline, get(rpc)["summary"]
        time.sleep(0.02)
    rolled_back = dict(told_since(rpc, seq))["plugin.rolled_back"]
    assert (rolled_back["from"], rolled_back["to"]) == ("2.0", "1.0")
    assert "exit" in rolled_back["reason"]
    rpc.up(KEY)
    assert answer(rpc) == "1.0"


def test_after_a_bad_upgrade_that_shook_hands(rpc: Rpc, version: Version) -> None:
    rpc.call("plugins.upgrade", plugin=KEY, source=version("2.0", behaviour="dies_soon"))
    rpc.call("plugins.wait", plugin=KEY, status="error", timeout_s=20)
    info = rpc.call("plugins.rollback", plugin=KEY)
    assert (info["status"], info["version"], answer(rpc)) == ("ready", "1.0", "1.0")


def test_of_a_disabled_one_only_the_files_are_exchanged(rpc: Rpc, version: Version) -> None:
    rpc.call("plugins.disable", plugin=KEY)
    refused = refusal(rpc, "plugins.upgrade", source=version("1.5", capabilities=MORE))
    assert (refused.name, refused.data["added"]) == ("APPROVAL_REQUIRED", ["events.emit"])
    info = rpc.call("plugins.upgrade", plugin=KEY, source=version("2.0"))
    assert (info["status"], info["version"], info["phase"]) == ("disabled", "2.0", "stopped")
    rpc.call("plugins.enable", plugin=KEY)
    assert answer(rpc) == "2.0"


def test_a_changed_file_is_named_and_not_started(rpc: Rpc, daemon: Daemon) -> None:
    main = Path(get(rpc)["package_dir"]) / "main.py"
    text = main.read_bytes()
    main.chmod(0o600)
    main.write_bytes(text.replace(b"1.0", b"6.6"))
    refused = refusal(rpc, "plugins.restart")
    assert "main.py" in str(refused)
    rpc.call("plugins.wait", plugin=KEY, status="error", timeout_s=20)
    assert "main.py" in get(rpc)["last_error"]
    main.write_bytes(text)
    rpc.call("plugins.enable", plugin=KEY)
    assert answer(rpc) == "1.0"


def test_what_is_there_already(rpc: Rpc, daemon: Daemon, version: Version) -> None:
    there, before = stored(daemon.state), get(rpc)
    source = version("2.0")
    with pytest.raises(Refused, match="ALREADY_EXISTS"):
        rpc.call("plugins.install", source=source)
    with pytest.raises(Refused, match="ALREADY_EXISTS"):
        rpc.call("plugins.upgrade", plugin=KEY, version="1.0")
    other = str(write_version(Path(source).parent / "other", "1.0", key="test.other"))
    with pytest.raises(Refused, match="INVALID_PARAMS"):
        rpc.call("plugins.upgrade", plugin=KEY, source=other)
    assert stored(daemon.state) == there
    assert get(rpc)["pid"] == before["pid"]


def test_reinstalled_it_has_its_state_config_and_jobs_again(rpc: Rpc, version: Version) -> None:
    before = get(rpc)
    run = rpc.call("jobs.run", job=f"{KEY}/tick", wait=True)
    rpc.call("plugins.unload", plugin=KEY)
    rpc.load(Path(version("2.0")))
    after = get(rpc)
    assert (after["id"], after["version"]) == (before["id"], "2.0")
    assert run["id"] in [entry["id"] for entry in rpc.call("jobs.runs", job=f"{KEY}/tick")]
    rpc.call("plugins.unload", plugin=KEY)
    rpc.call("plugins.unload", plugin=KEY, remove_data=True)
    assert refusal(rpc, "plugins.get").name == "NOT_FOUND"
