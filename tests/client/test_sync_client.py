"""Client against a fake daemon: answers, errors, time limits, lost connections, threads, event streams."""

from __future__ import annotations

import grp
import pwd
import socket
import threading
import time
from pathlib import Path

import pytest

from client import Client
from client.cursor import REMOVED
from client.errors import (
    ConnectionLost,
    DaemonNotRunning,
    DeadlineExceeded,
    InvalidParams,
    InvalidTransition,
    NotFound,
    PermissionDenied,
    RemoteProtocolError,
    Unavailable,
    cannot_connect,
)
from client.sync_stream import BACK, LOST
from supervisor.core.errors import CLASSES
from tests.client.fake_daemon import HANG_UP, NEVER, FakeDaemon, Turns
from tests.client.samples import line, plugin


def test_typed_methods_answer_and_hello_is_said_first(daemon: FakeDaemon) -> None:
    with Client(daemon.path, name="me") as client:
        assert client.plugins.list()[0]["key"] == "acme.weather"
        assert client.jobs.run("acme.weather/refresh", wait=True)["state"] == "succeeded"
        assert client.call("plugins.call", plugin="a", method="m", params={"x": 1}) == {"result": {"sky": "clear"}}
        assert client.hello()["role"] == "admin"
    assert [method for method, _ in daemon.requests] == ["rpc.hello", "plugins.list", "jobs.run", "plugins.call"]
    assert daemon.asked("rpc.hello")[0]["client"] == "me"
    assert daemon.connections == 1


@pytest.mark.parametrize("code", CLASSES)
def test_errors_by_class_with_their_details(daemon: FakeDaemon, code: str) -> None:
    error = CLASSES[code]("no", a=1)
    daemon.answers["plugins.get"] = error
    with Client(daemon.path) as client:
        with pytest.raises(CLASSES[code]) as caught:
            client.plugins.get("acme.weather")
        assert type(caught.value) is CLASSES[code]
        assert (caught.value.message, caught.value.details, caught.value.data) == ("no", {"a": 1}, {"a": 1})
        assert client.daemon.ping()["pong"]
    assert daemon.connections == 1


def test_what_answers_at_once_is_limited_and_the_daemon_is_told(daemon: FakeDaemon) -> None:
    daemon.answers["plugins.list"] = Turns([NEVER, [plugin()]])
    with Client(daemon.path, timeout_s=0.1) as client:
        with pytest.raises(DeadlineExceeded) as caught:
            client.plugins.list()
        assert caught.value.details == {"method": "plugins.list"}
        assert client.plugins.list() == [plugin()]  # over a new connection
    assert daemon.connections == 2
    assert dict(daemon.requests)["plugins.list"]["$deadline_ms"] == 100


def test_what_takes_long_is_not_limited_unless_asked(daemon: FakeDaemon) -> None:
    release = threading.Event()

    def slow(_: dict[str, object]) -> dict[str, object]:
        assert release.wait(5)
        return plugin()

    daemon.answers["plugins.load"] = Turns([slow, NEVER])
    with Client(daemon.path, timeout_s=0.05) as client:
        client.daemon.ping()
        threading.Timer(0.2, release.set).start()
        assert client.plugins.load("a")["key"] == "acme.weather"
        with pytest.raises(DeadlineExceeded):
            client.within(0.1).plugins.load("a")
    assert [p for m, p in daemon.requests if m == "plugins.load"] == [
        {"plugin": "a"},
        {"plugin": "a", "$deadline_ms": 100},
    ]


def test_a_change_is_never_repeated(daemon: FakeDaemon) -> None:
    daemon.answers["plugins.load"] = Turns([HANG_UP, plugin()])
    with Client(daemon.path) as client:
        with pytest.raises(ConnectionLost, match="unknown"):
            client.plugins.load("acme.weather")
        assert len(daemon.asked("plugins.load")) == 1
        assert client.plugins.load("acme.weather") == plugin()


def test_a_change_goes_over_a_new_connection_when_the_daemon_had_restarted(daemon: FakeDaemon) -> None:
    with Client(daemon.path) as client:
        client.daemon.ping()
        daemon.stop()
        daemon.start()
        assert client.plugins.load("acme.weather") == plugin()
    assert len(daemon.asked("plugins.load")) == 1


