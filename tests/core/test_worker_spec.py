"""[worker]: what is read, what does not fit together, and that all of it is stored and read back."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.core.manifest import (
    Checks,
    InvalidManifest,
    Manifest,
    parse_manifest,
)
from supervisor.core.stored_manifest import manifest_to_table, parse_stored_manifest
from supervisor.core.worker_spec import (
    READY_KINDS,
    RESTART_POLICIES,
    STOP_SIGNALS,
    HealthPolicy,
    Limits,
    ReadyProbe,
    RestartPolicy,
    WorkerSpec,
    tcp_address,
)

HEAD = {
    "key": "acme.any",
    "version": "1",
    "api_version": 1,
    "display_name": "Any",
    "description": "Any program at all",
    "author": "Acme",
    "categories": ["connector"],
}
CHECKS = Checks(
    version=lambda _: None,
    supervisor_version=lambda _: None,
    schema=lambda _: (),
    schedule=lambda _job, _key: None,
    command=lambda words: {i: "is not in the package" for i, word in enumerate(words) if word == "absent.py"},
)
PLAIN = 'command = ["redis-server"]\ntransport = "none"\n'


def parse(worker: str) -> Manifest:
    """The manifest with this [worker], in TOML without the table's head."""
    return parse_manifest({"plugin": HEAD, "worker": tomllib.loads(worker)}, CHECKS)


def problems(worker: str) -> list[tuple[str, str, str | None]]:
    with pytest.raises(InvalidManifest) as caught:
        parse(worker)
    return [
        (found.path, found.message + (f"; {found.hint}" if found.hint else ""), found.value)
        for found in caught.value.problems
    ]


def test_what_is_left_out() -> None:
    assert parse('command = ["x"]').worker == WorkerSpec(command=("x",))
    assert parse(PLAIN).worker == WorkerSpec(command=("redis-server",), transport="none")


def test_everything_at_once() -> None:
    text = """
    command = ["redis-server", "redis.conf"]
    transport = "none"
    start_timeout_s = 30
    stop_timeout_s = 20
    stop_signal = "SIGINT"
    stop_command = ["redis-cli", "shutdown"]
    success_exit_codes = [0, 3]
    ready = { tcp = "127.0.0.1:6379", interval_s = 0.5 }
    restart = { policy = "on_failure" }
    """
    assert parse(text).worker == WorkerSpec(
        command=("redis-server", "redis.conf"),
        transport="none",
        start_timeout_s=30,
        stop_timeout_s=20,
        stop_signal="SIGINT",
        stop_command=("redis-cli", "shutdown"),
        success_exit_codes=(0, 3),
        ready=ReadyProbe(tcp="127.0.0.1:6379", interval_s=0.5),
        restart=RestartPolicy(policy="on_failure"),
    )


@pytest.mark.parametrize(
    ("table", "probe"),
    [
        ("tcp = 6379", ReadyProbe(tcp="6379")),
        ('tcp = "6379"', ReadyProbe(tcp="6379")),
        ('unix = "run/x.sock"', ReadyProbe(unix="run/x.sock")),
        ('command = ["redis-cli", "ping", "ping"]', ReadyProbe(command=("redis-cli", "ping", "ping"))),
        ('line = "Ready to accept"', ReadyProbe(line="Ready to accept")),
        ("notify = true", ReadyProbe(notify=True)),
        ('notify = false\nunix = "s"', ReadyProbe(unix="s")),
    ],
)
def test_each_kind_of_probe(table: str, probe: ReadyProbe) -> None:
    assert parse(f"{PLAIN}[ready]\n{table}").worker.ready == probe


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("6379", ("127.0.0.1", 6379)),
        ("1", ("127.0.0.1", 1)),
        ("127.0.0.1:65535", ("127.0.0.1", 65535)),
        ("localhost:80", ("localhost", 80)),
        ("db-1.example.com.:5432", ("db-1.example.com.", 5432)),
        ("[::1]:80", ("::1", 80)),
        ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert tcp_address(text) == address


BAD_ADDRESSES = [
    ("", "must be a port or host:port"),
    ("localhost", "must be a port or host:port"),
    ("localhost:", "must be a port or host:port"),
    (":80", "must be a port or host:port"),
    ("::1", "must be a port or host:port, an IPv6 address in brackets"),
    ("::1:80", "an IPv6 address in brackets"),
    ("[::1]", "must be a port or host:port"),
    ("tcp://localhost:80", "must be a port or host:port"),
    ("localhost:http", "must be a port or host:port"),
    ("\u0661", "must be a port or host:port"),
    ("80\n", "must be a port or host:port"),
    ("0", "must have a port from 1 to 65535"),
    ("h:65536", "must have a port from 1 to 65535"),
    ("[::g]:80", "::g"),
    ("[localhost]:80", "localhost"),
    ("a b:80", "has no valid host name: 'a b'"),
    ("a..b:80", "has no valid host name"),
    (f"{'x' * 64}:80", "has no valid host name"),
    (".".join(["x" * 60] * 5) + ":80", "has no valid host name"),
    ("bücher:80", "has no valid host name"),
]


