import fcntl
import io
import json
import os
import socket
import subprocess
import sys

import pytest

from supervisor import log as log_module
from supervisor.log import Sink, configure, get_logger, log

EVIL = "a\n<0>root pwned\x1b[2J\x7f\x9b\u2028b"


@pytest.fixture(autouse=True)
def unconfigured():
    before = list(log_module._configured)
    yield
    log_module._configured[:] = before


def written(format: str, *, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    configure(format, level, stream)
    return stream


def test_console_line_has_event_and_fields_and_no_colour_off_a_terminal():
    out = written("console")
    log.bind(plugin="acme").info("worker.started", pid=3)
    line = out.getvalue()
    assert "worker.started" in line
    assert "plugin=acme" in line
    assert "pid=3" in line
    assert "\x1b" not in line


def test_console_is_coloured_on_a_terminal():
    master, slave = os.openpty()
    with open(slave, "w") as terminal, open(master, "rb", buffering=0) as screen:
        configure("console", "info", terminal)
        log.info("hello")
        assert b"\x1b[" in screen.read(4096)


def test_json_is_one_object_a_line():
    out = written("json")
    get_logger(plugin="acme").info("worker.started", pid=3, evil=EVIL, kind=ValueError("x"))
    log.warning("second")
    first, second = out.getvalue().splitlines()
    record = json.loads(first)
    assert record["event"] == "worker.started"
    assert (record["plugin"], record["pid"], record["level"], record["evil"]) == ("acme", 3, "info", EVIL)
    assert record["timestamp"].endswith("Z")
    assert first.isprintable()
    assert json.loads(second)["level"] == "warning"


@pytest.mark.parametrize(("method", "prefix"), [("debug", 7), ("info", 6), ("warning", 4), ("error", 3)])
def test_journal_line_has_the_priority(method, prefix):
    out = written("journal", level="debug")
    getattr(log, method)("job.ended", state="failed", took_s=1.5, why='a "b" c')
    assert out.getvalue() == f'<{prefix}>job.ended state=failed took_s=1.5 why="a \\"b\\" c"\n'


@pytest.mark.parametrize("format", ["console", "journal"])
def test_control_characters_never_reach_the_log(format):
    out = written(format)
    log.info(EVIL, text=EVIL, nested=[EVIL])
    (line,) = out.getvalue().split("\n")[:-1]
    assert line.isprintable()
    assert "\\x1b[2J" in line


@pytest.mark.parametrize(("format", "mark"), [("console", "  | "), ("journal", "<3>  | ")])
def test_each_line_of_a_traceback_is_marked(format, mark):
    out = written(format)
    try:
        raise ValueError("x\n<0>forged\x1b")
    except ValueError:
        log.exception("request.failed", log_id="7")
    first, *rest = out.getvalue().splitlines()
    assert "request.failed" in first
    assert "Traceback" in rest[0]
    assert all(line.startswith(mark) and line.isprintable() for line in rest)
    assert any("forged\\x1b" in line for line in rest)


def test_an_exception_given_as_a_value_has_its_traceback():
    out = written("json")
    log.error("reload.failed", exc_info=ValueError("why"))
    assert "ValueError: why" in json.loads(out.getvalue())["exception"]


def test_level_hides_what_is_below():
    out = written("json", level="warning")
    log.info("quiet")
    log.warning("loud")
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["loud"]


def test_bind_leaves_the_logger_as_it_was():
    out = written("json")
    child = log.bind(plugin="a")
    log.info("x")
    child.info("y")
    assert ["plugin" in json.loads(line) for line in out.getvalue().splitlines()] == [False, True]


def test_a_field_that_cannot_be_shown_does_not_reach_the_caller():
    class Bad:
        def __str__(self) -> str:
            raise RuntimeError("no")

    out = written("journal")
    log.info("event.name", field=Bad())
    assert out.getvalue() == "<3>event.name log_error=RuntimeError\n"


def test_auto_is_the_journal_only_for_the_stream_that_systemd_names(monkeypatch, tmp_path):
    with (tmp_path / "journal").open("w") as stream:
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        assert configure("auto", "info", stream).format == "journal"
        with (tmp_path / "other").open("w") as other:
            assert configure("auto", "info", other).format == "console"


def full_pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 8192)
    return reader, writer


def test_a_full_pipe_loses_records_counts_them_and_says_so_later():
    reader, writer = full_pipe()
    with open(reader, "rb", buffering=0) as taker, open(writer, "w") as stream:
        sink = configure("json", "info", stream)
        for number in range(500):
            log.info("flood", number=number, text="x" * 100)
        assert sink.lost > 400
        lost = sink.lost
        taker.read(8192)
        log.info("after")
        lines = taker.read(8192).decode().splitlines()
    events = [json.loads(line) for line in lines]
    assert events[0] | {"timestamp": ""} == {
        "event": "log.records_lost", "level": "warning", "count": lost, "timestamp": "",
    }  # fmt: skip
    assert events[1]["event"] == "after"
    assert sink.lost == 0


def test_a_line_that_broke_off_is_ended_before_the_next_one():
    reader, writer = full_pipe()
    with open(reader, "rb", buffering=0) as taker, open(writer, "w") as stream:
        configure("json", "info", stream)
        log.info("long", text="x" * 10_000)
        assert len(taker.read(16384)) == 8192
        log.info("next")
        rest = taker.read(8192).decode()
    assert rest.startswith("\n")
    assert [json.loads(line)["event"] for line in rest.splitlines()[1:]] == ["log.records_lost", "next"]


def test_a_full_socket_does_not_block():
    left, right = socket.socketpair()
    with left, right, open(os.dup(left.fileno()), "w") as stream:
        sink = configure("json", "info", stream)
        for _ in range(3000):
            log.info("flood", text="x" * 1000)
        assert sink.lost > 0


@pytest.mark.parametrize("kind", ["pipe", "socket", "closed"])
def test_a_reader_that_is_gone_is_no_error(kind):
    if kind == "socket":
        left, right = socket.socketpair()
        right.close()
        writer = left.detach()
    else:
        reader, writer = os.pipe()
        os.close(reader)
    stream = open(writer, "w")  # noqa: SIM115  closed below, or by the test itself
    try:
        sink: Sink = configure("json", "info", stream)
        if kind == "closed":
            stream.close()
        log.info("nobody")
        assert sink.lost == 1
    finally:
        stream.close()


def test_importing_it_costs_no_structlog():
    code = "import sys, supervisor.log; print(sorted({'structlog', 'rich', 'trio', 'asyncio'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
