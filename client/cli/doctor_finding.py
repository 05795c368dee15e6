"""What a check of `pluginctl doctor` has found."""

from __future__ import annotations

from typing import NamedTuple

OK, WARNING, PROBLEM = "ok", "warning", "problem"


class Finding(NamedTuple):
    check: str
    state: str
    """ok, warning or problem."""
    text: str
    remedy: str = ""


def well(check: str, text: str) -> Finding:
    return Finding(check, OK, text)


def megabytes(size: int) -> str:
    """As in `24 MB` or `3.1 GB`; `size` in bytes."""
    mega = size / 1024 / 1024
    return f"{mega / 1024:.1f} GB" if mega >= 1024 else f"{mega:.1f} MB" if mega < 10 else f"{mega:.0f} MB"