@pytest.mark.parametrize(("text", "why"), BAD_ADDRESSES)
def test_no_addresses(text: str, why: str) -> None:
    with pytest.raises(ValueError) as caught:
        tcp_address(text)
    assert why in str(caught.value)
    [(path, message, value)] = problems(f"{PLAIN}[ready]\ntcp = {json.dumps(text)}")
    assert (path, message) == ("worker.ready.tcp", str(caught.value))
    assert value is not None


ONE_OF = "needs exactly one of tcp, unix, command, line, notify; given: "
BAD = [
    ("ready = {}", "worker.ready", ONE_OF + "none", None),
    ("ready = {interval_s = 1}", "worker.ready", ONE_OF + "none", None),
    ("ready = {notify = false, command = []}", "worker.ready", ONE_OF + "none", None),
    ('ready = {tcp = 1, line = "x"}', "worker.ready", ONE_OF + "tcp, line", None),
    ('ready = "notify"', "worker.ready", "must be a table", "'notify'"),
    ("ready = {tpc = 1, notify = true}", "worker.ready.tpc", "unknown key; did you mean 'tcp'?", None),
    ("ready = {tcp = true}", "worker.ready.tcp", "must be a port or a string host:port", "true"),
    ("ready = {tcp = 1.5}", "worker.ready.tcp", "must be a port or a string host:port", "1.5"),
    ("ready = {tcp = 0}", "worker.ready.tcp", "must have a port from 1 to 65535", "0"),
    ("ready = {tcp = -1}", "worker.ready.tcp", "must be a port or host:port", "-1"),
    ('ready = {unix = ""}', "worker.ready.unix", "must be a string of 1 to 4095 characters", "''"),
    ('ready = {unix = "a\\u0000b"}', "worker.ready.unix", "must be a path without NUL", "'a\\x00b'"),
    ('ready = {command = "true"}', "worker.ready.command", "must be a list of strings", "'true'"),
    ('ready = {command = ["a", 1]}', "worker.ready.command[1]", "must be a string of 1 to 4096", "1"),
    ('ready = {line = "a\\nb"}', "worker.ready.line", "must be part of one line", "'a\\nb'"),
    ('ready = {notify = "yes"}', "worker.ready.notify", "must be true or false", "'yes'"),
    ("ready = {tcp = 1, interval_s = 0}", "worker.ready.interval_s", "must be a number from 0.01 to 60", "0"),
    ("ready = {tcp = 1, interval_s = 20}", "worker.ready.interval_s", "must not be above start_timeout_s (15)", None),
    ("ready = {tcp = 1}\nstart_grace_s = 5", "worker.start_grace_s", "has no effect beside ready", None),
    ('ready = {command = ["python", "absent.py"]}', "worker.ready.command[1]", "is not in the package", "'absent.py'"),
    ('stop_command = ["python", "absent.py"]', "worker.stop_command[1]", "is not in the package", "'absent.py'"),
    ('stop_command = "kill"', "worker.stop_command", "must be a list of strings", "'kill'"),
    ('stop_command = [""]', "worker.stop_command[0]", "must be a string of 1 to 4096", "''"),
    ('stop_signal = "TERM"', "worker.stop_signal", "must be 'SIGTERM' or 'SIGINT'", "'TERM'"),
    ('stop_signal = "SIGKILL"', "worker.stop_signal", "must be 'SIGTERM' or", "'SIGKILL'"),
    ("success_exit_codes = 3", "worker.success_exit_codes", "must be a list of whole numbers from 0 to 255", "3"),
    ("success_exit_codes = [256]", "worker.success_exit_codes", "must be a list of whole numbers", "[256]"),
    ("success_exit_codes = [true]", "worker.success_exit_codes", "must be a list of whole numbers", "[True]"),
    ('restart = {policy = "sometimes"}', "worker.restart.policy", "must be 'always' or 'on_failure'", "'sometimes'"),
]


@pytest.mark.parametrize(("text", "where", "why", "value"), BAD)
def test_a_bad_one_is_one_problem(text: str, where: str, why: str, value: str | None) -> None:
    [(path, message, found)] = problems(PLAIN + text)
    assert (path, found) == (where, value)
    assert why in message


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("ready = {notify = true}", "worker.ready"),
        ('stop_command = ["x"]', "worker.stop_command"),
        ("success_exit_codes = [0, 1]", "worker.success_exit_codes"),
        ('restart = {policy = "never"}', "worker.restart.policy"),
    ],
)
def test_what_is_for_workers_without_rpc(text: str, where: str) -> None:
    [(path, message, _)] = problems('command = ["x"]\n' + text)
    assert (path, message) == (where, 'is for workers without RPC; set worker.transport = "none", or take it out')


