"""Lists are paged by bytes too: what is returned must fit into one frame. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

from supervisor.wire.codec import packed_size

_T = TypeVar("_T")
PAGE_BYTES: Final = 3 * 1024 * 1024
"""Of a frame of 4 MiB."""


def as_many_as_fit(items: Iterable[_T], max_bytes: int = PAGE_BYTES) -> list[_T]:
    """The longest beginning of `items` that fits; at least one, so that paging gets on."""
    page: list[_T] = []
    left = max_bytes
    for item in items:
        left -= packed_size(item)
        if left < 0 and page:
            break
        page.append(item)
    return page
