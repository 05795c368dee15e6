"""What the socket tells of plugins: sentences that begin with the cause."""

from __future__ import annotations

import dataclasses

import pytest

from supervisor.control.views import plugin_details, plugin_info, summary
from supervisor.core.lifecycle import Status
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
    assert f"`pluginctl uninstall {plugin.key} --remove-data`" in summary(plugin, WorkerView())
