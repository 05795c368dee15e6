"""LineSplitter: bytes in any pieces, lines out."""

from __future__ import annotations

import random

import pytest

from supervisor.worker.output import MAX_LINE_BYTES, Line, LineSplitter

SAMPLES = [
    (b"", []),
    (b"a\n", [Line("a")]),
    (b"\n\n", [Line(""), Line("")]),
    (b"one\ntwo", [Line("one"), Line("two")]),
    (b"crlf\r\nx\r\n", [Line("crlf"), Line("x")]),
    (b"in\rside\n", [Line("in\rside")]),
    (b"nul\0nul\n", [Line("nul\0nul")]),
    (b"gr\xc3\xbc\xc3\x9fe\n", [Line("gr\u00fc\u00dfe")]),
    (b"bad \xff\xc3( \x80\n", [Line("bad \\xff\\xc3( \\x80")]),
    (b"01234567\nok\n", [Line("01234567"), Line("ok")]),
    (b"012345678\nok\n", [Line("01234567", truncated=True), Line("ok")]),
    (b"0123456789abcdefghijklmnopqrstuvwxyz\nok", [Line("01234567", truncated=True), Line("ok")]),
    (b"0123456789abcdefghijklm", [Line("01234567", truncated=True)]),
    ("0123456\u00df more\n".encode(), [Line("0123456", truncated=True)]),  # the cut goes through a character
    (b"0123456\xff more\n", [Line("0123456\\xff", truncated=True)]),
    (b"0123456789\n0123456789\n", [Line("01234567", truncated=True)] * 2),
    (b"0123456789\n\nz\n", [Line("01234567", truncated=True), Line(""), Line("z")]),
]


def read(pieces: list[bytes], limit: int) -> list[Line]:
    splitter = LineSplitter(limit)
    lines = [line for piece in pieces for line in splitter.feed(piece)]
    return lines + splitter.flush() + splitter.flush()


@pytest.mark.parametrize(("data", "lines"), SAMPLES)
def test_cut_at_every_byte(data: bytes, lines: list[Line]) -> None:
    limit = 8 if b"0123" in data else 100
    assert read([data], limit) == lines
    assert read([bytes([byte]) for byte in data], limit) == lines
    for i in range(len(data) + 1):
        for j in range(i, len(data) + 1):
            assert read([data[:i], data[i:j], data[j:]], limit) == lines


def test_the_real_limit_to_the_byte() -> None:
    exact = b"x" * MAX_LINE_BYTES
    assert MAX_LINE_BYTES == 65_536
    assert read([exact + b"\n" + exact + b"y\nz\n"], MAX_LINE_BYTES) == [
        Line(exact.decode()),
        Line(exact.decode(), truncated=True),
        Line("z"),
    ]


def test_a_cut_line_is_there_before_it_ends() -> None:
    splitter = LineSplitter(8)
    assert splitter.feed(b"123456789") == [Line("12345678", truncated=True)]
    assert splitter.feed(b"more and more") == []
    assert splitter.flush() == []


def test_memory_stays_bounded_under_a_line_without_end() -> None:
    splitter, lines = LineSplitter(), []
    for _ in range(2000):
        lines += splitter.feed(b"x" * 50_000)
        assert len(splitter._partial) <= MAX_LINE_BYTES
    assert [(len(line.text), line.truncated) for line in lines] == [(MAX_LINE_BYTES, True)]


def test_random_pieces_make_no_difference() -> None:
    dice = random.Random(7)
    data = bytes(dice.choice(b"ab\n\r\xff") for _ in range(3000)) + b"x" * 50 + b"\nend"
    whole = read([data], 12)
    for _ in range(50):
        cuts = sorted(dice.sample(range(len(data)), 20))
        pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        assert read(pieces, 12) == whole
