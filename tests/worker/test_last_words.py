"""What a worker wrote and sent before its end arrives, however it ends; and nobody else's pipe keeps a stop waiting."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel

from supervisor.channel import do_nothing
from supervisor.core.errors import InvalidParams, PluginCrashed, PluginError
from supervisor.core.secrets import MASK, spoken
from supervisor.core.worker_spec import ReadyProbe
from supervisor.worker.calling import call_worker
from supervisor.worker.crash import Reason
from supervisor.worker.ending import Ending, activation_failure, crash_event
from supervisor.worker.host import GivenConfig
from supervisor.worker.life import Life
from supervisor.worker.logfile import LogFile
from supervisor.worker.process import Exit
from supervisor.worker.procfs import read_stat
from supervisor.worker.shutdown import Stage
from tests.worker.fakes import make_plugin
from tests.worker.test_with_children import Bench, leave, stop

LIMIT_S = 20

# A worker that speaks RPC by hand; `asked` is the next request.
RPC = """
import msgpack, os, signal, socket, subprocess, sys, time
rpc = socket.socket(fileno=3)
unpacker = msgpack.Unpacker()
def asked():
    while True:
        for message in unpacker:
            if message[0] == 0:
                return message
        data = rpc.recv(65536)
        if not data:
            sys.exit(0)
        unpacker.feed(data)
def answer(request, result, error=None):
    rpc.sendall(msgpack.packb([1, request[1], error, result]))
def shake_hands():
    answer(asked(), {"api_version": 1, "methods": []})
"""


def bench_of(tmp_path: Path, code: str, **worker: Any) -> Bench:
    bench = Bench(tmp_path, make_plugin(command=("python", "-c", code), **worker), tmp_path)
    bench.open_log = lambda _: LogFile(bench.log_path, max_bytes=10**8, files=2)  # type: ignore[method-assign]
    return bench


async def whole_life(bench: Bench, act: Any = leave) -> Ending:
    with trio.fail_after(LIMIT_S):
        ending = await bench.live(act)
    bench.check_clean(ending.pid)
    return ending


WAYS_OUT = {
    "exits": ("os._exit(3)", Exit(3, None)),
    "kills itself": ("os.kill(os.getpid(), 9)", Exit(None, signal.SIGKILL)),
}


@pytest.mark.parametrize("way", WAYS_OUT)
@pytest.mark.parametrize("width", [6, 200], ids=["less than the pipe holds", "more"])
@pytest.mark.parametrize("fd", [1, 2])
async def test_every_line_is_in_the_log(tmp_path: Path, fd: int, width: int, way: str) -> None:
    out, exit_ = WAYS_OUT[way]
    code = f"""
import os
data = b"".join(b"%0{width}d\\n" % n for n in range(20_000)) + b"the last words"
while data:
    data = data[os.write({fd}, data):]
{out}
"""
    bench = bench_of(tmp_path, code, transport="none", start_grace_s=60)
    ending = await whole_life(bench)
    assert ending.exit == exit_
    assert bench.messages() == [*(f"{n:0{width}d}" for n in range(20_000)), "the last words"]
    if fd == 2:
        assert ending.last_words.endswith(f"{19_999:0{width}d}\nthe last words")
        assert len(ending.last_words) == 8000


@pytest.mark.parametrize("repeat", range(5))
async def test_each_stream_keeps_its_order(tmp_path: Path, repeat: int) -> None:
    code = """
import os
for n in range(2000):
    os.write(1, b"out %d\\n" % n)
    os.write(2, b"err %d\\n" % n)
os._exit(1)
"""
    bench = bench_of(tmp_path, code, transport="none", start_grace_s=60)
    await whole_life(bench)
    lines = bench.messages()
    assert [line for line in lines if line[0] == "o"] == [f"out {n}" for n in range(2000)]
    assert [line for line in lines if line[0] == "e"] == [f"err {n}" for n in range(2000)]


async def test_whatever_bytes_they_are(tmp_path: Path) -> None:
    code = """
import os
data = b"nul \\0 nul\\r\\nno utf-8 \\xff\\xc3(\\n" + b"x" * 10_000_000 + b"\\n\\nno end"
while data:
    data = data[os.write(1, data):]
