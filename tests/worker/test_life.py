"""handshake_problem: what a worker may answer to `initialize`."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.worker.handshake import handshake_problem
from tests.worker.fakes import make_plugin

MANIFEST = make_plugin(methods=("a", "b")).manifest


@pytest.mark.parametrize(
    "answer",
    [
        {"api_version": 1, "methods": ["a", "b"]},
        {"api_version": 1, "methods": ["b", "c", "a"], "more": 1},
    ],
)
def test_all_is_well(answer: Any) -> None:
    assert handshake_problem(answer, MANIFEST) is None


def test_methods_may_be_left_out_where_none_are_declared() -> None:
    assert handshake_problem({"api_version": 1}, make_plugin().manifest) is None


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (None, "answered initialize with rubbish: expected a map, got NoneType"),
        ([], "answered initialize with rubbish: expected a map, got list"),
        ("ok", "answered initialize with rubbish: expected a map, got str"),
        ({}, "speaks api_version None, its manifest says 1"),
        ({"api_version": 2}, "speaks api_version 2, its manifest says 1"),
        ({"api_version": "1"}, "speaks api_version '1', its manifest says 1"),
        ({"api_version": 1, "methods": "ab"}, "answered initialize with rubbish: `methods` is no list"),
        ({"api_version": 1, "methods": None}, "answered initialize with rubbish: `methods` is no list"),
        ({"api_version": 1, "methods": ["a", {}, 3]}, "lacks methods that its manifest declares: b"),
        ({"api_version": 1}, "lacks methods that its manifest declares: a, b"),
    ],
)
def test_problems(answer: Any, problem: str) -> None:
    assert handshake_problem(answer, MANIFEST) == problem


def test_a_hostile_answer_is_not_repeated_at_length() -> None:
    problem = handshake_problem({"api_version": "x" * 10**6}, MANIFEST)
    assert problem is not None
    assert len(problem) < 200