def test_all_at_once() -> None:
    found = problems(
        'command = ["x"]\nready = {tcp = "x", interval_s = 0}\nstop_command = ["absent.py"]\nstop_signal = 9'
    )
    assert [path for path, *_ in found] == [
        "worker.stop_signal",
        "worker.ready.tcp",
        "worker.ready.interval_s",
        "worker.ready",
        "worker.stop_command",
        "worker.stop_command[0]",
    ]


def test_every_command_is_listed() -> None:
    spec = WorkerSpec(command=("a",), stop_command=("b",), ready=ReadyProbe(command=("c",)))
    assert spec.commands() == [("command", ("a",)), ("ready.command", ("c",)), ("stop_command", ("b",))]
    assert WorkerSpec(command=("a",)).commands() == [("command", ("a",)), ("ready.command", ()), ("stop_command", ())]


# Stored and read back.

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), min_size=1, max_size=20)
WORDS = st.lists(TEXT, min_size=1, max_size=4).map(tuple)


def seconds(least: float, most: float) -> st.SearchStrategy[float]:
    return st.floats(least, most)


PROBES = st.builds(
    lambda kind, interval_s: ReadyProbe(**kind, interval_s=interval_s),
    st.one_of(
        st.integers(1, 65535).map(lambda port: {"tcp": str(port)}),
        st.integers(1, 65535).map(lambda port: {"tcp": f"[::1]:{port}"}),
        st.builds(lambda path: {"unix": path}, TEXT),
        st.builds(lambda words: {"command": words}, WORDS),
        st.builds(lambda line: {"line": line}, TEXT),
        st.just({"notify": True}),
    ),
    seconds(0.01, 10),
)
RESTARTS = st.builds(
    RestartPolicy,
    policy=st.sampled_from(RESTART_POLICIES),
    backoff_s=seconds(0.01, 300),
    max_backoff_s=seconds(300, 86_400),
    max_restarts=st.integers(0, 1000),
    stable_after_s=seconds(0.1, 86_400),
)
COMMON = {
    "command": WORDS,
    "start_timeout_s": seconds(10, 3600),
    "stop_timeout_s": seconds(0, 3600),
    "stop_signal": st.sampled_from(STOP_SIGNALS),
    "upgrade": st.sampled_from(["overlap", "stop_first"]),
    "env": st.dictionaries(st.sampled_from(["A", "B_1", "_C"]), TEXT),
    "health": st.builds(HealthPolicy, interval_s=seconds(0.1, 3600), failures=st.integers(1, 1000)),
    "limits": st.builds(Limits, memory_mb=st.none() | st.integers(1, 1000), nofile=st.none() | st.integers(16, 1000)),
}
CODES = st.lists(st.integers(0, 255), max_size=4).map(tuple)
PLAIN_PARTS = {"transport": st.just("none"), "stop_command": st.just(()) | WORDS, "success_exit_codes": CODES}
SPECS = st.one_of(
    st.builds(WorkerSpec, **COMMON, start_grace_s=seconds(0, 3600)),
    st.builds(WorkerSpec, **COMMON, **PLAIN_PARTS, restart=RESTARTS, start_grace_s=seconds(0, 3600)),
    st.builds(WorkerSpec, **COMMON, **PLAIN_PARTS, restart=RESTARTS, ready=PROBES),
)


def manifest_with(worker: WorkerSpec) -> Manifest:
    table = {"plugin": HEAD, "worker": {"command": ["x"]}}
    return Manifest(**{**{f: getattr(parse_stored_manifest(table), f) for f in Manifest.__slots__}, "worker": worker})


@settings(max_examples=300, deadline=None)
@given(SPECS)
def test_every_combination_is_stored_and_read_back(worker: WorkerSpec) -> None:
    manifest = manifest_with(worker)
    stored = json.loads(json.dumps(manifest_to_table(manifest)))
    assert parse_stored_manifest(stored) == manifest


NEW_FIELDS = ("stop_signal", "stop_command", "success_exit_codes", "ready")


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["rpc", "none"]), seconds(0, 3600), seconds(0.1, 3600))
def test_what_was_stored_before_there_were_probes(transport: str, grace_s: float, timeout_s: float) -> None:
    """Also what today's rules for probes would not like beside one."""
    worker = WorkerSpec(command=("x",), transport=transport, start_grace_s=grace_s, start_timeout_s=timeout_s)
    table = json.loads(json.dumps(manifest_to_table(manifest_with(worker))))
    for name in NEW_FIELDS:
        table["worker"].pop(name, None)
    del table["worker"]["restart"]["policy"]
    assert parse_stored_manifest(table).worker == worker


def test_the_stored_form_names_every_field() -> None:
    """So that a changed default does not change what is installed."""
    worker = manifest_to_table(manifest_with(WorkerSpec(command=("x",), ready=ReadyProbe(notify=True))))["worker"]
    assert set(worker) == set(asdict(WorkerSpec(command=("x",))))
    assert set(READY_KINDS) - set(worker["ready"]) == {"tcp", "unix", "line"}  # None is not stored
