"""Threads share a blocking client: a connection each, eight at most, and none is held up by another's long call."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from client import Client, pool
from client.errors import ConnectionLost, DeadlineExceeded
from client.pool import MOST
from tests.client.either import eventually
from tests.client.fake_daemon import NEVER, FakeDaemon
from tests.client.samples import plugin


def in_threads(count: int, work: Callable[[int], object]) -> list[threading.Thread]:
    threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    return threads


def join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def load_in_vain(client: Client, ended: list[int]) -> Callable[[int], None]:
    def load(number: int) -> None:
        with pytest.raises(ConnectionLost):
            client.plugins.load("a")
        ended.append(number)

    return load


def test_a_long_call_of_one_thread_holds_up_no_other(daemon: FakeDaemon) -> None:
    daemon.answers["plugins.load"] = NEVER
    ended: list[int] = []
    with Client(daemon.path) as client:
        waiting = in_threads(1, load_in_vain(client, ended))
        daemon.wait_asked("plugins.load")
        assert [client.within(5).daemon.ping()["pong"] for _ in range(3)] == [True] * 3
        assert daemon.connections == 2
        daemon.drop_connections()
        join(waiting)
    assert ended == [0]


def test_calls_one_after_the_other_use_one_connection(daemon: FakeDaemon) -> None:
    with Client(daemon.path) as client:
        for _ in range(5):
            join(in_threads(1, lambda _: client.daemon.ping()))
            client.within(5).daemon.ping()
            client.once().plugins.load("a")
        client.close()
        client.daemon.ping()
    assert daemon.connections == 2


def test_many_threads_get_their_own_answers(daemon: FakeDaemon) -> None:
    daemon.answers["plugins.get"] = lambda params: {"key": params["plugin"]}
    right: list[int] = []
    with Client(daemon.path) as client:

        def work(number: int) -> None:
            names = [f"{number}-{i}" for i in range(20)]
            right.append(sum(client.plugins.get(name)["key"] == name for name in names))

        join(in_threads(2 * MOST, work))
        assert right == [20] * 2 * MOST
        assert 1 <= daemon.connections <= MOST


def test_who_finds_all_in_use_waits_his_turn_and_no_longer_than_he_may(daemon: FakeDaemon) -> None:
    daemon.answers["plugins.load"] = NEVER
    ended: list[int] = []
    pinged: list[int] = []
    with Client(daemon.path) as client:
        holding = in_threads(MOST, load_in_vain(client, ended))
        daemon.wait_asked("plugins.load", MOST)
        with pytest.raises(DeadlineExceeded, match="all 8 connections of this client were in use") as caught:
            client.within(0.05).daemon.ping()
        assert caught.value.data == {"method": "daemon.ping"}

        def ping(number: int) -> None:
            client.daemon.ping()
            pinged.append(number)

        late = in_threads(1, ping)
        assert daemon.connections == MOST
        daemon.drop_connections()
        join([*holding, *late])
    assert (sorted(ended), pinged) == (list(range(MOST)), [0])


def test_a_call_that_fails_gives_its_place_back(daemon: FakeDaemon) -> None:
    daemon.answers["plugins.load"] = NEVER
    with Client(daemon.path) as client:
        for _ in range(2 * MOST):
            with pytest.raises(DeadlineExceeded):
                client.within(0.005).plugins.load("a")
        daemon.answers["plugins.load"] = plugin()
        assert client.within(5).plugins.load("a") == plugin()
        daemon.stop()
        for _ in range(2 * MOST):
            with pytest.raises(Exception, match="not running"):
                client.plugins.load("a")
        daemon.start()
        assert client.within(5).plugins.load("a") == plugin()


def test_close_waits_for_nobody_and_what_is_in_use_is_closed_after_it(daemon: FakeDaemon) -> None:
    begun, release = threading.Event(), threading.Event()

    def slow(_: object) -> object:
        begun.set()
        assert release.wait(5)
        return plugin()

    daemon.answers["plugins.load"] = slow
    client = Client(daemon.path)
    loaded: list[object] = []
    loading = in_threads(1, lambda _: loaded.append(client.plugins.load("a")))
    assert begun.wait(5)
    client.close()
    release.set()
    join(loading)
    assert loaded == [plugin()]
    eventually(lambda: daemon.connected == 0)


def interrupted_at(opcode: int, work: Callable[[], object]) -> bool:
    """Ctrl-C at this one of the opcodes in pool.py that `work` carries out; False: there are not so many."""
    left, before = opcode, sys.gettrace()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename != pool.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # one that nobody holds closes by itself
def test_ctrl_c_at_any_place_leaves_no_connection_in_use(daemon: FakeDaemon) -> None:
    opcode = 1
    with Client(daemon.path) as client:
        while interrupted_at(opcode, client.daemon.ping):
            assert client._pool.in_use() == 0
            opcode += 1
        assert opcode > 200
        assert client.within(5).daemon.ping()["pong"]
    eventually(lambda: daemon.connected == 0)


def test_who_waits_takes_the_place_of_a_call_that_was_interrupted(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where that one came to tell nobody."""
    monkeypatch.setattr(pool, "_LOOK_AGAIN_S", 0.01)
    home = pool.Home()
    held = [pool.Place() for _ in range(MOST)]
    home._line.extend(map(pool.ref, held))
    with pytest.raises(DeadlineExceeded), home.place("daemon.ping", 0.0):
        pytest.fail("must not come here")
    threading.Timer(0.05, held.clear).start()
    with home.place("daemon.ping", None):
        assert len(home.in_line()) == 1


FORK = """
import json, os, sys
from client import Client, LocalProtocolError
client = Client(sys.argv[1], timeout_s=5)
client.daemon.ping()
with client.events() as stream:
    pid = os.fork()
    ask = client.daemon.ping if pid else client.daemon.info
    said = [ask()["said"] for _ in range(20)]
    if pid == 0:
        try:
            stream.receive(5)
        except LocalProtocolError as error:
            said.append(error.message)
        stream.close()
        client.close()
        print(json.dumps(said), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
    client.plugins.load("a")
    said.append(stream.receive(5)["seq"])
print(json.dumps([*said, pid and os.getpid()]))
"""


def test_after_a_fork_each_process_gets_its_own_answers(daemon: FakeDaemon) -> None:
    daemon.answers["daemon.ping"] = {"said": "ping"}
    daemon.answers["daemon.info"] = {"said": "info"}
    daemon.emit()
    with subprocess.Popen([sys.executable, "-c", FORK, daemon.path], stdout=subprocess.PIPE, text=True) as process:
        daemon.wait_asked("plugins.load")
        daemon.emit()
        out, _ = process.communicate(timeout=20)
    child, parent = (json.loads(line) for line in out.splitlines())
    assert child[:-1] == ["info"] * 20
    assert f"belongs to process {parent[-1]}" in child[-1]
    assert parent[:-1] == ["ping"] * 20 + [2]
    assert daemon.connections == 3


def test_a_value_that_cannot_be_sent_costs_no_connection(daemon: FakeDaemon) -> None:
    with Client(daemon.path) as client:
        client.daemon.ping()
        with pytest.raises(Exception, match="cannot be sent"):
            client.plugins.call("a", "m", {"x": object()})
        assert client.daemon.ping()["pong"]
    assert daemon.connections == 1
