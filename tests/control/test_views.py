"""What the socket tells of plugins: sentences that begin with the cause."""

from __future__ import annotations

import dataclasses

import pytest

from supervisor.control.views import Outlook, plugin_details, plugin_info, summary
from supervisor.core.lifecycle import Status
from supervisor.core.plugin import PluginKey
from supervisor.worker.phase import Phase
from supervisor.worker.view import WorkerView
from tests.worker.fakes import make_plugin

WORDS = 'exited with code 1\nTraceback (most recent call last):\n  File "x"\nSyntaxError: invalid syntax'
PLACES = {"package_dir": "/p", "data_dir": "/d", "log_file": "/l"}


def test_an_error_begins_with_its_cause() -> None:
    plugin = dataclasses.replace(make_plugin(), status=Status.ERROR, last_error=f"the worker of 'x' {WORDS}")
    info = plugin_info(plugin, WorkerView())
    assert info["last_error"] == "SyntaxError: invalid syntax (exited with code 1)"
    assert info["summary"].startswith("In error: SyntaxError: invalid syntax (exited with code 1); ")
    assert plugin_details(plugin, WorkerView(), PLACES)["last_error"] == plugin.last_error


def test_a_long_cause_is_cut_in_lists() -> None:
    plugin = dataclasses.replace(make_plugin(), status=Status.ERROR, last_error="x" * 5000)
    assert len(plugin_info(plugin, WorkerView())["last_error"] or "") == 500


@pytest.mark.parametrize(("restarts", "words"), [(0, "s."), (1, ", after 1 restart."), (2, ", after 2 restarts.")])
def test_restarts_are_counted(restarts: int, words: str) -> None:
    plugin = dataclasses.replace(make_plugin(), status=Status.READY)
    text = summary(plugin, WorkerView(phase=Phase.RUNNING, pid=7, uptime_s=3, restarts=restarts, wanted=True))
    assert text.endswith(words)


def test_what_is_left_of_an_uninstalled_one_is_named_as_people_know_it() -> None:
    plugin = dataclasses.replace(make_plugin(), status=Status.UNINSTALLED)
    assert f"`pluginctl purge {plugin.key}`" in summary(plugin, WorkerView())


DB, MQ = PluginKey("acme.db"), PluginKey("acme.mq")
CRASHED = "the worker of 'test.fake' was killed by SIGSEGV\nmore words"


def ready(**worker: object) -> tuple[Status, WorkerView]:
    return Status.READY, WorkerView(**{"wanted": True, **worker})  # type: ignore[arg-type]


SENTENCES = [
    (
        *ready(phase=Phase.BACKOFF, crashes=3, next_restart_in_s=4.04, last_failure=CRASHED),
        Outlook(),
        "Crashed (was killed by SIGSEGV); crash 3 in a row, it is given up after 11; the next attempt is in 4.0 s.",
    ),
    (
        *ready(phase=Phase.BACKOFF, crashes=0, next_restart_in_s=0.0, last_failure=CRASHED),
        Outlook(),
        "Crashed (was killed by SIGSEGV); it had run stably, it is given up after 11; the next attempt is in 0.0 s.",
    ),
    (
        *ready(waiting_for=(DB,)),
        Outlook(standings={DB: "is disabled"}),
        "Waiting for acme.db, which is disabled: it is started when that is up.",
    ),
    (
        *ready(waiting_for=(DB, MQ)),
        Outlook(standings={DB: "is starting", MQ: "is in error"}),
        "Waiting for acme.db, which is starting and for acme.mq, which is in error: it is started when those are up.",
    ),
    (*ready(waiting_for=(DB,)), Outlook(), "Waiting for acme.db: it is started when that is up."),
    (*ready(), Outlook(), "Ready; its worker waits for its turn to start."),
    (*ready(wanted=None), Outlook(), "Ready; its worker has not been started yet."),
    (
        *ready(wanted=False),
        Outlook(),
        "Ready, with its worker stopped by an operator: start it, or it starts with the next boot.",
    ),
    (
        *ready(wanted=False, finished="exited with code 0"),
        Outlook(),
        "Finished (exited with code 0); start it to run it again, or it starts with the next boot.",
    ),
    (*ready(wanted=False, gave_up=True, last_failure=CRASHED), Outlook(), "Given up: was killed by SIGSEGV."),
    (*ready(phase=Phase.STARTING), Outlook(), "Starting: it has up to 15 s to shake hands."),
    (*ready(phase=Phase.STOPPING), Outlook(), "Stopping: it is finishing what is in flight."),
]


@pytest.mark.parametrize(("status", "worker", "outlook", "sentence"), SENTENCES)
def test_what_is_going_on_and_what_comes_next(
    status: Status, worker: WorkerView, outlook: Outlook, sentence: str
) -> None:
    plugin = dataclasses.replace(make_plugin(), status=status)
    assert plugin_info(plugin, worker, outlook)["summary"] == sentence


@pytest.mark.parametrize(
    ("recoverable", "in_s", "words"),
    [
        (True, 480.0, "it is tried again in 8 min"),
        (True, 31.0, "it is tried again in 31 s"),
        (True, None, "it is tried again at the next boot"),
        (False, None, "it stays so"),
    ],
)
def test_when_an_error_is_tried_again(recoverable: bool, in_s: float | None, words: str) -> None:
    plugin = dataclasses.replace(
        make_plugin(), status=Status.ERROR, last_error="was killed by SIGSEGV", recoverable=recoverable
    )
    info = plugin_info(plugin, WorkerView(), Outlook(recovery_in_s=in_s))
    assert info["summary"] == f"In error: was killed by SIGSEGV; {words}; enable it to try now."
    assert info["next_recovery_in_s"] == in_s


def test_what_has_changed_on_disk_is_not_to_be_enabled() -> None:
    plugin = dataclasses.replace(
        make_plugin(), status=Status.ERROR, last_error="was not started: 'main.py' has changed", recoverable=True
    )
    said = summary(plugin, WorkerView(last_reason="package_changed"))
    assert "it is tried again at the next boot; upgrade it, or uninstall it and install it again" in said
    assert "enable" not in said


def test_who_requires_whom_is_told() -> None:
    plugin = make_plugin(requires=("acme.db",))
    worker = WorkerView(wanted=True, waiting_for=(DB,), last_reason="out_of_memory")
    details = plugin_details(plugin, worker, PLACES, required_by=["acme.web"])
    assert (details["requires"], details["required_by"]) == (["acme.db"], ["acme.web"])
    assert (details["waiting_for"], details["last_reason"]) == (["acme.db"], "out_of_memory")


@pytest.mark.parametrize(
    ("worker", "held"),
    [
        (WorkerView(wanted=False), True),
        (WorkerView(wanted=False, finished="exited with code 0"), False),
        (WorkerView(wanted=False, gave_up=True), False),
        (WorkerView(wanted=True), False),
        (WorkerView(), False),
    ],
)
def test_held_means_by_an_operator(worker: WorkerView, held: bool) -> None:
    assert plugin_info(make_plugin(), worker)["held"] is held