def test_a_stopped_daemon_is_said_to_be_so(daemon: FakeDaemon) -> None:
    with Client(daemon.path, reconnect_s=0.05) as client:
        client.daemon.ping()
        daemon.stop()
        with pytest.raises(DaemonNotRunning, match="systemctl start plugind") as caught:
            client.daemon.ping()
        assert caught.value.details == {"socket": daemon.path}


def test_cannot_connect(tmp_path: Path) -> None:
    path = str(tmp_path / "none.sock")
    with pytest.raises(DaemonNotRunning, match=path):
        Client(path).daemon.ping()
    with pytest.raises(Unavailable, match="too long"):
        Client("/tmp/" + "x" * 200).daemon.ping()


def test_who_may_connect_is_said_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "there.sock"
    path.touch(0o600)
    refused = cannot_connect(PermissionError(13, "no"), str(path))
    assert isinstance(refused, PermissionDenied)
    assert refused.details == {"socket": str(path)}
    me, mine = pwd.getpwuid(path.stat().st_uid).pw_name, grp.getgrgid(path.stat().st_gid).gr_name
    assert f"only {'root' if me == 'root' else f'root and {me}'} may; try again as one of them" in refused.message
    path.chmod(0o660)
    refused = cannot_connect(PermissionError(13, "no"), str(path))
    assert f"members of the group {mine} may; become one with `usermod -aG {mine} YOU`" in refused.message
    hidden = cannot_connect(PermissionError(13, "no"), str(tmp_path / "none.sock"))
    assert "only root and the user that plugind runs as may" in hidden.message


def test_the_socket_comes_from_the_argument_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUGIND_SOCKET", "/from/env")
    assert Client().path == "/from/env"
    assert Client("/given").path == "/given"


def test_what_is_no_protocol_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "odd.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                peer.recv(100)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(RemoteProtocolError):
            Client(path).daemon.ping()
        thread.join(5)


