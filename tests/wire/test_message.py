"""Errors as they travel, and named params."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.core.errors import InternalError, InvalidTransition, NotFound, SupervisorError
from supervisor.wire.message import Failure, named


def test_an_error_and_back() -> None:
    error = InvalidTransition("no", plugin="k", allowed=["load"])
    failure = Failure.from_error(error)
    assert failure.to_map() == {
        "code": 10,
        "name": "INVALID_TRANSITION",
        "message": "no",
        "data": {"plugin": "k", "allowed": ["load"]},
        "retryable": False,
    }
    back = Failure.from_wire(failure.to_map()).to_error()
    assert type(back) is InvalidTransition
    assert (back.message, back.details) == ("no", error.details)


def test_a_string_and_back() -> None:
    assert Failure.from_error(NotFound("gone: x")).to_text() == "NOT_FOUND: gone: x"
    back = Failure.from_wire("NOT_FOUND: gone: x").to_error()
    assert (type(back), back.message) == (NotFound, "gone: x")


@pytest.mark.parametrize(
    ("wire", "name", "message"),
    [
        ("oops", "INTERNAL", "oops"),
        ("ValueError: oops", "INTERNAL", "ValueError: oops"),
        (17, "INTERNAL", "17"),
        (["a"], "INTERNAL", "['a']"),
        (False, "INTERNAL", "False"),
        ({}, "INTERNAL", ""),
        ({"name": 5, "message": None, "data": [1], "retryable": "yes"}, "5", "None"),
    ],
)
def test_whatever_a_peer_calls_an_error(wire: Any, name: str, message: str) -> None:
    failure = Failure.from_wire(wire)
    assert (failure.name, failure.message, failure.data, failure.retryable) == (name, message, {}, False)
    assert isinstance(failure.to_error(), SupervisorError)


def test_an_unknown_name_has_the_number_of_internal() -> None:
    assert Failure("FROM_THE_FUTURE", "m").to_map()["code"] == 21
    assert InternalError.code == "INTERNAL"


@pytest.mark.parametrize(
    ("params", "expected"),
    [([], None), ([{}], {}), ([{"a": 1}], {"a": 1}), ([1], None), ([{}, {}], None), ([[{}]], None)],
)
def test_named(params: list[Any], expected: dict[str, Any] | None) -> None:
    assert named(params) == expected