os._exit(0)
"""
    bench = bench_of(tmp_path, code, transport="none", start_grace_s=60)
    await whole_life(bench)
    assert bench.messages() == ["nul \0 nul", "no utf-8 \\xff\\xc3(", "x" * 65_536, "", "no end"]


GRANDCHILDREN = {
    "holds": 'subprocess.Popen(["sleep", "300"], start_new_session=True, pass_fds=(3,) if RPC else ())',
    "floods": 'subprocess.Popen(["sh", "-c", "while echo flood; do :; done"], start_new_session=True)',
}


@pytest.mark.parametrize("transport", ["rpc", "none"])
@pytest.mark.parametrize("kind", GRANDCHILDREN)
async def test_a_grandchild_at_the_pipes_delays_nothing(tmp_path: Path, kind: str, transport: str) -> None:
    """In a session of its own, where no signal to the group finds it."""
    code = f"""
import os, subprocess, time
{RPC if transport == "rpc" else ""}
RPC = {transport == "rpc"}
{"shake_hands()" if transport == "rpc" else ""}
child = {GRANDCHILDREN[kind]}
open("grandchild", "w").write(str(child.pid))
time.sleep(0.2)
os.write(2, b"line\\n" * 10_000 + b"the last words")
os._exit(1)
"""
    bench = bench_of(tmp_path, code, transport=transport, start_grace_s=0)
    try:
        ending = await whole_life(bench)
        # What takes long, as reading a flood may on a busy machine, is not the grandchild's doing: nobody waits for it,
        # or reading would have been given up.
        assert not [text for text in bench.messages() if text.startswith("gave up reading")]
        assert (ending.exit, ending.last_words[-14:]) == (Exit(1, None), "the last words")
        lines = bench.messages()
        assert (lines.count("line"), lines.count("the last words")) == (10_000, 1)
    finally:
        with contextlib.suppress(ProcessLookupError):  # The flooder ends with its pipe.
            os.kill(int((bench.data_dir / "grandchild").read_text()), signal.SIGKILL)


async def wait_dead(pid: int) -> None:
    """Until it is a zombie, or reaped."""
    while (found := read_stat(pid)) is not None and not found.is_dead:  # noqa: ASYNC110  no event tells of it
        await trio.sleep(0.01)


# RPC.


@pytest.mark.parametrize("repeat", range(10))
async def test_what_was_sent_before_the_end_is_handled(tmp_path: Path, repeat: int) -> None:
    code = f"""{RPC}
shake_hands()
calls = [asked() for _ in range(4)]
for n in range(500):
    rpc.sendall(msgpack.packb([2, "log", [{{"level": "info", "message": "record %d" % n}}]]))
for call in calls[:3]:
    answer(call, "done")
os._exit(3)
"""
    bench, results = bench_of(tmp_path, code), []

    async def call_four(life: Life) -> None:
        async def call() -> None:
            assert life.channel is not None
            try:
                results.append(await life.channel.call("call", [{}], timeout_s=None))
            except PluginCrashed as error:
                results.append(error.message)

        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(call)

    ending = await whole_life(bench, call_four)
    assert sorted(results) == ["done", "done", "done", "the worker of 'test.fake' ended: exited with code 3"]
    assert bench.messages() == [f"record {n}" for n in range(500)]
    assert ending.crash is not None
    assert ending.crash.reason is Reason.EXITED


@pytest.mark.parametrize("repeat", range(10))
async def test_an_answer_arrives_though_much_could_not_be_sent(tmp_path: Path, repeat: int) -> None:
    """The writer meets the broken connection before the reader has read what was sent ahead of the break."""
    code = f"""{RPC}
shake_hands()
request = asked()
for n in range(200):
    rpc.sendall(msgpack.packb([2, "log", [{{"level": "info", "message": "record %d" % n}}]]))
answer(request, "done")
os._exit(3)
"""
    bench, results = bench_of(tmp_path, code), []

    async def call_much(life: Life) -> None:
        async def call(params: dict[str, str]) -> None:
            assert life.channel is not None
            with contextlib.suppress(PluginCrashed):
                results.append(await life.channel.call("call", [params], timeout_s=None))

        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call, {})
                await trio.lowlevel.checkpoint()
                for _ in range(20):
                    nursery.start_soon(call, {"much": "x" * 50_000})

    await whole_life(bench, call_much)
    assert results == ["done"]
    assert bench.messages() == [f"record {n}" for n in range(200)]


@pytest.mark.parametrize("repeat", range(10))
async def test_a_refusal_tells_more_than_the_exit_that_follows_it(tmp_path: Path, repeat: int) -> None:
    code = f"""{RPC}
