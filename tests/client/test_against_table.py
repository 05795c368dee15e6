"""Both clients offer exactly the methods of the socket, with the same params and defaults."""

from __future__ import annotations

import dataclasses
import inspect
import tomllib
from pathlib import Path
from typing import Any

import pytest

from client import async_nouns, async_plugins, async_records, protocol, sync_nouns, sync_plugins, sync_records
from client.async_client import AsyncClient
from client.cli.main import FIRST_WORDS, NOUNS, SHORT, _verbs
from client.sync_client import Client
from client.version import VERSION
from supervisor.control.detached import REQUEST_ID_KEY
from supervisor.wire import control
from supervisor.wire.control import PROGRESS_KEY, PROGRESS_NOTIFICATION, REQUESTS
from supervisor.wire.message import DEADLINE_KEY
from supervisor.wire.peer import CANCEL

WRAPPED = {
    *("events.subscribe", "events.unsubscribe", "events.credit"),
    *("logs.follow", "logs.unfollow", "logs.credit"),
}
METHODS = {name: request for name, request in REQUESTS.items() if not name.startswith("rpc.") and name not in WRAPPED}
MODULES = {
    "": (sync_nouns, sync_plugins, sync_records),
    "Async": (async_nouns, async_plugins, async_records),
}
NOUN_NAMES = ("Daemon", "Plugins", "Jobs", "Events", "Audit", "Logs")
STREAMS = {"events": control.EventsSubscribe, "logs": control.LogsFollow}
"""Nouns that can be called, and what that asks for."""


def class_of(prefix: str, noun: str) -> Any:
    (found,) = {vars(module)[prefix + noun] for module in MODULES[prefix] if prefix + noun in vars(module)}
    return found


def offered(prefix: str) -> dict[str, Any]:
    found = {}
    for noun in NOUN_NAMES:
        for verb, function in vars(class_of(prefix, noun)).items():
            if not verb.startswith("_"):
                found[f"{noun.lower()}.{verb}"] = function
    return found


def declared(request: Any) -> list[tuple[str, Any]]:
    params = []
    for f in dataclasses.fields(request):
        if f.default_factory is not dataclasses.MISSING:
            assert f.default_factory() == []
            params.append((f.name, ()))
        else:
            params.append((f.name, inspect.Parameter.empty if f.default is dataclasses.MISSING else f.default))
    return params


@pytest.mark.parametrize("prefix", ["", "Async"])
def test_the_clients_offer_exactly_the_methods_of_the_table(prefix: str) -> None:
    assert offered(prefix).keys() == METHODS.keys()


@pytest.mark.parametrize("prefix", ["", "Async"])
@pytest.mark.parametrize("method", METHODS)
def test_params_and_defaults_are_those_of_the_table(prefix: str, method: str) -> None:
    function = offered(prefix)[method]
    params = [(p.name, p.default) for p in inspect.signature(function).parameters.values()][1:]
    heard = [("on_progress", None)] if METHODS[method].OPERATION else []
    assert params == declared(METHODS[method]) + heard
    assert inspect.iscoroutinefunction(function) == (prefix == "Async")


@pytest.mark.parametrize("prefix", ["", "Async"])
@pytest.mark.parametrize("method", METHODS)
async def test_each_sends_its_params_under_their_names(prefix: str, method: str) -> None:
    sent: list[tuple[str, dict[str, Any]]] = []
    heard: list[Any] = []

    def caller(name: str, params: dict[str, Any], on_progress: Any = None) -> Any:
        sent.append((name, params))
        heard.append(on_progress)
        return _answer() if prefix else "answer"

    async def _answer() -> str:
        return "answer"

    noun, verb = method.split(".")
    made = class_of(prefix, noun.title())(caller, *[None] * (noun in STREAMS))
    values: dict[str, Any] = {
        name: {name: 1} if name == "config" else [name] if default == () or name == "capabilities" else name
        for name, default in declared(METHODS[method])
    }
    extra = {"on_progress": print} if METHODS[method].OPERATION else {}
    result = getattr(made, verb)(**values, **extra)
    assert (await result if prefix else result) == "answer"
    assert sent == [(method, values)]
    assert heard == [extra.get("on_progress")]


