"""Scraping over HTTP: one path, two methods, and clients that are hostile, slow or many."""

from __future__ import annotations

import select
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http.client import HTTPResponse
from io import BytesIO
from pathlib import Path

import pytest
import trio

from supervisor.daemon import metrics_http
from supervisor.daemon.metrics_http import MOST, READ_S, ScrapeServer
from supervisor.metrics import CONTENT_TYPE

TEXT = "# a text of some length é\n" * 1000
GET = b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n"


async def scrape() -> str:
    await trio.lowlevel.checkpoint()
    return TEXT


class Answer:
    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        first, *fields = head.decode().split("\r\n")
        self.version, self.status, self.reason = first.split(" ", 2)
        self.headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}


@asynccontextmanager
async def serving(path: Path, work: Callable[[], Awaitable[str]] = scrape) -> AsyncIterator[Path]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(64)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(ScrapeServer(listener, work).run)
            yield path
            nursery.cancel_scope.cancel()
    assert listener.fileno() == -1


async def rest(stream: trio.SocketStream) -> bytes:
    data = b""
    try:
        while more := await stream.receive_some(65536):
            data += more
    except trio.BrokenResourceError:
        return data
    return data


async def ask(path: Path, request: bytes) -> Answer:
    async with await trio.open_unix_socket(str(path)) as stream:
        await stream.send_all(request)
        return Answer(await rest(stream))


async def test_get(tmp_path: Path) -> None:
    async with serving(tmp_path / "s") as path:
        answer = await ask(path, GET)
    assert (answer.version, answer.status, answer.reason) == ("HTTP/1.1", "200", "OK")
    assert answer.body.decode() == TEXT
    assert answer.headers == {
        "content-type": CONTENT_TYPE,
        "content-length": str(len(TEXT.encode())),
        "connection": "close",
    }


async def test_what_prometheus_sends(tmp_path: Path) -> None:
    request = (
        b"GET /metrics?a=b HTTP/1.1\r\nHost: 127.0.0.1:9464\r\nUser-Agent: Prometheus/2.42.0\r\n"
        b"Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n"
        b"Accept-Encoding: gzip\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n"
    )
    async with serving(tmp_path / "s") as path:
        assert (await ask(path, request)).body.decode() == TEXT


async def test_an_answer_is_read_by_the_standard_library(tmp_path: Path) -> None:
    async with serving(tmp_path / "s") as path, await trio.open_unix_socket(str(path)) as stream:
        await stream.send_all(GET)
        data = await rest(stream)

    class Sock:
        def makefile(self, _: str) -> BytesIO:
            return BytesIO(data)

    response = HTTPResponse(Sock())  # type: ignore[arg-type]
    response.begin()
    assert (response.status, response.read().decode()) == (200, TEXT)


async def test_head_has_no_text(tmp_path: Path) -> None:
    async with serving(tmp_path / "s") as path:
        answer = await ask(path, GET.replace(b"GET", b"HEAD"))
    assert (answer.status, answer.headers["content-length"], answer.body) == ("200", str(len(TEXT.encode())), b"")


@pytest.mark.parametrize("target", [b"/", b"/metricsx", b"/metrics/", b"*", b"/../metrics", b"http://a/metrics"])
async def test_there_is_nothing_else(tmp_path: Path, target: bytes) -> None:
    async with serving(tmp_path / "s") as path:
        answer = await ask(path, GET.replace(b"/metrics", target))
    assert (answer.status, answer.body) == ("404", b"there is nothing but /metrics\n")


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"FOO"])
async def test_other_methods(tmp_path: Path, method: bytes) -> None:
    async with serving(tmp_path / "s") as path:
        answer = await ask(path, GET.replace(b"GET", method))
    assert (answer.status, answer.headers["allow"]) == ("405", "GET, HEAD")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"\x93\x00\x01\xa4ping\r\n\r\n", "400"),
        (b"GET /metrics\r\n\r\n", "400"),
        (b"GET /metrics HTTP/1.1\r\n\r\n", "400"),  # without Host
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", "400"),
        (b"\r\n\r\n\r\n\r\n" * 100, "400"),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 20_000, "431"),
    ],
)
async def test_what_is_no_request(tmp_path: Path, request_: bytes, status: str) -> None:
    async with serving(tmp_path / "s") as path:
        assert (await ask(path, request_)).status == status
        assert (await ask(path, GET)).status == "200"