answer(asked(), None, "no license")
os._exit(1)
"""
    ending = await whole_life(bench_of(tmp_path, code))
    assert ending.crash is not None
    assert ending.crash.reason is Reason.HANDSHAKE_REFUSED
    assert ending.cause == "refused initialize: INTERNAL: no license"


@pytest.mark.parametrize("repeat", range(10))
async def test_so_does_a_violation(tmp_path: Path, repeat: int) -> None:
    code = f"""{RPC}
shake_hands()
rpc.sendall(b"\\xc1 what is this")
os._exit(1)
"""
    ending = await whole_life(bench_of(tmp_path, code))
    assert ending.crash is not None
    assert ending.crash.reason is Reason.PROTOCOL_VIOLATION
    assert (ending.cause or "").startswith("broke the RPC protocol: the bytes are no msgpack")
    assert (ending.cause or "").endswith("; then it exited with code 1")


@pytest.mark.parametrize("repeat", range(10))
async def test_hanging_up_and_then_exiting_is_an_exit(tmp_path: Path, repeat: int) -> None:
    code = f"""{RPC}
shake_hands()
rpc.close()
time.sleep(0.1)
os._exit(6)
"""
    ending = await whole_life(bench_of(tmp_path, code))
    assert (ending.cause, ending.stage) == ("exited with code 6", None)


async def test_requests_that_it_left_unread_make_no_violation(tmp_path: Path) -> None:
    """Then the kernel reports a reset instead of an end."""
    code = f"""{RPC}
shake_hands()
while not os.path.exists("go"):
    time.sleep(0.01)
rpc.close()
while True:
    signal.pause()
"""
    bench = bench_of(tmp_path, code)

    async def send_and_let_go(life: Life) -> None:
        assert life.channel is not None
        await life.channel.notify("event", [{}])
        (bench.data_dir / "go").touch()

    ending = await whole_life(bench, send_and_let_go)
    assert ending.crash is not None
    assert (ending.crash.reason, ending.cause) == (Reason.HUNG_UP, "closed its RPC connection")


async def test_an_answer_during_the_stop_arrives(tmp_path: Path) -> None:
    code = f"""{RPC}
shake_hands()
call = asked()
assert asked()[2] == "shutdown"
answer(call, "drained")
os._exit(0)
"""
    bench, results = bench_of(tmp_path, code), []

    async def call_and_stop(life: Life) -> None:
        async def call() -> None:
            assert life.channel is not None
            results.append(await life.channel.call("call", [{}], timeout_s=None))

        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call)
                await trio.lowlevel.checkpoint()
                await stop(life)

    ending = await whole_life(bench, call_and_stop)
    assert (results, ending.stage) == (["drained"], Stage.DRAIN)


async def test_a_process_that_was_stopped_is_said_to_be(tmp_path: Path) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"
    ending = await whole_life(bench_of(tmp_path, code, start_timeout_s=0.5))
    assert ending.cause == "did not answer initialize within 0.5 s; its process is stopped, as by SIGSTOP"


async def test_a_stranger_kills_it(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, f"{RPC}\nshake_hands()\nasked()")

    async def kill(life: Life) -> None:
        assert life.pid is not None
        os.kill(life.pid, signal.SIGKILL)

    assert (await whole_life(bench, kill)).cause == "was killed by SIGKILL, which plugind did not send"


# Programs without RPC.


async def test_up_by_a_line_and_stopped_by_a_command(tmp_path: Path) -> None:
    code = """
import os, signal, time
open("pid", "w").write(str(os.getpid()))
print("warming up", flush=True)
print("now ready to serve", flush=True)
while True:
    signal.pause()
"""
    bench = bench_of(
        tmp_path,
        code,
        transport="none",
        ready=ReadyProbe(line="ready to"),
        stop_command=("sh", "-c", "kill -USR1 $(cat pid)"),
    )
    ending = await whole_life(bench, stop)
    assert (ending.cause, ending.stage, ending.exit) == (None, Stage.COMMAND, Exit(None, signal.SIGUSR1))


async def test_up_by_notification(tmp_path: Path) -> None:
    code = """
import os, signal, socket, time
signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's own handler may come to nothing in a finalizer
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.sendto(b"READY=1", "\\0" + os.environ["NOTIFY_SOCKET"][1:])
while True:
    time.sleep(60)
