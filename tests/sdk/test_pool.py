"""The threads that handlers run in: what a task raises, and a system that gives no thread."""

from __future__ import annotations

import threading

import pytest

from supervisor.core.errors import ResourceExhausted
from supervisor.sdk.pool import Pool


class Starts:
    """Lets threads start until `left` is used up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, left: int) -> None:
        self.left = left
        start = threading.Thread.start

        def limited(thread: threading.Thread) -> None:
            if self.left == 0:
                raise RuntimeError("can't start new thread")
            self.left -= 1
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", limited)


def test_a_thread_survives_its_task(capsys: pytest.CaptureFixture[str]) -> None:
    pool, done = Pool(1), threading.Event()

    def bad() -> None:
        raise SystemExit("a task that raises")

    pool.submit(bad)
    pool.submit(done.set)
    assert done.wait(5)
    assert "a task that raises" in capsys.readouterr().err
    pool.close()


def test_without_a_thread_a_task_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, done = Pool(2), threading.Event()
    starts = Starts(monkeypatch, 0)
    with pytest.raises(ResourceExhausted, match="can't start new thread"):
        pool.submit(lambda: None)
    starts.left = 1
    pool.submit(done.set)
    assert done.wait(5)
    pool.close()


def test_a_task_waits_for_a_thread_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, release, done = Pool(2), threading.Event(), threading.Event()
    Starts(monkeypatch, 1)
    pool.submit(lambda: release.wait(5))  # type: ignore[arg-type,return-value]
    pool.submit(done.set)
    assert not done.is_set()
    release.set()
    assert done.wait(5)
    pool.close()


def test_close_ends_the_threads() -> None:
    before = set(threading.enumerate())
    pool, running = Pool(2), threading.Barrier(3)
    for _ in range(2):
        pool.submit(running.wait)  # type: ignore[arg-type]
    running.wait(5)
    made = set(threading.enumerate()) - before
    assert len(made) == 2
    pool.close()
    for thread in made:
        thread.join(5)
        assert not thread.is_alive()
