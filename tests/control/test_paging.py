"""A page fits into a frame, and paging gets on."""

from __future__ import annotations

from supervisor.control.paging import PAGE_BYTES, as_many_as_fit
from supervisor.wire.limits import SERVER


def test_all_that_fits_is_kept_in_order() -> None:
    assert as_many_as_fit(["a" * 8, "b" * 8, "c" * 8], 27) == ["a" * 8, "b" * 8, "c" * 8]
    assert as_many_as_fit(["a" * 8, "b" * 8, "c" * 8], 26) == ["a" * 8, "b" * 8]


def test_one_is_kept_however_large() -> None:
    assert as_many_as_fit(["a" * 100, "b"], 10) == ["a" * 100]
    assert as_many_as_fit([], 10) == []


def test_a_page_leaves_room_for_its_envelope() -> None:
    assert SERVER.max_frame_out_bytes - 512 * 1024 > PAGE_BYTES