@pytest.mark.parametrize("cut", range(0, len(GET), 3))
async def test_who_goes_at_any_byte_harms_nobody(tmp_path: Path, cut: int) -> None:
    async with serving(tmp_path / "s") as path:
        async with await trio.open_unix_socket(str(path)) as stream:
            await stream.send_all(GET[:cut])
        assert (await ask(path, GET)).status == "200"


async def test_byte_by_byte(tmp_path: Path) -> None:
    async with serving(tmp_path / "s") as path, await trio.open_unix_socket(str(path)) as stream:
        for byte in GET:
            await stream.send_all(bytes([byte]))
        assert Answer(await rest(stream)).status == "200"


async def test_a_failure_is_no_empty_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[tuple[str, BaseException]] = []

    def report(event: str, error: BaseException) -> str:
        logged.append((event, error))
        return "c0ffee"

    monkeypatch.setattr(metrics_http, "report_failure", report)

    async def fail() -> str:
        await trio.lowlevel.checkpoint()
        raise OSError("out of order")

    async with serving(tmp_path / "s", fail) as path:
        answer = await ask(path, GET)
    assert answer.status == "500"
    assert answer.body.decode() == "the numbers could not be read: log id c0ffee\n"
    assert [(event, str(error)) for event, error in logged] == [("scrape.failed", "out of order")]


async def test_who_says_nothing_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_http, "READ_S", 0.05)
    async with serving(tmp_path / "s") as path, await trio.open_unix_socket(str(path)) as stream:
        began = trio.current_time()
        assert await rest(stream) == b""
        assert 0.05 <= trio.current_time() - began < READ_S


async def test_who_does_not_read_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_http, "WRITE_S", 0.05)

    async def long() -> str:
        await trio.lowlevel.checkpoint()
        return "x" * 4_000_000

    async with serving(tmp_path / "s", long) as path, await trio.open_unix_socket(str(path)) as stream:
        await stream.send_all(GET)
        for _ in range(2):  # One that does not read is in nobody's way.
            async with await trio.open_unix_socket(str(path)) as other:
                await other.send_all(GET.replace(b"/metrics", b"/"))
                assert Answer(await rest(other)).status == "404"
        poll = select.poll()
        poll.register(stream.socket.fileno(), 0)
        # Hung up, though there is something to be read.
        while not poll.poll(0):  # noqa: ASYNC110
            await trio.sleep(0.005)
        assert len(await rest(stream)) < 4_000_000


async def test_one_more_takes_the_place_of_who_has_been_silent_for_longest(tmp_path: Path) -> None:
    async with serving(tmp_path / "s") as path:
        silent = [await trio.open_unix_socket(str(path)) for _ in range(MOST)]
        await trio.testing.wait_all_tasks_blocked()
        assert (await ask(path, GET)).status == "200"
        assert await rest(silent[0]) == b""
        await silent[-1].send_all(GET)
        assert Answer(await rest(silent[-1])).status == "200"
        for stream in silent:
            await stream.aclose()


async def test_where_all_are_being_answered_one_more_is_told_so(tmp_path: Path) -> None:
    go = trio.Event()

    async def wait() -> str:
        await go.wait()
        return TEXT

    async with serving(tmp_path / "s", wait) as path:
        busy = [await trio.open_unix_socket(str(path)) for _ in range(MOST)]
        for stream in busy:
            await stream.send_all(GET)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert (await ask(path, b"")).status == "503"
        go.set()
        for stream in busy:
            assert Answer(await rest(stream)).status == "200"
            await stream.aclose()
