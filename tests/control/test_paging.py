"""A page fits into a frame, and paging gets on."""

from __future__ import annotations

from supervisor.control.paging import PAGE_BYTES, as_many_as_fit, state_page
from supervisor.wire.codec import encode
from supervisor.wire.limits import SERVER
from supervisor.wire.message import Response


def test_all_that_fits_is_kept_in_order() -> None:
    assert as_many_as_fit(["a" * 8, "b" * 8, "c" * 8], 27) == ["a" * 8, "b" * 8, "c" * 8]
    assert as_many_as_fit(["a" * 8, "b" * 8, "c" * 8], 26) == ["a" * 8, "b" * 8]


def test_one_is_kept_however_large() -> None:
    assert as_many_as_fit(["a" * 100, "b"], 10) == ["a" * 100]
    assert as_many_as_fit([], 10) == []


def test_a_page_leaves_room_for_its_envelope() -> None:
    assert SERVER.max_frame_out_bytes - 512 * 1024 > PAGE_BYTES


def test_a_page_holds_no_more_values_than_a_message() -> None:
    values = [[0] * 60_000] * 10
    page = as_many_as_fit(values)
    assert len(page) == 3
    assert encode(Response(1, None, page), max_bytes=SERVER.max_frame_out_bytes)


def test_a_page_of_state_goes_on_behind_what_fits() -> None:
    entries = [(f"k{n}", [0] * 100_000, n + 7) for n in range(3)]
    first = {"key": "k0", "value": entries[0][1], "revision": 7}
    assert state_page(entries, "k2") == {"entries": [first], "next": "k0"}
    assert state_page([("a", 1, 1), ("b", 2, 2)], None)["next"] is None
    assert state_page([], None) == {"entries": [], "next": None}
