import os
import signal

import trio
from trio.testing import wait_all_tasks_blocked

from supervisor.daemon.signals import Noted, handle_signals, note_signals


class Heard:
    def __init__(self) -> None:
        self.send, self.receive = trio.open_memory_channel[str](100)

    def __call__(self, word: str):
        return lambda: self.send.send_nowait(word)

    async def none(self) -> None:
        self.send.send_nowait("reload")


async def test_a_later_stop_hurries_and_an_echo_of_the_first_does_not(mock_clock):
    heard = Heard()
    async with trio.open_nursery() as nursery:
        await nursery.start(
            lambda *, task_status: handle_signals(
                stop=heard("stop"), hurry=heard("hurry"), reload=heard.none, task_status=task_status
            )
        )

        async def hears(number: int, *words: str) -> None:
            # The reload comes behind: it shows that the signal before it led to nothing else.
            os.kill(os.getpid(), number)
            await wait_all_tasks_blocked(0.01)
            os.kill(os.getpid(), signal.SIGHUP)
            assert [await heard.receive.receive() for _ in range(len(words) + 1)] == [*words, "reload"]

        await hears(signal.SIGTERM, "stop")
        await hears(signal.SIGINT)
        mock_clock.jump(0.99)
        await hears(signal.SIGTERM)
        mock_clock.jump(0.01)
        await hears(signal.SIGINT, "hurry")
        await hears(signal.SIGTERM, "hurry")
        nursery.cancel_scope.cancel()


async def test_what_was_noted_before_is_handled_first():
    heard = Heard()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(
                lambda *, task_status: handle_signals(
                    stop=heard("stop"),
                    hurry=heard("hurry"),
                    reload=heard.none,
                    noted=Noted(heard=[signal.SIGINT, signal.SIGINT]),
                    task_status=task_status,
                )
            )
            assert await heard.receive.receive() == "stop"
            os.kill(os.getpid(), signal.SIGHUP)
            assert await heard.receive.receive() == "reload"
            nursery.cancel_scope.cancel()


def test_noted_signals_end_nothing_and_ignored_ones_stay_so():
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        noted = note_signals(signal.SIGINT, signal.SIGHUP)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGINT):
            signal.raise_signal(number)
        assert noted.heard == [signal.SIGINT, signal.SIGINT]
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        noted.ignore()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


async def test_a_slow_reload_delays_no_stop_and_leads_to_one_more():
    heard, go_on, running = Heard(), trio.Event(), 0

    async def reload() -> None:
        nonlocal running
        running += 1
        assert running == 1
        heard.send.send_nowait("reload")
        await go_on.wait()
        running -= 1

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(
                lambda *, task_status: handle_signals(
                    stop=heard("stop"), hurry=heard("hurry"), reload=reload, task_status=task_status
                )
            )
            os.kill(os.getpid(), signal.SIGHUP)
            assert await heard.receive.receive() == "reload"
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            assert await heard.receive.receive() == "stop"
            go_on.set()
            assert await heard.receive.receive() == "reload"
            nursery.cancel_scope.cancel()


async def test_a_reload_that_fails_changes_nothing(capfd):
    heard, tries = Heard(), 0

    async def reload() -> None:
        nonlocal tries
        tries += 1
        heard.send.send_nowait("reload")
        if tries == 1:
            raise ValueError("bad settings")

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(
                lambda *, task_status: handle_signals(
                    stop=heard("stop"), hurry=heard("hurry"), reload=reload, task_status=task_status
                )
            )
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGHUP)
                assert await heard.receive.receive() == "reload"
            nursery.cancel_scope.cancel()
    assert tries == 2
