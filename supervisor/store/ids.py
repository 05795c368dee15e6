"""Ids of rows that are written together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from typing import Final

_VERSION: Final = (0x4 << 76) | (0x2 << 62)
_RANDOM: Final = ~((0xF << 76) | (0x3 << 62))
_BYTES: Final = 14
_AT_ONCE: Final = 32
"""Drawn by one call into the kernel."""


def ids_alike() -> Iterator[str]:
    """Random UUIDs whose first four digits are the same, without end.

    An index takes them in a few neighbouring pages; of strangers each would cost a page of its own to write.
    """
    head = int.from_bytes(os.urandom(2), "big") << 112
    while True:
        drawn = os.urandom(_AT_ONCE * _BYTES)
        for start in range(0, len(drawn), _BYTES):
            text = f"{(head | int.from_bytes(drawn[start : start + _BYTES], 'big')) & _RANDOM | _VERSION:032x}"
            yield f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def sorted_ids(count: int) -> list[str]:
    """So many of them, in ascending order: rows and their index entries lie in the same order then."""
    return sorted(islice(ids_alike(), count))