"""
    bench = bench_of(tmp_path, code, transport="none", ready=ReadyProbe(notify=True), stop_signal="SIGINT")
    ending = await whole_life(bench, stop)
    assert (ending.cause, ending.stage, ending.exit) == (None, Stage.TERM, Exit(None, signal.SIGINT))


@pytest.mark.parametrize("ready", [{"line": "never"}, {"notify": True}])
async def test_not_ready_in_time(tmp_path: Path, ready: dict[str, Any]) -> None:
    bench = bench_of(
        tmp_path, "import signal; signal.pause()", transport="none", ready=ReadyProbe(**ready), start_timeout_s=0.4
    )
    ending = await whole_life(bench)
    assert ending.crash is not None
    assert (ending.crash.reason, ending.ran_s) == (Reason.NOT_READY, None)
    assert (ending.cause or "").startswith("was not ready: ")


TOKEN = "s3cret-tok\u00e9n"


class Giving:
    """The host's face of who gives a configuration with a secret."""

    async def config(self, _: Any) -> GivenConfig:
        return GivenConfig(config={"token": TOKEN}, secrets=frozenset(spoken(TOKEN)), revision=1)


TELLERS = {
    "an uncaught exception": "raise ValueError(f'bad token {token!r}')",
    "both streams": "print(token, flush=True); print(token, file=sys.stderr, flush=True); os._exit(3)",
    "without a newline": "os.write(2, token.encode()); os.kill(os.getpid(), 9)",
    "a log record": 'tell("log", {"message": token, "level": "error", "fields": {"a": [token]}}); sys.exit(1)',
    "the protocol": "rpc.sendall(msgpack.packb([7, token])); time.sleep(60)",
    "its answer to the handshake": 'answer(first, None, {"name": "PLUGIN_ERROR", "message": token}); sys.exit(1)',
    "a version": 'answer(first, {"api_version": token, "methods": []}); sys.exit(1)',
}


@pytest.mark.parametrize("way", TELLERS)
async def test_a_secret_that_it_was_given_is_told_nowhere(tmp_path: Path, way: str) -> None:
    code = f"""
{RPC}
def tell(method, params):
    rpc.sendall(msgpack.packb([2, method, [params]]))
first = asked()
token = first[3][0]["config"]["token"]
{"" if "answer(" in TELLERS[way] else 'answer(first, {"api_version": 1, "methods": []})'}
{TELLERS[way]}
"""
    bench = bench_of(tmp_path, code, transport="rpc")
    bench.host.config = Giving().config  # type: ignore[method-assign]
    ending = await whole_life(bench)
    assert ending.crash is not None
    event = crash_event(bench.plugin, ending, 1, None)
    told = [ending.cause, ending.last_words, str(activation_failure(bench.plugin, ending).details), str(event)]
    log = bench.log_path.read_text() if bench.log_path.exists() else ""
    assert not any("s3cret" in text for text in [*map(str, told), log])
    assert any(MASK in text for text in [*map(str, told), log]) or way == "the protocol"


async def test_an_error_it_answers_is_stored_and_logged_without_secrets(tmp_path: Path) -> None:
    code = f"""
{RPC}
shake_hands()
request = asked()
token = request[3][0]["config"]["token"]
answer(request, None, {{"name": "NOT_FOUND", "message": "no " + token, "data": {{"why": token}}}})
request = asked()
answer(request, None, {{"name": "INVALID_PARAMS", "message": token, "data": {{"why": token}}}})
request = asked()
answer(request, token)
asked()
"""
    seen: list[Any] = []

    async def talk(life: Life) -> None:
        def now() -> Any:
            assert life.channel
            return life.channel, life.discretion

        async def ask(method: str) -> Any:
            params, secrets = {"config": {"token": TOKEN}}, frozenset(spoken(TOKEN))
            return await call_worker(now, method, params, timeout_s=10, on_settled=do_nothing, secrets=secrets)

        with pytest.raises(PluginError) as own:
            await ask("config_changed")
        with pytest.raises(InvalidParams) as known:
            await ask("other")
        seen.extend([own.value, known.value, await ask("result")])
        await stop(life)

    await whole_life(bench_of(tmp_path, code, transport="rpc", stop_timeout_s=1), talk)
    own, known, result = seen
    assert (own.message, own.details) == (f"no {MASK}", {"name": "NOT_FOUND", "data": {"why": MASK}})
    assert (known.message, known.details) == (MASK, {"why": MASK})
    assert result == TOKEN
