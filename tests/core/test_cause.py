"""What a failed worker's error says in one line."""

from __future__ import annotations

import pytest

from supervisor.core.cause import short_cause

TRACEBACK = 'Traceback (most recent call last):\n  File "/p/main.py", line 3, in <module>\n    boom()\n'


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("exited with code 3", "exited with code 3"),
        ("the worker of 'acme.weather' exited with code 3", "exited with code 3"),
        ("the worker of 'm2' exited with code 1 (pid 55)\nsome words", "exited with code 1"),
        (f"the worker of 'm2' exited with code 1\n{TRACEBACK}KeyError: 'x'\n", "KeyError: 'x' (exited with code 1)"),
        (f"exited with code 1\nnoise\n{TRACEBACK}a.b.Bad\n", "a.b.Bad (exited with code 1)"),
        # It was dealt with: the program went on and said something else.
        (f"exited with code 1\n{TRACEBACK}a.b.Bad\ngiving up\n", "exited with code 1"),
        (f"exited with code 4\n{TRACEBACK}a.b.Bad\n", "exited with code 4"),
        (
            f"was killed by SIGKILL, which plugind did not send\n{TRACEBACK}a.b.Bad\n",
            "was killed by SIGKILL, which plugind did not send",
        ),
        (
            'exited with code 1\n  File "/p/main.py", line 3\n    d =\n       ^\nSyntaxError: invalid syntax\n',
            "SyntaxError: invalid syntax (exited with code 1)",
        ),
        (f"exited with code 1\n{TRACEBACK}", "exited with code 1"),
        ("exited with code 3: no such city", "exited with code 3: no such city"),
        ("exited with code 1:     boom()\nKeyError: 'x'\n", "exited with code 1: KeyError: 'x'"),
        (
            "ran out of memory (limit 64 MB) and exited with code 1: a\nb",
            "ran out of memory (limit 64 MB) and exited with code 1: b",
        ),
        ("", ""),
    ],
)
def test_short_cause(text: str, short: str) -> None:
    assert short_cause(text) == short
