import os
import signal

import trio

from supervisor.daemon.signals import handle_signals


class Heard:
    def __init__(self) -> None:
        self.send, self.receive = trio.open_memory_channel[str](100)

    def __call__(self, word: str):
        return lambda: self.send.send_nowait(word)

    async def none(self) -> None:
        self.send.send_nowait("reload")


async def test_the_second_stop_hurries():
    heard = Heard()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(
                lambda *, task_status: handle_signals(
                    stop=heard("stop"), hurry=heard("hurry"), reload=heard.none, task_status=task_status
                )
            )
            for number, word in ((signal.SIGTERM, "stop"), (signal.SIGINT, "hurry"), (signal.SIGTERM, "hurry")):
                os.kill(os.getpid(), number)
                assert await heard.receive.receive() == word
            nursery.cancel_scope.cancel()


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
