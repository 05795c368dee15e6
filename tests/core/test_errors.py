"""Codes are promises: this list may grow, nothing in it may change."""

from __future__ import annotations

import pytest

from supervisor.core.errors import (
    CLASSES,
    NUMBERS,
    CallCancelled,
    InvalidParams,
    LocalProtocolError,
    RemoteProtocolError,
    SupervisorError,
    error_from_code,
)

FROZEN = {
    "PARSE": (1, False),
    "INVALID_REQUEST": (2, False),
    "METHOD_NOT_FOUND": (3, False),
    "INVALID_PARAMS": (4, False),
    "UNAUTHENTICATED": (5, False),
    "PERMISSION_DENIED": (6, False),
    "NOT_FOUND": (7, False),
    "ALREADY_EXISTS": (8, False),
    "FAILED_PRECONDITION": (9, False),
    "INVALID_TRANSITION": (10, False),
    "CONFLICT": (11, True),
    "RESOURCE_EXHAUSTED": (12, True),
    "DEADLINE_EXCEEDED": (13, True),
    "CANCELLED": (14, False),
    "UNAVAILABLE": (15, True),
    "PLUGIN_ERROR": (16, False),
    "PLUGIN_CRASHED": (17, True),
    "ACTIVATION_FAILED": (18, False),
    "UPGRADE_FAILED": (19, False),
    "APPROVAL_REQUIRED": (20, False),
    "INTERNAL": (21, False),
}


def test_the_codes() -> None:
    assert {name: (number, CLASSES[name].retryable) for name, number in NUMBERS.items()} == FROZEN


def test_every_class_has_a_known_code() -> None:
    def below(cls: type[SupervisorError]) -> set[type[SupervisorError]]:
        return {cls}.union(*(below(sub) for sub in cls.__subclasses__()))

    assert {cls.code for cls in below(SupervisorError)} == set(FROZEN)


@pytest.mark.parametrize("code", FROZEN)
def test_an_error_comes_back_as_its_class(code: str) -> None:
    error = error_from_code(code, "why", {"message": "a detail of any name", "code": 1})
    assert type(error) is CLASSES[code]
    assert (error.code, error.message, str(error)) == (code, "why", "why")
    assert error.details == {"message": "a detail of any name", "code": 1}


def test_an_unknown_code_is_an_error_still() -> None:
    assert type(error_from_code("FROM_THE_FUTURE", "why", {})) is SupervisorError


def test_details_are_keywords() -> None:
    assert InvalidParams("m", param="x", method="f").details == {"param": "x", "method": "f"}


def test_whose_doing_it_was() -> None:
    assert (RemoteProtocolError.code, LocalProtocolError.code, CallCancelled.code) == ("PARSE", "INTERNAL", "CANCELLED")
