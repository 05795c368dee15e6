"""Lists are paged by bytes too: what is returned must fit into one frame. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, TypeVar

from supervisor.core.errors import InvalidParams
from supervisor.store.state import MAX_PAGE
from supervisor.wire.codec import MAX_VALUES, count_values, packed_size
from supervisor.wire.results import StateEntry, StatePage

_T = TypeVar("_T")
PAGE_BYTES: Final = 3 * 1024 * 1024
"""Of a frame of 4 MiB."""
PAGE_VALUES: Final = MAX_VALUES * 3 // 4
"""Of those that a message may hold."""


def as_many_as_fit(items: Iterable[_T], max_bytes: int = PAGE_BYTES) -> list[_T]:
    """The longest beginning of `items` that fits; at least one, so that paging gets on."""
    page: list[_T] = []
    left, values_left = max_bytes, PAGE_VALUES
    for item in items:
        left -= packed_size(item)
        values_left -= 1 + count_values(item)
        if (left < 0 or values_left < 0) and page:
            break
        page.append(item)
    return page


def state_page(entries: list[tuple[str, Any, int]], after: str | None) -> StatePage:
    """A page of a plugin's state: those that fit of what the store has found, and `next`, the `after` of the next."""
    page = as_many_as_fit(StateEntry(key=key, value=value, revision=revision) for key, value, revision in entries)
    return {"entries": page, "next": after if len(page) == len(entries) else page[-1]["key"]}


def check_limit(limit: int) -> None:
    """Of a page of a plugin's state.

    Raises:
        InvalidParams: it is not from 1 to 1,000.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidParams(f"limit must be from 1 to {MAX_PAGE}, not {limit}", limit=limit)