def test_the_same_surface_beside_the_nouns() -> None:
    public = {name for name in vars(AsyncClient) if not name.startswith("_")}
    only_blocking = {"close", "within"}
    assert public - {"connect"} == {name for name in vars(Client) if not name.startswith("_")} - only_blocking
    for name in public - {"connect"}:
        parameters = [inspect.signature(getattr(cls, name)).parameters.values() for cls in (Client, AsyncClient)]
        assert [(p.name, p.default) for p in parameters[0]] == [(p.name, p.default) for p in parameters[1]]


@pytest.mark.parametrize("noun", STREAMS)
def test_the_streams_take_what_can_be_asked_for(noun: str) -> None:
    own = {"after_seq": "after", "after": None, "credit": None}
    """Said by the stream itself as it goes on, save where it begins."""
    wanted = {name: default for name, default in declared(STREAMS[noun]) if own.get(name, name) is not None}
    for prefix in MODULES:
        call = class_of(prefix, noun.title()).__call__
        given = [p for p in inspect.signature(call).parameters.values() if p.kind is not p.KEYWORD_ONLY][1:]
        assert {p.name: p.default for p in given} == {own.get(n, n): default for n, default in wanted.items()}


def test_both_clients_stream_alike() -> None:
    for noun in STREAMS:
        calls = [inspect.signature(class_of(prefix, noun.title()).__call__) for prefix in MODULES]
        assert calls[0].parameters == calls[1].parameters


def test_what_may_be_repeated_is_what_changes_nothing() -> None:
    reads = {name for name, r in REQUESTS.items() if not r.CHANGES and name not in WRAPPED}
    # It ends with its caller, but a plugin's method may do anything.
    assert reads - {"plugins.call"} == protocol.READS


def test_what_carries_a_request_id_is_what_the_daemon_keeps_one_for() -> None:
    assert {name for name in REQUESTS if protocol.is_change(name)} == {n for n, r in REQUESTS.items() if r.CHANGES}


def test_what_is_not_limited_has_no_deadline() -> None:
    assert {name for name, r in REQUESTS.items() if r.DEADLINE_S is None} == protocol.UNBOUNDED
    assert {r.DEADLINE_S for name, r in REQUESTS.items() if name not in protocol.UNBOUNDED} == {
        protocol.DEFAULT_TIMEOUT_S
    }


def test_what_can_be_cancelled_is_an_operation() -> None:
    assert {name for name, r in REQUESTS.items() if r.OPERATION} == protocol.OPERATIONS


def test_both_clients_are_typed_alike() -> None:
    for noun in NOUN_NAMES:
        blocking, asynchronous = (vars(class_of(prefix, noun)) for prefix in MODULES)
        verbs = [name for name in blocking if not name.startswith("_")]
        assert verbs
        for verb in verbs:
            assert inspect.get_annotations(blocking[verb]) == inspect.get_annotations(asynchronous[verb])
            assert blocking[verb].__doc__ == asynchronous[verb].__doc__


def test_constants_that_are_written_twice_to_save_imports_agree() -> None:
    assert (protocol.DEADLINE_KEY, protocol.REQUEST_ID_KEY) == (DEADLINE_KEY, REQUEST_ID_KEY)
    assert (protocol.PROGRESS_KEY, protocol.PROGRESS) == (PROGRESS_KEY, PROGRESS_NOTIFICATION)
    assert protocol.CANCEL == CANCEL
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["project"]["version"] == VERSION


def test_pluginctl_has_every_method_as_noun_and_verb() -> None:
    verbs = {f"{noun}.{verb.replace('-', '_')}" for noun in NOUNS for verb in _verbs(noun)}
    assert METHODS.keys() - verbs == set()


def test_every_short_form_leads_somewhere() -> None:
    for target in [*SHORT.values(), *(t for verbs in FIRST_WORDS.values() for t in verbs.values())]:
        noun, verb = target.split()
        assert verb in _verbs(noun)
