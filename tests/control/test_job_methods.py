"""jobs.* over the socket: which scope a pause is about, who may, and what a request becomes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio

from supervisor.control.access import Caller
from supervisor.control.describe import describe
from supervisor.control.job_methods import JobMethods
from supervisor.core.errors import InvalidParams, NotFound
from supervisor.wire import control
from supervisor.wire.control import REQUESTS, Role

CALLER = Caller(pid=1, uid=7, gid=7, role=Role.OPERATOR)
PLUGIN = SimpleNamespace(id="p1", key="acme.weather")


class Recorder:
    """Takes every method call, and says it was."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            await trio.lowlevel.checkpoint()
            self.calls.append((name, args, kwargs))
            return []

        return call


class Registry:
    def get(self, name: str) -> Any:
        if name not in {"p1", "acme.weather"}:
            raise NotFound(f"there is no plugin {name!r}", plugin=name)
        return PLUGIN


@pytest.fixture
def jobs() -> Any:
    jobs = Recorder()
    jobs.holds = Recorder()  # type: ignore[attr-defined]
    return jobs


async def ask(jobs: Any, request: control.ControlRequest) -> Any:
    parts: Any = SimpleNamespace(registry=Registry(), jobs=jobs)
    return await JobMethods(parts).handlers[type(request)](request, CALLER)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("params", "call"),
    [
        ({"job": "acme.weather/a"}, ("pause_job", ("acme.weather/a",), {})),
        ({"plugin": "acme.weather"}, ("pause_plugin", (PLUGIN, 7), {})),
        ({}, ("pause_all", (7,), {})),
    ],
)
async def test_the_scope_of_a_pause(jobs: Any, params: dict[str, str], call: Any) -> None:
    await ask(jobs, control.JobsPause(**params))
    await ask(jobs, control.JobsResume(**params))
    paused, resumed = jobs.holds.calls
    assert paused == call
    assert resumed[0] == call[0].replace("pause", "resume")
    assert resumed[1] == tuple(arg for arg in call[1] if arg != 7)


async def test_a_pause_of_two_things_at_once_is_refused(jobs: Any) -> None:
    for request in (control.JobsPause, control.JobsResume):
        with pytest.raises(InvalidParams, match="not both"):
            await ask(jobs, request(job="acme.weather/a", plugin="acme.weather"))
    assert jobs.holds.calls == []


@pytest.mark.parametrize(
    "request_", [control.JobsPause, control.JobsResume, control.JobsNext, control.JobsList, control.JobsRuns]
)
async def test_an_unknown_plugin_is_never_all_of_them(jobs: Any, request_: Any) -> None:
    with pytest.raises(NotFound, match="there is no plugin 'nobody'"):
        await ask(jobs, request_(plugin="nobody"))
    assert jobs.holds.calls == jobs.calls == []


async def test_what_requests_become(jobs: Any) -> None:
    await ask(jobs, control.JobsRun(job="a/b", params={"x": 1}, wait=True))
    await ask(jobs, control.JobsNext(plugin="acme.weather", hours=2.0))
    await ask(jobs, control.JobsRetry(run="r1"))
    await ask(jobs, control.JobsGetRun(run="r1"))
    await ask(jobs, control.JobsRuns(plugin="p1", trigger="retry", since_ms=3))
    assert jobs.calls[:4] == [
        ("run", ("a/b",), {"params": {"x": 1}, "wait": True}),
        ("next", (None, 5), {"plugin_id": "p1", "hours": 2.0}),
        ("retry", ("r1",), {"wait": False}),
        ("get_run", ("r1",), {}),
    ]
    name, _, kwargs = jobs.calls[4]
    assert (name, kwargs["plugin_id"], kwargs["trigger"], kwargs["since_ms"]) == ("runs", "p1", "retry", 3)


@pytest.mark.parametrize("verb", ["run", "pause", "resume", "cancel", "retry"])
def test_changes_are_for_operators_and_go_on_without_their_caller(verb: str) -> None:
    request = REQUESTS[f"jobs.{verb}"]
    assert (request.ROLE, request.CHANGES) == (Role.OPERATOR, True)


@pytest.mark.parametrize("verb", ["list", "get", "next", "runs", "get_run"])
def test_looking_is_for_observers(verb: str) -> None:
    request = REQUESTS[f"jobs.{verb}"]
    assert (request.ROLE, request.CHANGES) == (Role.OBSERVER, False)


def test_the_description_has_the_shapes() -> None:
    methods = describe()["methods"]
    run, pause, one = (methods[f"jobs.{verb}"] for verb in ("run", "pause", "get_run"))
    assert set(run["params"]["$defs"]["JobsRun"]["properties"]) == {"job", "wait", "params"}
    held = pause["result"]["$defs"]["HoldInfo"]["properties"]
    assert set(held) == {"held", "scope", "name", "jobs", "next_fire_ms"}
    assert {"params", "waiting_for", "retry_at_ms"} <= set(one["result"]["$defs"]["RunInfo"]["properties"])
