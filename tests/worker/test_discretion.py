"""Discretion: no secret of a worker, nor half of one, in what is told of it."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.core.secrets import MASK, spoken
from supervisor.worker.discretion import MOST_TEXTS, Discretion
from supervisor.worker.output import Line

KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nabc\n-----END KEY-----"


def keeping(*secrets: Any) -> Discretion:
    discretion = Discretion()
    for secret in secrets:
        discretion.learn(spoken(secret))
    return discretion


@pytest.mark.parametrize(
    ("secret", "words", "told"),
    [
        ("hunter2", "password hunter2, hunter2!", f"password {MASK}, {MASK}!"),
        ("hunter2", {"a": ["hunter2", b"hunter2", 7], "hunter2": ("hunter2",)}, {"a": [MASK, MASK, 7], MASK: [MASK]}),
        (123456, {"pin": 123456, "pins": "x123456", "n": 1234567}, {"pin": MASK, "pins": f"x{MASK}", "n": 1234567}),
        ('a"b\nc\\d', {"repr": repr('a"b\nc\\d'), "json": r"a\"b\nc\\d"}, {"repr": f"'{MASK}'", "json": MASK}),
        (True, [True, None, 1.5], [True, None, 1.5]),
        ("abc", "abc: shorter than four characters", "abc: shorter than four characters"),
        (KEY, f"it is {KEY}", f"it is {MASK}"),
    ],
)
def test_whatever_holds_it(secret: Any, words: Any, told: Any) -> None:
    assert keeping(secret).hide(words) == told


def test_the_longer_of_two_is_hidden_whole() -> None:
    assert keeping("hunter", "hunter2!", "hunter2").hide("hunter2!") == MASK


def test_a_key_is_hidden_line_by_line_too() -> None:
    lines = [Line("  MIIEvQIBADANBgkq "), Line("abc"), Line("-----END KEY-----")]
    assert keeping(KEY).lines(lines) == [Line(f"  {MASK} "), Line("abc"), Line(MASK)]


def test_nothing_is_touched_before_there_is_a_secret() -> None:
    discretion, lines, words = Discretion(), [Line("x")], {"a": [1]}
    assert (discretion.lines(lines) is lines, discretion.hide(words) is words) == (True, True)
    assert not discretion
    discretion.learn([])
    discretion.learn(["", "abc"])
    assert not discretion
    discretion.learn(["abcd"])
    assert discretion


@pytest.mark.parametrize("shift", range(-2, 20))
def test_no_cut_shows_a_half(shift: int) -> None:
    secret = "s3cret-token"
    discretion = keeping(secret, "s3other")
    text = "." * (100 - shift) + secret + "." * 50
    told = discretion.beginning(text, 100)
    assert len(told) <= 100
    assert set(told) <= {".", "*"}
    [line] = discretion.lines([Line(text[:100], truncated=True)])
    assert line.truncated
    assert set(line.text) <= {".", "*"}


def test_masks_that_are_shorter_bring_no_half_into_view() -> None:
    secret = "s3cret" * 20
    told = keeping(secret).beginning(secret * 3, 200)
    assert told == MASK * 2


def test_what_was_given_last_is_kept_where_there_is_too_much() -> None:
    discretion = keeping([f"secret-{n:04}" for n in range(MOST_TEXTS)])
    discretion.learn(["newest"])
    assert discretion.hide("newest") == MASK
    assert len(discretion._texts) == MOST_TEXTS