def test_a_full_accept_queue_is_waited_for_and_limited(tmp_path: Path) -> None:
    path = str(tmp_path / "full.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(path)
            with pytest.raises(DeadlineExceeded):
                Client(path, timeout_s=0.1).daemon.ping()


def test_a_value_that_cannot_be_sent_leaves_the_client_usable(daemon: FakeDaemon) -> None:
    with Client(daemon.path) as client:
        with pytest.raises(Exception, match="cannot be sent"):
            client.plugins.call("a", "m", {"x": object()})
        with pytest.raises(InvalidParams, match="did you mean 'plugin'"):
            client.call("plugins.get", plugn="a")
        assert client.daemon.ping()["pong"]


def test_wait_for_goes_on_over_a_restart(daemon: FakeDaemon) -> None:
    daemon.answers["plugins.wait"] = Turns([HANG_UP, HANG_UP, plugin()])
    with Client(daemon.path) as client:
        assert client.wait_for("acme.weather", timeout_s=5) == plugin()
    assert [p["phase"] for p in daemon.asked("plugins.wait")] == ["running"] * 3
    daemon.answers["plugins.wait"] = NotFound("no plugin")
    with Client(daemon.path) as client, pytest.raises(NotFound):
        client.wait_for("nobody")
    daemon.stop()
    with pytest.raises(DaemonNotRunning):
        Client(daemon.path).wait_for("acme.weather", timeout_s=0.15)


def test_a_stream_gets_old_and_new_events(daemon: FakeDaemon) -> None:
    daemon.emit("plugin.enabled")
    daemon.emit("job.run_started")
    with Client(daemon.path).events(after=0, types=["plugin.*"]) as stream:
        daemon.emit("plugin.disabled", reason="r")
        assert [next(stream)["seq"] for _ in range(2)] == [1, 3]
        assert stream.last_seq == 3
        with pytest.raises(DeadlineExceeded):
            stream.receive(timeout_s=0.05)
        daemon.emit("plugin.enabled")
        assert next(stream)["seq"] == 4


def test_a_stream_resumes_without_gap_or_double(daemon: FakeDaemon) -> None:
    seen = []
    daemon.emit()
    with Client(daemon.path).events(reconnect_for_s=3) as stream:
        daemon.drop_connections()  # before the first event: what is new must still be found
        daemon.emit()
        for i in range(6):
            daemon.emit()
            seen.append(next(stream)["seq"])
            if i % 2:
                daemon.drop_connections()
            if i == 2:
                daemon.stop()
                daemon.emit()
                daemon.start()
        while len(seen) < 8:
            seen.append(stream.receive(timeout_s=5)["seq"])
    assert seen == [2, 3, 4, 5, 6, 7, 8, 9]


def test_a_stream_that_overflowed_goes_on(daemon: FakeDaemon) -> None:
    with Client(daemon.path).events() as stream:
        daemon.emit()
        assert next(stream)["seq"] == 1
        daemon.end_subscriptions("overflow")
        daemon.emit()
        assert stream.receive(timeout_s=5)["seq"] == 2
    assert [p["after_seq"] for p in daemon.asked("events.subscribe")] == [None, 1]


def test_a_stream_allows_more_than_its_first_credit(daemon: FakeDaemon) -> None:
    with Client(daemon.path).events() as stream:
        for _ in range(700):
            daemon.emit()
        assert [stream.receive(timeout_s=5)["seq"] for _ in range(700)] == list(range(1, 701))
    assert daemon.asked("events.credit")
    assert daemon.connections == 1


def test_a_stream_gives_up_after_the_time_it_was_given(daemon: FakeDaemon) -> None:
    with Client(daemon.path).events(reconnect_for_s=0.1) as stream:
        daemon.stop()
        start = time.monotonic()
        with pytest.raises(Unavailable):
            next(stream)
        assert time.monotonic() - start < 5


def test_a_log_resumes_without_gap_or_double(daemon: FakeDaemon) -> None:
    notices: list[str] = []
    daemon.write_log(*(line(f"{n}", time_ms=n) for n in range(10)))
    seen = []
    with Client(daemon.path).logs("acme.weather", 2, reconnect_for_s=5, on_notice=notices.append) as stream:
        daemon.drop_connections()  # before the first line was handed out
        for n in range(10, 16):
            daemon.write_log(line(f"{n}"))
            seen.append(next(stream)["message"])
            if n % 2:
                daemon.drop_connections()
        daemon.stop()
        daemon.write_log(*(line(f"{n}") for n in range(16, 700)))
        daemon.start()
        while len(seen) < 692:
            seen.append(stream.receive(timeout_s=5)["message"])
    assert seen == [str(n) for n in range(8, 700)]
    assert set(notices) == {LOST, BACK}
    assert daemon.asked("logs.credit")
    asked = daemon.asked("logs.follow")
    assert (asked[0]["tail"], asked[0]["since_ms"]) == (2, None)
    assert all("tail" not in again and again["after"] for again in asked[1:])


def test_a_log_says_where_lines_are_missing_and_why_it_ended(daemon: FakeDaemon) -> None:
    said: list[str] = []
    daemon.write_log(line("a"), line("b"), line("c"))
    daemon.forget_log(1)
    follow = Client(daemon.path).logs("acme.weather", reconnect_for_s=5, on_notice=said.append)
    daemon.answers["logs.follow"] = Turns([{"subscription": 8, "place": "0"}])
    with follow as stream:
        del daemon.answers["logs.follow"]
        daemon.drop_connections()
        said += [next(stream)["message"], next(stream)["message"]]
        daemon.end_subscriptions("removed")
        with pytest.raises(StopIteration):
            next(stream)
    gap = "100 bytes of lines are missing here: they were rotated away before they could be sent"
    assert said == [LOST, BACK, gap, "b", "c", REMOVED]


def test_closing_a_stream_from_another_thread_ends_its_iteration(daemon: FakeDaemon) -> None:
    with Client(daemon.path).events() as stream:
        threading.Timer(0.1, stream.close).start()
        assert list(stream) == []


def test_a_refused_subscription_is_raised_at_once(daemon: FakeDaemon) -> None:
    daemon.answers["events.subscribe"] = InvalidTransition("no")
    with pytest.raises(InvalidTransition), Client(daemon.path).events():
        pytest.fail("must not come here")
    with pytest.raises(DaemonNotRunning), Client("/nonexistent/x").events():
        pytest.fail("must not come here")
